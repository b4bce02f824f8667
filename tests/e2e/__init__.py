"""The commands and the server as processes."""
