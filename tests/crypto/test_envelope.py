"""The properties of a sealed text: confidential, bound to its place, whole or refused."""

from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nofx_grpc.crypto.encoding import Random, base64url_decode, base64url_encode
from nofx_grpc.crypto.envelope import Envelope, Header, Location, describe, is_sealed, stub
from nofx_grpc.crypto.keyring import Keyring, MasterKey, new_keyring
from nofx_grpc.errors import SecretUnreadable
from tests.crypto.conftest import NOW, WHERE

SECRET = "sk-6f1d0c5e2b7a-a-secret"  # invented
SHOWN = "https://api.example.com:8443/v1"
TEXT = st.text(min_size=1, max_size=200)

# Fixtures are read only here, so sharing them between examples is safe.
property_test = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@property_test
@given(plaintext=TEXT, shown=st.text(max_size=40), place=st.tuples(TEXT, TEXT, st.text(max_size=40), TEXT))
def test_round_trip(envelope: Envelope, plaintext: str, shown: str, place: tuple[str, str, str, str]) -> None:
    sealed = envelope.seal(plaintext, Location(*place), shown=shown)
    assert envelope.open(sealed, Location(*place)) == plaintext
    header = describe(sealed)
    assert header is not None
    assert header.shown == shown


def test_format(envelope: Envelope, keyring: Keyring, where: Location) -> None:
    version, key_id, fingerprint, body, shown = envelope.seal(SECRET, where, shown=SHOWN).split(":", 4)
    assert (version, key_id, shown) == ("nofx1", keyring.primary.id, SHOWN)
    assert len(fingerprint) == 8
    assert len(body) == -(-(12 + len(SECRET) + 16) * 4 // 3)
    assert envelope.seal(SECRET, where).count(":") == 3


def test_secret_is_not_in_the_sealed_text(envelope: Envelope, where: Location) -> None:
    assert SECRET not in envelope.seal(SECRET, where, shown=SHOWN)


def test_no_secret_stays_no_secret(envelope: Envelope, where: Location) -> None:
    assert envelope.seal("", where, shown=SHOWN) == ""
    assert envelope.open("", where) == ""
    assert describe("") is None
    assert stub("") == ""
    assert not is_sealed("")


def test_nonce_is_fresh(envelope: Envelope, where: Location) -> None:
    sealed = {envelope.seal(SECRET, where) for _ in range(1000)}
    assert len({text.split(":")[3][:16] for text in sealed}) == 1000


def test_default_randomness_is_fresh(keyring: Keyring, where: Location) -> None:
    assert Envelope(keyring).seal(SECRET, where) != Envelope(keyring).seal(SECRET, where)


@pytest.mark.parametrize("part", Location._fields)
def test_moved_ciphertext_is_refused(envelope: Envelope, where: Location, part: str) -> None:
    sealed = envelope.seal(SECRET, where)
    elsewhere = where._replace(**{part: getattr(where, part) + "x"})
    with pytest.raises(SecretUnreadable):
        envelope.open(sealed, elsewhere)


def test_location_has_no_seams(envelope: Envelope) -> None:
    sealed = envelope.seal(SECRET, Location("t", "c", "ab", "c"))
    with pytest.raises(SecretUnreadable):
        envelope.open(sealed, Location("t", "c", "a", "bc"))


def test_error_names_the_column_and_nothing_else(envelope: Envelope, where: Location) -> None:
    with pytest.raises(SecretUnreadable) as caught:
        envelope.open(SECRET, where)
    assert caught.value.metadata == {"field": "secret_key"}
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


def test_bit_flip_is_refused(envelope: Envelope, where: Location) -> None:
    """Every bit of every character: header, body and shown part."""
    raw = envelope.seal("k", where, shown="https://a.b").encode()
    for bit in range(len(raw) * 8):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SecretUnreadable):
            envelope.open(damaged.decode("latin-1"), where)


def test_bit_flip_is_refused_whatever_the_length(envelope: Envelope, where: Location) -> None:
    """The last base64 character has 0, 2 or 4 unused bits: those must not be ignored either."""
    for plaintext in ("a", "ab", "abc"):
        sealed = envelope.seal(plaintext, where)
        for bit in range(7):
            with pytest.raises(SecretUnreadable):
                envelope.open(sealed[:-1] + chr(ord(sealed[-1]) ^ 1 << bit), where)


