"""Both encodings are injective."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nofx_grpc.crypto.encoding import base64url_decode, base64url_encode, length_prefixed

PARTS = st.lists(st.text(alphabet="ab:0123456789é", max_size=6), max_size=4)


@given(PARTS, PARTS)
def test_different_parts_have_different_prefixed_forms(first: list[str], second: list[str]) -> None:
    assert (length_prefixed(*first) == length_prefixed(*second)) == (first == second)


def test_a_part_cannot_imitate_two() -> None:
    assert length_prefixed("ab", "c") == b"2:ab1:c"
    assert length_prefixed("ab1:c") == b"5:ab1:c"


@given(st.binary(max_size=40))
def test_base64url_round_trip(data: bytes) -> None:
    assert base64url_decode(base64url_encode(data)) == data


@pytest.mark.parametrize(
    "text",
    ["A", "AB", "AAB", "AA==", "AA=", "A A", "AA\n", "+/+/", "A-é_", "AAAA AAAA", "AAAAA"],
    ids=repr,
)
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        base64url_decode(text)
