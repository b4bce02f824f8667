"""The home of bodies in the database, beside their index: for many replicas of the service on one PostgreSQL."""

from collections.abc import Sequence

from nofx_grpc.store.decisions import bodies, logs
from nofx_grpc.store.decisions.entries import Entry
from nofx_grpc.store.decisions.home import Staged
from nofx_grpc.store.decisions.logs import Log, Owned
from nofx_grpc.store.engine import Connection, Database


class DatabaseHome:
    """Keeps each record's body, compressed, in the transaction of its entry."""

    in_files = False

    def __init__(self, db: Database) -> None:
        self._db = db

    async def open(self) -> None:
        """There is no other."""

    def is_current(self, log: Log) -> bool:
        return True

    async def refresh(self, trader_id: str, owned: Owned) -> Owned:  # nothing comes from elsewhere
        return owned

    async def found(self, trader_id: str) -> str | None:  # no record waits for its index
        return None

    async def folder(self, trader_id: str, owned: Owned) -> str:
        return owned.log.folder if owned.log else (await self._db.read(logs.new_folder, trader_id)).value

    def stage(self, body: bytes) -> Staged:
        return Staged(bodies.compress(body))

    async def publish(self, folder: str, id: str, staged: Staged) -> None:
        """The commit has done it."""

    async def discard(self, staged: Staged) -> None:
        """Nothing is kept of it."""

    async def settle(self) -> None:
        """The database is their place."""

    async def load(self, log: Log, wanted: Sequence[Entry]) -> list[bytes | None]:
        def read(connection: Connection) -> list[bytes | None]:
            kept = bodies.some(connection, log.id, [entry.id for entry in wanted])
            return [bodies.decompress(kept[entry.id]) if entry.id in kept else None for entry in wanted]

        return (await self._db.scan(read)).value

    async def reread(self, log: Log, ids: Sequence[str]) -> None:
        """Nobody changes them here."""

    async def remove(self, log: Log, ids: Sequence[str]) -> None:
        """They went with their entries."""

    async def finish_removing(self, log: Log) -> None:
        """Nothing is left of them."""

    async def tidy(self) -> int:
        return 0
