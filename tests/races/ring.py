"""Two servers over one PostgreSQL, and a way to have them write at the very same moment.

A third session holds the row that every write waits at, until both servers wait for it with all that they looked at
before behind them.  What a write decides before it holds that row would go wrong here every time, not now and then.
"""

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import Any

import grpc
import psycopg
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from pyotp import TOTP

from nofx_grpc.v1 import exchanges_pb2, models_pb2, traders_pb2, users_pb2
from tests.support.processes import ServerProcess
from tests.support.rpcs import METHODS, call_raw
from tests.support.service import Client, refusal_of

PASSWORD = "correct horse"  # test data
# Not pg_stat_activity, which stays as it was within a transaction.
_WAITING = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
_PATIENCE_SECONDS = 2.0
_NUMBERS = itertools.count(1)

Outcome = Message | str
_BY_REQUEST = {method.input_type.full_name: method for method in METHODS.values()}


@dataclass
class Ring:
    """Where two callers meet: a client of each server, as admin, and the database behind them."""

    servers: tuple[ServerProcess, ServerProcess]
    database: "psycopg.Connection[Any]"
    clients: list[Client] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clients = [Client(server.address, server.token("admin")) for server in self.servers]

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self.clients))

    def new(self, prefix: str) -> str:
        """A name that nothing has yet."""
        return f"{prefix}-{next(_NUMBERS)}"

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.database.execute(sql.encode(), parameters or None).fetchall()

    async def send(self, request: Message, at: int = 0) -> Any:
        """Make the call that takes this request, at one of the servers."""
        method = _BY_REQUEST[request.DESCRIPTOR.full_name]
        answer = GetMessageClass(method.output_type)
        return answer.FromString(await call_raw(self.clients[at], method, request.SerializeToString()))

    async def both(self, first: Message, second: Message | None = None) -> tuple[Outcome, Outcome]:
        """Send one request to each server, at the same moment: what each was answered, or the reason of its refusal."""
        with self.database.transaction():
            self.database.execute("SELECT revision FROM store_state FOR UPDATE")
            outcomes = [
                asyncio.ensure_future(self._outcome(first, 0)),
                asyncio.ensure_future(self._outcome(first if second is None else second, 1)),
            ]
            await self._until_both_wait(outcomes)
        one, two = await asyncio.gather(*outcomes)
        return one, two

    async def _outcome(self, request: Message, at: int) -> Outcome:
        try:
            answer: Message = await self.send(request, at)
        except grpc.aio.AioRpcError as error:
            return refusal_of(error).reason
        return answer

    async def _until_both_wait(self, outcomes: "list[asyncio.Task[Outcome]]") -> None:
        """Wait until each has reached the row, or is refused before it."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < end:
            waiting = self.rows(_WAITING)[0][0]
            if waiting + sum(outcome.done() for outcome in outcomes) >= len(outcomes):
                return
            await asyncio.sleep(0.01)

    # ---- what races begin with

    async def user(self) -> str:
        id = self.new("user")
        await self.send(users_pb2.CreateUserRequest(user=users_pb2.User(email=f"{id}@example.com"), user_id=id))
        return id

    async def exchange(self, user_id: str) -> exchanges_pb2.Exchange:
        exchange = exchanges_pb2.Exchange(name="X", type="cex", api_key="test")
        request = exchanges_pb2.CreateExchangeRequest(user_id=user_id, exchange_id=self.new("x"), exchange=exchange)
        made: exchanges_pb2.Exchange = await self.send(request)
        return made

    async def model(self, user_id: str) -> models_pb2.Model:
        model = models_pb2.Model(name="M", provider="deepseek", api_key="test")
        made: models_pb2.Model = await self.send(models_pb2.CreateModelRequest(user_id=user_id, model=model))
        return made

    async def trader(self, user_id: str) -> traders_pb2.Trader:
        model, exchange = await self.model(user_id), await self.exchange(user_id)
        made: traders_pb2.Trader = await self.send(trader_request(user_id, model.id, exchange.id, self.new("trader")))
        return made

    async def registered(self, *, complete: bool = True) -> "Registered":
        """Somebody who has registered; `complete`: and can log in."""
        email = self.new("person") + "@example.com"
        request = users_pb2.RegisterUserRequest(email=email, password=PASSWORD)
        answer = await self.send(request)
        person = Registered(answer.user.id, email, answer.otp_secret)
        if complete:
            await self.send(person.completion(step=-1))
        return person


@dataclass(frozen=True)
class Registered:
    """Somebody with the authenticator app in hand."""

    id: str
    email: str
    secret: str

    def code(self, step: int) -> str:
        """The code of a step from now.  Codes are taken a step early or late, each once, and none before the last."""
        return TOTP(self.secret).at(int(time.time()), counter_offset=step)

    def completion(self, step: int) -> users_pb2.CompleteRegistrationRequest:
        return users_pb2.CompleteRegistrationRequest(user_id=self.id, otp_code=self.code(step))


def trader_request(user_id: str, model_id: str, exchange_id: str, id: str) -> traders_pb2.CreateTraderRequest:
    trader = traders_pb2.Trader(name="T", ai_model_id=model_id, exchange_id=exchange_id, initial_balance=1000)
    return traders_pb2.CreateTraderRequest(user_id=user_id, trader=trader, trader_id=id)


def refusals(outcomes: tuple[Outcome, Outcome]) -> list[str]:
    return sorted(outcome for outcome in outcomes if isinstance(outcome, str))
