"""`nofx-grpc copy-db` connects as the settings say."""

import pytest

from nofx_grpc.cli import moving
from nofx_grpc.settings import Settings
from nofx_grpc.store.backend import Backend
from nofx_grpc.store.moving.copy import Copied
from nofx_grpc.store.postgresql import PostgresqlBackend


def test_both_databases_are_used_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Backend] = []

    def copy(source: Backend, target: Backend, tell: object) -> Copied:
        used.extend((source, target))
        return Copied(1, "history", resumed=False, tables={}, left_out=[])

    monkeypatch.setattr(moving, "copy_store", copy)
    env = {"NOFX_GRPC_DATABASE_PREPARED_STATEMENTS": "off", "NOFX_GRPC_DATABASE_STATEMENT_SECONDS": "7"}
    moving.run_copy(Settings.load(None, env), *(f"postgresql+psycopg://a@db.example/{name}" for name in ("one", "two")))
    for backend in used:
        assert isinstance(backend, PostgresqlBackend)
        assert not backend._options.prepared and backend._options.statement_seconds == 7
    assert len(used) == 2
