"""Anchors: what stands for the records of a chain that were pruned, signed."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select

from nofx_grpc.crypto.chain import ChainKey, same
from nofx_grpc.store.audit import audit_anchors
from nofx_grpc.store.audit_chain import as_bytes

_PURPOSE = "nofx-audit-anchor-1"


class Anchor(NamedTuple):
    """The last record of a chain that was pruned; `valid` tells whether it was this service that put the anchor."""

    chain_id: str
    position: int
    mac: bytes
    valid: bool


_BY_CHAIN = select(audit_anchors).where(audit_anchors.c.chain_id == bindparam("chain_id"))
_ALL = select(audit_anchors).order_by(audit_anchors.c.chain_id)
_INSERT = insert(audit_anchors)
_DELETE = delete(audit_anchors).where(audit_anchors.c.chain_id == bindparam("chain_id"))


def find(connection: Connection, key: ChainKey, chain_id: str) -> Anchor | None:
    row = connection.execute(_BY_CHAIN, {"chain_id": chain_id}).one_or_none()
    return None if row is None else _anchor(key, *row)


def every(connection: Connection, key: ChainKey) -> Iterator[Anchor]:
    """All anchors, in the order of the chains' ids."""
    for row in connection.execute(_ALL):
        yield _anchor(key, *row)


def put(connection: Connection, key: ChainKey, chain_id: str, position: int, mac: bytes, now: datetime) -> None:
    """Put the anchor of a chain, in place of the one that it has."""
    connection.execute(_DELETE, {"chain_id": chain_id})
    seal = _seal(key, chain_id, position, mac, now)
    row = {"chain_id": chain_id, "position": position, "mac": mac, "pruned_at": now, "seal": seal}
    connection.execute(_INSERT, row)


def _anchor(key: ChainKey, chain_id: str, position: int, mac: bytes, pruned_at: datetime, seal: bytes) -> Anchor:
    valid = same(as_bytes(seal), _seal(key, chain_id, position, as_bytes(mac), pruned_at))
    return Anchor(chain_id, position, as_bytes(mac), valid)


def _seal(key: ChainKey, chain_id: str, position: int, mac: bytes, at: datetime) -> bytes:
    return key.seal(_PURPOSE, str(chain_id), str(position), mac.hex(), at.isoformat())
