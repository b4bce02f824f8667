"""What a key that was replaced has sealed opens, and is sealed anew; what a key that is gone has sealed is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nofx_grpc.crypto.encoding import Random
from nofx_grpc.crypto.envelope import Envelope, Location, describe
from nofx_grpc.crypto.keyring import KeyRecord, Keyring, MasterKey, new_key
from nofx_grpc.errors import MasterKeyError, SecretUnreadable
from tests.crypto.conftest import NOW, WHERE

CONTEXT = ("request_ids", "token:a", "r-1")


@pytest.fixture
def rotated(records: list[KeyRecord], master: MasterKey, rng: Random) -> Keyring:
    """The keyring after a rotation."""
    old, *others = records
    opening = master.rewrap(old, master, rng, state="decrypt_only")
    new = master.wrap(new_key(rng), purpose="data", state="primary", algorithm="aes-256-gcm", random=rng, now=NOW)
    return Keyring.unlock([opening, new, *others], master)


@pytest.fixture
def without_old(rotated: Keyring) -> Keyring:
    """The keyring after the old key was retired."""
    primary = rotated.primary
    return Keyring(primary, {primary.id: primary}, rotated.fingerprint, rotated.audit, None)


def test_after_a_rotation_the_old_key_opens_and_the_new_one_seals(envelope: Envelope, rotated: Keyring) -> None:
    before = envelope.seal("secret", WHERE), envelope.seal_bytes(b"secret", CONTEXT)
    old = envelope.primary_id
    envelope.use(rotated)
    assert (envelope.open(before[0], WHERE), envelope.open_bytes(before[1], CONTEXT)) == ("secret", b"secret")
    header = describe(envelope.seal("secret", WHERE))
    assert header is not None and header.key_id == envelope.primary_id == rotated.primary.id != old


def test_what_is_renewed_differs_by_its_key_only(envelope: Envelope, rotated: Keyring) -> None:
    before, blob = envelope.seal("secret", WHERE, shown="https://h/p"), envelope.seal_bytes(b"secret", CONTEXT)
    envelope.use(rotated)
    after = envelope.renew(before, WHERE)
    was, is_ = describe(before), describe(after)
    assert was is not None and is_ is not None
    assert is_ == was._replace(key_id=rotated.primary.id) and envelope.open(after, WHERE) == "secret"
    assert envelope.open_bytes(envelope.renew_bytes(blob, CONTEXT), CONTEXT) == b"secret"
    assert envelope.renew_bytes(blob, CONTEXT) != blob


@pytest.mark.parametrize("text", ["", "no sealed text", "nofx1:short"])
def test_what_is_no_sealed_text_is_not_renewed(envelope: Envelope, text: str) -> None:
    assert envelope.renew(text, WHERE) == text


def test_what_is_under_the_primary_key_is_not_renewed(envelope: Envelope) -> None:
    sealed, blob = envelope.seal("secret", WHERE), envelope.seal_bytes(b"secret", CONTEXT)
    assert envelope.renew(sealed, WHERE) == sealed and envelope.renew_bytes(blob, CONTEXT) == blob


@pytest.mark.parametrize("changed", [{"table": "x"}, {"column": "x"}, {"user_id": "x"}, {"row_id": "x"}])
def test_a_moved_value_is_not_renewed(envelope: Envelope, rotated: Keyring, changed: dict[str, str]) -> None:
    sealed = envelope.seal("secret", WHERE)
    envelope.use(rotated)
    with pytest.raises(SecretUnreadable):
        envelope.renew(sealed, WHERE._replace(**changed))


def test_what_a_retired_key_has_sealed_opens_until_it_is_forgotten(
    envelope: Envelope, rotated: Keyring, without_old: Keyring
) -> None:
    sealed, old = envelope.seal("secret", WHERE), rotated.data[envelope.primary_id]
    envelope.use(without_old, [old])
    assert envelope.open(sealed, WHERE) == "secret"
    envelope.use(without_old)
    with pytest.raises(SecretUnreadable):
        envelope.open(sealed, WHERE)
    with pytest.raises(SecretUnreadable):
        envelope.renew(sealed, WHERE)


def test_a_retired_key_never_seals(envelope: Envelope, rotated: Keyring, without_old: Keyring) -> None:
    envelope.use(without_old, [rotated.data[envelope.primary_id]])
    header = describe(envelope.seal("secret", WHERE))
    assert header is not None and header.key_id == without_old.primary.id


@given(st.text(min_size=1), st.text())
def test_any_secret_is_the_same_under_the_next_key(secret: str, row_id: str) -> None:
    where = Location("exchanges", "api_key", "ada", row_id)
    first, second = (new_key(random) for random in (lambda n: b"a" * n, lambda n: b"b" * n))
    envelope = Envelope(Keyring(first, {first.id: first}, first, first, None))
    try:
        sealed = envelope.seal(secret, where)
    except ValueError:  # halves of characters
        return
    envelope.use(Keyring(second, {first.id: first, second.id: second}, first, first, None))
    assert envelope.open(envelope.renew(sealed, where), where) == secret


# ---- a new master key


def test_rewrapped_records_hold_the_same_keys(records: list[KeyRecord], master: MasterKey, rng: Random) -> None:
    new = MasterKey(rng(32))
    rewrapped = [new.rewrap(record, master, rng) for record in records]
    assert Keyring.unlock(rewrapped, new) == Keyring.unlock(records, master)
    assert [(r.id, r.purpose, r.state, r.algorithm, r.created_at) for r in rewrapped] == [
        (r.id, r.purpose, r.state, r.algorithm, r.created_at) for r in records
    ]
    assert new.opens(rewrapped) and not new.opens(records) and not master.opens(rewrapped)
    with pytest.raises(MasterKeyError):
        Keyring.unlock(rewrapped, master)


def test_with_the_wrong_old_key_nothing_is_rewrapped(records: list[KeyRecord], rng: Random) -> None:
    with pytest.raises(MasterKeyError):
        MasterKey(rng(32)).rewrap(records[0], MasterKey(rng(32)), rng)
