"""A server process with a few things in it, and secrets that must not come out of it."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message_factory import GetMessageClass

from nofx_grpc.v1 import exchanges_pb2, models_pb2, signal_sources_pb2, traders_pb2, users_pb2
from tests.attack.inputs import HIDDEN, ROLES
from tests.support.leaks import forms
from tests.support.processes import ServerProcess, environment, serving
from tests.support.rpcs import METHODS, path_of

# Test data, not a secret: a word that nothing else holds. It belongs to a user of whom no input knows.
WORD = "canary-4d1f9a7c"
URL = f"https://u:{WORD}-url@pool.example.com/list?auth={WORD}-query"
# Long runs would be about waiting otherwise: a login takes no longer than it must, a revision is not waited for.
QUICK = {"login_floor_ms": "0", "min_revision_wait_seconds": "0.01", "log_format": "json", "log_level": "info"}


@dataclass
class Scene:
    """The server, and how it is asked."""

    server: ServerProcess

    async def call(self, name: str, request: Any, role: str = "admin") -> Any:
        """One answer, over a connection of its own."""
        async with self.server.channel() as channel:
            method = METHODS[name]
            send: Any = channel.unary_unary(path_of(method), request_serializer=_bytes_of)
            answer: Any = await send(request, metadata=self.server.authorization(role), timeout=30)
            return GetMessageClass(method.output_type).FromString(answer)

    async def revealed(self) -> traders_pb2.TraderConfig:
        """The whole configuration of the hidden trader, as an engine gets it: a good client is served."""
        request = traders_pb2.GetTraderConfigRequest(user_id=HIDDEN, trader_id=id_of(HIDDEN))
        config: traders_pb2.TraderConfig = await self.call("Traders.GetTraderConfig", request, "engine")
        return config

    def resident_kib(self) -> int:
        """The memory that the server process holds."""
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0])

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.server.process.pid}/fd").iterdir()))

    def alive(self) -> bool:
        return self.server.process.poll() is None

    def log_lines(self) -> list[dict[str, Any]]:
        """The log.  Raises ValueError if a line of it is not one JSON object."""
        lines = [json.loads(line) for line in self.server.log.read_text().split("\n") if line]
        assert all(isinstance(line, dict) and "event" in line for line in lines)
        return lines


@contextmanager
def scene(tmp_path: Path, **settings: str) -> Iterator[Scene]:
    with serving(environment(tmp_path / "data", **QUICK | settings), tmp_path / "log") as server:
        yield Scene(server)


async def furnish(scene: Scene) -> None:
    """Give the users `default`, `ann` and the hidden one a model, an exchange, a signal source and a trader each."""
    for user_id in ("default", "ann", HIDDEN):
        word = WORD if user_id == HIDDEN else "word"
        if user_id != "default":
            user = users_pb2.User(email=f"{user_id}@example.com")
            await scene.call("Users.CreateUser", users_pb2.CreateUserRequest(user_id=user_id, user=user))
        keys = {name: f"{word}-{name}" for name in ("api_key", "secret_key", "aster_private_key")}
        exchange = exchanges_pb2.Exchange(name="E", type="cex", enabled=True, **keys)  # type: ignore[arg-type]  # names of fields
        model = models_pb2.Model(name="M", provider="qwen", enabled=True, api_key=f"{word}-model", custom_api_url=URL)
        source = signal_sources_pb2.SignalSource(user_id=user_id, coin_pool_url=URL, oi_top_url=URL)
        trader = traders_pb2.Trader(name="T", ai_model_id=id_of(user_id), exchange_id="one", initial_balance=1)
        requests = {
            "Exchanges.CreateExchange": {"exchange_id": "one", "exchange": exchange},
            "Models.CreateModel": {"model_id": id_of(user_id), "model": model},
            "Traders.CreateTrader": {"trader_id": id_of(user_id), "trader": trader},
        }
        for name, fields in requests.items():
            await scene.call(name, GetMessageClass(METHODS[name].input_type)(user_id=user_id, **fields))
        set_source = signal_sources_pb2.SetSignalSourceRequest(signal_source=source)
        await scene.call("SignalSources.SetSignalSource", set_source)


def id_of(user_id: str) -> str:
    """The id of the user's model and trader."""
    return f"of-{user_id}"


def secrets_of(scene: Scene) -> "re.Pattern[bytes]":
    """What finds a secret of the hidden user, or of the server itself, in any form."""
    own = [scene.server.token(role).strip() for role in ROLES]
    own.append((scene.server.data_dir / "master.key").read_text().strip())
    return re.compile(b"|".join(re.escape(form) for text in (WORD, *own) for form in forms(text).values()))


def _bytes_of(message: Any) -> bytes:
    return bytes(message.SerializeToString())
