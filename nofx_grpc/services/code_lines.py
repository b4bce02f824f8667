"""Beta codes from a text file that arrives in pieces: one a line, as NOFX's beta_codes.txt.

Pure.  Blanks around a code, empty lines, lines that begin with # and a byte-order mark at the start of the file are
left out.  The pieces may be cut anywhere, within a character too; no more than one line is held, and of that no more
than its longest permitted length.
"""

import codecs
from dataclasses import dataclass, field

MOST_CODE_BYTES = 512
MOST_LINE_BYTES = 4096
MOST_INVALID_LINES = 100

_COMMENT = b"#"


@dataclass(slots=True)
class CodeLines:
    """Takes the bytes of a file and gives its codes; counts the lines that cannot be codes, and names the first."""

    invalid_count: int = 0
    invalid_lines: list[int] = field(default_factory=list)
    _number: int = 0
    _begun: bytes = b""  # the start of a line whose end has not arrived

    def feed(self, data: bytes) -> list[str]:
        """The codes of all lines that end within `data`."""
        *ended, begun = data.split(b"\n")
        codes = [code for line in ended if (code := self._end(line))]
        self._hold(begun)
        return codes

    def close(self) -> list[str]:
        """The code of a last line without an end, if it has one."""
        code = self._end(b"") if self._begun else ""
        return [code] if code else []

    def _hold(self, part: bytes) -> None:
        self._begun += part[: MOST_LINE_BYTES + 1 - len(self._begun)]

    def _end(self, rest: bytes) -> str:
        """The code of the line that ends with `rest`, or ''."""
        self._hold(rest)
        line, self._begun = self._begun, b""
        self._number += 1
        if self._number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line.lstrip().startswith(_COMMENT):
            return ""
        try:
            return _code_of(line)
        except ValueError:
            self.invalid_count += 1
            if len(self.invalid_lines) < MOST_INVALID_LINES:
                self.invalid_lines.append(self._number)
            return ""


def _code_of(line: bytes) -> str:
    """The code of a line, '' if it is empty.  Raises ValueError if it cannot be a code."""
    code = line.decode().strip()
    if len(line) > MOST_LINE_BYTES or len(code.encode()) > MOST_CODE_BYTES or not code.isprintable():
        raise ValueError("too long, or has invisible characters")
    return "" if code.startswith("#") else code
