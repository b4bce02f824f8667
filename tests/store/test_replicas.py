"""Several processes over one store, as far as two `Database` objects that share nothing are two of them."""

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

from nofx_grpc.errors import AlreadyExists, BetaCodeInvalid
from nofx_grpc.store import accounts, beta_codes, revisions, users
from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.bootstrap import open_store
from nofx_grpc.store.engine import Connection
from nofx_grpc.store.schema import migrate
from tests.store.support import FIRST_START, MASTER_KEY, Store, empty_postgresql, user
from tests.store.test_writer import create
from tests.support.clock import START

ROUNDS = 20


async def test_of_two_replicas_one_has_the_id_and_the_other_is_told(store: Store) -> None:
    async with store.open() as one, store.open() as two:
        for number in range(ROUNDS):
            both = [replica.write(create(f"u{number:02}")) for replica in (one, two)]
            answers = await asyncio.gather(*both, return_exceptions=True)
            assert sum(isinstance(answer, AlreadyExists) for answer in answers) == 1, answers
        assert (await one.read(revisions.read_state)).revision == 1 + ROUNDS


async def test_of_two_registrations_with_one_code_one_is_made(store: Store) -> None:
    async with store.open() as one, store.open() as two:
        for number in range(ROUNDS):
            code = f"CODE{number}"
            await one.write(beta_codes.add, [code])
            both = [
                replica.write(accounts.register, user(f"{name}{number}"), code=code, ttl=timedelta(hours=1))
                for name, replica in (("one", one), ("two", two))
            ]
            answers = await asyncio.gather(*both, return_exceptions=True)
            assert sum(isinstance(answer, BetaCodeInvalid) for answer in answers) == 1, answers
            spent = (await two.read(beta_codes.resource.get, code)).value
            made = next(answer.value for answer in answers if not isinstance(answer, BaseException))
            assert spent.used_by == made.email


async def test_what_a_function_has_read_is_still_so_when_it_writes(store: Store) -> None:
    """Each adds to what it finds: otherwise one would write over what the other has added."""

    def add(connection: Connection) -> None:
        found = users.resource.get(connection, "a")
        users.resource.put(connection, replace(found, registration_code=found.registration_code + "x"))

    async with store.open() as one, store.open() as two:
        await one.write(create("a"))
        await asyncio.gather(*(replica.write(add) for _ in range(30) for replica in (one, two)))
        assert (await one.read(users.resource.get, "a")).value.registration_code == "x" * 60


# Started at once, on PostgreSQL: on SQLite the lock of the data directory lets one start after the other.


def test_of_replicas_that_start_at_once_one_migrates() -> None:
    seeds: list[str] = []

    def seed(connection: Connection) -> None:
        seeds.append("seed")
        time.sleep(0.3)

    with empty_postgresql() as url, ThreadPoolExecutor(4) as threads:
        migrated = threads.map(lambda backend: migrate(backend, seed), [backend_for(url) for _ in range(4)])
        assert sorted(migrated) == [False, False, False, True]
    assert seeds == ["seed"]


def test_replicas_that_start_at_once_have_one_keyring() -> None:
    def start(url: str) -> str:
        return open_store(backend_for(url), MASTER_KEY, FIRST_START, START, os.urandom).keyring.primary.id

    with empty_postgresql() as url, ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(start, [url] * 4))) == 1
