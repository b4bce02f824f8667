"""The Python client: nothing of the server is imported here."""
