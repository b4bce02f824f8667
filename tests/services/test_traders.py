"""Traders over a real server: create, read, change, delete, start, stop, symbols."""

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from nofx_grpc.v1 import traders_pb2 as pb
from tests.support.clock import FakeClock
from tests.support.rows import USER, make_exchange, make_model, make_trader
from tests.support.service import RunningService, refused

Code = grpc.StatusCode


async def update(service: RunningService, id: str, *paths: str, etag: str = "", **fields: Any) -> pb.Trader:
    trader = pb.Trader(user_id=USER, id=id, etag=etag, **fields)
    request = pb.UpdateTraderRequest(trader=trader, update_mask=FieldMask(paths=paths))
    return await service.client("gateway").traders.UpdateTrader(request)


async def get(service: RunningService, id: str) -> pb.Trader:
    return await service.client("viewer").traders.GetTrader(pb.GetTraderRequest(user_id=USER, id=id))


async def test_a_new_trader_has_the_defaults_and_is_stopped(service: RunningService) -> None:
    created = await make_trader(service)
    assert await get(service, created.id) == created
    assert (created.scan_interval_minutes, created.btc_eth_leverage, created.altcoin_leverage) == (3, 5, 5)
    assert created.is_cross_margin and created.use_default_coins and not created.is_running
    assert created.system_prompt_template == "default" and created.initial_balance == 1000.5


async def test_symbols_are_normalised_and_kept_once_in_their_order(service: RunningService) -> None:
    created = await make_trader(service, trading_symbols=["sol", " BTCUSDT ", "solusdt"], custom_coins=["doge"])
    assert list(created.trading_symbols) == ["SOLUSDT", "BTCUSDT"]
    assert list(created.custom_coins) == ["DOGEUSDT"]


async def test_an_update_changes_what_the_mask_names_and_nothing_else(
    service: RunningService, clock: FakeClock
) -> None:
    created = await make_trader(service, custom_prompt="keep", trading_symbols=["BTC"])
    clock.advance(seconds=5)
    updated = await update(service, created.id, "name", "trading_symbols", name="New", custom_prompt="ignored")
    expected = pb.Trader()
    expected.CopyFrom(created)
    expected.name = "New"
    expected.ClearField("trading_symbols")
    expected.etag, expected.revision = updated.etag, created.revision + 1
    expected.update_time.CopyFrom(updated.update_time)
    assert updated == expected
    assert updated.update_time.ToDatetime() > created.update_time.ToDatetime() and updated.etag != created.etag


async def test_an_update_that_changes_nothing_takes_no_revision(service: RunningService) -> None:
    created = await make_trader(service)
    assert await update(service, created.id, "name", name=created.name) == created


@pytest.mark.parametrize(
    ("path", "description"),
    [
        ("*", "'*' is not accepted"),
        ("is_running", "'is_running' is not a field that can be set: expected some of name, ai_model_id"),
        ("no_such_field", "'no_such_field' is not a field that can be set"),
        ("user_id", "'user_id' is not a field that can be set"),
    ],
)
async def test_a_mask_may_name_settable_fields_only(service: RunningService, path: str, description: str) -> None:
    created = await make_trader(service)
    refusal = await refused(update(service, created.id, path, name="x"), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert refusal.violations["update_mask"].startswith(description)
    assert await get(service, created.id) == created


async def test_a_required_field_cannot_be_cleared(service: RunningService) -> None:
    created = await make_trader(service)
    refusal = await refused(update(service, created.id, "name"), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert "cannot be cleared" in refusal.violations["trader.name"]


async def test_a_stale_etag_is_refused_and_writes_nothing(service: RunningService) -> None:
    created = await make_trader(service)
    newer = await update(service, created.id, "name", name="second")
    call = update(service, created.id, "name", etag=created.etag, name="third")
    refusal = await refused(call, Code.ABORTED, "ETAG_MISMATCH")
    assert created.id in refusal.text
    assert await get(service, created.id) == newer


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("btc_eth_leverage", 0),
        ("btc_eth_leverage", 126),
        ("altcoin_leverage", -1),
        ("scan_interval_minutes", 0),
        ("initial_balance", -0.01),
        ("initial_balance", float("nan")),
        ("initial_balance", float("inf")),
        ("name", ""),
        ("custom_prompt", "a\0b"),
        ("trading_symbols", ["BTC,ETH"]),
    ],
)
async def test_a_value_out_of_range_is_refused_by_name(service: RunningService, field: str, value: Any) -> None:
    created = await make_trader(service)
    refusal = await refused(
        update(service, created.id, field, **{field: value}), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT"
    )
    assert any(name.startswith(f"trader.{field}") for name in refusal.violations), refusal.violations
    assert await get(service, created.id) == created


