"""The service Traders: the standing orders of AI agents, and what an engine needs in order to run one."""

import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing
from dataclasses import replace
from typing import Any

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.services import trader_configs
from nofx_grpc.services.call import Call
from nofx_grpc.services.config_keys import risk_settings
from nofx_grpc.services.config_streams import Batch, ConfigStream, Selection
from nofx_grpc.services.convert import join_symbols, split_symbols
from nofx_grpc.services.decision_keeping import DecisionKeeping
from nofx_grpc.services.feed import Feed
from nofx_grpc.services.fields import ResourceFields
from nofx_grpc.services.pages import Pages
from nofx_grpc.services.templates import check_may_write
from nofx_grpc.services.trader_configs import trader_to_proto
from nofx_grpc.services.watch import check_start, start_revision
from nofx_grpc.store import system_config, traders
from nofx_grpc.store.engine import Connection
from nofx_grpc.store.resources import UNWRITTEN
from nofx_grpc.store.traders import Trader
from nofx_grpc.v1 import common_pb2
from nofx_grpc.v1 import traders_pb2 as pb

FIELDS = ResourceFields(
    "trader",
    pb.Trader.DESCRIPTOR,
    required=("name", "ai_model_id", "exchange_id", "initial_balance"),
    defaults={
        "scan_interval_minutes": 3,
        "btc_eth_leverage": 5,
        "altcoin_leverage": 5,
        "trading_symbols": (),
        "use_coin_pool": False,
        "use_oi_top": False,
        "custom_prompt": "",
        "override_base_prompt": False,
        "system_prompt_template": "default",
        "is_cross_margin": True,
        "use_default_coins": True,
        "custom_coins": (),
    },
)


