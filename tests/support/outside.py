"""A store as whoever has the database sees it, past the service: while servers run over it, and when they are dead."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.postgresql import database_of, shared_server


def rows(env: Mapping[str, str], sql: str) -> list[tuple[Any, ...]]:
    """What a statement finds, or changes, in the store of a server's environment."""
    url = env.get("NOFX_GRPC_DATABASE_URL")
    if url is not None:
        return shared_server().execute(sql, database_of(url))
    path = Path(env["NOFX_GRPC_DATA_DIR"], "nofx.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        return database.execute(sql).fetchall()


def assert_revisions_without_gaps(env: Mapping[str, str]) -> int:
    """Every revision is in the log, and each resource's is that of its last change; the last one."""
    [(last,)] = rows(env, "SELECT revision FROM store_state")
    logged = [revision for (revision,) in rows(env, "SELECT DISTINCT revision FROM change_log ORDER BY revision")]
    assert logged == list(range(2, last + 1))
    for table, kind, id in (
        ("users", "user", "id"),
        ("ai_models", "model", "id"),
        ("exchanges", "exchange", "id"),
        ("traders", "trader", "id"),
        ("beta_codes", "beta code", "code"),
        ("system_config", "configuration entry", "key"),
    ):
        user = "user_id" if table in {"ai_models", "exchanges", "traders"} else "''" if kind != "user" else "id"
        now = dict(rows(env, f"SELECT {user} || '/' || {id}, revision FROM {table} WHERE revision > 1"))  # noqa: S608  # names of ours
        changes = rows(
            env,
            "SELECT user_id || '/' || id, revision, operation FROM change_log"  # noqa: S608  # names of ours
            f" WHERE kind = '{kind}' ORDER BY revision, ordinal",
        )
        last_change = {key: (revision, operation) for key, revision, operation in changes}
        assert now == {key: revision for key, (revision, operation) in last_change.items() if operation != "delete"}
    return int(last)
