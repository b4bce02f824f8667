"""The keyring opens with its own master key only, and only as it was written."""

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nofx_grpc.crypto.encoding import Random
from nofx_grpc.crypto.keyring import (
    Key,
    KeyRecord,
    Keyring,
    MasterKey,
    new_key,
    new_keyring,
    new_master_text,
    nofx_record,
)
from nofx_grpc.errors import MasterKeyError
from tests.crypto.conftest import NOW

RAW = bytes(range(200, 232))  # its base64 has both special characters
SALT = b"sixteen bytes!!!"


def same_key(left: MasterKey, right: MasterKey) -> bool:
    record = wrapped_by(left)
    try:
        return right.unwrap(record) == Key("0a1b2c3d", bytes(32))
    except MasterKeyError:
        return False


def wrapped_by(master: MasterKey) -> KeyRecord:
    return master.wrap(
        Key("0a1b2c3d", bytes(32)),
        purpose="data",
        state="primary",
        algorithm="aes-256-gcm",
        random=bytes,
        now=NOW,
    )


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(RAW).decode(),
        base64.b64encode(RAW).decode().rstrip("="),
        base64.urlsafe_b64encode(RAW).decode(),
        base64.urlsafe_b64encode(RAW).decode().rstrip("="),
        RAW.hex(),
        RAW.hex().upper(),
        f"  {RAW.hex()}\r\n",
    ],
)
def test_thirty_two_bytes_are_the_key(text: str) -> None:
    master = MasterKey.from_text(text, SALT)
    assert not master.derived
    assert same_key(MasterKey(RAW), master)


@pytest.mark.parametrize(
    "text",
    [
        "passphrase",
        "x",
        "密码短语",
        "not utf-8: \udcff",
        RAW.hex()[:32],
        RAW.hex() + "00",
        base64.b64encode(RAW[:24]).decode(),
        base64.b64encode(RAW + RAW).decode(),
        base64.b64encode(RAW).decode() + "=",
        "A" * 42 + "B",
        "+" * 21 + "_" * 21 + "A",
    ],
)
def test_anything_else_is_a_passphrase(text: str) -> None:
    assert MasterKey.from_text(text, SALT).derived


def test_passphrase_and_salt_make_the_key() -> None:
    master = MasterKey.from_text("passphrase", SALT)
    assert same_key(master, MasterKey.from_text(" passphrase\n", SALT))
    assert not same_key(master, MasterKey.from_text("Passphrase", SALT))
    assert not same_key(master, MasterKey.from_text("passphrase", SALT[::-1]))


def test_derivation_is_what_it_always_was() -> None:
    """A change of the argon2id parameters would lock every database with a passphrase."""
    key = bytes.fromhex("560ec46efc72dbde3db74e2dd4086853e454f016a938a7e4fe6caf0f4f5e3cc2")
    assert same_key(MasterKey(key), MasterKey.from_text("correct horse battery staple", SALT))


@pytest.mark.parametrize("text", ["", " \n"])
def test_no_text_is_refused(text: str) -> None:
    with pytest.raises(MasterKeyError, match="DATA_ENCRYPTION_KEY"):
        MasterKey.from_text(text, SALT)


def test_new_master_text_is_a_key_not_a_passphrase(rng: Random) -> None:
    text = new_master_text(rng)
    assert not MasterKey.from_text(text, SALT).derived
    assert text != new_master_text(rng)


def test_new_keyring_unlocks(records: list[KeyRecord], keyring: Keyring) -> None:
    assert [(r.purpose, r.state, r.algorithm, r.created_at) for r in records] == [
        ("data", "primary", "aes-256-gcm", NOW),
        ("fingerprint", "primary", "hmac-sha-256", NOW),
        ("audit", "primary", "hmac-sha-256", NOW),
    ]
    assert [r.id for r in records] == [keyring.primary.id, keyring.fingerprint.id, keyring.audit.id]
    secrets = {keyring.primary.secret, keyring.fingerprint.secret, keyring.audit.secret}
    assert [len(secret) for secret in secrets] == [32, 32, 32]
    assert keyring.data == {keyring.primary.id: keyring.primary}
    assert keyring.nofx_v1 is None


