"""The heads of all chains as one document, to be kept elsewhere; and what the log is compared with."""

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Connection

from nofx_grpc.crypto.chain import ChainKey
from nofx_grpc.store import audit_anchors, audit_chain
from nofx_grpc.store.audit_chain import Head
from nofx_grpc.store.audit_heads import HeadFile, Heads, HeadsDamaged
from nofx_grpc.store.audit_verify import Compared, Kind


def known_heads(file: HeadFile) -> tuple[list[Compared], list[tuple[Kind, str]]]:
    """The heads of the file, if there are any, and what is wrong with it."""
    try:
        heads = file.read()
    except (HeadsDamaged, OSError) as error:
        return [], [(Kind.HEAD_DAMAGED, f"the head file {file.path} cannot be used: {error}")]
    return ([] if heads is None else [Compared(f"the head file {file.path}", heads)]), []


def export(connection: Connection, known: Heads | None, now: datetime) -> Heads:
    """The heads of all chains: as the database has them, but never less than what is known.

    Or else an export made after the log was cut off would say that it was never longer.
    """
    return Heads.of(_furthest(connection, known), now)


def _furthest(connection: Connection, known: Heads | None) -> Iterator[Head]:
    left = dict(known.chains) if known is not None else {}
    for head in audit_chain.tails(connection):
        other = left.pop(head.chain_id, None)
        yield head if other is None or other.position < head.position else other
    yield from left.values()


def pruned_away(connection: Connection, key: ChainKey, known: Heads) -> list[str]:
    """The known chains of which all records were pruned."""
    left = {head.chain_id for head in audit_chain.tails(connection)}
    return [
        anchor.chain_id
        for anchor in audit_anchors.every(connection, key)
        if anchor.valid
        and anchor.chain_id not in left
        and anchor.chain_id in known.chains
        and anchor.position >= known.chains[anchor.chain_id].position
    ]
