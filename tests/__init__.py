"""The tests of nofx-grpc."""
