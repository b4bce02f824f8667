"""Pages of a list: how many rows, from where, and the sealed token that leads to the next one (AIP-158)."""

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.errors import InvalidPageToken, SecretUnreadable
from nofx_grpc.services.call import Call
from nofx_grpc.store.engine import Connection

DEFAULT_PAGE_SIZE = 100
_TOKEN_VERSION = 1
_CONTEXT = ("page_token",)

R = TypeVar("R")
M = TypeVar("M", bound=Message)


class Listing(Protocol[R]):
    """What can be listed in the order of its keys: a `Resource`, or what a noun makes of one."""

    def page(self, connection: Connection, *, user_id: str, after: tuple[str, ...], limit: int) -> list[R]: ...
    def key_of(self, record: R) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page starts (after the key `after`) and how long it may be; one row more is read to see whether another
    page follows.
    """

    after: tuple[str, ...]
    size: int

    @property
    def limit(self) -> int:
        return self.size + 1


@dataclass(frozen=True, slots=True)
class Pages:
    """Opens and makes page tokens; `ttl` is how long one is valid, `most_bytes` how large a page may be."""

    envelope: Envelope
    clock: Callable[[], datetime]
    ttl: timedelta = timedelta(hours=24)
    most_bytes: int = 2 * 1024 * 1024

    def open(self, request: Message, call: Call) -> Page:
        """The page that a request asks for.  Raises InvalidPageToken."""
        size: int = _field(request, "page_size") or DEFAULT_PAGE_SIZE
        token: str = _field(request, "page_token")
        if not token:
            return Page((), size)
        try:
            blob = urlsafe_b64decode(token + "=" * (-len(token) % 4))
            version, method, query, principal, expires, after = json.loads(self.envelope.open_bytes(blob, _CONTEXT))
        except (ValueError, SecretUnreadable):
            raise InvalidPageToken("is damaged: pass next_page_token on as it was given") from None
        if version != _TOKEN_VERSION or (method, query, principal) != (call.method, _query_hash(request), _owner(call)):
            raise InvalidPageToken(
                "belongs to another list: keep all other fields as they were, or start without a token"
            )
        if self.clock().timestamp() > expires:
            raise InvalidPageToken("has expired: start again without a token")
        return Page(tuple(after), size)

    async def answer(
        self,
        request: Message,
        call: Call,
        listing: Listing[R],
        convert: Callable[[R], Message],
        response: type[M],
        *,
        user_id: str = "",
    ) -> M:
        """The response of a list: the first field holds the rows, the second the next page's token.

        The rows are those of `user_id`, else of the user that the request names, else of all users.
        """
        page = self.open(request, call)
        rows_field, token_field = (field.name for field in response.DESCRIPTOR.fields)

        def to_response(rows: list[R]) -> M:
            messages = self.fill(page, rows, convert)
            more = len(messages) < len(rows)
            token = self.token(request, call, listing.key_of(rows[len(messages) - 1])) if more else ""
            return response(**{rows_field: messages, token_field: token})

        owner = user_id or getattr(request, "user_id", "")
        return await call.scan(to_response, listing.page, user_id=owner, after=page.after, limit=page.limit)

    def fill(self, page: Page, rows: list[R], convert: Callable[[R], Message]) -> list[Message]:
        """The messages of a page, cut where it is full by rows or by bytes; never empty where there are rows."""
        messages: list[Message] = []
        size = 0
        for row in rows[: page.size]:
            message = convert(row)
            size += message.ByteSize() + 4
            if messages and size > self.most_bytes:
                break
            messages.append(message)
        return messages

    def token(self, request: Message, call: Call, after: Iterable[str]) -> str:
        """The token of the page that follows the key `after`."""
        expires = (self.clock() + self.ttl).timestamp()
        content = [_TOKEN_VERSION, call.method, _query_hash(request), _owner(call), expires, list(after)]
        return urlsafe_b64encode(self.envelope.seal_bytes(json.dumps(content).encode(), _CONTEXT)).decode().rstrip("=")


def _field(request: Message, name: str) -> Any:
    """A field that every list request has, although their types have no common one."""
    return getattr(request, name)


def _owner(call: Call) -> str:
    return call.identity.principal


def _query_hash(request: Message) -> str:
    """A hash of all fields of the request that choose the rows."""
    query = type(request)()
    query.CopyFrom(request)
    query.ClearField("page_token")
    query.ClearField("page_size")
    return hashlib.sha256(query.SerializeToString(deterministic=True)).hexdigest()
