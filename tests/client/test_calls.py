"""Both clients against the real service, and over the wire."""

import asyncio
import socket
from pathlib import Path

import grpc
import pytest

from nofx_grpc.client import NO_RETRY, AsyncClient, Client, Revision, errors
from nofx_grpc.client.errors import Violation
from nofx_grpc.v1 import beta_codes_pb2, models_pb2, traders_pb2
from tests.client.support import AnyClient, ask, close, listed
from tests.client.wire import wire
from tests.support.service import RunningService, running_service

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def empty(request: bytes) -> bytes:
    return b""


def model(**fields: object) -> models_pb2.Model:
    return models_pb2.Model(name="DeepSeek", provider="deepseek", **fields)  # type: ignore[arg-type]  # of many types


async def test_a_resource_is_made_read_changed_and_deleted(service: RunningService, nofx: AnyClient) -> None:
    await service.add_users("ada")
    made = await ask(nofx, lambda c: c.models.create_model(user_id="ada", model=model(api_key="sk-1")))
    assert made.api_key_set and not made.api_key
    changed = models_pb2.Model(user_id="ada", id=made.id, etag=made.etag, name="Deeper")
    assert (await ask(nofx, lambda c: c.models.update_model(model=changed))).name == "Deeper"
    assert (await ask(nofx, lambda c: c.models.get_model(user_id="ada", id=made.id))).name == "Deeper"
    await ask(nofx, lambda c: c.models.delete_model(user_id="ada", id=made.id))
    with pytest.raises(errors.NotFound):
        await ask(nofx, lambda c: c.models.get_model(user_id="ada", id=made.id))


async def test_a_stale_etag_is_told_by_its_reason(service: RunningService, nofx: AnyClient) -> None:
    await service.add_users("ada")
    made = await ask(nofx, lambda c: c.models.create_model(user_id="ada", model=model()))
    stale = models_pb2.Model(user_id="ada", id=made.id, etag=made.etag, name="Second")
    await ask(nofx, lambda c: c.models.update_model(model=stale))
    with pytest.raises(errors.EtagMismatch) as caught:
        await ask(nofx, lambda c: c.models.update_model(model=stale))
    error = caught.value
    assert (error.code, error.reason, error.method) == (
        grpc.StatusCode.ABORTED,
        "ETAG_MISMATCH",
        "Models/UpdateModel",
    )
    assert error.metadata == {"kind": "model", "id": made.id} and error.request_id == ""


async def test_violations_name_the_fields(nofx: AnyClient) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await ask(nofx, lambda c: c.traders.get_trader(user_id="ada"))
    assert [type(violation) for violation in caught.value.violations] == [Violation]
    assert caught.value.violations[0].field == "id"


async def test_a_write_that_is_sent_again_with_its_id_is_done_once(service: RunningService, nofx: AnyClient) -> None:
    await service.add_users("ada")
    ids = [
        (await ask(nofx, lambda c: c.models.create_model(user_id="ada", model=model(), request_id="r-1"))).id
        for _ in range(2)
    ]
    assert ids[0] == ids[1] and len(await service.rows("SELECT 1 FROM ai_models WHERE user_id = 'ada'")) == 1


async def test_an_id_is_sent_with_every_write_that_takes_one(service: RunningService, nofx: AnyClient) -> None:
    await service.add_users("ada")
    await ask(nofx, lambda c: c.models.create_model(user_id="ada", model=model()))
    assert len(await service.rows("SELECT 1 FROM request_ids")) == 1


async def test_a_list_is_read_over_all_its_pages(service: RunningService, nofx: AnyClient) -> None:
    users = [f"user-{number}" for number in range(5)]
    await service.add_users(*users)
    found = await listed(nofx, lambda c: c.users.list_users.all(page_size=2))
    assert [user.id for user in found] == sorted(["default", *users])
    pages = await listed(nofx, lambda c: c.users.list_users.pages(page_size=4))
    assert [len(page.users) for page in pages] == [4, 2]
    assert len((await ask(nofx, lambda c: c.users.list_users(page_size=3))).users) == 3


async def test_a_list_is_fetched_as_it_is_read() -> None:
    page = traders_pb2.ListTradersResponse(traders=[traders_pb2.Trader(id="t")] * 2, next_page_token="more")
    async with wire(lambda _: page.SerializeToString()) as server, AsyncClient(server.address, token="t") as nofx:
        traders = nofx.traders.list_traders.all(user_id="ada", page_size=2)
        assert [(await anext(traders)).id for _ in range(3)] == ["t"] * 3
        await traders.aclose()  # type: ignore[attr-defined]  # it is a generator
    sent = [traders_pb2.ListTradersRequest.FromString(request) for request in server.requests]
    assert [(each.user_id, each.page_size, each.page_token) for each in sent] == [("ada", 2, ""), ("ada", 2, "more")]


async def test_codes_are_sent_as_a_stream(nofx: AnyClient) -> None:
    parts = [beta_codes_pb2.ImportBetaCodesRequest(data=data) for data in (b"abc123\nde", b"f456\n")]
    response = await ask(nofx, lambda c: c.beta_codes.import_beta_codes(parts))
    assert response.imported_count == 2


async def test_a_stream_of_a_generator_of_its_own_kind(service: RunningService) -> None:
    async with AsyncClient(service.address, token=service.token("admin")) as nofx:

        async def parts() -> "object":
            yield beta_codes_pb2.ImportBetaCodesRequest(data=b"abc123\n")

        assert (await nofx.beta_codes.import_beta_codes(parts())).imported_count == 1  # type: ignore[arg-type]  # a generator


