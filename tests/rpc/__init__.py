"""What stands before and around the services, over a real server."""
