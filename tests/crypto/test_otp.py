"""Time-based codes: RFC 6238's vectors, its window, and that each is accepted once."""

from base64 import b32decode, b32encode
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyotp import TOTP

from nofx_grpc.crypto.encoding import Random
from nofx_grpc.crypto.otp import STEP_SECONDS, OtpInvalid, OtpReused, match_step, new_secret, otpauth_uri

SECRET = b32encode(b"12345678901234567890").decode()  # RFC 6238, appendix B
NOW = datetime(2025, 11, 18, 9, 30, 10, tzinfo=UTC)
STEP = int(NOW.timestamp()) // 30


def code(step: int, secret: str = SECRET) -> str:
    return TOTP(secret).generate_otp(step)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    # Appendix B has eight digits; six digits are the last six of them.
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (2000000000, "279037")],
)
def test_vectors_of_rfc_6238(seconds: int, expected: str) -> None:
    assert match_step(SECRET, expected, datetime.fromtimestamp(seconds, UTC), None) == seconds // 30


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_code_within_the_window_is_accepted(offset: int) -> None:
    assert match_step(SECRET, code(STEP + offset), NOW, None) == STEP + offset


@pytest.mark.parametrize("offset", [-20, -2, 2, 20])
def test_code_outside_the_window_is_refused(offset: int) -> None:
    with pytest.raises(OtpInvalid):
        match_step(SECRET, code(STEP + offset), NOW, None)


def test_code_lives_for_three_steps() -> None:
    begin = datetime.fromtimestamp(STEP * STEP_SECONDS, UTC)
    for seconds in (-30, 0, 59):
        assert match_step(SECRET, code(STEP), begin + timedelta(seconds=seconds), None) == STEP
    for seconds in (-31, 60):
        with pytest.raises(OtpInvalid):
            match_step(SECRET, code(STEP), begin + timedelta(seconds=seconds), None)


def test_code_is_accepted_once() -> None:
    accepted = match_step(SECRET, code(STEP), NOW, None)
    with pytest.raises(OtpReused):
        match_step(SECRET, code(STEP), NOW, accepted)
    assert match_step(SECRET, code(STEP + 1), NOW, accepted) == STEP + 1


def test_code_before_the_last_one_is_refused() -> None:
    with pytest.raises(OtpReused):
        match_step(SECRET, code(STEP - 1), NOW, STEP)


def test_step_zero_counts_as_a_last_step() -> None:
    with pytest.raises(OtpReused):
        match_step(SECRET, code(0), datetime.fromtimestamp(5, UTC), 0)


def test_wrong_code_is_invalid_even_if_others_were_used() -> None:
    with pytest.raises(OtpInvalid):
        match_step(SECRET, code(STEP + 9), NOW, STEP + 1)


def test_zone_of_the_clock_does_not_matter() -> None:
    assert match_step(SECRET, code(STEP), NOW.astimezone(timezone(timedelta(hours=8))), None) == STEP


def test_code_of_another_secret_is_refused(rng: Random) -> None:
    with pytest.raises(OtpInvalid):
        match_step(new_secret(rng), code(STEP), NOW, None)


@pytest.mark.parametrize("text", ["", "12345", "1234567", " 12345", "12345\n", "١٢٣٤٥٦", "१२३४५६", "abcdef", "-12345"])
def test_what_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(OtpInvalid):
        match_step(SECRET, text, NOW, None)


def test_code_with_surroundings_is_refused() -> None:
    for text in (f" {code(STEP)}", f"{code(STEP)}\n", f"{code(STEP)[:3]} {code(STEP)[3:]}"):
        with pytest.raises(OtpInvalid):
            match_step(SECRET, text, NOW, None)


@given(st.text())
def test_garbage_is_refused(text: str) -> None:
    if text in {code(STEP - 1), code(STEP), code(STEP + 1)}:
        return
    with pytest.raises(OtpInvalid):
        match_step(SECRET, text, NOW, None)


@pytest.mark.parametrize("secret", ["", "A", "not base32!", "密", "JBSWY3DP"])
def test_unusable_secret_has_no_code(secret: str) -> None:
    """Above all the empty one, whose codes anybody could compute."""
    with pytest.raises(OtpInvalid):
        match_step(secret, "328482", NOW, None)
    with pytest.raises(OtpInvalid):
        match_step(secret, "328482", datetime.fromtimestamp(0, UTC), None)


def test_new_secret_has_160_bits(rng: Random) -> None:
    secret = new_secret(rng)
    assert len(b32decode(secret)) == 20
    assert "=" not in secret
    assert secret != new_secret(rng)


def test_uri_is_what_an_app_reads() -> None:
    uri = urlsplit(otpauth_uri(SECRET, "alice+x@example.com"))
    assert (uri.scheme, uri.netloc, unquote(uri.path)) == ("otpauth", "totp", "/NOFX:alice+x@example.com")
    assert parse_qs(uri.query) == {"secret": [SECRET], "issuer": ["NOFX"]}
