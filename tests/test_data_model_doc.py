"""docs/data-model.md says what the schema is, and nothing else."""

import re
from pathlib import Path

import pytest
from sqlalchemy import Column, Index, Table, UniqueConstraint

from nofx_grpc.store.metadata import UtcDateTime
from nofx_grpc.store.sqlite import trigger_statements
from nofx_grpc.store.tables import SECRET_COLUMNS, TIMESTAMPED, metadata

PAGE = (Path(__file__).parents[1] / "docs" / "data-model.md").read_text()
SECTIONS = {
    heading: text.split("\n## ")[0]
    for heading, text in re.findall(r"^### `(\w+)`\n(.*?)(?=^### |\Z)", PAGE, re.M | re.S)
}
TYPES = {
    "TEXT": "text",
    "BOOLEAN": "bool",
    "INTEGER": "integer",
    "BIGINT": "bigint",
    "DOUBLE": "double",
    "BLOB": "bytes",
}
# Sealed too, by the code that writes them, but no client's secret.
SEALED_OTHERWISE = {("set_aside", "content")}


def names(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


def listed(columns: object) -> str:
    return ", ".join(f"`{column.name}`" for column in columns)  # type: ignore[attr-defined]  # a collection of columns


def row_of(column: Column[object]) -> tuple[str, str, str]:
    """Name, type and default, as the page writes them."""
    type_ = "time" if isinstance(column.type, UtcDateTime) else TYPES[str(column.type)]
    default = column.server_default
    text = "" if default is None else f"`{default.arg.text}`"  # type: ignore[attr-defined]  # all our defaults are SQL text
    return f"`{column.name}`", type_ + " or NULL" * bool(column.nullable), text


def facts_of(table: Table) -> list[str]:
    """The lines below the table: its keys and indexes."""
    unique = [key for key in table.constraints if isinstance(key, UniqueConstraint)]
    lines = [f"- Primary key: {listed(table.primary_key)}"]
    lines += [f"- Unique: {listed(key.columns)}" for key in unique]
    for key in table.foreign_key_constraints:
        target = f"`{key.referred_table.name}` ({listed(element.column for element in key.elements)})"
        lines.append(
            f"- Foreign key: {listed(key.columns)} → {target}" + ", deleted with it" * (key.ondelete == "CASCADE")
        )
    return lines + [f"- Index: {listed(index.columns)}{condition_of(index)}" for index in table.indexes]


def condition_of(index: Index) -> str:
    condition = index.dialect_options["postgresql"]["where"]
    return "" if condition is None else f" where `{condition.text}`"


def test_every_table_has_its_section_and_no_other_has_one() -> None:
    assert set(SECTIONS) == set(metadata.tables)


@pytest.mark.parametrize("name", metadata.tables)
def test_the_columns_are_those_of_the_schema(name: str) -> None:
    rows = [
        tuple(cell.strip() for cell in line.split("|")[1:4])
        for line in SECTIONS[name].splitlines()
        if line.startswith("| `")
    ]
    assert rows == [row_of(column) for column in metadata.tables[name].columns]


@pytest.mark.parametrize("name", metadata.tables)
def test_the_keys_and_indexes_are_those_of_the_schema(name: str) -> None:
    assert sorted(re.findall(r"^- .*$", SECTIONS[name], re.M)) == sorted(facts_of(metadata.tables[name]))


def test_the_sealed_columns_are_those_of_the_list() -> None:
    marked = {
        (name, names(line)[0])
        for name, section in SECTIONS.items()
        for line in section.splitlines()
        if line.startswith("| `") and "**Sealed" in line
    }
    assert marked - SEALED_OTHERWISE == set(SECRET_COLUMNS)


def test_the_triggers_are_those_of_the_list() -> None:
    shown = re.findall(r"^\| `(\w+)` \| `(update_\w+)` \|$", PAGE, re.M)
    assert [table for table, _ in shown] == [table.table for table in TIMESTAMPED]
    assert [trigger for _, trigger in shown] == list(trigger_statements(TIMESTAMPED))
