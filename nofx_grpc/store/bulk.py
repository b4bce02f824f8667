"""Many rows in one statement.

A driver's executemany steps once for each row and hands the interpreter's lock around each time; with the event loop
beside it, that costs far more than the rows themselves.
"""

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Connection, Table

# Well below the parameters that a statement may have: 32,766 on SQLite, 65,535 on PostgreSQL.
MOST_PARAMETERS = 16_000


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows that all name the columns that the first one names; none is nothing to do."""
    if not rows:
        return
    columns = list(rows[0])
    at_once = MOST_PARAMETERS // len(columns)
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    row_marks = f"({', '.join([mark] * len(columns))})"
    head = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES "  # noqa: S608  # names of ours, values are bound
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        connection.exec_driver_sql(head + ", ".join([row_marks] * len(part)), tuple(_values(connection, table, part)))


def _values(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> Iterator[object]:
    """The values of all rows, one after the other, as the driver takes them."""
    dialect = connection.dialect
    processors = [(name, table.c[name].type.dialect_impl(dialect).bind_processor(dialect)) for name in rows[0]]
    for row in rows:
        for name, process in processors:
            yield row[name] if process is None else process(row[name])
