"""What two servers do at the same moment to one resource, or to two that hang together: it comes out as if in turn."""

import pytest

from nofx_grpc.v1 import exchanges_pb2, models_pb2, signal_sources_pb2, system_config_pb2, traders_pb2, users_pb2
from tests.races.ring import Ring, refusals, trader_request

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROUNDS = 3


async def test_create_one_id(ring: Ring) -> None:
    user, another, id = await ring.user(), await ring.user(), ring.new("x")
    exchange = exchanges_pb2.Exchange(name="X", type="cex")
    made = exchanges_pb2.CreateExchangeRequest(user_id=user, exchange_id=id, exchange=exchange)
    assert refusals(await ring.both(made)) == ["ALREADY_EXISTS"]
    model = models_pb2.Model(name="M", provider="deepseek")
    mine, others = (models_pb2.CreateModelRequest(user_id=owner, model_id=id, model=model) for owner in (user, another))
    assert refusals(await ring.both(mine, others)) == ["ALREADY_EXISTS"], "a model's id is taken for all users"
    assert refusals(await ring.both(await new_trader(ring, user))) == ["ALREADY_EXISTS"]


async def test_create_with_one_request_id(ring: Ring) -> None:
    request = await new_trader(ring, await ring.user())
    request.request_id = ring.new("request")
    one, two = await ring.both(request)
    assert isinstance(one, traders_pb2.Trader) and one == two


async def test_update_with_one_etag(ring: Ring) -> None:
    user = await ring.user()
    trader = await ring.trader(user)
    exchange, model = await ring.exchange(user), await ring.model(user)
    for change in (
        lambda name: exchanges_pb2.UpdateExchangeRequest(
            exchange=exchanges_pb2.Exchange(user_id=user, id=exchange.id, etag=exchange.etag, name=name)
        ),
        lambda name: models_pb2.UpdateModelRequest(
            model=models_pb2.Model(user_id=user, id=model.id, etag=model.etag, name=name)
        ),
        lambda name: traders_pb2.UpdateTraderRequest(
            trader=traders_pb2.Trader(user_id=user, id=trader.id, etag=trader.etag, name=name)
        ),
    ):
        assert refusals(await ring.both(change("one"), change("two"))) == ["ETAG_MISMATCH"]


async def test_update_of_what_is_missing(ring: Ring) -> None:
    """Both want it to be there: one makes it, the other changes it."""
    user, id = await ring.user(), ring.new("x")
    one, two = (
        exchanges_pb2.UpdateExchangeRequest(
            exchange=exchanges_pb2.Exchange(user_id=user, id=id, name=name, type="cex"), allow_missing=True
        )
        for name in ("one", "two")
    )
    assert refusals(await ring.both(one, two)) == []
    logged = ring.rows("SELECT operation FROM change_log WHERE id = %s ORDER BY revision", id)
    assert logged == [("create",), ("update",)]


async def test_update_two_fields_of_one_row(ring: Ring) -> None:
    user = await ring.user()
    id = (await ring.exchange(user)).id
    name = exchanges_pb2.UpdateExchangeRequest(exchange=exchanges_pb2.Exchange(user_id=user, id=id, name="renamed"))
    enabled = exchanges_pb2.UpdateExchangeRequest(exchange=exchanges_pb2.Exchange(user_id=user, id=id, enabled=True))
    assert refusals(await ring.both(name, enabled)) == []
    assert ring.rows("SELECT name, enabled FROM exchanges WHERE id = %s", id) == [("renamed", True)]
    logged = ring.rows("SELECT resource::json->>'name', resource::json->>'enabled' FROM change_log WHERE id = %s", id)
    assert ("renamed", "true") in logged, "the log tells what the row is"


async def test_delete(ring: Ring) -> None:
    user = await ring.user()
    exchange, model, trader = await ring.exchange(user), await ring.model(user), await ring.trader(user)
    source = signal_sources_pb2.SignalSource(user_id=user, coin_pool_url="https://example.com/")
    await ring.send(signal_sources_pb2.SetSignalSourceRequest(signal_source=source))
    for request in (
        exchanges_pb2.DeleteExchangeRequest(user_id=user, id=exchange.id),
        models_pb2.DeleteModelRequest(user_id=user, id=model.id),
        traders_pb2.DeleteTraderRequest(user_id=user, id=trader.id),
        signal_sources_pb2.DeleteSignalSourceRequest(user_id=user),
        users_pb2.DeleteUserRequest(id=user),
    ):
        assert refusals(await ring.both(request)) == ["NOT_FOUND"], request


