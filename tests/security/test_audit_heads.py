"""What is known of the chains outside the database: signed documents, and the file that only goes forward."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nofx_grpc.crypto.chain import ChainKey
from nofx_grpc.crypto.keyring import Key
from nofx_grpc.store.audit_chain import Head
from nofx_grpc.store.audit_heads import HeadFile, HeadKeeper, Heads, HeadsDamaged
from tests.security.support import heads_of, key_of
from tests.store.support import Store


def test_a_document_of_heads_says_what_it_was_made_of(store: Store) -> None:
    heads = heads_of(store, [Head("a", 3, b"\1" * 32), Head("b", 2**40, b"\2" * 32)])
    assert Heads.read(heads.signed(key_of(store)), key_of(store)) == heads


@pytest.mark.parametrize(
    "alter",
    [
        lambda text: text.replace('[3, "01', '[2, "01'),
        lambda text: text.replace('"01', '"11'),
        lambda text: text.replace('"a":', '"c":'),
        lambda text: text.replace("2026-01-02", "2026-01-03"),
        lambda text: text[:-1],
        lambda text: "",
        lambda text: "[]",
        lambda text: '{"chains": 5}',
        lambda text: "[" * 100_000,
        lambda text: text.replace("[3, ", "[Infinity, "),
        lambda text: text.replace("[3, ", f"[{'9' * 5000}, "),
        lambda text: text.replace('"a":', '"\\ud800":'),
        lambda text: text.replace('"at": "', '"at": "\\ud800'),
    ],
)
def test_an_altered_document_is_refused(store: Store, alter: Callable[[str], str]) -> None:
    document = heads_of(store, [Head("a", 3, b"\1" * 32)]).signed(key_of(store))
    assert alter(document) != document
    with pytest.raises(HeadsDamaged):
        Heads.read(alter(document), key_of(store))


def test_a_document_of_another_database_is_refused_as_such(store: Store) -> None:
    other = ChainKey(Key("another", os.urandom(32)))
    with pytest.raises(HeadsDamaged, match="another database"):
        Heads.read(heads_of(store, []).signed(other), key_of(store))


def test_a_head_file_only_goes_forward(store: Store, tmp_path: Path) -> None:
    file = HeadFile(tmp_path / "audit.head", key_of(store))
    assert file.read() is None
    file.update([Head("a", 3, b"3"), Head("b", 1, b"1")], store.clock())
    file.update([Head("a", 2, b"2"), Head("c", 1, b"1")], store.clock(), forget=["b"])
    heads = file.read()
    assert heads is not None
    assert {head.chain_id: (head.position, head.mac) for head in heads.chains.values()} == {
        "a": (3, b"3"),
        "c": (1, b"1"),
    }
    assert (tmp_path / "audit.head").stat().st_mode & 0o777 == 0o600


def test_a_head_file_that_is_put_right_again_is_kept_up_to_date(store: Store, tmp_path: Path) -> None:
    file = HeadFile(tmp_path / "audit.head", key_of(store))
    keeper = HeadKeeper(file, store.clock, pause_seconds=0.01)
    file.update([Head("a", 3, b"3")], store.clock())
    right = file.path.read_text()
    with store.outside() as connection:
        keeper.start(connection)
    try:
        for wrong in (right.replace("[3, ", "[Infinity, "), right.replace('"a":', '"\\ud800":'), "no", "\x00"):
            file.path.write_text(wrong)
            keeper.note(Head("a", 4, b"4"))
            time.sleep(0.05)
            assert file.path.read_text() == wrong and not keeper.flush()
        file.path.write_text(right)
        while (heads := file.read()) is None or heads.chains["a"].position != 4:
            time.sleep(0.01)
    finally:
        keeper.stop()


def test_a_head_file_that_was_tampered_with_is_left_as_it_is(store: Store, tmp_path: Path) -> None:
    file = HeadFile(tmp_path / "audit.head", key_of(store))
    file.update([Head("a", 3, b"3")], store.clock())
    file.path.write_text(file.path.read_text().replace("[3,", "[1,"))
    before = file.path.read_bytes()
    with pytest.raises(HeadsDamaged, match="it was altered"):
        file.update([Head("a", 4, b"4")], store.clock())
    assert file.path.read_bytes() == before