def test_truncated_text_is_refused(envelope: Envelope, where: Location) -> None:
    sealed = envelope.seal(SECRET, where, shown="https://a.b")
    for length in range(1, len(sealed)):
        with pytest.raises(SecretUnreadable):
            envelope.open(sealed[:length], where)
        with pytest.raises(SecretUnreadable):
            envelope.open(sealed[length:], where)


@pytest.mark.parametrize("extra", [":", "\n", " ", "=", "A", "\0"], ids=repr)
def test_extended_text_is_refused(envelope: Envelope, where: Location, extra: str) -> None:
    with pytest.raises(SecretUnreadable):
        envelope.open(envelope.seal(SECRET, where) + extra, where)
    with pytest.raises(SecretUnreadable):
        envelope.open(extra + envelope.seal(SECRET, where), where)


def test_header_fields_are_authenticated(envelope: Envelope, keyring: Keyring, master: MasterKey, rng: Random) -> None:
    """The header of one sealed text does not fit the body of another, not even of the same secret in the same place."""
    second = Keyring.unlock(new_keyring(master, rng, NOW), master)
    both = Keyring(keyring.primary, {**keyring.data, **second.data}, keyring.fingerprint, keyring.audit, None)
    opener = Envelope(both)
    version, key_id, fingerprint, body, shown = envelope.seal(SECRET, WHERE, shown=SHOWN).split(":", 4)
    good = [version, key_id, fingerprint, body, shown]
    assert opener.open(":".join(good), WHERE) == SECRET
    for position, other in [(0, "nofx2"), (1, second.primary.id), (2, "00000000"), (4, "https://evil.example")]:
        changed = [*good[:position], other, *good[position + 1 :]]
        with pytest.raises(SecretUnreadable):
            opener.open(":".join(changed), WHERE)
    with pytest.raises(SecretUnreadable):
        opener.open(":".join(good[:4]), WHERE)


def test_foreign_key_is_refused(envelope: Envelope, master: MasterKey, rng: Random, where: Location) -> None:
    stranger = Envelope(Keyring.unlock(new_keyring(master, rng, NOW), master), rng)
    with pytest.raises(SecretUnreadable):
        envelope.open(stranger.seal(SECRET, where), where)


def test_old_key_still_opens(envelope: Envelope, keyring: Keyring, master: MasterKey, rng: Random) -> None:
    newer = Keyring.unlock(new_keyring(master, rng, NOW), master)
    rotated = Keyring(newer.primary, {**keyring.data, **newer.data}, keyring.fingerprint, keyring.audit, None)
    old = envelope.seal(SECRET, WHERE)
    assert Envelope(rotated).open(old, WHERE) == SECRET
    new = describe(Envelope(rotated).seal(SECRET, WHERE))
    assert new is not None
    assert new.key_id == newer.primary.id
    assert new.fingerprint == old.split(":")[2], "rotation of the data key does not change what a fingerprint says"


@pytest.mark.parametrize(
    "text",
    ["sk-in-clear", "ENC:v1:AAAA:BBBB", "nofx1", "nofx1:", "nofx1:::", "nofx1:0a1b2c3d:00000000:", "\udc80", "密码"],
)
def test_what_is_not_sealed_is_never_returned(envelope: Envelope, where: Location, text: str) -> None:
    with pytest.raises(SecretUnreadable):
        envelope.open(text, where)
    assert not is_sealed(text)


@property_test
@given(garbage=st.text(min_size=1), shown=st.text(max_size=8))
def test_garbage_never_opens(envelope: Envelope, keyring: Keyring, garbage: str, shown: str) -> None:
    header = f"nofx1:{keyring.primary.id}:01234567"
    for text in (garbage, f"{header}:{garbage}", f"{header}:{garbage}:{shown}"):
        with pytest.raises(SecretUnreadable):
            envelope.open(text, WHERE)


@property_test
@given(body=st.binary(max_size=80))
def test_well_formed_garbage_never_opens(envelope: Envelope, keyring: Keyring, body: bytes) -> None:
    with pytest.raises(SecretUnreadable):
        envelope.open(f"nofx1:{keyring.primary.id}:01234567:{base64url_encode(body)}", WHERE)
    with pytest.raises(SecretUnreadable):
        envelope.open_bytes(b"\x01" + bytes.fromhex(keyring.primary.id) + body, ("page_token",))


