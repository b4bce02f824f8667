"""A database of NOFX to spoil, and its adoption."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.adoption import Adopted, adopt
from tests.support.nofx_db import NofxDatabase


@pytest.fixture
def nofx(tmp_path: Path) -> NofxDatabase:
    """An empty database of NOFX."""
    directory = tmp_path / "nofx"
    directory.mkdir()
    return NofxDatabase(directory / "config.db")


@pytest.fixture
def adopted(nofx: NofxDatabase, tmp_path: Path) -> Callable[[], Adopted]:
    """Adopts the database, which must be ready."""
    return lambda: adopt(nofx.close(), tmp_path / "data")