async def test_what_was_seen_is_remembered(service: RunningService, nofx: AnyClient) -> None:
    assert nofx.revision is None
    await service.add_users("ada")
    made = await ask(nofx, lambda c: c.models.create_model(user_id="ada", model=model()))
    assert nofx.revision == Revision(service.app.db.history_id, made.revision)


async def test_a_revision_that_the_service_has_not_reached(service: RunningService, kind: type[AnyClient]) -> None:
    nofx = kind(service.address, token=service.token("admin"), timeout=0.5)
    ahead = (("nofx-revision", "1000"), ("nofx-history", service.app.db.history_id))
    assert nofx._policy.revisions is not None
    nofx._policy.revisions.note(ahead)
    with pytest.raises(errors.DeadlineExceeded):  # the service waits, and longer than this client
        await ask(nofx, lambda c: c.users.list_users())
    await close(nofx)


async def test_without_a_valid_token_nothing_is_answered(service: RunningService, kind: type[AnyClient]) -> None:
    for nofx in (kind(service.address), kind(service.address, token="nofx_wrong")):
        with pytest.raises(errors.Unauthenticated):
            await ask(nofx, lambda c: c.users.list_users())
        await close(nofx)


async def test_attempts_on_the_wire(kind: type[AnyClient]) -> None:
    async with wire(UNAVAILABLE, UNAVAILABLE, empty) as server:
        nofx = kind(server.address, token="secret-token", timeout=5.0)
        await ask(nofx, lambda c: c.traders.create_trader(user_id="ada"))
        await ask(nofx, lambda c: c.traders.get_trader(user_id="ada", id="t-1"))
        await close(nofx)
    ids = [traders_pb2.CreateTraderRequest.FromString(request).request_id for request in server.requests[:3]]
    assert len(ids) == 3 and len(set(ids)) == 1 and ids[0] != ""
    assert {sent["authorization"] for sent in server.metadata} == {"Bearer secret-token"}
    assert [sent.get("nofx-min-revision") for sent in server.metadata] == [None, None, None, "7"]
    assert all(4.0 < (seconds or 0.0) < 5.1 for seconds in server.seconds_left)
    assert server.metadata[0]["user-agent"].startswith("nofx-grpc-python/")


async def test_without_read_your_writes_nothing_is_remembered(kind: type[AnyClient]) -> None:
    async with wire(empty) as server:
        nofx = kind(server.address, token="t", read_your_writes=False)
        await ask(nofx, lambda c: c.traders.get_trader(user_id="ada", id="t-1"))
        await ask(nofx, lambda c: c.traders.get_trader(user_id="ada", id="t-1"))
        await close(nofx)
    assert nofx.revision is None and ["nofx-min-revision" in sent for sent in server.metadata] == [False, False]


async def test_retries_may_be_others_for_some_calls(kind: type[AnyClient]) -> None:
    async with wire(UNAVAILABLE, empty) as server:
        nofx = kind(server.address, token="t")
        with pytest.raises(errors.Unavailable):
            await ask(nofx.with_options(retry=NO_RETRY), lambda c: c.users.list_users())
        await ask(nofx, lambda c: c.users.list_users())
        await close(nofx)
    assert len(server.requests) == 2


async def test_an_update_is_sent_once_on_the_wire(kind: type[AnyClient]) -> None:
    async with wire(UNAVAILABLE, empty) as server:
        nofx = kind(server.address, token="t")
        with pytest.raises(errors.Unavailable):
            await ask(nofx, lambda c: c.traders.update_trader(trader=traders_pb2.Trader(id="t-1")))
        await close(nofx)
    assert len(server.requests) == 1


async def test_a_server_that_never_answers(kind: type[AnyClient]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nofx = kind(f"127.0.0.1:{silent.getsockname()[1]}", token="t").with_options(timeout=0.3)
        with pytest.raises(errors.DeadlineExceeded) as caught:
            await ask(nofx, lambda c: c.traders.get_trader(user_id="ada", id="t-1"))
        await close(nofx)
    assert caught.value.reason == ""


async def test_a_read_outlives_a_restart_of_the_service(tmp_path: Path, kind: type[AnyClient]) -> None:
    async with running_service(tmp_path / "data") as first:
        nofx = kind(first.address, token=first.token("admin"))
        await ask(nofx, lambda c: c.users.list_users())
    asked = asyncio.create_task(ask(nofx, lambda c: c.users.list_users()))
    await asyncio.sleep(0.3)
    assert not asked.done()
    async with running_service(tmp_path / "data", env={"NOFX_GRPC_LISTEN": first.address}):
        assert [user.id for user in (await asked).users] == ["default"]
        await close(nofx)


async def test_a_task_that_is_cancelled_stops_waiting() -> None:
    async with wire(UNAVAILABLE) as server, AsyncClient(server.address, token="t") as nofx:
        waiting = asyncio.create_task(nofx.traders.get_trader(user_id="ada", id="t-1"))
        await asyncio.sleep(0.2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


def test_the_client_of_asyncio_is_made_in_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        AsyncClient(token="t")


async def test_options_of_some_calls_share_the_connection_and_what_was_seen(service: RunningService) -> None:
    with Client(service.address, token=service.token("admin")) as nofx:
        quick = nofx.with_options(timeout=5.0)
        await asyncio.to_thread(quick.users.list_users)
        assert quick._channel is nofx._channel and nofx.revision == quick.revision is not None
