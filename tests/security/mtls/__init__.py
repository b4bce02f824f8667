"""The listener for client certificates."""
