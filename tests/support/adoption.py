"""An adoption run in this process by what the command runs, and a look into the store that it made."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nofx_grpc.cli import adopt as command
from nofx_grpc.crypto.envelope import Envelope, Location
from nofx_grpc.settings import Settings
from nofx_grpc.store import set_aside
from nofx_grpc.store.adoption.report import Problem, Report
from nofx_grpc.store.bootstrap import unlock
from nofx_grpc.store.sqlite import SqliteBackend
from tests.support.nofx_db import KEY


@dataclass
class Adopted:
    """What came of an adoption."""

    report: Report
    target: Path
    key: str

    def rows(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        """What a query finds in the new store."""
        connection = SqliteBackend(self.target, lock_timeout=1).open_reader()
        try:
            return [dict(row._mapping) for row in connection.exec_driver_sql(sql, parameters)]
        finally:
            connection.close()

    def table(self, name: str) -> list[dict[str, Any]]:
        """Every row of a table."""
        return self.rows(f'SELECT * FROM "{name}"')  # noqa: S608  # a table of ours

    def row(self, table: str, id: str) -> dict[str, Any]:
        """The one row with this id."""
        [found] = [row for row in self.table(table) if row["id"] == id]
        return found

    @property
    def envelope(self) -> Envelope:
        keyring = unlock(SqliteBackend(self.target, lock_timeout=1), self.key).keyring
        return Envelope(keyring)

    def secret(self, table: str, column: str, user_id: str, row_id: str) -> str:
        """A secret in clear, opened at the place where the services look for it."""
        key = {"users": "id", "user_signal_sources": "user_id", "system_config": "key"}.get(table, "")
        wanted = {key: user_id or row_id} if key else {"user_id": user_id, "id": row_id}
        [row] = [row for row in self.table(table) if wanted.items() <= row.items()]
        return self.envelope.open(row[column], Location(table, column, user_id, row_id))

    def aside(self) -> list[tuple[str, str, str, str]]:
        """What was set aside: table, key, code and content in clear."""
        connection = SqliteBackend(self.target, lock_timeout=1).open_reader()
        try:
            rows = set_aside.read_all(connection)
        finally:
            connection.close()
        found = []
        for row in rows:
            place = (row["source_table"], row["source_key"], row["code"])
            found.append((*place, self.envelope.open(row["content"], set_aside.location(*place))))
        return found

    def problems(self, code: str) -> list[Problem]:
        return [problem for problem in self.report.problems if problem.code == code]


def settings(data_dir: Path, key: str | None = KEY) -> Settings:
    env = {"NOFX_GRPC_DATA_DIR": str(data_dir)} | ({"DATA_ENCRYPTION_KEY": key} if key else {})
    return Settings.load(None, env)


def adopt(source: Path, data_dir: Path, *, key: str | None = KEY, to: str = "", in_place: bool = False) -> Adopted:
    """Adopt as `nofx-grpc adopt` does.  Raises StartError."""
    report = command.run(settings(data_dir, key), source, to, in_place=in_place)
    master = key or (data_dir / "master.key").read_text()
    return Adopted(report, Path(report.target), master)


Adopt = Callable[[Path], Adopted]
