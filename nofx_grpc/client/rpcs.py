"""How an rpc becomes a typed method: the table in `nofx_grpc.client.services` is made of these.

A line of the table, `get_trader = Unary(GetTraderRequest, Trader)`, is read by type checkers as a method that takes the
fields of the request by name and returns the response, or a coroutine of it where the client is an asynchronous one.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from nofx_grpc.v1 import common_pb2

_REVEALS = (common_pb2.PERMISSION_REVEAL, common_pb2.PERMISSION_REVEAL_SYSTEM)


class Sync:
    """Marks what belongs to the client that blocks."""


class Async:
    """Marks what belongs to the client of asyncio."""


P = ParamSpec("P")
Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)
T = TypeVar("T")
R_co = TypeVar("R_co", bound=Message, covariant=True)
T_co = TypeVar("T_co", covariant=True)
Mode = TypeVar("Mode", Sync, Async)


@dataclass(frozen=True, slots=True)
class Method:
    """What the client needs to know of one rpc."""

    name: str  # "Traders/GetTrader"
    path: str  # "/nofx_grpc.v1.Traders/GetTrader"
    request: Any  # the message classes; type checkers know them from the table
    response: Any
    is_read: bool
    takes_request_id: bool
    shows_revision: bool  # each response of the stream says which revision of the store it brings the client to

    @classmethod
    def of(cls, rpc: MethodDescriptor, request: Callable[..., Message], response: type[Message]) -> "Method":
        options = rpc.GetOptions()
        # A reveal is a read that goes on record: it is marked IDEMPOTENT because of the record.
        reveals = options.Extensions[common_pb2.permission] in _REVEALS
        return cls(
            name=f"{rpc.containing_service.name}/{rpc.name}",
            path=f"/{rpc.containing_service.full_name}/{rpc.name}",
            request=request,
            response=response,
            is_read=reveals or options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS,
            takes_request_id="request_id" in rpc.input_type.fields_by_name and not rpc.client_streaming,
            shows_revision=rpc.server_streaming
            and {"revision", "history_id"} <= set(rpc.output_type.fields_by_name.keys()),
        )


class Caller(Protocol):
    """Makes what stands for an rpc in a client, with what it is called by."""

    def unary(self, method: Method) -> Callable[..., Any]: ...
    def paged(self, method: Method, items: Callable[[Any], Iterable[Any]]) -> Callable[..., Any]: ...
    def client_stream(self, method: Method) -> Callable[..., Any]: ...
    def server_stream(self, method: Method) -> Callable[..., Any]: ...


class Service(Generic[Mode]):
    """A service of the protos with its rpcs as methods."""

    DESCRIPTOR: ClassVar[ServiceDescriptor]

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    def __repr__(self) -> str:
        return f"<service {self.DESCRIPTOR.full_name}>"


class Rpc(ABC):
    """An rpc in the table; its name is that of the rpc in snake case."""

    def __init__(self, request: Callable[..., Message], response: type[Message]) -> None:
        self._types = request, response

    def __set_name__(self, owner: type[Service[Any]], name: str) -> None:
        rpc = owner.DESCRIPTOR.methods_by_name["".join(part.capitalize() for part in name.split("_"))]
        self.name, self.method = name, Method.of(rpc, *self._types)

    def __get__(self, service: Any, owner: object = None) -> Any:
        if service is None:
            return self
        made = self.made_by(service.caller)
        # Found there from now on, before this method is: as functools.cached_property does.
        service.__dict__[self.name] = made
        return made

    @abstractmethod
    def made_by(self, caller: Caller) -> Any:
        """What stands for the rpc in a client."""


class Unary(Rpc, Generic[P, R]):
    """One request, one response."""

    def __init__(self, request: Callable[P, Message], response: type[R]) -> None:
        super().__init__(request, response)

    @overload
    def __get__(self, service: Service[Sync], owner: object = None) -> Callable[P, R]: ...
    @overload
    def __get__(self, service: Service[Async], owner: object = None) -> Callable[P, Coroutine[Any, Any, R]]: ...
    def __get__(self, service: Any, owner: object = None) -> Any:
        return super().__get__(service, owner)

    def made_by(self, caller: Caller) -> Callable[..., Any]:
        return caller.unary(self.method)


class Pages(Protocol[P, R_co, T_co]):
    """A list in the client that blocks: called, it returns one page."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    def pages(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[R_co]: ...
    def all(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[T_co]: ...


class AsyncPages(Protocol[P, R_co, T_co]):
    """A list in the client of asyncio: called and awaited, it returns one page."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...
    def pages(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R_co]: ...
    def all(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T_co]: ...


class Paged(Rpc, Generic[P, R, T]):
    """A list: one page in each response, `items` takes what is listed out of a page."""

    def __init__(self, request: Callable[P, Message], response: type[R], items: Callable[[R], Iterable[T]]) -> None:
        super().__init__(request, response)
        self.items = items

    @overload
    def __get__(self, service: Service[Sync], owner: object = None) -> Pages[P, R, T]: ...
    @overload
    def __get__(self, service: Service[Async], owner: object = None) -> AsyncPages[P, R, T]: ...
    def __get__(self, service: Any, owner: object = None) -> Any:
        return super().__get__(service, owner)

    def made_by(self, caller: Caller) -> Callable[..., Any]:
        return caller.paged(self.method, self.items)


class ClientStream(Rpc, Generic[Q, R]):
    """Many requests, one response."""

    def __init__(self, request: type[Q], response: type[R]) -> None:
        super().__init__(request, response)

    @overload
    def __get__(self, service: Service[Sync], owner: object = None) -> Callable[[Iterable[Q]], R]: ...
    @overload
    def __get__(
        self, service: Service[Async], owner: object = None
    ) -> Callable[[Iterable[Q] | AsyncIterable[Q]], Coroutine[Any, Any, R]]: ...
    def __get__(self, service: Any, owner: object = None) -> Any:
        return super().__get__(service, owner)

    def made_by(self, caller: Caller) -> Callable[..., Any]:
        return caller.client_stream(self.method)


class Stream(Protocol[R_co]):
    """A stream of responses in the client that blocks.

    It is an iterator, begins with the first response that is asked for, and ends with `close`, which another thread may
    call, or with its `with` block.
    """

    def __iter__(self) -> Self: ...
    def __next__(self) -> R_co: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def close(self) -> None: ...


class AsyncStream(Protocol[R_co]):
    """A stream of responses in the client of asyncio, which ends with `close` or with its `async with` block."""

    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> R_co: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def close(self) -> None: ...


class ServerStream(Rpc, Generic[P, R]):
    """One request, many responses."""

    def __init__(self, request: Callable[P, Message], response: type[R]) -> None:
        super().__init__(request, response)

    @overload
    def __get__(self, service: Service[Sync], owner: object = None) -> Callable[P, Stream[R]]: ...
    @overload
    def __get__(self, service: Service[Async], owner: object = None) -> Callable[P, AsyncStream[R]]: ...
    def __get__(self, service: Any, owner: object = None) -> Any:
        return super().__get__(service, owner)

    def made_by(self, caller: Caller) -> Callable[..., Any]:
        return caller.server_stream(self.method)
