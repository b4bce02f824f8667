"""The nofx-grpc command."""
