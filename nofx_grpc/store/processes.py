"""The processes that serve this store: which live, which revision each needs, and which of them keeps house.

Times are the database's: the clocks of several machines differ.  Each process checks in about once a minute; one that
has not for a while is taken for dead.  So is one that seems to have checked in long after now, as when the clock was
set back since: if it lives, it comes back by itself.
"""

from datetime import timedelta

from sqlalchemy import BigInteger, Column, Connection, Table, bindparam, delete, func, insert, select

from nofx_grpc.store.metadata import UtcDateTime, flag_column, key_column, metadata, time_column

LIFETIME = timedelta(minutes=3)

processes = Table(
    "processes",
    metadata,
    key_column("id", primary_key=True),
    time_column("checked_in_at"),
    Column("held_revision", BigInteger),
    flag_column("keeps_house"),
)

_NOW = select(func.current_timestamp(type_=UtcDateTime()))
_ALL = select(processes)
_INSERT = insert(processes)
_DELETE = delete(processes).where(processes.c.id == bindparam("key"))
_HELD_BY_OTHERS = select(func.min(processes.c.held_revision)).where(processes.c.id != bindparam("key"))


def check_in(connection: Connection, id: str, held: int | None) -> bool:
    """Note that a process lives, and the oldest revision whose changes it needs, if any; whether it keeps house.

    One process does at a time, as long as it lives.
    """
    now = connection.execute(_NOW).scalar_one()
    others = [row for row in connection.execute(_ALL) if row.id != id]
    gone = [row.id for row in others if abs(now - row.checked_in_at) > LIFETIME]
    for key in [id, *gone]:
        connection.execute(_DELETE, {"key": key})
    keeps_house = not any(row.keeps_house for row in others if row.id not in gone)
    row = {"id": id, "checked_in_at": now, "held_revision": held, "keeps_house": keeps_house}
    connection.execute(_INSERT, row)
    return keeps_house


def check_out(connection: Connection, id: str) -> int:
    """Note that a process ends: another one keeps house from its next turn on.  How many were noted before, 0 or 1."""
    return connection.execute(_DELETE, {"key": id}).rowcount


def oldest_held(connection: Connection, but_by: str) -> int | None:
    """The oldest revision whose changes another process than `but_by` needs."""
    held: int | None = connection.execute(_HELD_BY_OTHERS, {"key": but_by}).scalar_one()
    return held
