"""The yardstick: a bare grpc.aio server on uvloop that answers each request with its own bytes."""

import asyncio
import sys
from typing import Any

import grpc
import uvloop


async def serve(address: str) -> None:
    """Serve /echo.Echo/Echo, and say so."""

    async def echo(request: bytes, _: object) -> bytes:
        return request

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", handlers),))
    server.add_insecure_port(address)
    await server.start()
    print(address, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
