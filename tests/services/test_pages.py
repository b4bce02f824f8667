"""Pages of lists over a real server: complete, in order, bounded, and their tokens good for nothing else."""

import base64
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from nofx_grpc.v1 import exchanges_pb2 as pb
from tests.support.clock import FakeClock
from tests.support.nouns import NOUNS, Noun
from tests.support.service import Client, RunningService, refused, running_service

Code = grpc.StatusCode

each_noun = pytest.mark.parametrize("noun", NOUNS, ids=str)


async def insert(service: RunningService, id: str, user_id: str = "alice", name: str = "X") -> None:
    await service.execute(
        "INSERT INTO exchanges (id, user_id, name, type, revision) VALUES (?, ?, ?, 'cex', 1)", id, user_id, name
    )


async def page(client: Client, token: str = "", **fields: Any) -> pb.ListExchangesResponse:
    return await client.exchanges.ListExchanges(pb.ListExchangesRequest(page_token=token, **fields))


async def pages(client: Client, **fields: Any) -> AsyncIterator[list[pb.Exchange]]:
    """The rows of each page in turn."""
    token = ""
    while True:
        response = await page(client, token, **fields)
        yield list(response.exchanges)
        token = response.next_page_token
        if not token:
            return


@pytest.mark.parametrize("seed", range(8))
async def test_all_pages_together_are_all_rows_once_and_in_order(service: RunningService, seed: int) -> None:
    """Rows that are there all the time are seen exactly once, whatever comes and goes between two pages."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    await service.add_users("alice", "bob")
    ids = [f"{chance.choice('abßz€')}{n}" for n in range(chance.randrange(60))]
    for id in ids:
        await insert(service, id)
        await insert(service, id, "bob")
    stay, go = set(ids[::2]), ids[1::2]
    seen: list[str] = []
    async for rows in pages(service.client("viewer"), user_id="alice", page_size=chance.randrange(1, 12)):
        assert {row.user_id for row in rows} <= {"alice"}
        seen += [row.id for row in rows]
        if go and chance.random() < 0.5:
            await service.execute("DELETE FROM exchanges WHERE user_id = 'alice' AND id = ?", go.pop())
        await insert(service, f"new-{chance.random()}")
    assert stay <= set(seen) and len(seen) == len(set(seen))
    assert seen == sorted(seen, key=str.encode)


async def test_a_list_of_all_users_goes_by_user_and_id(service: RunningService) -> None:
    await service.add_users("alice", "bob")
    for user_id, id in (("bob", "a"), ("alice", "b"), ("alice", "a")):
        await insert(service, id, user_id)
    rows = [(row.user_id, row.id) async for rows in pages(service.client(), page_size=1) for row in rows]
    templates = [("default", id) for id in ("aster", "binance", "hyperliquid")]
    assert rows == [("alice", "a"), ("alice", "b"), ("bob", "a"), *templates]


async def test_a_full_last_page_has_no_token(service: RunningService) -> None:
    first = await page(service.client(), page_size=3)
    assert len(first.exchanges) == 3 and not first.next_page_token
    assert not (await page(service.client(), user_id="nobody")).exchanges


async def test_a_page_has_a_hundred_rows_unless_told(service: RunningService) -> None:
    await service.add_users("alice")
    for n in range(101):
        await insert(service, f"{n:03}")
    assert len((await page(service.client(), user_id="alice")).exchanges) == 100
    assert len((await page(service.client(), user_id="alice", page_size=1000)).exchanges) == 101


@pytest.mark.parametrize("size", [-1, 1001])
async def test_a_page_size_out_of_range(service: RunningService, size: int) -> None:
    refusal = await refused(page(service.client(), page_size=size), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert set(refusal.violations) == {"page_size"}


async def test_a_page_is_bounded_in_bytes(tmp_path: Path, database_env: dict[str, str]) -> None:
    """It is cut before the row that would not fit; a row that alone is larger than a page still has one."""
    limit = 64 * 1024
    async with running_service(
        tmp_path / "data", env=database_env | {"NOFX_GRPC_MAX_PAGE_BYTES": str(limit)}
    ) as service:
        await service.add_users("alice")
        for n, size in enumerate((20_000, 20_000, 20_000, 20_000, 2 * limit, 10, 10)):
            await insert(service, f"{n}", name=size * "x")
        found = [rows async for rows in pages(service.client(), user_id="alice")]
        assert [[row.id for row in rows] for rows in found] == [["0", "1", "2"], ["3"], ["4"], ["5", "6"]]


# ---- tokens


def damaged(token: str) -> str:
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[-1] ^= 1
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@each_noun
async def test_a_token_leads_on_in_its_own_list_only(service: RunningService, noun: Noun) -> None:
    await service.add_users("alice")
    for id in ("one", "two", "three"):
        await noun.create(service.client(), id=id)
    client = service.client("viewer")
    token = (await noun.list(client, user_id="alice", page_size=1)).next_page_token
    other = next(each for each in NOUNS if each is not noun)
    foreign = service.client("admin")
    for call in (
        noun.list(client, page_token=token),
        noun.list(client, user_id="default", page_token=token),
        noun.list(foreign, user_id="alice", page_token=token),
        other.list(client, user_id="alice", page_token=token),
    ):
        refusal = await refused(call, Code.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
        assert refusal.violations["page_token"].startswith("belongs to another list")
    assert len(noun.listed(await noun.list(client, user_id="alice", page_token=token, page_size=2))) == 2


@each_noun
async def test_a_damaged_token(service: RunningService, noun: Noun) -> None:
    token = (await noun.list(service.client(), page_size=1)).next_page_token
    for wrong in (damaged(token), token[:-4], token[4:], "x", "€", "A" * 200, token + "!"):
        call = noun.list(service.client(), page_token=wrong)
        refusal = await refused(call, Code.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
        assert refusal.violations == {"page_token": "is damaged: pass next_page_token on as it was given"}


async def test_a_token_expires(service: RunningService, clock: FakeClock) -> None:
    token = (await page(service.client(), page_size=1)).next_page_token
    clock.advance(hours=24)
    assert (await page(service.client(), token)).exchanges
    clock.advance(seconds=1)
    refusal = await refused(page(service.client(), token), Code.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
    assert refusal.violations == {"page_token": "has expired: start again without a token"}


async def test_a_token_tells_nothing(service: RunningService) -> None:
    token = (await page(service.client(), page_size=2)).next_page_token
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert b"binance" not in raw and b"Exchanges" not in raw


async def test_another_lists_token_is_no_other_sealed_text(service: RunningService) -> None:
    """What the store seals for a place does not open as a token."""
    blob = service.app.envelope.seal_bytes(b"[]", ("request_ids",))
    wrong = base64.urlsafe_b64encode(blob).decode().rstrip("=")
    await refused(page(service.client(), wrong), Code.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
