"""Tables that hold anything at all: an adoption never fails over a row, and accounts for every one."""

import random
from pathlib import Path

import pytest

from nofx_grpc.store.adoption.rows import TABLES
from tests.support.adoption import adopt
from tests.support.nofx_db import CREATED, NofxDatabase

ROWS = 60


def anything(chance: random.Random, nofx: NofxDatabase) -> object:
    """A value as SQLite may have it, likely or not."""
    likely = [None, "", "u1", "u2", "default", "deepseek", "binance", 0, 1, 5, CREATED, "true"]
    odd = [-1, 2**62, 1e308, float("inf"), float("nan"), 0.5, "\0", "a\0b", "\x1b[0m", "\ufeff", "🚀", "x" * 3000]
    odd += [b"", b"u1", b"\xff\xfe", "ENC:v1:", "ENC:v1:a:b", nofx.encrypted("s"), nofx.encrypted(""), "nofx1:a:b:c"]
    odd += ["2025-99-99 00:00:00", "0000-00-00 00:00:00", "9999-12-31 23:59:59+00:01", "http://[", "Default@localhost"]
    return chance.choice(likely if chance.random() < 0.6 else odd)


@pytest.mark.parametrize("seed", range(12))
def test_every_row_is_accounted_for(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # repeatable
    nofx = NofxDatabase(tmp_path / "config.db")
    nofx.create_exchanges("exchanges_new")
    for spec in TABLES:
        columns = [column.name for column in spec.columns]
        for table in (spec.name, "exchanges_new") if spec.name == "exchanges" else (spec.name,):
            nofx.connection.execute(f'DROP TABLE "{table}"')
            nofx.connection.execute(f'CREATE TABLE "{table}" ({", ".join(columns)})')  # no types, no constraints
            for _ in range(ROWS):
                nofx.insert(table, **{name: anything(chance, nofx) for name in columns})
            nofx.connection.execute(f"INSERT INTO {table} DEFAULT VALUES")
    report = adopt(nofx.close(), tmp_path / "data").report
    for name, counts in report.tables.items():
        assert counts.read == ROWS + 1
        assert counts.adopted + counts.set_aside == counts.read, name
