"""Writes the golden copy of the newest schema: `python -m tests.store.make_golden`, once, with each migration.

A copy that is there already is never written again: it stands for the databases that a release has left behind.
"""

import os
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from nofx_grpc.crypto.envelope import Location
from nofx_grpc.store import audit, exchanges, models, revisions, traders, users
from nofx_grpc.store.audit import AuditRecord
from nofx_grpc.store.schema import newest_version
from tests.store.support import exchange, make_sqlite, model, trader, user
from tests.support.clock import FakeClock

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
GOLDEN_API_KEY = "golden-api-key"


def main() -> None:
    golden = GOLDEN / f"{newest_version()}.sql"
    if golden.exists():
        sys.exit(f"{golden} is there already")
    golden.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        fill(Path(directory))
        with closing(sqlite3.connect(Path(directory, "nofx.db"))) as connection:
            golden.write_text("\n".join(connection.iterdump()) + "\n")
    print(f"wrote {golden}")


def fill(directory: Path) -> None:
    store = make_sqlite(directory, FakeClock())
    sealed = store.envelope.seal(GOLDEN_API_KEY, Location("exchanges", "api_key", "ada", "binance"))
    with store.outside() as connection:
        batch = revisions.Batch()
        scope = revisions.open_scope(connection, store.clock(), batch)
        users.resource.create(connection, user())
        models.resource.create(connection, model())
        exchanges.resource.create(connection, exchange(api_key=sealed))
        traders.resource.create(connection, trader())
        audit.append(connection, AuditRecord("token:golden", "admin", "/golden.Golden/Fill", "local"))
        rows, chain = revisions.deferred([scope]), store.chain()
        rows[audit.audit_log] = chain.link(rows[audit.audit_log])
        revisions.finish(connection, batch, rows)


if __name__ == "__main__":
    os.umask(0o022)
    main()
