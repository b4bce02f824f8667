"""The services: one class per proto service, one handler per rpc; they know neither gRPC nor SQL."""
