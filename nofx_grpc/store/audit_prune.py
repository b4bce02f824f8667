"""Pruning the audit log: the oldest records of a chain go, and an anchor tells of the last one of them."""

from datetime import datetime
from itertools import takewhile

from sqlalchemy import Connection, bindparam, delete

from nofx_grpc.crypto.chain import ChainKey, same
from nofx_grpc.errors import AuditBroken
from nofx_grpc.store import audit_anchors, audit_chain, revisions
from nofx_grpc.store.audit import audit_log
from nofx_grpc.store.audit_chain import SEALED, Stored, sealed_text

_AT = SEALED.index("at")
_C = audit_log.c
_DELETE = delete(audit_log).where(_C.chain_id == bindparam("chain_id"), _C.chain_position <= bindparam("last"))


def prune(
    connection: Connection, key: ChainKey, chain_id: str, before: datetime, limit: int, *, force: bool = False
) -> int:
    """Remove at most `limit` records from the beginning of a chain that are older than `before`; how many.

    Raises AuditBroken, unless forced, where a record is not as it was sealed: the anchor would vouch for it.
    """
    anchor = audit_anchors.find(connection, key, chain_id)
    position, mac = (anchor.position, anchor.mac) if anchor is not None and anchor.valid else (0, key.start(chain_id))
    records = audit_chain.read(connection, chain_id, position, limit)
    until = sealed_text(before)
    old = list(takewhile(lambda record: record.fields[_AT] < until, records))
    if not old:
        return 0
    if not force:
        _check(key, chain_id, position, mac, old)
    last = old[-1]
    audit_anchors.put(connection, key, chain_id, last.position, last.mac, revisions.scope(connection).now)
    connection.execute(_DELETE, {"chain_id": chain_id, "last": last.position})
    return len(old)


def _check(key: ChainKey, chain_id: str, position: int, mac: bytes, records: list[Stored]) -> None:
    for record in records:
        position += 1
        mac = key.link(mac, record.fields)
        if record.position != position or not same(mac, record.mac):
            raise AuditBroken(chain_id, position)
