"""The gate before every handler: size, parsing, deadline, revision, metadata, errors; Exchanges stand for all."""

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from nofx_grpc.rpc.callers import Callers
from nofx_grpc.rpc.identity import Tokens
from nofx_grpc.rpc.interceptor import Gate, Limits
from nofx_grpc.rpc.methods import GatedMethod
from nofx_grpc.store import audit, exchanges
from nofx_grpc.v1 import exchanges_pb2 as pb
from tests.support.late import LateContext
from tests.support.rpcs import METHODS, call_raw, limit_of, path_of
from tests.support.service import RunningService, refused, running_service

Code = grpc.StatusCode

GET, CREATE, IMPORT = (
    METHODS[name] for name in ("Exchanges.GetExchange", "Exchanges.CreateExchange", "BetaCodes.ImportBetaCodes")
)
BINANCE = pb.GetExchangeRequest(user_id="default", id="binance")
SECRET = "plaintext-5d90c2"
EXCHANGE = pb.Exchange(name="X", type="cex", api_key=SECRET)
OKX = pb.CreateExchangeRequest(user_id="default", exchange_id="okx", exchange=EXCHANGE)


async def trailing(call: Any) -> dict[str, str]:
    return {key: str(value) for key, value in await call.trailing_metadata()}


# ---- what cannot be read


BROKEN = [(method, raw) for method in (GET, CREATE, IMPORT) for raw in (b"\xff", b"\x0a\x05ab", b"\x0a")]
NOT_UTF8 = [(method, b"\x0a\x02\xff\xfe") for method in (GET, CREATE)]


