"""What the tests of the audit log look at and do behind the service's back."""

from typing import Any

from sqlalchemy import Connection

from nofx_grpc.crypto.chain import ChainKey
from nofx_grpc.store import audit_chain
from nofx_grpc.store.audit_chain import Head
from nofx_grpc.store.audit_heads import Heads
from tests.store.support import Store

COLUMNS = (*audit_chain.SEALED, "mac")


def chains(connection: Connection) -> dict[str, list[int]]:
    """The places of each chain's records, in order."""
    found: dict[str, list[int]] = {}
    sql = "SELECT chain_id, chain_position FROM audit_log ORDER BY chain_id, chain_position"
    for chain_id, position in connection.exec_driver_sql(sql):
        found.setdefault(chain_id, []).append(position)
    return found


def unbroken(connection: Connection, key: ChainKey, chain_id: str) -> bool:
    """Whether each record of a chain is sealed together with the one before it, from the first on."""
    mac = key.start(chain_id)
    for place, record in enumerate(audit_chain.read(connection, chain_id, 0, 10_000), start=1):
        mac = key.link(mac, record.fields)
        if (record.position, record.mac) != (place, mac):
            return False
    return True


def on_driver(connection: Connection, sql: str, *parameters: Any) -> Any:
    """Run a statement with '?' for each parameter, whichever driver it is."""
    if connection.dialect.paramstyle != "qmark":
        sql = sql.replace("%", "%%").replace("?", "%s")
    return connection.exec_driver_sql(sql, parameters)


def key_of(store: Store) -> ChainKey:
    return ChainKey(store.keyring.audit)


def heads_of(store: Store, heads: list[Head]) -> Heads:
    return Heads.of(heads, store.clock())
