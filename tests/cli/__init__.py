"""The command, run as processes."""
