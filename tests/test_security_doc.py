"""docs/security.md names tests; they are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_test_that_is_named_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/security.md").read_text()))
    written = set(
        re.findall(r"def (test_\w+)", "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py")))
    )
    modules = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(named) > 10
    assert named - written - modules == set()
