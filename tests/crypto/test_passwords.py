"""Passwords: what is written, what is verified, and that nothing raises."""

import time
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nofx_grpc.crypto import passwords
from nofx_grpc.crypto.passwords import check_strength, hash_password, needs_rehash, verify

PASSWORD = "correct horse"
SEVENTY_TWO = "0123456789" * 7 + "ab"

# Made by Go's x/crypto/bcrypt at cost 4, of invented passwords.
GO_BCRYPT = {
    PASSWORD: "$2a$04$VMpWZy4avnwNVXLMjZ3.geLOu/DGacx5b1q6lU.81JQcQ4lJi2hRy",
    SEVENTY_TWO: "$2a$04$.s1bHu.BaIQ3dAZrhbU.cuWOzTtOZ.WiDbttriFDEKtnsI6SCF3zG",
    "a\0b": "$2a$04$Zfc36lKlLocZxMftRe0ygu5YcqQk4Ltv2Pct.ZCqo/9CmVtMi44CK",
    "пароль-密码": "$2a$04$yHND1mk4HBtOJBA5O9OU/OnixZyHS8jJiZsIX4abIc/c3XuyuB0Ju",
    "": "$2a$04$6kjC0tI0vdQkJLfCNWH5VOo0YQZh7oit2FJB8YO05s65bPr.dnrW.",
}
NO_HASHES = [
    "",
    "x",
    PASSWORD,
    "密码",
    "\udc80",
    "a\0b",
    "$argon2id$",
    "$argon2id$密",
    "$argon2id$v=19$m=19456,t=2,p=1$\0",
    "$argon2id$v=19$m=4294967295,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAA",
    "$2a$10$short",
    "$2a$04$" + "." * 21 + "/" + "." * 31,  # unused bits of the salt
    "$2a$31$" + "." * 53,  # would take days
    "$2c$04$" + "." * 53,
    GO_BCRYPT[PASSWORD] + "\n",
]


@pytest.fixture(scope="module")
def stored() -> str:
    return hash_password(PASSWORD)


def test_hash_is_argon2id_with_the_parameters_of_owasp(stored: str) -> None:
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert PASSWORD not in stored


def test_hash_verifies_its_password_only(stored: str) -> None:
    assert verify(stored, PASSWORD)
    for other in ("", "Correct horse", PASSWORD + "\0", PASSWORD + " ", PASSWORD * 2):
        assert not verify(stored, other)


def test_salt_is_fresh(stored: str) -> None:
    assert hash_password(PASSWORD) != stored


@pytest.mark.parametrize("password", GO_BCRYPT, ids=repr)
def test_bcrypt_of_nofx_verifies(password: str) -> None:
    assert verify(GO_BCRYPT[password], password)
    assert not verify(GO_BCRYPT[password], "x" + password)


@pytest.mark.parametrize("version", ["2a", "2b", "2y"])
def test_bcrypt_versions_differ_in_name_only(version: str) -> None:
    assert verify(GO_BCRYPT[PASSWORD].replace("2a", version), PASSWORD)


def test_bcrypt_looks_at_72_bytes_as_go_does() -> None:
    assert verify(GO_BCRYPT[SEVENTY_TWO], SEVENTY_TWO + "cdef")
    assert not verify(GO_BCRYPT[SEVENTY_TWO], SEVENTY_TWO[:71])


def test_argon2id_looks_at_every_byte() -> None:
    assert not verify(hash_password(SEVENTY_TWO), SEVENTY_TWO + "c")


@pytest.mark.parametrize("hash", NO_HASHES, ids=repr)
def test_no_password_fits_what_is_no_hash(hash: str) -> None:
    for password in ("", PASSWORD, hash):
        assert not verify(hash, password)


@settings(max_examples=50, deadline=None)
@given(hash=st.text() | st.from_regex(r"\A\$2[aby]\$04\$[./A-Za-z0-9]{53}\Z"), password=st.text(max_size=100))
def test_verify_never_raises(hash: str, password: str) -> None:
    assert not verify(hash, password)
    assert needs_rehash(hash)


def test_half_a_surrogate_pair_is_just_a_wrong_password(stored: str) -> None:
    assert not verify(stored, "\udc80")
    assert not verify(GO_BCRYPT[PASSWORD], "\udc80")


@pytest.mark.parametrize("hash", NO_HASHES, ids=repr)
def test_what_is_no_hash_costs_the_work_of_a_real_one(monkeypatch: pytest.MonkeyPatch, hash: str) -> None:
    """Counted, not timed: one full argon2id over the same parameters."""
    nobody = Mock(wraps=passwords._verify_nobody)
    monkeypatch.setattr(passwords, "_verify_nobody", nobody)
    assert not verify(hash, PASSWORD)
    nobody.assert_called_once_with(PASSWORD.encode())


def test_nobodys_hash_takes_as_long_as_a_real_one(stored: str) -> None:
    """The fixed hash is well-formed: a malformed one would be refused in microseconds."""
    assert not needs_rehash(passwords._NOBODY)
    assert fastest(passwords._NOBODY) > fastest(stored) / 4


def fastest(hash: str) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        assert not verify(hash, "wrong")
        times.append(time.perf_counter() - start)
    return min(times)


def test_only_the_current_format_is_kept(stored: str) -> None:
    assert not needs_rehash(stored)
    assert needs_rehash(GO_BCRYPT[PASSWORD])
    assert needs_rehash(stored.replace("t=2", "t=1"))
    assert needs_rehash("")


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("", "at least 8 characters"),
        ("1234567", "at least 8 characters"),
        ("12345678", None),
        ("密码密码密码密码", None),
        ("é" * 512, None),
        ("é" * 512 + "x", "at most 1024 bytes"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_strength(password: str, problem: str | None) -> None:
    found = check_strength(password)
    assert found is None if problem is None else problem in str(found)
