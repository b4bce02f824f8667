"""From where somebody has logged in to an account before, each for some time.

Apart from the tries at logging in, which are forgotten much sooner: of too many notes none takes the place of a try.
Whose a note is stands there as a hash, as in `login_tries`.
"""

from datetime import datetime, timedelta

from sqlalchemy import Connection, Index, Table, bindparam, delete, func, select, text

from nofx_grpc.store import revisions
from nofx_grpc.store.metadata import UtcDateTime, key_column, metadata, time_column

known_callers = Table(
    "known_callers",
    metadata,
    key_column("id", primary_key=True),
    time_column("forgotten_at"),
    Index(None, "forgotten_at"),
)

_NOTE = text(
    "INSERT INTO known_callers (id, forgotten_at) VALUES (:id, :forgotten)"
    " ON CONFLICT (id) DO UPDATE SET forgotten_at = excluded.forgotten_at"
).bindparams(bindparam("forgotten", type_=UtcDateTime()))
_FIND = select(known_callers.c.id).where(
    known_callers.c.id == bindparam("key"), known_callers.c.forgotten_at > bindparam("now")
)
_FIRST = select(known_callers.c.id).order_by(known_callers.c.forgotten_at).limit(bindparam("limit"))
_DELETE_BEFORE = delete(known_callers).where(
    known_callers.c.id.in_(_FIRST.where(known_callers.c.forgotten_at <= bindparam("before")))
)
_DELETE_FIRST = delete(known_callers).where(known_callers.c.id.in_(_FIRST))
_COUNT = select(func.count()).select_from(known_callers)


def note(connection: Connection, id: str, lifetime: timedelta) -> None:
    """Know somebody for this long from now on."""
    connection.execute(_NOTE, {"id": id, "forgotten": revisions.scope(connection).now + lifetime})


def is_known(connection: Connection, id: str) -> bool:
    """Whether there is a note of this id that is not forgotten yet."""
    now = revisions.scope(connection).now
    return connection.execute(_FIND, {"key": id, "now": now}).one_or_none() is not None


def forget_before(connection: Connection, before: datetime, limit: int) -> int:
    """Delete at most `limit` notes that are forgotten at `before`, and tell how many that were."""
    return connection.execute(_DELETE_BEFORE, {"before": before, "limit": limit}).rowcount


def trim(connection: Connection, most: int, limit: int) -> int:
    """Delete at most `limit` of those notes that are more than `most`, the oldest first, and tell how many."""
    over = connection.execute(_COUNT).scalar_one() - most
    return connection.execute(_DELETE_FIRST, {"limit": min(over, limit)}).rowcount if over > 0 else 0
