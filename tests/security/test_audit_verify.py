"""Whoever can write the database, but has no key, changes no audit record unseen."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection

from nofx_grpc.crypto.chain import ChainKey
from nofx_grpc.crypto.keyring import Key
from nofx_grpc.store import audit, audit_chain, revisions
from nofx_grpc.store.audit_chain import SEALED, Chain, Head
from nofx_grpc.store.audit_heads import Heads
from nofx_grpc.store.audit_prune import prune
from nofx_grpc.store.audit_verify import MOST_FINDINGS, PAGE, Compared, Kind, Report, Verification
from nofx_grpc.store.bulk import insert_rows
from tests.security.support import heads_of, key_of, on_driver
from tests.store.support import Store

RECORDS = 12


def write(connection: Connection, chain: Chain, number: int, now: Any) -> None:
    """Records as the writer writes them."""
    rows = [
        {
            "at": now,
            "principal": f"token:{i}",
            "role": "engine",
            "method": "/nofx_grpc.v1.Traders/GetTraderConfig",
            "peer": "ipv4:127.0.0.1:1",
            "user_id": "ada",
            "resources": f"t{i}",
            "outcome": "OK",
            "reason": "",
            "revision": i,
            "request_id": "",
        }
        for i in range(number)
    ]
    insert_rows(connection, audit.audit_log, chain.link(rows))
    chain.committed()


@contextmanager
def written(store: Store, chains: int = 1, records: int = RECORDS) -> Iterator[tuple[Connection, list[Head]]]:
    """A log, and its heads."""
    with store.outside() as connection:
        for _ in range(chains):
            write(connection, store.chain(), records, store.clock())
        yield connection, list(audit_chain.tails(connection))


def verify(store: Store, connection: Connection, *heads: Heads) -> Report:
    verification = Verification(key_of(store), [Compared("a head", known) for known in heads])
    while verification.step(connection):
        pass
    return verification.report


def found(report: Report) -> list[tuple[Kind, int, int]]:
    return [(finding.kind, finding.first, finding.last) for finding in report.findings]


def test_a_log_that_nobody_touched_is_as_it_was_written(store: Store) -> None:
    with written(store, chains=2, records=PAGE + 1) as (connection, heads):
        report = verify(store, connection, heads_of(store, heads))
    assert (report.found, report.records, report.chains) == (0, 2 * (PAGE + 1), 2)
    assert (report.newer, report.unheaded, report.before) == (0, 0, 0)


EDITS: dict[str, Any] = {
    "at": "2020-01-01 00:00:00",
    "revision": None,
    **{name: "x" for name in SEALED if name not in {"chain_id", "chain_position", "at", "revision"}},
}


@pytest.mark.parametrize("column", EDITS)
def test_an_edited_record_is_found(store: Store, column: str) -> None:
    with written(store) as (connection, heads):
        on_driver(connection, f"UPDATE audit_log SET {column} = ? WHERE chain_position = 5", EDITS[column])  # noqa: S608
        assert found(verify(store, connection, heads_of(store, heads))) == [(Kind.CHANGED, 5, 5)]


def test_an_edited_seal_is_found(store: Store) -> None:
    with written(store) as (connection, heads):
        on_driver(connection, "UPDATE audit_log SET mac = ? WHERE chain_position = 12", b"0" * 32)
        expected = [(Kind.CHANGED, 12, 12), (Kind.REWRITTEN, 12, 12)]
        assert found(verify(store, connection, heads_of(store, heads))) == expected


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 3), (5, 5), (5, 9), (11, 11)])
def test_deleted_records_are_found(store: Store, first: int, last: int) -> None:
    with written(store) as (connection, heads):
        on_driver(connection, "DELETE FROM audit_log WHERE chain_position BETWEEN ? AND ?", first, last)
        assert found(verify(store, connection, heads_of(store, heads))) == [(Kind.MISSING, first, last)]


def move(connection: Connection, old: int, new: int) -> None:
    on_driver(connection, "UPDATE audit_log SET chain_position = ? WHERE chain_position = ?", new, old)


def test_reordered_records_are_found(store: Store) -> None:
    with written(store) as (connection, heads):
        for old, new in ((5, 99), (6, 5), (99, 6)):
            move(connection, old, new)
        kinds = {finding[0] for finding in found(verify(store, connection, heads_of(store, heads)))}
        assert kinds == {Kind.CHANGED}


def test_a_deleted_record_is_found_when_the_others_close_ranks(store: Store) -> None:
    with written(store) as (connection, heads):
        on_driver(connection, "DELETE FROM audit_log WHERE chain_position = 5")
        for position in range(6, RECORDS + 1):
            move(connection, position, position - 1)
        report = verify(store, connection, heads_of(store, heads))
        assert (Kind.CHANGED, 5, 5) in found(report) and (Kind.CUT_OFF, 12, 12) in found(report)


COPY = (
    "INSERT INTO audit_log SELECT chain_id, ?, at, principal, role, method, peer, user_id, resources, outcome, reason,"
    " revision, request_id, mac FROM audit_log WHERE chain_position = ?"
)


@pytest.mark.parametrize("place", [0, -3, RECORDS + 1, RECORDS + 5])
def test_an_inserted_record_is_found(store: Store, place: int) -> None:
    with written(store) as (connection, heads):
        on_driver(connection, COPY, place, RECORDS)
        report = verify(store, connection, heads_of(store, heads))
        assert report.found, "a copy of a good record at another place"


def test_a_record_moved_to_another_chain_is_found(store: Store) -> None:
    with written(store, chains=2) as (connection, heads):
        one, two = (head.chain_id for head in heads)
        sql = "UPDATE audit_log SET chain_id = ?, chain_position = 13 WHERE chain_id = ? AND chain_position = 12"
        on_driver(connection, sql, two, one)
        assert found(verify(store, connection, heads_of(store, heads))) == [
            (Kind.CUT_OFF, 12, 12),
            (Kind.CHANGED, 13, 13),
        ]


def test_a_chain_under_another_id_is_found(store: Store) -> None:
    with written(store) as (connection, _):
        on_driver(connection, "UPDATE audit_log SET chain_id = 'x'")
        report = verify(store, connection)
        assert (Kind.CHANGED, 1, 1) in found(report)


@pytest.mark.parametrize("kept", [11, 1, 0])
def test_a_log_that_is_cut_off_is_found_by_its_head(store: Store, kept: int) -> None:
    with written(store) as (connection, heads):
        on_driver(connection, "DELETE FROM audit_log WHERE chain_position > ?", kept)
        assert found(verify(store, connection, heads_of(store, heads))) == [(Kind.CUT_OFF, kept + 1, 12)]


def test_a_log_without_a_head_says_so(store: Store) -> None:
    with written(store) as (connection, _):
        assert found(verify(store, connection)) == [(Kind.NO_HEAD, 0, 0)]


def test_what_is_newer_than_its_head_is_said(store: Store) -> None:
    with written(store, chains=2) as (connection, heads):
        old = heads_of(store, [Head(heads[0].chain_id, 12, heads[0].mac)])
        on_driver(connection, "UPDATE audit_log SET chain_position = chain_position")
        report = verify(store, connection, old)
        assert (report.found, report.newer, report.unheaded) == (0, 0, 1)
        records = audit_chain.read(connection, heads[0].chain_id, 0, 4)
        report = verify(store, connection, heads_of(store, [Head(heads[0].chain_id, 4, records[-1].mac)]))
        assert (report.found, report.newer) == (0, 8)


def test_a_chain_made_anew_without_the_key_is_found(store: Store) -> None:
    """The same records but one, each with a seal that fits: only the key is not the service's."""
    forger = ChainKey(Key(store.keyring.audit.id, os.urandom(32)))
    with written(store) as (connection, heads):
        chain_id, mac = heads[0].chain_id, forger.start(heads[0].chain_id)
        on_driver(connection, "UPDATE audit_log SET resources = 'nothing' WHERE chain_position = 5")
        for record in audit_chain.read(connection, chain_id, 0, 100):
            mac = forger.link(mac, record.fields)
            on_driver(connection, "UPDATE audit_log SET mac = ? WHERE chain_position = ?", mac, record.position)
        report = verify(store, connection)
        assert report.found == RECORDS + 1, "each record, and that there is no head"


