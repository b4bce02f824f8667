"""Which files beside a database of NOFX still hold secrets in clear, or the key to those that are encrypted."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from nofx_grpc.store.adoption.report import ClearFile
from nofx_grpc.store.adoption.source import SIDE_FILES

_ENV_SECRET = re.compile(r"^\s*(?:export\s+)?(\w*(?:KEY|SECRET|PASSWORD|TOKEN)\w*)\s*=\s*\S", re.MULTILINE)
_ENV_FILES = (".env", "env")


def clear_files(database: Path, backup: str) -> Iterator[ClearFile]:
    """The files that an operator should delete or lock away once the adopted database is in use."""
    if not backup:
        why = "NOFX's database: secrets in clear, also in pages that it no longer uses"
        yield ClearFile(str(database), why)
        for suffix in SIDE_FILES:
            beside = database.with_name(database.name + suffix)
            if suffix != "-shm" and beside.exists() and beside.stat().st_size > 0:
                yield ClearFile(str(beside), "the latest writes to NOFX's database")
    else:
        yield ClearFile(backup, "the backup of NOFX's database")
    yield from (file for file in _neighbours(database.parent) if file.path != backup)


def _neighbours(directory: Path) -> Iterator[ClearFile]:
    for path in sorted(directory.glob("*.nofx-backup-*")):
        yield ClearFile(str(path), "a backup of NOFX's database from an earlier adoption")
    config = directory / "config.json"
    if _has_jwt_secret(config):
        yield ClearFile(str(config), "jwt_secret")
    for name in _ENV_FILES:
        found = sorted(set(_ENV_SECRET.findall(_read(directory / name))))
        if found:
            yield ClearFile(str(directory / name), ", ".join(found))


def _has_jwt_secret(path: Path) -> bool:
    try:
        content = json.loads(_read(path) or "{}")
    except ValueError:
        return False
    return isinstance(content, dict) and bool(content.get("jwt_secret"))


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
