"""Tables read in the order of their keys, so that two databases can be compared row by row, whatever their engines."""

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, func, select

from nofx_grpc.errors import CopyError

# As many rows at a time as hold about so many bytes: a record of a decision may have megabytes, most rows have few.
BATCH = 1000
BATCH_BYTES = 4 * 1024 * 1024
_FIRST_BATCH = 16

Row = tuple[Any, ...]
Key = tuple[Any, ...]
Tell = Callable[[str, int, int], None]  # what is being done, how many rows are done, of how many


class Difference(NamedTuple):
    """A row that is not the same on both sides; None where there is none by its key."""

    key: Key
    wanted: Row | None
    present: Row | None


def count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def in_order(connection: Connection, table: Table) -> Iterator[Row]:
    """All rows, a batch in memory at a time.  Raises CopyError for a value that the store could not have written."""
    statement = select(table).order_by(*table.primary_key)
    wanted = _FIRST_BATCH
    try:
        with connection.execute(statement, execution_options={"yield_per": 1}) as rows:
            while batch := [tuple(row) for row in rows.fetchmany(wanted)]:
                yield from batch
                fitting = len(batch) * BATCH_BYTES // (1 + sum(map(size_of, batch)))
                wanted = max(1, min(fitting, 2 * wanted, BATCH))
    except ValueError as error:  # a time that is none, written by another program
        raise CopyError(f"the table {table.name} holds a value that cannot be read: {error}") from error


def size_of(row: Row) -> int:
    """About how many bytes a row has: those of its texts."""
    return sum(len(value) for value in row if isinstance(value, str | bytes))


def key_of(table: Table) -> Callable[[Row], Key]:
    """What tells a row's key."""
    columns = list(table.columns)
    places = [columns.index(column) for column in table.primary_key]
    return lambda row: tuple(row[place] for place in places)


def differences(wanted: Iterable[Row], present: Iterable[Row], key: Callable[[Row], Key]) -> Iterator[Difference]:
    """Each row that is missing, different or too much; both sides are in the order of their keys."""
    ours = ((key(row), "wanted", row) for row in wanted)
    theirs = ((key(row), "present", row) for row in present)
    for found, group in groupby(merge(ours, theirs, key=itemgetter(0)), itemgetter(0)):
        rows = {side: row for _, side, row in group}
        if len(rows) < 2 or encoded(rows["wanted"]) != encoded(rows["present"]):  # both sides
            yield Difference(found, rows.get("wanted"), rows.get("present"))


def encoded(row: Row) -> bytes:
    """A row as bytes, the same on every engine; different rows have different bytes."""
    return repr(row).encode("utf-8", "surrogatepass")


def checksum(rows: Iterable[Row]) -> str:
    """The SHA-256 of all rows in their order."""
    digest = sha256()
    for row in rows:
        digest.update(encoded(row))
    return digest.hexdigest()
