"""The keyring of a running process, which follows the stored one.

Every transaction tells how often the stored keyring has changed, and in which history.  It is read again before
anything that was sealed since is opened, and before anything is sealed in a write: so no process opens or seals with an
older keyring than that of the snapshot it works in, however many share the database; nor with a newer one that a
failover has lost.
"""

import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy import Connection

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.crypto.keyring import Key, Keyring, MasterKey
from nofx_grpc.errors import MasterKeyError, StoreUnavailable
from nofx_grpc.store import keys
from nofx_grpc.store.reads import Committed

# Longer than any answer that was read before a key was retired takes to be opened.
RETIRED_SECONDS = 45.0

logger = structlog.get_logger(__name__)


class LiveKeys:
    """The master key, the keyring as it is `at` a time, and the envelope that uses it.  Threads may share it."""

    def __init__(
        self,
        master: MasterKey,
        keyring: Keyring,
        at: Committed,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.master, self.keyring, self.at = master, keyring, at
        self.envelope = Envelope(keyring)
        self._monotonic = monotonic
        self._retired: dict[str, tuple[Key, float]] = {}  # with the time from which on it is forgotten
        self._lock = threading.Lock()  # never held while anything is waited for: see `_follow`
        self._left: set[str] = set()  # histories that are over
        self._refused = at

    def follow(self, connection: Connection, at: Committed) -> None:
        """Read the keyring again if that of this snapshot is newer.  Raises StoreUnavailable if it does not open."""
        self._follow(connection, at, self._is_newer)

    def follow_newest(self, connection: Connection, at: Committed) -> None:
        """As `follow`, where nobody else can write: what is seen there is how it is, be it less than was known."""
        self._follow(connection, at, self._is_other)

    def forget_retired(self) -> None:
        """Forget the keys that were retired a while ago.  Until then what was read before can still be opened."""
        with self._lock:
            now = self._monotonic()
            kept = {id: (key, until) for id, (key, until) in self._retired.items() if until > now}
            if kept != self._retired:
                self._retired = kept
                self._use()

    def _follow(self, connection: Connection, at: Committed, is_wanted: Callable[[Committed], bool]) -> None:
        """Read the keyring, without the lock and some of them more than once, and use it.

        On PostgreSQL a read of the event loop gives way to other tasks while it waits for the database: they would wait
        for the lock, and the loop with them, for ever.
        """
        if not is_wanted(at):
            return
        keyring = self._read(connection, at)
        with self._lock:
            if is_wanted(at):
                self._replace(keyring, at)

    def _is_newer(self, at: Committed) -> bool:
        if at.history_id == self.at.history_id:
            return at.keyring_version > self.at.keyring_version
        return at.history_id not in self._left

    def _is_other(self, at: Committed) -> bool:
        return (at.history_id, at.keyring_version) != (self.at.history_id, self.at.keyring_version)

    def _read(self, connection: Connection, at: Committed) -> Keyring:
        try:
            return Keyring.unlock(keys.read_all(connection), self.master)
        except MasterKeyError as error:
            if at.keyring_version != self._refused.keyring_version:  # said once, not at every call
                logger.error("keyring_not_opened", keyring_version=at.keyring_version, error=error.message)
                self._refused = at
            raise StoreUnavailable(
                "the keyring was changed under another master key: this server must be restarted with that one"
            ) from error

    def _replace(self, keyring: Keyring, at: Committed) -> None:
        until = self._monotonic() + RETIRED_SECONDS
        for id in self.keyring.data.keys() - keyring.data.keys():
            self._retired[id] = self.keyring.data[id], until
        self.keyring = keyring
        self._use()
        self._left.add(self.at.history_id)
        self._left.discard(at.history_id)
        self.at = at
        logger.info(
            "keyring_read", keyring_version=at.keyring_version, primary=keyring.primary.id, keys=len(keyring.data)
        )

    def _use(self) -> None:
        self.envelope.use(self.keyring, (key for key, _ in self._retired.values()))
