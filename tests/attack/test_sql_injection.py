"""Texts are values and nothing else: whatever one says, it finds itself only, and comes back as it was stored."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from nofx_grpc.v1 import decision_logs_pb2, exchanges_pb2, traders_pb2
from tests.attack.texts import ODD, SQL
from tests.support.rows import USER, make_exchange, make_signal_source, make_trader
from tests.support.rpcs import METHODS, path_of, permission_of
from tests.support.service import Client, RunningService

Code = grpc.StatusCode
VICTIM = "victim-5a1e"
MORE = (
    "' OR ''='",
    "\u2019 OR 1=1 --",
    "\uff07 OR 1=1",
    "ａlice",
    "ALICE",
    "alice\u200b",
    "alice ",
    "\\",
    '"',
    "`",
    "%lice",
    "_lice",
    "alice'||'",
    "$1",
    "?",
    ":a",
)
TEXTS = [text for text in dict.fromkeys((*SQL, *MORE, *ODD)) if 0 < len(text.encode()) <= 256 and "\0" not in text]
# Reads, and deletes, are asked for what is not there.  Creates and updates would make it.
ASKING = ("Get", "List", "Delete", "Access", "Validate", "Analyze", "Stream")


def texts_of(method: MethodDescriptor) -> list[str]:
    """The request's fields that are texts."""
    fields = method.input_type.fields
    return [f.name for f in fields if f.type == FieldDescriptor.TYPE_STRING and not f.is_repeated]


ASKED = [name for name, method in METHODS.items() if name.split(".")[1].startswith(ASKING) and texts_of(method)]


async def ask(clients: dict[str, Client], name: str, request: Message) -> bytes:
    """The answer, or what is said of a refusal, which must be one that the request explains."""
    method = METHODS[name]
    role = "engine" if permission_of(method) == "REVEAL" else "admin"
    channel: Any = clients[role].channel
    raw = request.SerializeToString()
    try:
        if method.server_streaming:
            return b"".join([answer async for answer in channel.unary_stream(path_of(method))(raw)])
        return bytes(await channel.unary_unary(path_of(method))(raw))
    except grpc.aio.AioRpcError as error:
        assert error.code() in {Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.PERMISSION_DENIED}, error
        return (error.details() or "").encode()


@pytest.fixture
async def furnished(service: RunningService) -> RunningService:
    """Of each kind something, of a user whom no text is to find."""
    exchange = await make_exchange(service, name=VICTIM)
    trader = await make_trader(service, name=VICTIM, exchange_id=exchange.id)
    await make_signal_source(service)
    decision = decision_logs_pb2.Decision(trader_id=trader.id, cot_trace=VICTIM)
    request = decision_logs_pb2.AppendDecisionRequest(user_id=USER, trader_id=trader.id, decision=decision)
    await service.client("engine").decision_logs.AppendDecision(request)
    return service


async def test_a_text_finds_nothing_but_itself(furnished: RunningService) -> None:
    """Each field that is a text of each rpc that asks for something, and all of them together."""
    clients = {role: furnished.client(role) for role in ("admin", "engine")}
    before, asked = await furnished.contents(), 0
    for name in ASKED:
        names = texts_of(METHODS[name])
        for fields in {(one,) for one in names} | {tuple(names)}:
            requests = [GetMessageClass(METHODS[name].input_type)(**dict.fromkeys(fields, text)) for text in TEXTS]
            for answer, request in zip(
                await asyncio.gather(*(ask(clients, name, request) for request in requests)), requests, strict=True
            ):
                assert VICTIM.encode() not in answer, (name, request)
            asked += len(requests)
    print(f"{asked} requests of {len(ASKED)} rpcs")
    assert await furnished.contents() == before


async def test_a_text_that_is_stored_is_itself(furnished: RunningService) -> None:
    """As an id it is found, changed and deleted alone; as a name it comes back as it was."""
    exchanges, traders = furnished.client().exchanges, furnished.client().traders
    ids = [text for text in TEXTS if text.isprintable() and text.strip() == text]
    for id in ids:
        exchange = exchanges_pb2.Exchange(name=id, type="cex", api_key=id)
        await exchanges.CreateExchange(
            exchanges_pb2.CreateExchangeRequest(user_id=USER, exchange_id=id, exchange=exchange)
        )
    listed = await exchanges.ListExchanges(exchanges_pb2.ListExchangesRequest(user_id=USER, page_size=1000))
    assert {found.id: found.name for found in listed.exchanges} == {"okx": VICTIM} | {id: id for id in ids}
    (trader,) = (await traders.ListTraders(traders_pb2.ListTradersRequest(user_id=USER))).traders
    for id in ids:
        request = exchanges_pb2.AccessExchangeCredentialsRequest(user_id=USER, id=id)
        revealed = await furnished.client("engine").exchanges.AccessExchangeCredentials(request)
        assert revealed.credentials.api_key == id
        changed = traders_pb2.Trader(user_id=USER, id=trader.id, name=id, custom_prompt=id)
        updated = await traders.UpdateTrader(traders_pb2.UpdateTraderRequest(trader=changed))
        assert (updated.name, updated.custom_prompt) == (id, id)
    for number, id in enumerate(ids):
        await exchanges.DeleteExchange(exchanges_pb2.DeleteExchangeRequest(user_id=USER, id=id))
        ((left,),) = await furnished.rows("SELECT COUNT(*) FROM exchanges WHERE user_id = ?", USER)
        assert left == len(ids) - number, f"{id!r} has deleted itself"
