"""That no setting is there for nothing."""

import ast
from collections.abc import Iterator
from pathlib import Path

import nofx_grpc
from nofx_grpc.settings import Settings

PACKAGE = Path(nofx_grpc.__file__).parent


def read_settings(path: Path) -> Iterator[str]:
    """The attributes of whatever is called `settings` in a file; of `self`, where that is the settings."""
    owners = {"self"} if path == PACKAGE / "settings.py" else {"settings"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if owner in owners:
                yield node.attr


def test_every_setting_is_read_somewhere() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if PACKAGE / "v1" not in path.parents]
    read = {name for path in files for name in read_settings(path)}
    assert set(Settings.model_fields) - read == set()
