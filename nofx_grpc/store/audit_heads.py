"""Where the chains of the audit log stood at one time, signed: what tells that a chain was cut off.

A chain without its last records is a chain like any other.  So its head is kept outside the database as well: in a
file that each process brings up to date about once a second, after the commit and off the way of requests.  The file is
never ahead of the database, and after a crash up to a second behind; what is newer than it is still sealed, but could
be cut off unseen.
"""

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog
from sqlalchemy import Connection

from nofx_grpc.crypto.chain import ChainKey, same
from nofx_grpc.store.audit_chain import Head, tails

_FORMAT = "nofx-audit-heads-1"
PAUSE_SECONDS = 1.0

logger = structlog.get_logger(__name__)


class HeadsDamaged(Exception):
    """A document is none of heads, or was not signed with this key; the text says which."""


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads of chains, by their ids, as of one time."""

    at: str
    chains: Mapping[str, Head]

    @classmethod
    def of(cls, heads: Iterable[Head], at: datetime) -> "Heads":
        return cls(at.isoformat(timespec="seconds"), {head.chain_id: head for head in heads})

    def signed(self, key: ChainKey) -> str:
        """The document, as JSON."""
        chains = {id: [head.position, head.mac.hex()] for id, head in sorted(self.chains.items())}
        content = {"format": _FORMAT, "key": key.id, "at": self.at, "chains": chains}
        return json.dumps(content | {"seal": self._seal(key).hex()})

    @classmethod
    def read(cls, document: str, key: ChainKey) -> "Heads":
        """The heads of a document.  Raises HeadsDamaged."""
        try:
            content = json.loads(document)
            chains = {
                str(id): Head(str(id), int(at), bytes.fromhex(mac)) for id, (at, mac) in content["chains"].items()
            }
            heads, seal = cls(str(content["at"]), chains), bytes.fromhex(content["seal"])
            signer, ours = content["key"], heads._seal(key)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            raise HeadsDamaged("it is not a document of heads") from None
        if signer != key.id:
            raise HeadsDamaged("it was signed with the audit key of another database")
        if not same(seal, ours):
            raise HeadsDamaged("its signature is wrong: it was altered")
        return heads

    def _seal(self, key: ChainKey) -> bytes:
        parts = (part for id, head in sorted(self.chains.items()) for part in (id, str(head.position), head.mac.hex()))
        return key.seal(_FORMAT, self.at, *parts)


class HeadFile:
    """The document in a file, which several processes on one machine may share."""

    def __init__(self, path: Path, key: ChainKey) -> None:
        self.path, self._key = path, key

    def read(self) -> Heads | None:
        """What the file says; None if there is none.  Raises HeadsDamaged, and OSError if it cannot be read."""
        try:
            return Heads.read(self.path.read_text(encoding="utf-8"), self._key)
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise HeadsDamaged("it is not a document of heads") from None

    def update(self, heads: Iterable[Head], at: datetime, forget: Iterable[str] = ()) -> None:
        """Put heads that are further on into the file, whole and durable or not at all.

        Raises HeadsDamaged, for a file that was tampered with is left as it is, and OSError.
        """
        lock = os.open(self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = self.read()
            chains = dict(known.chains) if known is not None else {}
            for head in heads:
                if head.chain_id not in chains or chains[head.chain_id].position < head.position:
                    chains[head.chain_id] = head
            for chain_id in forget:
                chains.pop(chain_id, None)
            self._replace(Heads.of(chains.values(), at).signed(self._key))
        finally:
            os.close(lock)

    def _replace(self, document: str) -> None:
        new = self.path.with_name(f"{self.path.name}.new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(document)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class HeadKeeper:
    """Keeps the heads of this process's chains in the file, from a thread of its own.

    What cannot be written is logged once, and tried again: the records themselves are safe in the database.
    """

    def __init__(self, file: HeadFile, clock: Callable[[], datetime], *, pause_seconds: float = PAUSE_SECONDS) -> None:
        self.file, self._clock, self._pause = file, clock, pause_seconds
        self._fresh: dict[str, Head] = {}
        self._lock = threading.Lock()
        self._grown, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._loop, name="nofx-audit-heads", daemon=True)
        self._failing = False

    def start(self, connection: Connection) -> None:
        """Begin; where there is no file yet, with the chains as they stand in the database."""
        if not self.file.path.exists():
            for head in tails(connection):
                self.note(head)
        self._thread.start()

    def note(self, head: Head) -> None:
        """A chain has grown.  Called for each commit, so it is cheap."""
        with self._lock:
            self._fresh[head.chain_id] = head
        self._grown.set()

    def stop(self) -> None:
        """Write what was noted last, and end."""
        self._stopped.set()
        self._grown.set()
        if self._thread.ident is not None:
            self._thread.join()

    def flush(self) -> bool:
        """Bring the file up to date; whether that worked."""
        with self._lock:
            fresh, self._fresh = self._fresh, {}
        if not fresh:
            return not self._failing
        try:
            self.file.update(fresh.values(), self._clock())
        except Exception as error:  # noqa: BLE001  # a thread that ends would leave all later records without a head
            with self._lock:
                self._fresh = fresh | self._fresh
            if not self._failing:
                logger.error("audit_head_not_written", path=str(self.file.path), error=str(error))
            self._failing = True
            return False
        self._failing = False
        return True

    def _loop(self) -> None:
        while not self._stopped.is_set():
            self._grown.wait()
            self._grown.clear()
            if not self.flush():
                self._grown.set()
            self._stopped.wait(self._pause)
        self.flush()
