"""What an adopted database held that could not be kept valid: sealed, reported, never dropped."""

import json
from contextlib import suppress

from sqlalchemy import BigInteger, Column, Connection, Integer, Table, insert, select

from nofx_grpc.crypto.envelope import Location
from nofx_grpc.crypto.keyring import Key
from nofx_grpc.crypto.nofx import PREFIX, NofxSecretDamaged, is_nofx_ciphertext
from nofx_grpc.crypto.nofx import open_nofx as open_nofx_text
from nofx_grpc.store.metadata import key_column, metadata, text_column, time_column

set_aside = Table(
    "set_aside",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    key_column("source_table"),
    key_column("source_key"),
    key_column("code"),
    text_column("detail"),
    key_column("content"),  # the whole row, or the one value, as JSON, sealed
    time_column("created_at"),
)

_INSERT = insert(set_aside)
_ALL = select(
    set_aside.c.source_table, set_aside.c.source_key, set_aside.c.code, set_aside.c.detail, set_aside.c.content
).order_by(set_aside.c.id)


def keep(connection: Connection, rows: list[dict[str, object]]) -> None:
    """Write rows of source_table, source_key, code, detail, content (sealed) and created_at."""
    connection.execute(_INSERT, rows)


def read_all(connection: Connection) -> list[dict[str, str]]:
    """Everything set aside, content sealed."""
    return [dict(row._mapping) for row in connection.execute(_ALL)]


def open_nofx(content: str, key: Key | None) -> str:
    """The same content with every value opened that NOFX's key has encrypted; what does not open stays as it is."""
    if key is None or PREFIX not in content:
        return content
    values = json.loads(content)
    for name, value in values.items():
        if isinstance(value, str) and is_nofx_ciphertext(value):
            with suppress(NofxSecretDamaged):
                values[name] = open_nofx_text(value, key.secret)
    return json.dumps(values, ensure_ascii=False)


def location(source_table: str, source_key: str, code: str) -> Location:
    """Where the content of such a row is sealed for."""
    return Location(set_aside.name, "content", source_table, f"{code} {source_key}")
