"""Scripts for those who work on nofx-grpc; none of them is in the wheel."""
