"""Replicas share the calls of a client, and one that is down is passed over."""

import asyncio
from typing import Any

from nofx_grpc.client.connection import Connection
from tests.client.wire import wire


async def test_calls_go_round_all_addresses() -> None:
    async with wire(lambda _: b"") as one, wire(lambda _: b"") as two:
        # As a name with two addresses is seen by gRPC once it is resolved.
        async with Connection(f"ipv4:{one.address},{two.address}", None).aio_channel() as channel:
            ask: Any = channel.unary_unary("/nofx_grpc.v1.Users/GetUser")
            async with asyncio.timeout(30):
                while not (one.requests and two.requests):
                    await ask(b"", wait_for_ready=True)
            before = len(one.requests), len(two.requests)
            for _ in range(10):
                await ask(b"")
        assert (len(one.requests) - before[0], len(two.requests) - before[1]) == (5, 5)


async def test_an_address_that_is_down_is_passed_over() -> None:
    async with wire(lambda _: b"") as up:
        async with Connection(f"ipv4:127.0.0.1:1,{up.address}", None).aio_channel() as channel:
            ask: Any = channel.unary_unary("/nofx_grpc.v1.Users/GetUser")
            for _ in range(5):
                await ask(b"", wait_for_ready=True)
        assert len(up.requests) == 5