async def test_create_trader_while_what_it_needs_is_deleted(ring: Ring) -> None:
    for _ in range(ROUNDS):
        user = await ring.user()
        model = await new_trader(ring, user)
        await create_while(ring, model, models_pb2.DeleteModelRequest(user_id=user, id=model.trader.ai_model_id))
        exchange = await new_trader(ring, user)
        id = exchange.trader.exchange_id
        await create_while(ring, exchange, exchanges_pb2.DeleteExchangeRequest(user_id=user, id=id))


async def create_while(
    ring: Ring,
    create: traders_pb2.CreateTraderRequest,
    delete: models_pb2.DeleteModelRequest | exchanges_pb2.DeleteExchangeRequest,
) -> None:
    made, deleted = await ring.both(create, delete)
    assert (made == "NOT_FOUND" and not isinstance(deleted, str)) or (
        deleted == "IN_USE" and not isinstance(made, str)
    ), (made, deleted)


async def test_delete_user_while_something_is_made_for_it(ring: Ring) -> None:
    for _ in range(ROUNDS):
        user = await ring.user()
        model = models_pb2.CreateModelRequest(user_id=user, model=models_pb2.Model(name="M", provider="deepseek"))
        made, deleted = await ring.both(model, users_pb2.DeleteUserRequest(id=user, force=True))
        assert not isinstance(deleted, str) and (made == "NOT_FOUND" or not isinstance(made, str))
        assert ring.rows("SELECT id FROM ai_models WHERE user_id = %s", user) == []


async def test_start_stop_and_delete(ring: Ring) -> None:
    user = await ring.user()
    id = (await ring.trader(user)).id
    start, stop = (
        traders_pb2.StartTraderRequest(user_id=user, id=id),
        traders_pb2.StopTraderRequest(user_id=user, id=id),
    )
    assert refusals(await ring.both(start, stop)) == []
    started, deleted = await ring.both(start, traders_pb2.DeleteTraderRequest(user_id=user, id=id))
    assert not isinstance(deleted, str) and (started == "NOT_FOUND" or not isinstance(started, str))


async def test_set_signal_source(ring: Ring) -> None:
    """The first makes it, the second adds to it."""
    user = await ring.user()
    source = signal_sources_pb2.SignalSource
    pool = source(user_id=user, coin_pool_url="https://example.com/1")
    top = source(user_id=user, oi_top_url="https://example.com/2")
    requests = [signal_sources_pb2.SetSignalSourceRequest(signal_source=part) for part in (pool, top)]
    assert refusals(await ring.both(*requests)) == []
    found = await ring.send(signal_sources_pb2.GetSignalSourceRequest(user_id=user))
    assert found.coin_pool_url_set and found.oi_top_url_set


async def test_set_system_config(ring: Ring) -> None:
    def leverage(value: str, etag: str = "") -> system_config_pb2.SetSystemConfigRequest:
        setting = system_config_pb2.ConfigSetting(key="altcoin_leverage", value=value, etag=etag)
        return system_config_pb2.SetSystemConfigRequest(settings=[setting])

    assert refusals(await ring.both(leverage("6"), leverage("7"))) == []
    etag = (await ring.send(system_config_pb2.GetSystemConfigRequest(key="altcoin_leverage"))).etag
    assert refusals(await ring.both(leverage("8", etag), leverage("9", etag))) == ["ETAG_MISMATCH"]
    one, two = (
        system_config_pb2.ImportConfigFileRequest(content=f'{{"max_drawdown": {value}}}'.encode()) for value in (11, 12)
    )
    assert refusals(await ring.both(one, two)) == []


async def new_trader(ring: Ring, user: str) -> traders_pb2.CreateTraderRequest:
    """A request for a trader whose model and exchange are there."""
    model, exchange = await ring.model(user), await ring.exchange(user)
    return trader_request(user, model.id, exchange.id, ring.new("trader"))