async def test_a_new_trader_needs_its_required_fields(service: RunningService) -> None:
    request = pb.CreateTraderRequest(user_id=USER, trader=pb.Trader(name="x"))
    refusal = await refused(service.client().traders.CreateTrader(request), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert set(refusal.violations) == {"trader.ai_model_id", "trader.exchange_id", "trader.initial_balance"}


async def test_a_trader_uses_its_own_users_model_and_exchange_only(service: RunningService) -> None:
    model, exchange = await make_model(service), await make_exchange(service)
    for fields, kind in (({"ai_model_id": "nobody's"}, "model"), ({"exchange_id": "nobody's"}, "exchange")):
        values = {"ai_model_id": model.id, "exchange_id": exchange.id} | fields
        refusal = await refused(make_trader(service, **values), Code.NOT_FOUND, "NOT_FOUND")
        assert refusal.metadata == {"kind": kind, "id": "nobody's"}
    trader = await make_trader(service, ai_model_id=model.id, exchange_id=exchange.id)
    await refused(update(service, trader.id, "exchange_id", exchange_id="nobody's"), Code.NOT_FOUND, "NOT_FOUND")
    assert (await get(service, trader.id)).exchange_id == exchange.id


async def test_a_user_that_does_not_exist_gets_no_trader(service: RunningService) -> None:
    request = pb.CreateTraderRequest(
        user_id="nobody", trader=pb.Trader(name="x", ai_model_id="m", exchange_id="e", initial_balance=1)
    )
    refusal = await refused(service.client().traders.CreateTrader(request), Code.NOT_FOUND, "NOT_FOUND")
    assert refusal.metadata == {"kind": "user", "id": "nobody"}


async def test_only_admin_chooses_the_id(service: RunningService) -> None:
    made = await make_trader(service)
    trader = pb.Trader(name="x", ai_model_id=made.ai_model_id, exchange_id=made.exchange_id, initial_balance=1)
    request = pb.CreateTraderRequest(user_id=USER, trader_id="binance/1 x", trader=trader)
    refusal = await refused(
        service.client("gateway").traders.CreateTrader(request), Code.PERMISSION_DENIED, "PERMISSION_DENIED"
    )
    assert refusal.text == "choosing the id of a trader needs the permission ADMIN"
    assert (await service.client().traders.CreateTrader(request)).id == "binance/1 x"
    await refused(service.client().traders.CreateTrader(request), Code.ALREADY_EXISTS, "ALREADY_EXISTS")


async def test_allow_missing_creates_for_admin_only(service: RunningService) -> None:
    made = await make_trader(service)
    fields: dict[str, Any] = {
        "name": "x",
        "ai_model_id": made.ai_model_id,
        "exchange_id": made.exchange_id,
        "initial_balance": 1,
    }
    request = pb.UpdateTraderRequest(trader=pb.Trader(user_id=USER, id="mine", **fields), allow_missing=True)
    await refused(service.client("gateway").traders.UpdateTrader(request), Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert (await service.client().traders.UpdateTrader(request)).id == "mine"
    request.allow_missing = False
    request.trader.id = "other"
    await refused(service.client().traders.UpdateTrader(request), Code.NOT_FOUND, "NOT_FOUND")


async def test_start_and_stop_are_idempotent(service: RunningService) -> None:
    created = await make_trader(service)
    engine = service.client("engine").traders
    started = await engine.StartTrader(pb.StartTraderRequest(user_id=USER, id=created.id))
    again = await engine.StartTrader(pb.StartTraderRequest(user_id=USER, id=created.id))
    assert started.is_running and again == started and started.revision == created.revision + 1
    stopped = await engine.StopTrader(pb.StopTraderRequest(user_id=USER, id=created.id))
    assert not stopped.is_running and stopped.revision == started.revision + 1
    await refused(engine.StartTrader(pb.StartTraderRequest(user_id=USER, id="no")), Code.NOT_FOUND, "NOT_FOUND")


async def test_delete_takes_the_trader_and_frees_its_exchange(service: RunningService) -> None:
    created = await make_trader(service)
    admin = service.client()
    request = pb.DeleteTraderRequest(user_id=USER, id=created.id, etag="stale")
    await refused(admin.traders.DeleteTrader(request), Code.ABORTED, "ETAG_MISMATCH")
    request.etag = created.etag
    await admin.traders.DeleteTrader(request)
    await refused(get(service, created.id), Code.NOT_FOUND, "NOT_FOUND")
    await refused(admin.traders.DeleteTrader(request), Code.NOT_FOUND, "NOT_FOUND")
    request.allow_missing = True
    await admin.traders.DeleteTrader(request)


async def test_symbols_of_all_traders_or_else_the_default_coins(service: RunningService) -> None:
    engine = service.client("engine").traders
    defaults = (await engine.ListTradingSymbols(pb.ListTradingSymbolsRequest())).symbols
    assert "BTCUSDT" in defaults and list(defaults) == sorted(defaults)
    made = await make_trader(service, trading_symbols=["sol", "btc"], custom_coins=["doge"])
    await make_trader(service, ai_model_id=made.ai_model_id, exchange_id=made.exchange_id, custom_coins=["SOL"])
    symbols = (await engine.ListTradingSymbols(pb.ListTradingSymbolsRequest())).symbols
    assert list(symbols) == ["BTCUSDT", "DOGEUSDT", "SOLUSDT"]


async def test_symbols_come_in_pages(service: RunningService) -> None:
    await make_trader(service, trading_symbols=["a", "b", "c"])
    engine, request, found = service.client("engine").traders, pb.ListTradingSymbolsRequest(page_size=2), list[str]()
    while True:
        page = await engine.ListTradingSymbols(request)
        found += page.symbols
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert found == ["AUSDT", "BUSDT", "CUSDT"]


@pytest.mark.parametrize(
    ("role", "rpc", "request_message"),
    [
        ("engine", "CreateTrader", pb.CreateTraderRequest()),
        ("viewer", "CreateTrader", pb.CreateTraderRequest()),
        ("engine", "UpdateTrader", pb.UpdateTraderRequest()),
        ("viewer", "DeleteTrader", pb.DeleteTraderRequest()),
        ("viewer", "StartTrader", pb.StartTraderRequest()),
        ("viewer", "StopTrader", pb.StopTraderRequest()),
        ("gateway", "GetTraderConfig", pb.GetTraderConfigRequest()),
        ("viewer", "GetTraderConfig", pb.GetTraderConfigRequest()),
        ("admin", "GetTraderConfig", pb.GetTraderConfigRequest()),
    ],
)
async def test_the_wrong_role_is_refused_before_the_request_is_looked_at(
    service: RunningService, role: str, rpc: str, request_message: Any
) -> None:
    call = getattr(service.client(role).traders, rpc)(request_message)
    await refused(call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    (outcome, method, principal) = (await service.rows("SELECT outcome, method, principal FROM audit_log"))[-1]
    assert (outcome, method, principal) == ("DENIED", f"/nofx_grpc.v1.Traders/{rpc}", f"token:bootstrap-{role}")
