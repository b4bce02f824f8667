"""The services, over a real server."""
