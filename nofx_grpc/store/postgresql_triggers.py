"""The triggers that keep `updated_at` on PostgreSQL."""

from collections.abc import Sequence

from sqlalchemy import Connection

from nofx_grpc.store.metadata import Timestamped

# For a row that a foreign writer changes and forgets to date.  The row alone is touched: it is the one that is written.
_TOUCH = """
CREATE OR REPLACE FUNCTION set_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := CURRENT_TIMESTAMP;
    RETURN NEW;
END $$
"""


def install_triggers(connection: Connection, tables: Sequence[Timestamped]) -> None:
    """Make the triggers, in place of those that are there."""
    connection.exec_driver_sql(_TOUCH)
    for table in tables:
        name = f"update_{table.table}_updated_at"
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name} ON {table.table}")
        connection.exec_driver_sql(_trigger(name, table))


def _trigger(name: str, table: Timestamped) -> str:
    ours = " AND NEW.revision = OLD.revision"
    if table.counts_rewrites:
        ours += " AND NEW.rewrites = OLD.rewrites"
    condition = f"NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at{ours}"
    head = f"CREATE TRIGGER {name} BEFORE UPDATE ON {table.table} FOR EACH ROW"
    return f"{head} WHEN ({condition}) EXECUTE FUNCTION set_updated_at()"
