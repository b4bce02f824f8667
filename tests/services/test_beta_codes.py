"""BetaCodes over a real server."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from nofx_grpc.services.beta_codes import ALPHABET
from nofx_grpc.v1 import beta_codes_pb2 as pb
from tests.support.clock import FakeClock
from tests.support.codes import is_valid, listed, redeem, send, stats, stub
from tests.support.service import RunningService, refusal_of, refused

Code = grpc.StatusCode


@pytest.fixture(autouse=True)
async def users(service: RunningService) -> AsyncIterator[None]:
    await service.add_users("alice", "bob")
    yield


# ---- generate


async def test_generated_codes_are_new_and_readable(service: RunningService) -> None:
    answer = await stub(service).GenerateBetaCodes(pb.GenerateBetaCodesRequest(count=1000))
    codes = [code.code for code in answer.beta_codes]
    assert len(set(codes)) == 1000 and {len(code) for code in codes} == {8}
    assert set("".join(codes)) == set(ALPHABET) and not set("01IO") & set(ALPHABET)
    assert sorted(codes) == [code.code for code in await listed(service)]
    assert {code.revision for code in answer.beta_codes} == {await service.revision()}
    assert await service.last_record("resources") == ("create beta code /(1000 codes)",)


async def test_the_length_can_be_chosen(service: RunningService) -> None:
    answer = await stub(service).GenerateBetaCodes(pb.GenerateBetaCodesRequest(count=1, length=32))
    assert len(answer.beta_codes[0].code) == 32


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "count"),
        ({"count": 1001}, "count"),
        ({"count": 1, "length": 7}, "length"),
        ({"count": 1, "length": 33}, "length"),
    ],
)
async def test_wrong_numbers_are_refused(service: RunningService, fields: dict[str, Any], field: str) -> None:
    call = stub(service).GenerateBetaCodes(pb.GenerateBetaCodesRequest(**fields))
    async with service.nothing_written():
        assert list((await refused(call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")).violations) == [field]


async def test_a_repeated_request_gets_the_first_codes(service: RunningService) -> None:
    request = pb.GenerateBetaCodesRequest(count=3, request_id="r-1")
    first = await stub(service).GenerateBetaCodes(request)
    assert await stub(service).GenerateBetaCodes(request) == first
    assert await stats(service) == (3, 0, 3)
    request.count = 4
    await refused(stub(service).GenerateBetaCodes(request), Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


async def test_codes_that_are_there_are_made_anew(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    await send(service, b"AAAAAAAA\n")
    letters = iter("A" * 8 + "B" * 16 + "C" * 8)
    monkeypatch.setattr("nofx_grpc.services.beta_codes.secrets.choice", lambda _: next(letters))
    answer = await stub(service).GenerateBetaCodes(pb.GenerateBetaCodesRequest(count=2))
    assert [code.code for code in answer.beta_codes] == ["BBBBBBBB", "CCCCCCCC"]


# ---- validate, redeem


async def test_a_code_is_valid_until_it_is_spent(service: RunningService, clock: FakeClock) -> None:
    await send(service, b"A1\n")
    assert await is_valid(service, "A1") and not await is_valid(service, "a1") and not await is_valid(service, "B2")
    clock.advance(seconds=5)
    redeemed = await redeem(service, "A1")
    assert (redeemed.code, redeemed.used, redeemed.used_by) == ("A1", True, "alice")
    assert redeemed.use_time.ToDatetime(clock.now.tzinfo) == clock.now
    assert redeemed.revision == await service.revision() and await listed(service) == [redeemed]
    assert not await is_valid(service, "A1")
    assert await service.last_record("user_id", "resources") == ("alice", "update beta code /A1")


async def test_a_spent_or_unknown_code_is_refused(service: RunningService) -> None:
    await send(service, b"A1\n")
    await redeem(service, "A1")
    async with service.nothing_written():
        for code in ("A1", "B2"):
            refusal = await refused(redeem(service, code, "bob"), Code.FAILED_PRECONDITION, "BETA_CODE_INVALID")
            assert refusal.text == "the beta code is unknown or was already used"


async def test_a_code_is_redeemed_for_users_only(service: RunningService) -> None:
    await send(service, b"A1\n")
    async with service.nothing_written():
        refusal = await refused(redeem(service, "A1", "nobody"), Code.NOT_FOUND, "NOT_FOUND")
    assert refusal.metadata == {"kind": "user", "id": "nobody"}


async def test_of_fifty_who_redeem_one_code_one_succeeds(service: RunningService) -> None:
    await send(service, b"A1\n")
    stubs = [stub(service, "gateway") for _ in range(50)]

    async def attempt(number: int) -> str:
        try:
            user_id = ("alice", "bob")[number % 2]
            await stubs[number].RedeemBetaCode(pb.RedeemBetaCodeRequest(user_id=user_id, code="A1"))
        except grpc.aio.AioRpcError as error:
            return refusal_of(error).reason
        return "redeemed"

    outcomes = Counter(await asyncio.gather(*map(attempt, range(50))))
    assert outcomes == {"redeemed": 1, "BETA_CODE_INVALID": 49}
    assert await service.rows("SELECT count(*) FROM change_log WHERE kind = 'beta code' AND operation = 'update'") == [
        (1,)
    ]


async def test_a_repeated_redemption_gets_the_first_answer(service: RunningService) -> None:
    await send(service, b"A1\n")
    first = await redeem(service, "A1", request_id="r-1")
    assert await redeem(service, "A1", request_id="r-1") == first
    await refused(redeem(service, "A1", request_id="r-2"), Code.FAILED_PRECONDITION, "BETA_CODE_INVALID")


@pytest.mark.parametrize("code", ["", "a\nb", "c" * 513])
async def test_a_malformed_code_is_refused(service: RunningService, code: str) -> None:
    for call in (is_valid(service, code), redeem(service, code), delete(service, code)):
        assert list((await refused(call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")).violations) == ["code"]


# ---- list, count, delete


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize("used", [None, True, False])
async def test_lists_by_use(service: RunningService, size: int, used: bool | None) -> None:
    await send(service, b"A1\nB2\nC3\nD4\nE5\n")
    for code in ("B2", "D4"):
        await redeem(service, code)
    expected = {None: ["A1", "B2", "C3", "D4", "E5"], True: ["B2", "D4"], False: ["A1", "C3", "E5"]}
    fields: dict[str, Any] = {} if used is None else {"used": used}
    assert [code.code for code in await listed(service, page_size=size, **fields)] == expected[used]
    assert await stats(service) == (5, 2, 3)


async def test_a_page_token_belongs_to_its_filter(service: RunningService) -> None:
    await send(service, b"A1\nB2\n")
    page = await stub(service).ListBetaCodes(pb.ListBetaCodesRequest(page_size=1))
    request = pb.ListBetaCodesRequest(page_size=1, used=False, page_token=page.next_page_token)
    await refused(stub(service).ListBetaCodes(request), Code.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


async def delete(service: RunningService, code: str, **fields: Any) -> pb.DeleteBetaCodeResponse:
    return await stub(service).DeleteBetaCode(pb.DeleteBetaCodeRequest(code=code, **fields))


async def test_a_code_is_deleted(service: RunningService, clock: FakeClock) -> None:
    await send(service, b"A1\nB2\n")
    stale = (await listed(service))[0].etag
    clock.advance(seconds=1)
    current = (await redeem(service, "A1")).etag
    async with service.nothing_written():
        await refused(delete(service, "A1", etag=stale), Code.ABORTED, "ETAG_MISMATCH")
    await delete(service, "A1", etag=current)
    assert [code.code for code in await listed(service)] == ["B2"]
    async with service.nothing_written():
        await refused(delete(service, "A1"), Code.NOT_FOUND, "NOT_FOUND")
        await delete(service, "A1", allow_missing=True)


# ---- who may


@pytest.mark.parametrize("role", ["gateway", "engine", "viewer"])
async def test_only_admins_make_and_delete_codes(service: RunningService, role: str) -> None:
    client = stub(service, role)
    async with service.nothing_written():
        for call in (
            send(service, b"A1\n", role=role),
            client.GenerateBetaCodes(pb.GenerateBetaCodesRequest(count=1)),
            client.DeleteBetaCode(pb.DeleteBetaCodeRequest(code="A1")),
        ):
            await refused(call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")


@pytest.mark.parametrize("role", ["engine", "viewer"])
async def test_engines_and_viewers_redeem_nothing(service: RunningService, role: str) -> None:
    await send(service, b"A1\n")
    call = stub(service, role).RedeemBetaCode(pb.RedeemBetaCodeRequest(user_id="alice", code="A1"))
    async with service.nothing_written():
        await refused(call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")


async def test_a_token_for_one_user_redeems_for_that_user_only(service: RunningService) -> None:
    await send(service, b"A1\nB2\n")
    token = await service.make_token("admin", "alice")
    client = service.client(token=token).beta_codes

    async def import_one() -> AsyncIterator[pb.ImportBetaCodesRequest]:
        yield pb.ImportBetaCodesRequest(data=b"C3\n")

    async with service.nothing_written():
        for call in (
            client.ImportBetaCodes(import_one()),
            client.GenerateBetaCodes(pb.GenerateBetaCodesRequest(count=1)),
            client.ValidateBetaCode(pb.ValidateBetaCodeRequest(code="A1")),
            client.ListBetaCodes(pb.ListBetaCodesRequest()),
            client.GetBetaCodeStats(pb.GetBetaCodeStatsRequest()),
            client.DeleteBetaCode(pb.DeleteBetaCodeRequest(code="A1")),
        ):
            await refused(call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")
        other = client.RedeemBetaCode(pb.RedeemBetaCodeRequest(user_id="bob", code="A1"))
        await refused(other, Code.NOT_FOUND, "NOT_FOUND")
    assert (await client.RedeemBetaCode(pb.RedeemBetaCodeRequest(user_id="alice", code="A1"))).used


async def test_nobody_without_a_credential(service: RunningService) -> None:
    call = service.anonymous().beta_codes.ListBetaCodes(pb.ListBetaCodesRequest())
    await refused(call, Code.UNAUTHENTICATED, "UNAUTHENTICATED")