def test_nofx_key_opens_but_never_seals(records: list[KeyRecord], master: MasterKey, rng: Random) -> None:
    for size in (16, 24, 32):
        keyring = Keyring.unlock([*records, nofx_record(RAW[:size], master, rng, NOW)], master)
        assert keyring.nofx_v1 == Key("nofx-v1", RAW[:size])
        assert "nofx-v1" not in keyring.data


def test_older_data_keys_are_kept(records: list[KeyRecord], master: MasterKey, rng: Random) -> None:
    old = new_key(rng)
    record = master.wrap(old, purpose="data", state="decrypt_only", algorithm="aes-256-gcm", random=rng, now=NOW)
    keyring = Keyring.unlock([record, *records], master)
    assert keyring.data == {old.id: old, keyring.primary.id: keyring.primary}
    assert keyring.primary.id == records[0].id


def test_another_master_key_is_refused(records: list[KeyRecord]) -> None:
    with pytest.raises(MasterKeyError, match=r"was made with another one.*DATA_ENCRYPTION_KEY"):
        Keyring.unlock(records, MasterKey(RAW))


@pytest.mark.parametrize(
    "change",
    [
        {"id": "00000000"},
        {"purpose": "audit"},
        {"state": "decrypt_only"},
        {"algorithm": "nofx-v1"},
        {"wrapped": ""},
        {"wrapped": "AAAA"},
        {"wrapped": "not base64!"},
    ],
    ids=str,
)
def test_altered_record_is_refused(records: list[KeyRecord], master: MasterKey, change: dict[str, str]) -> None:
    altered = replace(records[0], **change)  # type: ignore[arg-type]  # wrong values are the point
    with pytest.raises(MasterKeyError, match=f"2 of 3 keys.*{altered.id}.*restore it from a backup"):
        Keyring.unlock([altered, *records[1:]], master)


def test_swapped_keys_are_refused(records: list[KeyRecord], master: MasterKey) -> None:
    data, fingerprint, audit = records
    swapped = [replace(data, wrapped=audit.wrapped), fingerprint, replace(audit, wrapped=data.wrapped)]
    with pytest.raises(MasterKeyError, match="1 of 3 keys"):
        Keyring.unlock(swapped, master)


def test_wrapped_bit_flip_is_refused(records: list[KeyRecord], master: MasterKey) -> None:
    wrapped = records[0].wrapped
    for position, character in enumerate(wrapped):
        for bit in range(7):
            damaged = wrapped[:position] + chr(ord(character) ^ 1 << bit) + wrapped[position + 1 :]
            with pytest.raises(MasterKeyError):
                master.unwrap(replace(records[0], wrapped=damaged))


@pytest.mark.parametrize(("missing", "purpose"), [(0, "data"), (1, "fingerprint"), (2, "audit")])
def test_missing_key_is_refused(records: list[KeyRecord], master: MasterKey, missing: int, purpose: str) -> None:
    del records[missing]
    with pytest.raises(MasterKeyError, match=f"has 0 primary keys for {purpose}"):
        Keyring.unlock(records, master)


def test_two_primary_keys_are_refused(records: list[KeyRecord], master: MasterKey, rng: Random) -> None:
    with pytest.raises(MasterKeyError, match="has 2 primary keys for data"):
        Keyring.unlock([*records, new_keyring(master, rng, NOW)[0]], master)


@given(st.binary(min_size=32, max_size=32))
def test_repr_has_no_key(secret: bytes) -> None:
    key = Key("0a1b2c3d", secret)
    keyring = Keyring(key, {key.id: key}, key, key, key)
    for shown in (repr(key), repr(keyring), str(keyring), f"{keyring}"):
        assert repr(secret) not in shown
        assert secret.hex() not in shown


def test_repr_of_the_master_key_has_no_key() -> None:
    assert repr(MasterKey.from_text(RAW.hex(), SALT)) == "MasterKey(derived=False)"
