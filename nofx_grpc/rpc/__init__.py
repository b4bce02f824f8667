"""The server: from bytes on the wire to handlers, and from exceptions to status codes."""
