"""The new store read back, before it is put in place: nothing is missing, and every secret opens."""

from collections.abc import Iterator, Mapping

from sqlalchemy import Connection, RowMapping, func, select

from nofx_grpc.crypto.envelope import Envelope, Location, is_sealed
from nofx_grpc.errors import AdoptionError, SecretUnreadable
from nofx_grpc.store import set_aside
from nofx_grpc.store.adoption.report import Report
from nofx_grpc.store.adoption.rows import EXCHANGES_LEFT
from nofx_grpc.store.tables import RESOURCES

# Tables of which a new store has rows of its own: templates, their user, settings that NOFX did not have.
_SEEDED = {"users", "ai_models", "exchanges", "system_config"}


def verify(
    connection: Connection, envelope: Envelope, report: Report, secrets: Mapping[Location, str], set_aside_count: int
) -> None:
    """Raises AdoptionError, naming what is wrong, unless the store holds all that the report says was adopted."""
    for resource in RESOURCES:
        name = resource.table.name
        found = int(connection.execute(select(func.count()).select_from(resource.table)).scalar_one())
        sources = (name, EXCHANGES_LEFT) if name == "exchanges" else (name,)
        adopted = sum(report.tables[source].adopted for source in sources if source in report.tables)
        if found < adopted or (found > adopted and name not in _SEEDED):
            raise AdoptionError(f"verification failed: table {name} has {found} rows, and {adopted} were adopted")
    _verify_secrets(connection, envelope, secrets)
    _verify_aside(connection, envelope, set_aside_count)


def _verify_secrets(connection: Connection, envelope: Envelope, secrets: Mapping[Location, str]) -> None:
    missing = set(secrets)
    for where, sealed in _sealed(connection):
        try:
            opened = envelope.open(sealed, where)
        except SecretUnreadable:
            opened = None
        if opened is None or opened != secrets.get(where, opened):
            whose = where.row_id or where.user_id
            raise AdoptionError(f"verification failed: {where.table}.{where.column} of {whose!r} does not open")
        missing.discard(where)
    if missing:
        raise AdoptionError(f"verification failed: {len(missing)} secrets are missing in the new database")


def _sealed(connection: Connection) -> Iterator[tuple[Location, str]]:
    """Every sealed value and its place."""
    for resource in RESOURCES:
        table = resource.table
        if not resource.secrets:
            continue
        for row in connection.execute(select(table)).mappings():
            for column in resource.secrets:
                if row[column] and (table.name != "system_config" or is_sealed(row[column])):
                    yield _location(table.name, column, row), row[column]


def _location(table: str, column: str, row: RowMapping) -> Location:
    if table == "system_config":
        return Location(table, column, "", str(row["key"]))
    if table == "users":
        return Location(table, column, str(row["id"]), "")
    return Location(table, column, str(row["user_id"]), "" if table == "user_signal_sources" else str(row["id"]))


def _verify_aside(connection: Connection, envelope: Envelope, expected: int) -> None:
    rows = set_aside.read_all(connection)
    if len(rows) != expected:
        raise AdoptionError(f"verification failed: {len(rows)} of {expected} values that were set aside are there")
    for row in rows:
        envelope.open(row["content"], set_aside.location(row["source_table"], row["source_key"], row["code"]))
