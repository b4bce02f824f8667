"""Many rows in one statement.

A driver's executemany steps once for each row and hands the interpreter's lock around each time; with the event loop
beside it, that costs far more than the rows themselves.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect, Table

# Well below the parameters that a statement may have: 32,766 on SQLite, 65,535 on PostgreSQL.
MOST_PARAMETERS = 16_000


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows that all name the columns that the first one names; none is nothing to do."""
    if not rows:
        return
    form = _form(connection.dialect, table, tuple(rows[0]))
    at_once = MOST_PARAMETERS // len(form.columns)
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        connection.exec_driver_sql(form.head + ", ".join([form.row] * len(part)), tuple(form.values(part)))


class _Form(NamedTuple):
    """How rows of these columns are inserted, and what makes their values such as the driver takes."""

    head: str
    row: str
    columns: list[tuple[str, Callable[[Any], object] | None]]

    def values(self, rows: Sequence[Mapping[str, object]]) -> Iterator[object]:
        """The values of all rows, one after the other."""
        for row in rows:
            for name, process in self.columns:
                yield row[name] if process is None else process(row[name])


@lru_cache(maxsize=64)
def _form(dialect: Dialect, table: Table, columns: tuple[str, ...]) -> _Form:
    mark = "?" if dialect.paramstyle == "qmark" else "%s"
    return _Form(
        head=f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ",  # noqa: S608  # names of ours, values are bound
        row=f"({', '.join([mark] * len(columns))})",
        columns=[(name, table.c[name].type.dialect_impl(dialect).bind_processor(dialect)) for name in columns],
    )
