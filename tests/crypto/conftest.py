"""A keyring and an envelope that are the same in every run; the nonces are those of a seeded generator."""

import random
from datetime import UTC, datetime

import pytest

from nofx_grpc.crypto.encoding import Random
from nofx_grpc.crypto.envelope import Envelope, Location
from nofx_grpc.crypto.keyring import KeyRecord, Keyring, MasterKey, new_keyring

NOW = datetime(2025, 11, 18, 9, 30, tzinfo=UTC)
WHERE = Location("exchanges", "secret_key", "alice", "binance")


@pytest.fixture
def rng() -> Random:
    return random.Random(20251118).randbytes  # noqa: S311  # the same nonces in every run


@pytest.fixture
def master(rng: Random) -> MasterKey:
    return MasterKey(rng(32))


@pytest.fixture
def records(master: MasterKey, rng: Random) -> list[KeyRecord]:
    return new_keyring(master, rng, NOW)


@pytest.fixture
def keyring(master: MasterKey, records: list[KeyRecord]) -> Keyring:
    return Keyring.unlock(records, master)


@pytest.fixture
def envelope(keyring: Keyring, rng: Random) -> Envelope:
    return Envelope(keyring, rng)


@pytest.fixture
def where() -> Location:
    return WHERE
