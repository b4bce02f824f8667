"""The keyring as it is stored: wrapped keys, and the salt for a master key that is a passphrase."""

from sqlalchemy import Column, Connection, Integer, LargeBinary, Table, insert, select

from nofx_grpc.crypto.keyring import KeyRecord
from nofx_grpc.store.metadata import key_column, metadata, time_column

keyring = Table(
    "keyring",
    metadata,
    key_column("id", primary_key=True),
    key_column("purpose"),
    key_column("state"),
    key_column("algorithm"),
    key_column("wrapped"),
    time_column("created_at"),
)

master_key = Table(
    "master_key",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("salt", LargeBinary, nullable=False),
)

_INSERT = insert(keyring)
_ALL = select(keyring).order_by(keyring.c.id)


def read_all(connection: Connection) -> list[KeyRecord]:
    return [KeyRecord(*row) for row in connection.execute(_ALL)]


def append(connection: Connection, records: list[KeyRecord]) -> None:
    connection.execute(_INSERT, [{name: getattr(record, name) for name in KeyRecord.__slots__} for record in records])


def read_salt(connection: Connection) -> bytes:
    return bytes(connection.execute(select(master_key.c.salt)).scalar_one())


def write_salt(connection: Connection, salt: bytes) -> None:
    connection.execute(insert(master_key), {"id": 1, "salt": salt})