def test_same_secret_in_two_places_has_two_fingerprints(envelope: Envelope, where: Location) -> None:
    places = [where, *(where._replace(**{part: "elsewhere"}) for part in Location._fields)]
    fingerprints = [envelope.seal(SECRET, place).split(":")[2] for place in places]
    assert len(set(fingerprints)) == len(places)


def test_same_secret_in_the_same_place_has_one_fingerprint(envelope: Envelope, where: Location) -> None:
    fingerprints = {envelope.seal(SECRET, where, shown=shown).split(":")[2] for shown in ("", SHOWN)}
    assert len(fingerprints) == 1
    assert envelope.seal(SECRET + "x", where).split(":")[2] not in fingerprints


def test_fingerprint_depends_on_the_key(envelope: Envelope, master: MasterKey, rng: Random, where: Location) -> None:
    other = Envelope(Keyring.unlock(new_keyring(master, rng, NOW), master), rng)
    assert envelope.seal(SECRET, where).split(":")[2] != other.seal(SECRET, where).split(":")[2]


def test_unencodable_secret_is_refused_without_showing_it(envelope: Envelope, where: Location) -> None:
    with pytest.raises(ValueError, match="UTF-8") as caught:
        envelope.seal("secret\udc80", where)
    assert caught.value.args == ("a secret must be text that UTF-8 can hold",)
    assert not isinstance(caught.value, UnicodeError)


def test_stub_has_the_header_and_never_opens(envelope: Envelope, where: Location) -> None:
    for shown in ("", SHOWN):
        sealed = envelope.seal(SECRET, where, shown=shown)
        _, key_id, fingerprint, *_ = sealed.split(":")
        assert describe(stub(sealed)) == describe(sealed) == Header(key_id, fingerprint, shown)
        assert sealed.split(":")[3] not in stub(sealed)
        assert stub(stub(sealed)) == stub(sealed)
        assert is_sealed(sealed)
        assert not is_sealed(stub(sealed))
        with pytest.raises(SecretUnreadable):
            envelope.open(stub(sealed), where)


@given(st.text(min_size=1))
def test_nothing_of_an_unsealed_text_is_described(text: str) -> None:
    assert describe(text) == Header("", "", "")
    assert describe(stub(text)) == Header("", "", "")
    assert stub(text) == "nofx1:::"


@property_test
@given(plaintext=st.binary(max_size=200), context=st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_blob_round_trip(envelope: Envelope, plaintext: bytes, context: list[str]) -> None:
    assert envelope.open_bytes(envelope.seal_bytes(plaintext, tuple(context)), tuple(context)) == plaintext


def test_blob_opens_in_its_context_only(envelope: Envelope) -> None:
    contexts = [("page_token", "ab", "c"), ("page_token", "a", "bc"), ("page_token", "abc"), ("login_token", "ab", "c")]
    for sealed_for, opened_for in combinations(contexts, 2):
        with pytest.raises(SecretUnreadable) as caught:
            envelope.open_bytes(envelope.seal_bytes(b"x", sealed_for), opened_for)
        assert caught.value.metadata == {"field": opened_for[0]}


def test_blob_bit_flip_and_truncation_are_refused(envelope: Envelope) -> None:
    blob = envelope.seal_bytes(b"last key", ("page_token",))
    for bit in range(len(blob) * 8):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SecretUnreadable):
            envelope.open_bytes(bytes(damaged), ("page_token",))
    for length in range(len(blob)):
        with pytest.raises(SecretUnreadable):
            envelope.open_bytes(blob[:length], ("page_token",))


def test_blob_and_text_are_not_interchangeable(envelope: Envelope, where: Location) -> None:
    """Same key, same bytes: what was sealed as one never opens as the other."""
    _, key_id, _, body = envelope.seal(SECRET, where).split(":")
    with pytest.raises(SecretUnreadable):
        envelope.open_bytes(b"\x01" + bytes.fromhex(key_id) + base64url_decode(body), tuple(where))


def test_repr_has_no_key(envelope: Envelope, keyring: Keyring) -> None:
    for key in (keyring.primary, keyring.fingerprint, keyring.audit):
        for form in (key.secret.hex(), repr(key.secret)[2:-1]):
            assert form not in repr(envelope) + repr(keyring) + repr(key)


def test_only_the_nonce_differs_between_two_sealings(keyring: Keyring, where: Location) -> None:
    first, second = (Envelope(keyring, bytes).seal(SECRET, where) for _ in range(2))
    assert first == second
