"""Opening a store: from a URL and a master key to a migrated database and an unlocked keyring."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from nofx_grpc.crypto.chain import ChainKey
from nofx_grpc.crypto.encoding import Random
from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.crypto.keyring import SALT_BYTES, Keyring, MasterKey, new_keyring, nofx_record
from nofx_grpc.errors import SchemaError
from nofx_grpc.store import audit_chain, keys, tokens
from nofx_grpc.store.backend import Backend
from nofx_grpc.store.live_keys import LiveKeys
from nofx_grpc.store.reads import read_committed
from nofx_grpc.store.schema import migrate
from nofx_grpc.store.seed import seed
from nofx_grpc.store.tokens import Token


@dataclass(frozen=True, slots=True)
class FirstStart:
    """What a new store is filled with: the system's settings (given the envelope that seals them) and the first tokens.

    Both are called inside the transaction that makes the store, so that nothing is handed out for a store that was not
    made.
    """

    config: Callable[[Envelope], Mapping[str, str]]
    tokens: Callable[[datetime], list[Token]]


def fill_new(
    connection: Connection,
    master_text: str,
    first: FirstStart,
    now: datetime,
    random: Random,
    nofx_key: bytes | None = None,
) -> Envelope:
    """Fill a database that was just made: a keyring, to which `nofx_key` belongs where it is given, the seed and the
    first tokens.  Returns what seals under its keys.
    """
    salt = random(SALT_BYTES)
    master = MasterKey.from_text(master_text, salt)
    records = new_keyring(master, random, now)
    if nofx_key is not None:
        records.append(nofx_record(nofx_key, master, random, now))
    envelope = Envelope(Keyring.unlock(records, master), random)
    seed(connection, keyring=records, salt=salt, config=first.config(envelope), now=now)
    for token in first.tokens(now):
        tokens.insert(connection, token)
    return envelope


def open_store(backend: Backend, master_text: str, first: FirstStart, now: datetime, random: Random) -> LiveKeys:
    """Migrate the database, making it if it is new, and unlock its keyring.

    Raises SchemaError, and MasterKeyError if the key does not fit.
    """

    def fill(connection: Connection) -> None:
        fill_new(connection, master_text, first, now, random)

    def complete(connection: Connection) -> None:
        audit_chain.seal_old_records(connection, ChainKey(unlock_in(connection, master_text).keyring.audit))

    try:
        migrate(backend, fill, complete)
        return unlock(backend, master_text)
    except DBAPIError as error:
        raise SchemaError(f"{backend.describe()} cannot be opened: {error.orig}") from error


def unlock(backend: Backend, master_text: str) -> LiveKeys:
    """The keyring of a store.  Raises MasterKeyError if the master key does not fit."""
    connection = backend.open_reader()
    try:
        # In one snapshot: the keyring may be wrapped anew meanwhile, with another salt.
        connection.exec_driver_sql(backend.begin_read)
        return unlock_in(connection, master_text)
    finally:
        connection.close()


def unlock_in(connection: Connection, master_text: str) -> LiveKeys:
    """As `unlock`, in a transaction that runs."""
    master = MasterKey.from_text(master_text, keys.read_salt(connection))
    return LiveKeys(master, Keyring.unlock(keys.read_all(connection), master), read_committed(connection))