class Traders:
    """Creates, reads, changes and deletes traders; starts and stops them; answers their complete configurations."""

    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Traders"]

    def __init__(self, envelope: Envelope, pages: Pages, feed: Feed, decisions: DecisionKeeping) -> None:
        self._envelope, self._pages, self._feed, self._decisions = envelope, pages, feed, decisions

    async def CreateTrader(self, request: pb.CreateTraderRequest, call: Call) -> pb.Trader:
        check_may_write(call, request.user_id)
        if request.trader_id:
            call.require(common_pb2.PERMISSION_ADMIN, "choosing the id of a trader")
        draft = _draft(request.user_id, request.trader_id or str(uuid.uuid4()), request.trader)
        return await call.write(trader_to_proto, traders.create, draft)

    async def GetTrader(self, request: pb.GetTraderRequest, call: Call) -> pb.Trader:
        return await call.get(trader_to_proto, traders.resource.get, request.user_id, request.id)

    async def ListTraders(self, request: pb.ListTradersRequest, call: Call) -> pb.ListTradersResponse:
        return await self._pages.answer(request, call, traders.resource, trader_to_proto, pb.ListTradersResponse)

    async def UpdateTrader(self, request: pb.UpdateTraderRequest, call: Call) -> pb.Trader:
        message = request.trader
        check_may_write(call, message.user_id)
        changes = _stored(FIELDS.for_update(message, request.update_mask))

        def draft() -> Trader:
            call.require(common_pb2.PERMISSION_ADMIN, "creating a trader under a chosen id")
            return _draft(message.user_id, message.id, message)

        return await call.write(
            trader_to_proto,
            traders.update,
            (message.user_id, message.id),
            message.etag,
            lambda current: replace(current, **changes),
            draft if request.allow_missing else None,
        )

    async def DeleteTrader(self, request: pb.DeleteTraderRequest, call: Call) -> pb.DeleteTraderResponse:
        check_may_write(call, request.user_id)
        return await call.write(
            lambda _: pb.DeleteTraderResponse(),
            traders.delete,
            (request.user_id, request.id),
            request.etag,
            await self._decisions.claims([request.id]),
            allow_missing=request.allow_missing,
        )

    async def StartTrader(self, request: pb.StartTraderRequest, call: Call) -> pb.Trader:
        check_may_write(call, request.user_id)
        return await self._set_running(request.user_id, request.id, call, running=True)

    async def StopTrader(self, request: pb.StopTraderRequest, call: Call) -> pb.Trader:
        return await self._set_running(request.user_id, request.id, call, running=False)

    async def ListTradingSymbols(
        self, request: pb.ListTradingSymbolsRequest, call: Call
    ) -> pb.ListTradingSymbolsResponse:
        page = self._pages.open(request, call)

        def to_response(symbols: list[str]) -> pb.ListTradingSymbolsResponse:
            rest = [symbol for symbol in symbols if not page.after or symbol > page.after[0]]
            shown = rest[: page.size]
            token = self._pages.token(request, call, (shown[-1],)) if len(rest) > len(shown) else ""
            return pb.ListTradingSymbolsResponse(symbols=shown, next_page_token=token)

        return await call.scan(to_response, _trading_symbols, request.user_id)

    async def GetTraderConfig(self, request: pb.GetTraderConfigRequest, call: Call) -> pb.TraderConfig:
        return await call.reveal(
            lambda prepared: trader_configs.to_proto(self._envelope, prepared),
            trader_configs.prepare,
            request.user_id,
            request.trader_id,
        )

    async def StreamTraderConfigs(
        self, request: pb.StreamTraderConfigsRequest, call: Call
    ) -> AsyncIterator[pb.StreamTraderConfigsResponse]:
        start = await call.db.latest()
        stream = ConfigStream(call, self._envelope, Selection(request.user_id, request.runnable_only))
        with self._feed.holding(start):
            for part in (stream.initial(start), stream.settle()):
                async for configs, removed, revision in part:
                    yield pb.StreamTraderConfigsResponse(
                        revision=revision, history_id=stream.history_id, configs=configs, removed=removed
                    )

    async def WatchTraderConfigs(
        self, request: pb.WatchTraderConfigsRequest, call: Call
    ) -> AsyncIterator[pb.WatchTraderConfigsResponse]:
        start = request.start_revision if request.HasField("start_revision") else None
        check_start(start, request.history_id)
        revision = await start_revision(call.db, start, request.history_id)
        stream = ConfigStream(call, self._envelope, Selection(request.user_id, request.runnable_only))

        def response(batch: Batch) -> pb.WatchTraderConfigsResponse:
            configs, removed, revision = batch
            return pb.WatchTraderConfigsResponse(
                revision=revision, history_id=stream.history_id, configs=configs, removed=removed
            )

        with ExitStack() as held:
            if start is None:
                held.enter_context(self._feed.holding(revision))
                async for batch in stream.initial(revision):
                    yield response(batch)
            else:
                stream.resume(start)
            synced = False
            async with aclosing(stream.follow(self._feed)) as batches:
                async for batch in batches:
                    message = response(batch)
                    message.synced = bool(batch.revision) and not synced
                    synced = synced or message.synced
                    yield message
                    if message.synced:
                        held.close()

    async def _set_running(self, user_id: str, id: str, call: Call, *, running: bool) -> pb.Trader:
        return await call.write(
            trader_to_proto,
            traders.resource.update,
            (user_id, id),
            "",
            lambda current: replace(current, is_running=running),
        )


def _draft(user_id: str, id: str, message: pb.Trader) -> Trader:
    return Trader(id=id, user_id=user_id, is_running=False, **_stored(FIELDS.for_create(message)), **UNWRITTEN)


def _stored(values: dict[str, Any]) -> dict[str, Any]:
    """The values as the store keeps them: lists of symbols as text."""
    return {name: join_symbols(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _trading_symbols(connection: Connection, user_id: str) -> list[str]:
    """Every symbol that the traders of a user, or of all users, need data for; the default coins if there is none."""
    symbols = {symbol for text in traders.symbol_lists(connection, user_id) for symbol in split_symbols(text)}
    if not symbols:
        entry = system_config.resource.find(connection, "default_coins")
        symbols = set(risk_settings({"default_coins": entry.value} if entry else {}).default_coins)
    return sorted(symbols)