def test_a_chain_of_before_put_back_is_found(store: Store) -> None:
    """The service itself has sealed what is put back: only a head knows that it went on otherwise."""
    with store.outside() as connection:
        chain = store.chain()
        write(connection, chain, 4, store.clock())
        old = connection.exec_driver_sql("SELECT * FROM audit_log").fetchall()
        write(connection, chain, 4, store.clock())
        heads = heads_of(store, list(audit_chain.tails(connection)))
        on_driver(connection, "DELETE FROM audit_log")
        for row in old:
            marks = ", ".join("?" * len(row))
            on_driver(connection, f"INSERT INTO audit_log VALUES ({marks})", *row)  # noqa: S608  # only marks
        assert found(verify(store, connection, heads)) == [(Kind.CUT_OFF, 5, 8)]


def test_a_record_of_a_transaction_that_was_rolled_back_is_found(store: Store) -> None:
    """It was sealed for this very place: only the record behind it tells that another one stood there."""
    with store.outside() as connection:
        chain = store.chain()
        write(connection, chain, 1, store.clock())
        rolled_back = chain.link([{"at": store.clock(), **dict.fromkeys(SEALED[3:], "x"), "revision": 1}])[0]
        write(connection, chain, 2, store.clock())
        heads = heads_of(store, list(audit_chain.tails(connection)))
        on_driver(connection, "DELETE FROM audit_log WHERE chain_position = 2")
        insert_rows(connection, audit.audit_log, [rolled_back])
        assert found(verify(store, connection, heads)) == [(Kind.CHANGED, 3, 3)]


