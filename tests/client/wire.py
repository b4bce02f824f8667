"""A gRPC server that answers every rpc as a test says, and keeps what it was sent."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

Answer = Callable[[bytes], bytes] | grpc.StatusCode


@dataclass
class Wire(grpc.GenericRpcHandler):
    """Gives these answers in turn, the last of them from then on."""

    answers: list[Answer]
    address: str = ""
    metadata: list[dict[str, Any]] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    seconds_left: list[float | None] = field(default_factory=list)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        self.metadata.append(dict(handler_call_details.invocation_metadata))
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, request: bytes, context: Any) -> bytes:
        self.requests.append(request)
        self.seconds_left.append(context.time_remaining())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        shown = (("nofx-revision", "7"), ("nofx-history", "h-1"))
        if not callable(answer):
            await context.abort(answer, "as the test says", shown)
        context.set_trailing_metadata(shown)
        return answer(request)  # type: ignore[operator]  # `abort` raises


@asynccontextmanager
async def wire(*answers: Answer, credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[Wire]:
    server, handler = grpc.aio.server(), Wire(list(answers))
    server.add_generic_rpc_handlers((handler,))
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    handler.address = f"127.0.0.1:{port}"
    await server.start()
    try:
        yield handler
    finally:
        await server.stop(None)
