"""The import of a file of beta codes over a real server; `test_code_lines` has how its lines are read."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from nofx_grpc.services.beta_codes import CODES_PER_TRANSACTION, FileImport
from nofx_grpc.services.call import Call
from nofx_grpc.v1 import beta_codes_pb2 as pb
from tests.support.codes import is_valid, listed, redeem, send, stats
from tests.support.service import RunningService, refused, running_service

Code = grpc.StatusCode


@pytest.fixture(autouse=True)
async def users(service: RunningService) -> AsyncIterator[None]:
    await service.add_users("alice")
    yield


def numbered(count: int) -> bytes:
    return b"".join(b"CODE%05d\n" % number for number in range(count))


async def test_a_file_is_imported_wherever_it_is_cut(service: RunningService) -> None:
    file = "\ufeff# codes\r\n A1 \r\n内测\r\n\r\nA1\r\n\x07\r\nB2".encode()
    answer = await send(service, *(file[index : index + 1] for index in range(len(file))))
    assert answer == pb.ImportBetaCodesResponse(imported_count=3, duplicate_count=1, invalid_count=1, invalid_lines=[6])
    assert [code.code for code in await listed(service)] == ["A1", "B2", "内测"]


async def test_importing_again_finds_only_duplicates(service: RunningService) -> None:
    await send(service, b"A1\nB2\n")
    await redeem(service, "A1")
    async with service.nothing_written():
        assert await send(service, b"A1\nB2\n") == pb.ImportBetaCodesResponse(duplicate_count=2)
    assert await send(service, b"B2\nC3\nC3") == pb.ImportBetaCodesResponse(imported_count=1, duplicate_count=2)
    assert await stats(service) == (3, 1, 2)


async def test_a_thousand_codes_are_one_transaction(service: RunningService) -> None:
    before = await service.revision()
    count = 2 * CODES_PER_TRANSACTION + 1
    assert (await send(service, numbered(count))).imported_count == count
    assert await service.revision() == before + 3
    logged = await service.rows(
        "SELECT revision, count(*), max(ordinal) FROM change_log WHERE kind = 'beta code' GROUP BY revision"
    )
    assert logged == [(before + 1, 1000, 1000), (before + 2, 1000, 1000), (before + 3, 1, 1)]
    stored = dict(await service.rows("SELECT code, revision FROM beta_codes"))
    for revision, operation, resource in await service.rows(
        "SELECT revision, operation, resource FROM change_log WHERE kind = 'beta code'"
    ):
        record = json.loads(resource)
        assert (operation, stored[record["code"]], record["used"]) == ("create", revision, False)


async def test_an_import_is_on_record_by_number(service: RunningService) -> None:
    await send(service, numbered(1500))
    records = await service.rows(
        "SELECT method, resources, outcome FROM audit_log ORDER BY chain_position DESC LIMIT 2"
    )
    method = "/nofx_grpc.v1.BetaCodes/ImportBetaCodes"
    assert records == [(method, f"create beta code /({number} codes)", "OK") for number in (500, 1000)]


async def test_a_broken_import_leaves_what_was_stored_before(service: RunningService) -> None:
    too_large = b"x" * (1024 * 1024 + 1)
    refusal = await refused(send(service, numbered(1500), too_large), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert list(refusal.violations) == ["data"]
    assert await stats(service) == (1000, 0, 1000)
    assert await send(service, numbered(1500)) == pb.ImportBetaCodesResponse(imported_count=500, duplicate_count=1000)


async def test_an_upload_that_stalls_ends_and_holds_up_nobody(tmp_path: Path, database_env: dict[str, str]) -> None:
    env = database_env | {"NOFX_GRPC_MAX_REQUEST_SECONDS": "2"}
    async with running_service(tmp_path / "data", env=env) as service:
        call: Any = service.client().beta_codes.ImportBetaCodes()
        await call.write(pb.ImportBetaCodesRequest(data=numbered(1500)))
        while (await stats(service))[0] < 1000:  # noqa: ASYNC110  # nothing tells that it is stored
            await asyncio.sleep(0.02)
        assert (await send(service, b"ANOTHER\n")).imported_count == 1
        refusal = await refused(call, Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        assert "within 2 seconds; what was stored of the upload stays" in refusal.text
        assert await stats(service) == (1001, 0, 1001)
        answer = await send(service, numbered(1500))
        assert answer == pb.ImportBetaCodesResponse(imported_count=500, duplicate_count=1000)


async def test_an_upload_may_take_longer_than_each_of_its_messages(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", env={"NOFX_GRPC_MAX_REQUEST_SECONDS": "4"}) as service:
        call: Any = service.client().beta_codes.ImportBetaCodes()
        for number in range(9):
            await call.write(pb.ImportBetaCodesRequest(data=b"CODE%d\n" % number))
            await asyncio.sleep(0.5)
        await call.done_writing()
        assert (await call).imported_count == 9


async def test_nothing_imports_nothing(service: RunningService) -> None:
    async with service.nothing_written():
        assert await send(service) == pb.ImportBetaCodesResponse()
        assert await send(service, b"", b"\xef\xbb", b"\xbf#\n") == pb.ImportBetaCodesResponse()


async def test_a_file_without_codes_keeps_no_one_waiting() -> None:
    nothing_to_call = cast("Call", None)
    running = asyncio.create_task(FileImport(nothing_to_call).take(b"# comment\n" * 100_000))
    turns = 0
    while not running.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 50


async def test_other_calls_are_served_during_an_import(service: RunningService) -> None:
    running = asyncio.create_task(send(service, *[numbered(20_000)] * 5))
    answered = 0
    while not running.done():
        await is_valid(service, "CODE00000")
        answered += 1
    assert (await running).imported_count == 20_000 and answered > 20