def test_of_very_many_findings_the_first_are_told_and_all_are_counted(store: Store) -> None:
    with written(store, records=3 * MOST_FINDINGS) as (connection, heads):
        on_driver(connection, "UPDATE audit_log SET principal = 'x'")
        report = verify(store, connection, heads_of(store, heads))
        assert (len(report.findings), report.found) == (MOST_FINDINGS, 3 * MOST_FINDINGS)


# ---- what only SQLite lets anybody store


@pytest.mark.parametrize("engine", ["sqlite"])
@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("UPDATE audit_log SET at = 'yesterday' WHERE chain_position = 5", Kind.CHANGED),
        ("UPDATE audit_log SET principal = x'00ff' WHERE chain_position = 5", Kind.CHANGED),
        ("UPDATE audit_log SET principal = CAST(x'ff' AS TEXT) WHERE chain_position = 5", Kind.UNREADABLE),
        ("UPDATE audit_log SET mac = 'text' WHERE chain_position = 5", Kind.CHANGED),
        ("UPDATE audit_log SET revision = 'abc' WHERE chain_position = 5", Kind.CHANGED),
        ("UPDATE audit_log SET chain_position = 'abc' WHERE chain_position = 5", Kind.MISSING),
        ("UPDATE audit_log SET chain_position = -1e300 WHERE chain_position = 5", Kind.CHANGED),
        ("UPDATE audit_log SET chain_id = x'ff' WHERE chain_position = 5", Kind.MISSING),
        ("UPDATE audit_log SET chain_id = CAST(x'ff' AS TEXT) WHERE chain_position = 5", Kind.MISSING),
    ],
)
def test_what_is_no_record_at_all_is_found(store: Store, sql: str, kind: Kind) -> None:
    with written(store) as (connection, heads):
        on_driver(connection, sql)
        assert kind in {finding[0] for finding in found(verify(store, connection, heads_of(store, heads)))}


# ---- pruning


def pruned(store: Store, connection: Connection, chain_id: str, limit: int) -> int:
    revisions.open_scope(connection, store.clock(), revisions.Batch())
    return prune(connection, key_of(store), chain_id, store.clock.now, limit)


def test_a_pruned_log_is_as_it_should_be(store: Store) -> None:
    with written(store, chains=2) as (connection, heads):
        store.clock.advance(seconds=1)
        assert [pruned(store, connection, heads[0].chain_id, 5) for _ in range(2)] == [5, 5]
        assert [pruned(store, connection, heads[1].chain_id, 100) for _ in range(2)] == [12, 0]
        report = verify(store, connection, heads_of(store, heads))
        assert (report.found, report.records) == (0, 2)


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        ("DELETE FROM audit_anchors", (Kind.MISSING, 1, 5)),
        ("DELETE FROM audit_log WHERE chain_position = 6", (Kind.MISSING, 6, 6)),
        ("UPDATE audit_anchors SET position = 6", (Kind.ANCHOR, 6, 6)),
        ("UPDATE audit_anchors SET pruned_at = '2020-01-01 00:00:00'", (Kind.ANCHOR, 5, 5)),
        ("DELETE FROM audit_log", (Kind.CUT_OFF, 6, 12)),
    ],
)
def test_an_anchor_covers_what_was_pruned_and_no_more(
    store: Store, tamper: str, expected: tuple[Kind, int, int]
) -> None:
    with written(store) as (connection, heads):
        store.clock.advance(seconds=1)
        assert pruned(store, connection, heads[0].chain_id, 5) == 5
        on_driver(connection, tamper)
        assert expected in found(verify(store, connection, heads_of(store, heads)))


def test_pruning_in_the_middle_of_a_verification_is_no_finding(store: Store) -> None:
    with written(store, records=3 * PAGE) as (connection, heads):
        verification = Verification(key_of(store), [Compared("a head", heads_of(store, heads))])
        assert verification.step(connection) and verification.step(connection)
        store.clock.advance(seconds=1)
        pruned(store, connection, heads[0].chain_id, 2 * PAGE)
        while verification.step(connection):
            pass
        assert verification.report.found == 0
