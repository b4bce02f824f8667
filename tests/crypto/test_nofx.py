"""NOFX's keys and ciphertexts, checked against vectors that Go made."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from nofx_grpc.crypto.nofx import PREFIX, NofxSecretDamaged, derive_key, is_nofx_ciphertext, open_nofx
from nofx_grpc.errors import MasterKeyError

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data/nofx_key_vectors.json").read_text())
KEY = bytes(range(32))


def encrypt(plaintext: bytes, nonce: bytes = bytes(12), key: bytes = KEY) -> str:
    ciphertext = AESGCM(key).encrypt(nonce, plaintext, None)
    return f"{PREFIX}{base64.b64encode(nonce).decode()}:{base64.b64encode(ciphertext).decode()}"


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda vector: repr(vector["env_value"]))
def test_key_is_the_one_nofx_derives(vector: dict[str, str]) -> None:
    assert derive_key(vector["env_value"]).hex() == vector["aes_key_hex"]


@pytest.mark.parametrize("vector", VECTORS["ciphertexts"], ids=lambda vector: repr(vector["plaintext"]))
def test_ciphertext_made_by_go_opens(vector: dict[str, str]) -> None:
    assert open_nofx(vector["ciphertext"], derive_key(vector["env_value"])) == vector["plaintext"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        # Decoded by the padded decoder.
        ("AA==", sha256(b"\0")),
        ("AB==", sha256(b"\0")),  # unused bits are ignored
        ("AAA=", sha256(b"\0\0")),
        ("AA\r\nA=", sha256(b"\0\0")),  # line ends are skipped
        ("AA=\n=", sha256(b"\0")),  # even within the padding
        # Decoded by the unpadded one.
        ("AA", sha256(b"\0")),
        ("AB", sha256(b"\0")),
        ("AA\nA", sha256(b"\0\0")),
        # Decoded by neither.
        ("A", sha256(b"A")),
        ("AAAAA", sha256(b"AAAAA")),
        ("AA=", sha256(b"AA=")),
        ("AAAA=", sha256(b"AAAA=")),
        ("AAAA====", sha256(b"AAAA====")),
        ("AA==AA==", sha256(b"AA==AA==")),
        ("A===", sha256(b"A===")),
        ("====", sha256(b"====")),
        ("=", sha256(b"=")),
        ("A-_A", sha256(b"A-_A")),
        ("AA AA", sha256(b"AA AA")),
        ("\x1cAA", sha256(b"\x1cAA")),  # no white space for Go
        ("\udcff", sha256(b"\xff")),  # a byte of the environment that is no UTF-8
        # Trimmed as Go does.
        ("\u3000\x85\xa0AA\v\f\n", sha256(b"\0")),
    ],
    ids=repr,
)
def test_decoding_is_that_of_go(text: str, key: bytes) -> None:
    assert derive_key(text) == key


@pytest.mark.parametrize("size", [1, 8, 15, 16, 17, 24, 32, 33, 64])
def test_decoded_key_of_an_aes_size_is_taken_as_it_is(size: int) -> None:
    raw = bytes(range(size))
    expected = raw if size in {16, 24, 32} else sha256(raw)
    assert derive_key(base64.b64encode(raw).decode()) == expected
    assert derive_key(base64.b64encode(raw).decode().rstrip("=")) == expected


@given(st.binary(min_size=1, max_size=40))
def test_hexadecimal_is_always_taken_as_base64(raw: bytes) -> None:
    """The reason for having no hexadecimal step, though NOFX has one."""
    decoded = base64.b64decode(raw.hex() + "==")
    assert derive_key(raw.hex()) == (decoded if len(decoded) in {16, 24, 32} else sha256(decoded))


@given(st.text(min_size=1))
def test_every_text_gives_a_key_or_says_that_it_is_empty(text: str) -> None:
    try:
        assert len(derive_key(text)) in {16, 24, 32}
    except MasterKeyError:
        assert not text.strip()


@pytest.mark.parametrize("text", ["", " \r\n\t"])
def test_empty_key_is_refused(text: str) -> None:
    with pytest.raises(MasterKeyError, match="DATA_ENCRYPTION_KEY"):
        derive_key(text)


@given(st.text(), st.binary(min_size=12, max_size=12), st.sampled_from([16, 24, 32]))
def test_round_trip(plaintext: str, nonce: bytes, size: int) -> None:
    assert open_nofx(encrypt(plaintext.encode(), nonce, KEY[:size]), KEY[:size]) == plaintext


def test_prefix_makes_a_ciphertext() -> None:
    assert is_nofx_ciphertext("ENC:v1:")
    assert not is_nofx_ciphertext("enc:v1:AAAA:AAAA")
    assert not is_nofx_ciphertext("ENC:v2:AAAA:AAAA")
    assert not is_nofx_ciphertext(" ENC:v1:AAAA:AAAA")


def test_bit_flip_is_refused() -> None:
    sealed = encrypt(b"abcde")  # 21 bytes with the tag: the base64 has no unused bits, which Go would ignore
    for position, character in enumerate(sealed):
        for bit in range(7):
            damaged = sealed[:position] + chr(ord(character) ^ 1 << bit) + sealed[position + 1 :]
            with pytest.raises(NofxSecretDamaged):
                open_nofx(damaged, KEY)


def test_truncated_ciphertext_is_refused() -> None:
    sealed = encrypt(b"a secret of some length")
    for length in range(len(sealed)):
        with pytest.raises(NofxSecretDamaged):
            open_nofx(sealed[:length], KEY)


@pytest.mark.parametrize("size", [0, 8, 11, 13, 16])
def test_nonce_of_another_size_is_refused(size: int) -> None:
    """The library would take some of them; NOFX does not."""
    sealed = encrypt(b"secret", bytes(12)).split(":")
    sealed[2] = base64.b64encode(bytes(size)).decode()
    with pytest.raises(NofxSecretDamaged, match="not a ciphertext"):
        open_nofx(":".join(sealed), KEY)


def test_another_key_is_refused() -> None:
    with pytest.raises(NofxSecretDamaged, match="DATA_ENCRYPTION_KEY"):
        open_nofx(encrypt(b"secret"), KEY[::-1])


def test_secret_that_is_no_text_is_refused_without_showing_it() -> None:
    with pytest.raises(NofxSecretDamaged, match="UTF-8") as caught:
        open_nofx(encrypt(b"secret\xff"), KEY)
    assert caught.value.__suppress_context__
    assert "secret" not in str(caught.value)


@given(st.text(), st.text())
def test_garbage_never_opens(nonce: str, ciphertext: str) -> None:
    for text in (nonce, PREFIX + nonce, f"{PREFIX}{nonce}:{ciphertext}", f"{PREFIX}AAAAAAAAAAAAAAAA:{ciphertext}"):
        with pytest.raises(NofxSecretDamaged):
            open_nofx(text, KEY)
