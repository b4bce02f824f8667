"""The keyring of a running process, which follows the stored one.

Every transaction tells how often the stored keyring has changed.  It is read again before anything that was sealed
since is opened, and before anything is sealed in a write: so no process opens or seals with an older keyring than that
of the snapshot it works in, however many share the database.
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

# Longer than any answer that was read before a key was retired takes to be opened.
RETIRED_SECONDS = 45.0

logger = structlog.get_logger(__name__)


class LiveKeys:
    """The master key, the keyring as of `version`, and the envelope that uses it.  Safe to share between threads."""

    def __init__(
        self,
        master: MasterKey,
        keyring: Keyring,
        version: int,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.master, self.keyring, self.version = master, keyring, version
        self.envelope = Envelope(keyring)
        self._monotonic = monotonic
        self._retired: dict[str, tuple[Key, float]] = {}  # with the time from which on it is forgotten
        self._lock = threading.Lock()  # never held while anything is waited for: see `follow`
        self._refused = version

    def follow(self, connection: Connection, version: int) -> None:
        """Read the keyring again if that of this snapshot is newer.  Raises StoreUnavailable if it does not open.

        It is read without the lock, by some more than once: on PostgreSQL a read of the event loop gives way to other
        tasks while it waits for the database, and they would wait for the lock, and the loop with them, for ever.
        """
        if version <= self.version:
            return
        keyring = self._read(connection, version)
        with self._lock:
            if version > self.version:
                self._replace(keyring, version)

    def forget_retired(self) -> None:
        """Forget the keys that were retired a while ago.  Until then what was read before can still be opened."""
        with self._lock:
            now = self._monotonic()
            kept = {id: (key, until) for id, (key, until) in self._retired.items() if until > now}
            if kept != self._retired:
                self._retired = kept
                self._use()

    def _read(self, connection: Connection, version: int) -> Keyring:
        try:
            return Keyring.unlock(keys.read_all(connection), self.master)
        except MasterKeyError as error:
            if version != self._refused:  # said once, not at every call
                logger.error("keyring_not_opened", keyring_version=version, error=error.message)
                self._refused = version
            raise StoreUnavailable(
                "the keyring was changed under another master key: this server must be restarted with that one"
            ) from error

    def _replace(self, keyring: Keyring, version: int) -> None:
        until = self._monotonic() + RETIRED_SECONDS
        for id in self.keyring.data.keys() - keyring.data.keys():
            self._retired[id] = self.keyring.data[id], until
        self.keyring = keyring
        self._use()
        self.version = version
        logger.info("keyring_read", keyring_version=version, primary=keyring.primary.id, keys=len(keyring.data))

    def _use(self) -> None:
        self.envelope.use(self.keyring, (key for key, _ in self._retired.values()))
