"""Reading a file of beta codes that arrives in pieces."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from nofx_grpc.services.code_lines import MOST_INVALID_LINES, MOST_LINE_BYTES, CodeLines

FILE = (
    b"\xef\xbb\xbfAAAA2222\r\n"  # 1: a byte-order mark, as Windows' editors write it
    b"# comment\n"
    b"\n"
    b"  BBBB3333 \t\n"
    b"  # comment after blanks \xff\n"  # 5
    b"\xe5\x86\x85\xe6\xb5\x8b-1\n"
    b"\xff\xfe\n"  # 7: not UTF-8
    b"AAAA2222\n"
    b"CC\x07CC\n"  # 9: a control character
    b"\xef\xbb\xbfDDDD4444\n" + b"E" * 513 + b"\n"  # 10, 11: an invisible character, too long
    b"#" + b"F" * 10_000 + b"\n"
    b"GGGG5555"  # no end of line
)
CODES = ["AAAA2222", "BBBB3333", "内测-1", "AAAA2222", "GGGG5555"]


def read(pieces: list[bytes]) -> tuple[list[str], CodeLines]:
    lines = CodeLines()
    codes = [code for piece in pieces for code in lines.feed(piece)]
    return codes + lines.close(), lines


def test_codes_are_read_as_nofx_reads_them() -> None:
    codes, lines = read([FILE])
    assert codes == CODES
    assert (lines.invalid_count, lines.invalid_lines) == (4, [7, 9, 10, 11])


@given(cuts=st.lists(st.integers(0, len(FILE)), max_size=30))
@example(cuts=list(range(len(FILE))))
@example(cuts=[1, 2])
def test_it_does_not_matter_where_the_file_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(FILE)]
    codes, lines = read([FILE[start:end] for start, end in pairwise(edges)])
    assert codes == CODES and lines.invalid_lines == [7, 9, 10, 11]


@given(content=st.binary(), cut=st.integers(0, 100))
def test_any_bytes_give_codes_that_can_be_stored_and_the_same_ones_in_two_pieces(content: bytes, cut: int) -> None:
    codes, lines = read([content])
    for code in codes:
        assert code and code == code.strip() and code.isprintable() and len(code.encode()) <= 512
    assert (codes, lines) == read([content[:cut], content[cut:]])


def test_a_line_without_an_end_is_not_held() -> None:
    lines = CodeLines()
    for _ in range(100):
        assert lines.feed(b"x" * 100_000) == []
    held = max(len(value) for value in (getattr(lines, name) for name in lines.__slots__) if isinstance(value, bytes))
    assert held <= MOST_LINE_BYTES + 1
    assert lines.feed(b"\nAAAA2222\n") == ["AAAA2222"] and lines.invalid_lines == [1]


def test_a_code_of_the_greatest_length_is_taken() -> None:
    assert read([b" " * 1000 + b"E" * 512 + b" " * 1000])[0] == ["E" * 512]


def test_of_a_line_that_is_too_long_no_part_is_taken_for_a_code() -> None:
    codes, lines = read([b"A1" + b" " * MOST_LINE_BYTES + b"B2\nC3\n"])
    assert codes == ["C3"] and lines.invalid_lines == [1]


def test_of_very_many_invalid_lines_the_first_are_named() -> None:
    _, lines = read([b"\x07\n" * 1000])
    assert lines.invalid_count == 1000 and lines.invalid_lines == list(range(1, MOST_INVALID_LINES + 1))


def test_an_empty_file_has_no_codes_and_no_invalid_lines() -> None:
    for content in (b"", b"\xef\xbb\xbf", b"\n\n", b" \r\n "):
        codes, lines = read([content])
        assert (codes, lines.invalid_count) == ([], 0)
