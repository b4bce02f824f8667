"""Reading: each function sees one snapshot, at a revision that its answer tells."""

from collections.abc import Callable
from threading import local
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from sqlalchemy import Connection

from nofx_grpc.errors import ShuttingDown
from nofx_grpc.store.retry import retrying

if TYPE_CHECKING:  # each backend says how it is read
    from nofx_grpc.store.backend import Backend

T = TypeVar("T")

COMMITTED = "SELECT revision, keyring_version, history_id FROM store_state"


class Answer(NamedTuple, Generic[T]):
    """What a function returned, and the revision of the store that it saw or made."""

    value: T
    revision: int

    def __repr__(self) -> str:
        return f"Answer(revision {self.revision})"  # the value may be secret


class Committed(NamedTuple):
    """How far the store is: its last revision, how often its keyring has changed, and which history it is in."""

    revision: int
    keyring_version: int
    history_id: str


# Told how far the store is in a snapshot, before anything is read in it.
Follow = Callable[[Connection, Committed], None]


class BoundedReads(Protocol):
    """Runs reads of a few rows by key, from the event loop."""

    async def snapshot(self, fn: Callable[[Connection], T]) -> Answer[T]:
        """Run `fn` in a snapshot."""

    async def committed(self) -> Committed:
        """How far the store is."""

    async def close(self) -> None:
        """Close every connection; nothing can be read any more.  May be called again."""


class HeldReads:
    """Reads in the calling thread, on a connection that is held for it.

    They raise what the function raises, StoreUnavailable for what that means of the database's state, and ShuttingDown.
    """

    def __init__(self, backend: "Backend", follow: Follow) -> None:
        self._backend, self._follow = backend, follow
        self._readers = local()
        self._opened: list[Connection] = []
        self._stopped = False

    def snapshot(self, fn: Callable[[Connection], T]) -> Answer[T]:
        """Run `fn` in a snapshot."""

        def in_one_snapshot(connection: Connection) -> Answer[T]:
            connection.connection.cursor().execute(self._backend.begin_read)
            committed = read_committed(connection)
            self._follow(connection, committed)
            return Answer(fn(connection), committed.revision)

        return self._on_reader(in_one_snapshot)

    def committed(self) -> Committed:
        """How far the store is."""
        return self._on_reader(read_committed)

    def stop(self) -> None:
        """Begin no read any more."""
        self._stopped = True

    def close(self) -> None:
        """Close every connection, once nobody reads.  May be called again."""
        for connection in self._opened:
            connection.close()

    def _on_reader(self, fn: Callable[[Connection], T]) -> T:
        try:
            return self._try(fn)
        except Exception as error:  # noqa: BLE001  # raised again there, or what led to it is over
            return self._try_again(fn, error)

    def _try_again(self, fn: Callable[[Connection], T], error: Exception) -> T:
        """What `fn` returns after all, where it failed for a reason that may pass."""
        try:
            if self._backend.is_transient(error):
                return retrying(lambda: self._try(fn), self._backend.is_transient)
            raise error
        except Exception as last:
            if (explained := self._backend.explain(last)) is not None:
                raise explained from last
            raise

    def _try(self, fn: Callable[[Connection], T]) -> T:
        connection = self._reader()
        try:
            return fn(connection)
        except Exception:
            if self._backend.is_lost(connection):
                self._opened.remove(connection)
                del self._readers.connection
                discard(connection)
            raise
        finally:
            if self._backend.in_transaction(connection):
                connection.connection.cursor().execute("COMMIT")

    def _reader(self) -> Connection:
        if self._stopped:
            raise ShuttingDown
        held: Connection | None = getattr(self._readers, "connection", None)
        if held is None:
            held = self._readers.connection = self._backend.open_reader()
            self._opened.append(held)
        return held


class ReadsOnTheLoop:
    """Bounded reads where they are so short that they may block the event loop."""

    def __init__(self, held: HeldReads) -> None:
        self._held = held

    async def snapshot(self, fn: Callable[[Connection], T]) -> Answer[T]:
        return self._held.snapshot(fn)

    async def committed(self) -> Committed:
        return self._held.committed()

    async def close(self) -> None:
        """The connections are closed with those of the other threads."""


def read_committed(connection: Connection) -> Committed:
    """How far the store is, read on the driver: through Core it would cost more than the read that it goes with."""
    return Committed(*connection.connection.cursor().execute(COMMITTED).fetchone())


def discard(connection: Connection) -> None:
    """Close a connection that is lost, without a word to the database."""
    if not (connection.closed or connection.invalidated):
        connection.invalidate()
    connection.close()
