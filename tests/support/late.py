"""A call that comes after its deadline."""

import grpc


class LateContext:
    """What the server sees of a call whose deadline has passed."""

    def __init__(self, token: str) -> None:
        self._token = token
        self.aborted: tuple[grpc.StatusCode, str] | None = None

    def peer(self) -> str:
        return "unix:"

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._token}"),)

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def add_done_callback(self, callback: object) -> None:
        pass

    def time_remaining(self) -> float:
        return 0.0

    async def abort(self, code: grpc.StatusCode, text: str, metadata: object) -> None:
        self.aborted = code, text
        raise grpc.aio.AbortError
