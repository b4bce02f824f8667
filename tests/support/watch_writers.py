"""Those who write while others watch: every kind of resource is created, changed and deleted."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc

from nofx_grpc.v1 import (
    beta_codes_pb2,
    exchanges_pb2,
    models_pb2,
    signal_sources_pb2,
    system_config_pb2,
    users_pb2,
)
from tests.support.service import Client
from tests.support.watch_scene import Run


async def write(run: Run, until: Callable[[], object]) -> None:
    """Change something at random, again and again.  What is refused is no matter."""
    client = Client(run.place.address, run.place.token("admin"))
    try:
        while not until():
            try:
                await asyncio.wait_for(run.random.choice(STEPS)(run, client), 5)
                run.writes += 1
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                if not isinstance(error, grpc.aio.AioRpcError) or error.code() == grpc.StatusCode.UNAVAILABLE:
                    await client.close()
                    await asyncio.sleep(0.05)
                    client = Client(run.place.address, run.place.token("admin"))
    finally:
        await client.close()


def _user(run: Run) -> str:
    return run.random.choice(run.users)


async def _create_exchange(run: Run, client: Client) -> None:
    exchange = exchanges_pb2.Exchange(name="X", type="cex", api_key="k")
    id = f"x{run.random.randrange(6)}"
    request = exchanges_pb2.CreateExchangeRequest(user_id=_user(run), exchange_id=id, exchange=exchange)
    await client.exchanges.CreateExchange(request)


async def _update_exchange(run: Run, client: Client) -> None:
    exchange = exchanges_pb2.Exchange(
        user_id=_user(run), id=f"x{run.random.randrange(6)}", name=f"n{run.random.randrange(10**6)}"
    )
    await client.exchanges.UpdateExchange(exchanges_pb2.UpdateExchangeRequest(exchange=exchange))


async def _delete_exchange(run: Run, client: Client) -> None:
    request = exchanges_pb2.DeleteExchangeRequest(user_id=_user(run), id=f"x{run.random.randrange(6)}")
    await client.exchanges.DeleteExchange(request)


async def _create_model(run: Run, client: Client) -> None:
    model = models_pb2.Model(name="M", provider="qwen")
    await client.models.CreateModel(models_pb2.CreateModelRequest(user_id=_user(run), model=model))


async def _set_source(run: Run, client: Client) -> None:
    source = signal_sources_pb2.SignalSource(
        user_id=_user(run), coin_pool_url=f"http://example.com/{run.random.randrange(10**6)}"
    )
    await client.signal_sources.SetSignalSource(signal_sources_pb2.SetSignalSourceRequest(signal_source=source))


async def _set_config(run: Run, client: Client) -> None:
    """Two changes of one revision."""
    settings = [
        system_config_pb2.ConfigSetting(key=key, value=str(run.random.randrange(1, 90)))
        for key in ("max_daily_loss", "max_drawdown")
    ]
    await client.system_config.SetSystemConfig(system_config_pb2.SetSystemConfigRequest(settings=settings))


async def _make_codes(run: Run, client: Client) -> None:
    """Several changes of one revision."""
    await client.beta_codes.GenerateBetaCodes(beta_codes_pb2.GenerateBetaCodesRequest(count=run.random.randrange(1, 6)))


async def _replace_user(run: Run, client: Client) -> None:
    """A user goes with all that is theirs, and another one comes."""
    number = run.random.randrange(len(run.users))
    old = run.users[number]
    await client.users.DeleteUser(users_pb2.DeleteUserRequest(id=old, force=True, allow_missing=True))
    run.users[number] = await new_user(run, client)


async def new_user(run: Run, client: Client) -> str:
    email = f"{run.random.randrange(10**12)}@example.com"
    return (await client.users.CreateUser(users_pb2.CreateUserRequest(user=users_pb2.User(email=email)))).id


STEPS: list[Callable[[Run, Client], Awaitable[None]]] = [
    *[_create_exchange, _update_exchange, _delete_exchange] * 4,
    *[_create_model, _set_source, _set_config, _make_codes] * 2,
    _replace_user,
]
