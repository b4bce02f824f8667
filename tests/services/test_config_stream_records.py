"""Streams of configurations are on record before they reveal, and leave nothing behind."""

import grpc
import pytest

from nofx_grpc.errors import StoreUnavailable
from nofx_grpc.services.config_streams import CHUNK
from nofx_grpc.v1 import audit_pb2
from nofx_grpc.v1 import traders_pb2 as pb
from tests.support.mirrors import Mirror, delete, fleet, records, rename
from tests.support.rows import MODEL_KEY, USER
from tests.support.service import RunningService, refusal_of
from tests.support.watching import read, until

Code = grpc.StatusCode


async def test_each_message_with_secrets_has_its_record(service: RunningService) -> None:
    ids = await fleet(service, 2)
    start = await service.revision()
    mirror = Mirror(service.client("engine"), user_id=USER)
    await mirror.settled(start)
    names = "; ".join(f"{USER}/{id}" for id in sorted(ids))
    assert await records(service, "WatchTraderConfigs") == [
        (USER, f"all traders of {USER}", start),
        (USER, names, start),
    ]
    changed = await rename(service, ids[0])
    await mirror.settled(changed.revision)
    await delete(service, ids[1])
    await mirror.settled(await service.revision())
    assert (await records(service, "WatchTraderConfigs"))[2:] == [(USER, f"{USER}/{ids[0]}", changed.revision)]


async def test_who_has_seen_a_users_keys_is_found_by_the_user(service: RunningService) -> None:
    """A stream of all traders names each of them."""
    ids = await fleet(service, CHUNK + 2)
    call = service.client("engine").traders.StreamTraderConfigs(pb.StreamTraderConfigsRequest())
    sent = {config.trader.id async for response in call for config in response.configs}
    assert sent == set(ids)
    request = audit_pb2.ListAuditEventsRequest(resource=f"{USER}/", method="Traders/StreamTraderConfigs")
    events = (await service.client().admin.ListAuditEvents(request)).events
    assert sorted(key for event in events for key in event.resources.split("; ")) == sorted(
        f"{USER}/{id}" for id in ids
    )
    assert len(events) == 2 and {event.principal for event in events} == {"token:bootstrap-engine"}


async def test_without_a_durable_record_nothing_is_revealed(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    (id,) = await fleet(service, 1)
    mirror = Mirror(service.client("engine"))
    await mirror.settled(await service.revision())

    async def fails(*_: object) -> None:
        raise StoreUnavailable("the disk is gone")

    monkeypatch.setattr(service.app.db, "append", fails)
    call = service.client("engine").traders.StreamTraderConfigs(pb.StreamTraderConfigsRequest())
    for stream in (call, mirror.call):
        await rename(service, id)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while (response := await read(stream)).revision:
                assert not response.configs
        refusal = refusal_of(caught.value)
        assert refusal.reason == "AUDIT_UNAVAILABLE" and MODEL_KEY not in refusal.text


async def test_a_watch_that_the_client_leaves_is_forgotten(service: RunningService) -> None:
    mirror = Mirror(service.client("engine"))
    await mirror.settled(await service.revision())
    await until(lambda: service.app.feed.readers == 1 and service.app.feed.held is None)
    mirror.call.cancel()
    await until(lambda: not service.app.feed.readers)
