"""Checking the audit log: every record against its seal, every chain against the heads that are known of it.

The log is read a page at a time, each page in a short read of its own, so that a million records take no more memory
than a thousand, and others write meanwhile.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from nofx_grpc.crypto.chain import ChainKey, same
from nofx_grpc.store import audit_anchors, audit_chain
from nofx_grpc.store.audit_anchors import Anchor
from nofx_grpc.store.audit_chain import BEFORE, BEFORE_ALL, Head, Stored
from nofx_grpc.store.audit_heads import Heads

PAGE = 500
MOST_FINDINGS = 100


class Kind(StrEnum):
    """What may be wrong."""

    CHANGED = "CHANGED"  # a record is not the one that was sealed at this place
    MISSING = "MISSING"  # there is a gap
    CUT_OFF = "CUT_OFF"  # a head was further on than the chain is
    REWRITTEN = "REWRITTEN"  # at the place of a head there is another record
    ANCHOR = "ANCHOR"  # an anchor is not one of the service's
    UNREADABLE = "UNREADABLE"  # the database cannot make text of what it holds
    NO_HEAD = "NO_HEAD"  # there is nothing to tell by whether the log was cut off
    HEAD_DAMAGED = "HEAD_DAMAGED"  # the head file is not one of the service's


class Finding(NamedTuple):
    """Something that is wrong with the records of a chain from `first` to `last`; 0 where it is not about records."""

    kind: Kind
    chain_id: str
    first: int
    last: int
    text: str


class Compared(NamedTuple):
    """Heads that the log was compared with, and where they come from."""

    source: str
    heads: Heads


@dataclass(slots=True)
class Report:
    """What was checked and found.  Of many findings the first are told, and all counted."""

    compared: list[Compared]
    records: int = 0
    chains: int = 0
    before: int = 0  # records that were sealed only afterwards
    newer: int = 0  # records that are newer than every head of their chain
    unheaded: int = 0  # chains of which no head is known
    findings: list[Finding] = field(default_factory=list)
    found: int = 0

    def add(self, kind: Kind, chain_id: Any, first: int, last: int, text: str) -> None:
        self.found += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(kind, str(chain_id), first, last, text))


class _Walked:
    """A chain as far as it was walked."""

    def __init__(self, chain_id: str, start: bytes, heads: Iterable[tuple[str, Head]]) -> None:
        self.id = chain_id
        self.after: Any = BEFORE_ALL  # where the next page begins
        self.position = 0
        self.mac: bytes | None = start  # of the record at `position`; None behind a gap
        self.heads = deque(sorted(heads, key=lambda known: known[1].position))
        self.newest = self.heads[-1][1].position if self.heads else 0


class Verification:
    """One walk over the whole log: `step` until it returns False, then look at `report`."""

    def __init__(self, key: ChainKey, compared: Iterable[Compared]) -> None:
        self._key = key
        self.report = Report(list(compared))
        self._chain: _Walked | None = None
        self._last: str | None = None
        self._seen: set[str] = set()

    def step(self, connection: Connection) -> bool:
        """Check the next records; False when there are none left."""
        try:
            if self._chain is None and not self._begin(connection):
                self._finish(connection)
                return False
            if self._chain is not None:
                self._page(connection, self._chain)
        except (DBAPIError, ValueError) as error:
            # SQLite's of text that is not UTF-8, and ours of an anchor's time that is none.
            if isinstance(error, DBAPIError) and "decode" not in str(error.orig).lower():
                raise
            return self._unreadable()
        return True

    def _begin(self, connection: Connection) -> bool:
        """Turn to the next chain, if there is one."""
        chain_id = audit_chain.next_chain(connection, self._last)
        if chain_id is None:
            return False
        self._last = chain_id
        self._seen.add(chain_id)
        self._chain = _Walked(chain_id, self._key.start(str(chain_id)), self._heads_of(chain_id))
        self.report.chains += 1
        return True

    def _heads_of(self, chain_id: str) -> Iterable[tuple[str, Head]]:
        for source, heads in self.report.compared:
            if chain_id in heads.chains:
                yield source, heads.chains[chain_id]

    def _page(self, connection: Connection, chain: _Walked) -> None:
        # In the snapshot of the page: others may prune meanwhile.
        anchor = audit_anchors.find(connection, self._key, chain.id)
        anchor = anchor if anchor is not None and anchor.valid else None
        records = audit_chain.read(connection, chain.id, chain.after, PAGE)
        for record in records:
            self._record(chain, record, anchor)
        if len(records) == PAGE:
            chain.after = records[-1].position
        else:
            self._end(chain, anchor)

    def _record(self, chain: _Walked, record: Stored, anchor: Anchor | None) -> None:
        self.report.records += 1
        self.report.before += chain.id == BEFORE
        if not isinstance(record.position, int) or record.position <= chain.position:
            self.report.add(Kind.CHANGED, chain.id, 0, 0, f"a record has the place {record.position!r}, which is none")
            return
        if record.position != chain.position + 1:
            self._gap(chain, record.position - 1, anchor)
        if chain.mac is not None and not same(record.mac, self._key.link(chain.mac, record.fields)):
            text = "the record is not the one that was written at this place"
            self.report.add(Kind.CHANGED, chain.id, record.position, record.position, text)
        chain.position, chain.mac = record.position, record.mac
        self.report.newer += 0 < chain.newest < record.position
        self._compare(chain)

    def _gap(self, chain: _Walked, last: int, anchor: Anchor | None) -> None:
        """The records up to `last` are not there: they were pruned, or else they are missing."""
        if anchor is not None and anchor.position > chain.position:
            chain.position, chain.mac = min(anchor.position, last), anchor.mac if anchor.position <= last else None
            self._compare(chain)
        if chain.position < last:
            text = f"{last - chain.position} records are missing"
            self.report.add(Kind.MISSING, chain.id, chain.position + 1, last, text)
            chain.position, chain.mac = last, None
            self._compare(chain)

    def _compare(self, chain: _Walked) -> None:
        """Look at the heads that the walk has come to."""
        while chain.heads and chain.heads[0][1].position <= chain.position:
            source, head = chain.heads.popleft()
            if head.position == chain.position and chain.mac is not None and not same(head.mac, chain.mac):
                text = f"the record is not the one that {source} knows: the chain was written anew"
                self.report.add(Kind.REWRITTEN, chain.id, head.position, head.position, text)

    def _end(self, chain: _Walked, anchor: Anchor | None) -> None:
        if anchor is not None and anchor.position > chain.position:
            self._gap(chain, anchor.position, anchor)
        for source, head in chain.heads:
            text = f"{source} knows of {head.position - chain.position} records more: the chain was cut off"
            self.report.add(Kind.CUT_OFF, chain.id, chain.position + 1, head.position, text)
        self.report.unheaded += not chain.newest
        self._chain = None

    def _unreadable(self) -> bool:
        """Whether the walk can go on: it cannot where the next chain has no id that is a text."""
        chain_id, position = ("", 0) if self._chain is None else (self._chain.id, self._chain.position)
        text = "what follows cannot be read: it is no text"
        self.report.add(Kind.UNREADABLE, chain_id, position + 1, position + 1, text)
        goes_on = self._chain is not None
        self._chain = None
        return goes_on

    def _finish(self, connection: Connection) -> None:
        """Look at the chains that have no records any more, at records that are in none, and at the anchors."""
        if outside := audit_chain.count_outside(connection):
            self.report.add(Kind.CHANGED, "", 0, 0, f"{outside} records are at no place of a chain")
        for anchor in audit_anchors.every(connection, self._key):
            if not anchor.valid:
                text = "the anchor is not one that this service has put"
                self.report.add(Kind.ANCHOR, anchor.chain_id, anchor.position, anchor.position, text)
        gone = {id for _, heads in self.report.compared for id in heads.chains} - self._seen
        for chain_id in sorted(gone):
            chain = _Walked(chain_id, self._key.start(chain_id), self._heads_of(chain_id))
            found = audit_anchors.find(connection, self._key, chain_id)
            self._end(chain, found if found is not None and found.valid else None)
        if self.report.records and not self.report.compared:
            text = "there is no head to compare with, so records may have been cut off"
            self.report.add(Kind.NO_HEAD, "", 0, 0, text)
