"""The generated code of the protos in protos/nofx_grpc/v1: tools/proto.sh writes it, nobody edits it."""
