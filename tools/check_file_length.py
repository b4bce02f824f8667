"""Fail for a hand-written file of more than 300 lines, unless a comment at its top says why it is longer.

The comment is a line among the first fifteen with the words "Longer than 300 lines:" and the reason.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

LIMIT = 300
TOP = 15
EXCUSE = "longer than 300 lines:"
SUFFIXES = {".md", ".proto", ".py", ".pyi", ".sh", ".sql", ".toml", ".yaml", ".yml"}
NAMES = {"Dockerfile", "Makefile", "run"}
# Generated, vendored, or a record that only grows.
NOT_OURS = ("buf/", "nofx_grpc/v1/", "protos/buf/", "protos/google/", "tests/data/golden/", "CHANGELOG.md")


def hand_written(paths: Iterable[str]) -> list[str]:
    """Return those of the paths (relative to the repository) that a person wrote and reads."""
    return [
        path
        for path in paths
        if (Path(path).suffix in SUFFIXES or Path(path).name in NAMES) and not path.startswith(NOT_OURS)
    ]


def complaint(path: str, text: str) -> str | None:
    """Return what is wrong with the file's length, or None."""
    lines = text.splitlines()
    if len(lines) <= LIMIT or any(EXCUSE in line.lower() for line in lines[:TOP]):
        return None
    return f'{path} has {len(lines)} lines: split it, or say why not at its top ("Longer than {LIMIT} lines: ...")'


def main() -> int:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    # A file that was deleted and not yet committed is still listed.
    existing = [path for path in hand_written(filter(None, listed)) if Path(path).is_file()]
    complaints = [text for path in existing if (text := complaint(path, Path(path).read_text(encoding="utf-8")))]
    for text in complaints:
        print(text, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