@pytest.mark.parametrize(("method", "raw"), BROKEN + NOT_UTF8)
async def test_bytes_that_are_no_request(service: RunningService, method: Any, raw: bytes) -> None:
    async with service.nothing_written():
        refusal = await refused(call_raw(service.client(), method, raw), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    name = method.input_type.full_name
    assert refusal.violations == {
        "request": f"is no {name}: the bytes are damaged or cut off, or a string in it is not UTF-8"
    }


@pytest.mark.parametrize("method", [GET, METHODS["Watch.Watch"]], ids=lambda method: method.name)
async def test_a_call_without_a_request(service: RunningService, method: Any) -> None:
    """To gRPC a call like any other, which nobody would end."""
    send: Any = service.anonymous().channel.stream_stream(path_of(method))
    call = send(iter(()), metadata=(("authorization", f"Bearer {service.token('viewer')}"),))
    refusal = await refused(call.read(), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert refusal.violations == {"request": "is missing: expected one message"}


async def test_a_request_of_the_greatest_size_is_looked_at(service: RunningService) -> None:
    await refused(call_raw(service.client(), GET, bytes(limit_of(GET))), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")


@pytest.mark.parametrize("method", [GET, CREATE, IMPORT], ids=lambda method: method.name)
async def test_a_request_over_the_limit(service: RunningService, method: Any) -> None:
    limit = limit_of(method)
    call = call_raw(service.client(), method, bytes(limit + 1))
    async with service.nothing_written():
        refusal = await refused(call, Code.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE")
    assert refusal.text == f"the request has {limit + 1} bytes; at most {limit} are accepted"
    assert refusal.metadata == {"size": str(limit + 1), "limit": str(limit)}


async def test_a_request_far_over_the_limit_is_refused_by_grpc(service: RunningService) -> None:
    limit = service.app.settings.max_request_bytes
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call_raw(service.client(), GET, bytes(limit + 2 * 1024 * 1024))
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED


async def test_every_wrong_field_is_named_and_no_value_repeated(service: RunningService) -> None:
    request = pb.CreateExchangeRequest(exchange_id="a\nb", exchange=pb.Exchange(api_key=f"{SECRET}\0"))
    refusal = await refused(
        service.client().exchanges.CreateExchange(request), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT"
    )
    assert set(refusal.violations) == {"user_id", "exchange_id", "exchange.api_key"}
    assert SECRET not in str(refusal) and all(field in refusal.text for field in refusal.violations)


async def test_what_is_missing_as_a_whole_is_named(service: RunningService) -> None:
    request = pb.CreateExchangeRequest(user_id="default", exchange_id="okx")
    refusal = await refused(
        service.client().exchanges.CreateExchange(request), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT"
    )
    assert set(refusal.violations) == {"exchange"}


async def test_who_may_not_call_learns_nothing_about_the_request(service: RunningService) -> None:
    too_large = bytes(service.app.settings.max_request_bytes + 1)
    await refused(call_raw(service.client("viewer"), CREATE, too_large), Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    await refused(call_raw(service.anonymous(), CREATE, too_large), Code.UNAUTHENTICATED, "UNAUTHENTICATED")


# ---- metadata


async def test_every_answer_tells_its_revision_and_history(service: RunningService) -> None:
    ((history,),) = await service.rows("SELECT history_id FROM store_state")
    stub = service.client().exchanges
    before = await service.revision()
    await (read := stub.GetExchange(BINANCE))
    await (write := stub.CreateExchange(OKX))
    for call, revision in ((read, before), (write, before + 1)):
        metadata = await trailing(call)
        assert (metadata["nofx-revision"], metadata["nofx-history"]) == (str(revision), history)
    listed = stub.ListExchanges(pb.ListExchangesRequest())
    await listed
    assert (await trailing(listed))["nofx-revision"] == str(before + 1)


async def test_every_error_tells_them_too_but_not_to_strangers(service: RunningService) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as known:
        await service.client().exchanges.GetExchange(pb.GetExchangeRequest(user_id="default", id="missing"))
    metadata = dict(known.value.trailing_metadata() or ())
    assert metadata["nofx-revision"] == str(await service.revision()) and metadata["nofx-history"]
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await service.anonymous().exchanges.GetExchange(BINANCE)
    assert "nofx-revision" not in {key for key, _ in unknown.value.trailing_metadata() or ()}


async def test_a_read_at_a_revision_that_is_there(service: RunningService) -> None:
    client = service.client(**{"nofx-min-revision": str(await service.revision())})
    assert (await client.exchanges.GetExchange(BINANCE)).id == "binance"


@pytest.mark.parametrize("text", ["", "x", "1.5", "-1", "1_0", " 1", "9" * 5000])
async def test_a_revision_that_is_no_number(service: RunningService, text: str) -> None:
    call = service.client(**{"nofx-min-revision": text}).exchanges.GetExchange(BINANCE)
    refusal = await refused(call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert set(refusal.violations) == {"nofx-min-revision"}


async def test_a_read_waits_for_its_revision(service: RunningService) -> None:
    later = await service.revision() + 1
    reader = service.client(**{"nofx-min-revision": str(later)})
    request = pb.GetExchangeRequest(user_id="default", id="okx")
    waiting = asyncio.ensure_future(reader.exchanges.GetExchange(request))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await service.client().exchanges.CreateExchange(OKX)
    assert (await waiting).revision == later


@pytest.mark.parametrize("ahead", [1, 10**18])
async def test_a_revision_that_does_not_come(tmp_path: Path, database_env: dict[str, str], ahead: int) -> None:
    async with running_service(
        tmp_path / "data", env=database_env | {"NOFX_GRPC_MIN_REVISION_WAIT_SECONDS": "0.1"}
    ) as service:
        current = await service.revision()
        client = service.client(**{"nofx-min-revision": str(current + ahead)})
        async with service.nothing_written():
            for call in (client.exchanges.GetExchange(BINANCE), client.exchanges.CreateExchange(OKX)):
                refusal = await refused(call, Code.UNAVAILABLE, "REVISION_NOT_REACHED")
                assert refusal.retry_seconds == 1
                assert refusal.metadata == {"wanted": str(current + ahead), "current": str(current)}


async def test_who_waits_in_vain_asks_the_store_a_few_times_only(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest, asked = service.app.db.latest, []

    async def counted() -> int:
        asked.append(await latest())
        return asked[-1]

    monkeypatch.setattr(service.app.db, "latest", counted)
    client = service.client(**{"nofx-min-revision": "1000000"})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.exchanges.GetExchange(BINANCE, timeout=1)
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    assert 1 < len(asked) < 12


# ---- deadlines


async def test_a_call_that_comes_too_late_is_not_begun(service: RunningService) -> None:
    begun: list[object] = []

    async def behavior(request: object, call: object) -> pb.Exchange:
        begun.append(request)
        return pb.Exchange()

    app, context = service.app, LateContext(service.token("admin"))
    callers = Callers(Tokens(app.db, lambda: datetime.now(UTC)))
    method = GatedMethod(Gate(app.db, app.envelope, callers, Limits()), CREATE, behavior)
    with pytest.raises(grpc.aio.AbortError):
        await method.unary(None, context)  # type: ignore[arg-type]  # what it needs of one
    expected = Code.DEADLINE_EXCEEDED, "the deadline passed before the work was started; nothing was done"
    assert context.aborted == expected and begun == []


async def test_a_write_whose_caller_has_gone_is_not_done(service: RunningService) -> None:
    release = threading.Event()
    blocking = asyncio.ensure_future(service.app.db.write(lambda _: release.wait(10)))
    await asyncio.sleep(0.05)
    client = service.client()
    before = await service.contents()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.exchanges.CreateExchange(OKX, timeout=0.3)
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    await asyncio.sleep(0.2)  # until the server has heard of it
    release.set()
    await blocking
    await service.app.db.write(lambda _: None)  # after whatever was queued
    assert await service.contents() == before


async def test_a_denial_whose_caller_has_gone_is_on_the_record(service: RunningService) -> None:
    release = threading.Event()
    blocking = asyncio.ensure_future(service.app.db.write(lambda _: release.wait(10)))
    await asyncio.sleep(0.05)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.client("viewer").exchanges.CreateExchange(OKX, timeout=0.3)
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    await asyncio.sleep(0.2)  # until the server has heard of it
    release.set()
    await blocking
    await service.app.db.write(lambda _: None)  # after whatever was queued
    assert await service.last_record("principal", "outcome") == ("token:bootstrap-viewer", "DENIED")


# ---- errors that nobody expected


async def test_an_unexpected_error_is_told_by_an_id_only(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError(f"unexpected {SECRET}")

    monkeypatch.setattr(exchanges.resource, "get", broken)
    with capture_logs() as logs:
        refusal = await refused(service.client().exchanges.GetExchange(BINANCE), Code.INTERNAL, "INTERNAL")
    incident = refusal.metadata["incident"]
    assert refusal.text == f"internal error; the server's log tells more under {incident}"
    assert SECRET not in str(refusal)
    (logged,) = [entry for entry in logs if entry["event"] == "internal_error"]
    assert (logged["incident"], logged["method"]) == (incident, "/nofx_grpc.v1.Exchanges/GetExchange")


async def test_an_unexpected_error_in_a_write_leaves_nothing(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError(f"unexpected {SECRET}")

    monkeypatch.setattr(exchanges.resource, "log", broken)
    async with service.nothing_written():
        refusal = await refused(service.client().exchanges.CreateExchange(OKX), Code.INTERNAL, "INTERNAL")
    assert SECRET not in str(refusal)
    monkeypatch.undo()
    await service.client().exchanges.CreateExchange(OKX)


async def test_an_unexpected_error_of_the_audit_is_logged(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("unexpected")

    monkeypatch.setattr(audit, "append", broken)
    request = pb.AccessExchangeCredentialsRequest(user_id="default", id="binance")
    with capture_logs() as logs:
        call = service.client("engine").exchanges.AccessExchangeCredentials(request)
        await refused(call, Code.UNAVAILABLE, "AUDIT_UNAVAILABLE")
    (logged,) = [entry for entry in logs if entry["event"] == "audit_unavailable"]
    assert isinstance(logged["exc_info"], ValueError)


async def test_an_unknown_method_is_unimplemented(service: RunningService) -> None:
    call = service.client().channel.unary_unary("/nofx_grpc.v1.Exchanges/DropEverything", bytes, bytes)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() is Code.UNIMPLEMENTED
