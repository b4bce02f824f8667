"""The keyring as it is stored: wrapped keys, and the salt for a master key that is a passphrase.

Every change but `rewrap`, which changes no key, counts up the keyring's version, so that each process takes it up.
"""

from typing import NamedTuple

from sqlalchemy import Column, Connection, Integer, LargeBinary, Table, bindparam, delete, insert, select, update

from nofx_grpc.crypto.encoding import Random
from nofx_grpc.crypto.keyring import SALT_BYTES, Key, KeyRecord, Keyring, MasterKey, new_key
from nofx_grpc.errors import FailedPrecondition, MasterKeyError, NotFound
from nofx_grpc.store import revisions
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

KIND = "key"

_INSERT = insert(keyring)
_ALL = select(keyring).order_by(keyring.c.id)
_WRAP = (
    update(keyring)
    .where(keyring.c.id == bindparam("key"))
    .values(state=bindparam("state"), wrapped=bindparam("wrapped"))
)
_DELETE = delete(keyring).where(keyring.c.id == bindparam("key"))
_COUNT_UP = update(revisions.store_state).values(keyring_version=revisions.store_state.c.keyring_version + 1)


class Rotation(NamedTuple):
    """The key that seals from now on, and the one that did."""

    new: KeyRecord
    previous: KeyRecord


def read_all(connection: Connection) -> list[KeyRecord]:
    return [KeyRecord(*row) for row in connection.execute(_ALL)]


def append(connection: Connection, records: list[KeyRecord]) -> None:
    connection.execute(_INSERT, [{name: getattr(record, name) for name in KeyRecord.__slots__} for record in records])


def read_salt(connection: Connection) -> bytes:
    return bytes(connection.execute(select(master_key.c.salt)).scalar_one())


def write_salt(connection: Connection, salt: bytes) -> None:
    connection.execute(insert(master_key), {"id": 1, "salt": salt})


def rotate(connection: Connection, master: MasterKey, random: Random) -> Rotation:
    """Make a new primary key for data; the one before only opens from now on.

    Raises FailedPrecondition if the keyring was wrapped for another master key, which would not open the new key.
    """
    records = read_all(connection)
    current = _unlock(records, master)
    previous = next(record for record in records if record.id == current.primary.id)
    opening = master.rewrap(previous, master, random, state="decrypt_only")
    key = _unused_key(records, random)
    new = master.wrap(
        key,
        purpose="data",
        state="primary",
        algorithm="aes-256-gcm",
        random=random,
        now=revisions.scope(connection).now,
    )
    _write(connection, [opening])
    append(connection, [new])
    connection.execute(_COUNT_UP)
    revisions.touch(connection, KIND, "", new.id, "rotate to")
    return Rotation(new, opening)


def retire(connection: Connection, id: str) -> None:
    """Remove a key, which the caller has seen to seal nothing any more since it is not primary.

    Raises NotFound, and FailedPrecondition for a key that cannot be retired.
    """
    check_retirable(read_all(connection), id)
    connection.execute(_DELETE, {"key": id})
    connection.execute(_COUNT_UP)
    revisions.touch(connection, KIND, "", id, "retire")


def rewrap(connection: Connection, master: MasterKey, new_text: str, random: Random) -> int:
    """Wrap every key for the new master key, which opens all of them then; the number of keys.

    Raises MasterKeyError if the old one does not open the keyring, or the new one is the old one.
    """
    records = read_all(connection)
    before = Keyring.unlock(records, master)
    if MasterKey.from_text(new_text, read_salt(connection)).opens(records):
        raise MasterKeyError("the new master key is the one that the keyring is wrapped for already")
    salt = random(SALT_BYTES)
    new = MasterKey.from_text(new_text, salt)
    _write(connection, [new.rewrap(record, master, random) for record in records])
    connection.execute(update(master_key).values(salt=salt))
    # As the next start will open it: from what is stored, and from the text.
    if Keyring.unlock(read_all(connection), MasterKey.from_text(new_text, read_salt(connection))) != before:
        raise MasterKeyError("the keyring would not be the same under the new master key: nothing was changed")
    revisions.touch(connection, KIND, "", "all keys", "rewrap")
    return len(records)


class Listing:
    """Keys in the order of their ids."""

    def page(self, connection: Connection, *, user_id: str, after: tuple[str, ...], limit: int) -> list[KeyRecord]:
        """At most `limit` keys after the id `after`; there are never many."""
        return [record for record in read_all(connection) if not after or record.id > after[0]][:limit]

    def key_of(self, record: KeyRecord) -> tuple[str, ...]:
        return (record.id,)


def check_retirable(records: list[KeyRecord], id: str) -> None:
    """Raises NotFound, and FailedPrecondition for a key that seals, or is not for data."""
    record = next((record for record in records if record.id == id), None)
    if record is None:
        raise NotFound(KIND, id)
    if record.purpose != "data":
        raise FailedPrecondition(f"the key {id!r} is for {record.purpose}: there is one of it, and it stays")
    if record.state == "primary":
        raise FailedPrecondition(f"the key {id!r} is primary: rotate first, and re-encrypt what it has sealed")


def _unlock(records: list[KeyRecord], master: MasterKey) -> Keyring:
    try:
        return Keyring.unlock(records, master)
    except MasterKeyError as error:
        raise FailedPrecondition(
            "the keyring was wrapped for another master key since this server started: restart it with that one"
        ) from error


def _unused_key(records: list[KeyRecord], random: Random) -> Key:
    taken = {record.id for record in records}
    while (key := new_key(random)).id in taken:
        pass
    return key


def _write(connection: Connection, records: list[KeyRecord]) -> None:
    """Write the state and the wrapped form of keys that are there."""
    rows = [{"key": record.id, "state": record.state, "wrapped": record.wrapped} for record in records]
    connection.execute(_WRAP, rows)
