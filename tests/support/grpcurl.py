"""Stands in for grpcurl where it is not installed: the few options that the server prints, and an empty request."""

import argparse
import sys
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToJson

from nofx_grpc.v1 import exchanges_pb2 as pb


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-plaintext", action="store_true")
    parser.add_argument("-cacert")
    parser.add_argument("-authority")
    parser.add_argument("-H")
    parser.add_argument("address")
    parser.add_argument("method")
    options = parser.parse_args()
    name, _, value = options.H.partition(": ")
    if options.plaintext:
        channel = grpc.insecure_channel(options.address)
    else:
        credentials = grpc.ssl_channel_credentials(Path(options.cacert).read_bytes())
        override = [("grpc.ssl_target_name_override", options.authority)] if options.authority else []
        channel = grpc.secure_channel(options.address, credentials, override)
    call: Any = channel.unary_unary(
        f"/{options.method}", response_deserializer=pb.ListSupportedExchangesResponse.FromString
    )
    sys.stdout.write(MessageToJson(call(b"", metadata=((name, value),), timeout=10)))


if __name__ == "__main__":
    main()
