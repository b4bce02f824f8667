"""The home of bodies in the database, beside their index: for many replicas of the service on one PostgreSQL."""

import asyncio
import zlib
from collections.abc import Sequence
from typing import Final

from nofx_grpc.decisions.records import MOST_BYTES
from nofx_grpc.store.decisions import index, logs
from nofx_grpc.store.decisions.entries import Entry
from nofx_grpc.store.decisions.home import Staged
from nofx_grpc.store.decisions.logs import Log, Owned
from nofx_grpc.store.engine import Connection, Database

_LEVEL: Final = 6  # on records of NOFX half their size; 9 gains nothing more


class DatabaseHome:
    """Keeps each record's body, compressed, in the transaction of its entry."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def refresh(self, trader_id: str, owned: Owned) -> Owned:  # nothing comes from elsewhere
        return owned

    async def found(self, trader_id: str) -> str | None:  # no record waits for its index
        return None

    async def folder(self, trader_id: str, owned: Owned) -> str:
        return owned.log.folder if owned.log else (await self._db.read(logs.new_folder, trader_id)).value

    async def stage(self, body: bytes) -> Staged:
        return Staged("", await asyncio.to_thread(compress, body))

    async def publish(self, folder: str, id: str, staged: Staged) -> None:
        """The commit has done it."""

    async def discard(self, staged: Staged) -> None:
        """Nothing is kept of it."""

    async def load(self, log: Log, wanted: Sequence[Entry]) -> list[bytes | None]:
        def read(connection: Connection) -> list[bytes | None]:
            bodies = index.bodies(connection, log.id, [entry.id for entry in wanted])
            return [decompress(bodies[entry.id]) if entry.id in bodies else None for entry in wanted]

        return (await self._db.scan(read)).value

    async def remove(self, log: Log, ids: Sequence[str]) -> None:
        """They go with their entries."""

    async def tidy(self) -> int:
        return 0


def compress(body: bytes) -> bytes:
    return zlib.compress(body, _LEVEL)


def decompress(kept: bytes) -> bytes:
    """The body, as it was."""
    return zlib.decompressobj().decompress(kept, MOST_BYTES)
