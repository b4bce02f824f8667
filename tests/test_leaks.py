"""The search for leaks finds what has leaked."""

import gzip
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.leaks import Secrets

SECRET = "s3cret/with+odd?chars"
LEAKS = {
    "plain": b"log line: s3cret/with+odd?chars!",
    "hex": SECRET.encode().hex().encode(),
    "HEX": SECRET.encode().hex().upper().encode(),
    "url-encoded": b"?key=" + quote(SECRET, safe="").encode(),
    "UTF-16": SECRET.encode("utf-16"),
    **{f"base64 after {n}": b64encode(b"before"[:n] + SECRET.encode() + b"after") for n in range(6)},
    **{f"base64url after {n}": urlsafe_b64encode(b"before"[:n] + SECRET.encode() + b"after") for n in range(6)},
}


@pytest.mark.parametrize("form", LEAKS)
def test_a_secret_is_found_in_each_form(form: str, tmp_path: Path) -> None:
    (tmp_path / "nofx.db").write_bytes(b"\0\1" + LEAKS[form] + b"\2")
    [found, *_] = Secrets([SECRET, "another-secret"]).found_in_files(tmp_path)
    assert SECRET in found and "nofx.db" in found


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "nofx.db").write_bytes(gzip.compress(SECRET.encode()) + SECRET[:-1].encode())
    assert Secrets([SECRET]).found_in_files(tmp_path) == []


def test_secrets_may_be_where_they_belong(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens/admin").write_text(SECRET)
    (tmp_path / "master.key").write_text(SECRET)
    assert Secrets([SECRET]).found_in_files(tmp_path) == []
