"""nofx-grpc: the configuration and secrets service of NOFX."""

__version__ = "0.1.0"
