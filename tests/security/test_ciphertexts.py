"""A moved, truncated, bit-flipped or foreign-key ciphertext is never plaintext, and never handed out as it is.

Whoever can write to the database puts something else where a sealed value was; then everything is asked for that could
show it, over the wire.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nofx_grpc.crypto.envelope import Envelope, Location, is_sealed, stub
from nofx_grpc.crypto.keyring import Key, Keyring
from nofx_grpc.services.convert import header
from nofx_grpc.store.sealed import PLACES
from nofx_grpc.v1 import common_pb2, exchanges_pb2, signal_sources_pb2, system_config_pb2, traders_pb2
from tests.support.sealed import WORD, Scene, furnish
from tests.support.service import Client, RunningService, refused

Code = grpc.StatusCode
LONGEST_HARMLESS = 40  # of a text that may stand in an answer by chance, or as a URL that may be shown
EXAMPLES = int(os.environ.get("CIPHERTEXT_EXAMPLES", "60"))
# What a program would take for a sealed value, and what it would not.
PIECES = ("nofx1:", "ENC:v1:", ":", "", "0a1b2c3d", "https://pool.example.com/", "AAAA", "=")


@dataclass(frozen=True)
class Change:
    """What is done to a sealed text, by name, with two numbers and a text to do it with."""

    how: str
    at: int = 0
    by: int = 1
    text: str = ""

    def apply(self, sealed: str, others: list[str], foreign: str) -> str:
        at = self.at % len(sealed)
        parts = sealed.split(":", 4)
        return {
            "moved": others[self.at % len(others)],
            "foreign": foreign,
            "flipped": sealed[:at] + chr(ord(sealed[at]) ^ 1 << self.by % 7) + sealed[at + 1 :],
            "truncated": sealed[:at],
            "cut at the front": sealed[at:],
            "inserted": sealed[:at] + self.text + sealed[at:],
            "replaced": self.text,
            "header of another": ":".join((*others[self.by % len(others)].split(":", 4)[:3], *parts[3:])),
            "body of another": ":".join((*parts[:3], others[self.by % len(others)].split(":", 4)[3])),
            "other part": ":".join(
                self.text if number == self.by % len(parts) else p for number, p in enumerate(parts)
            ),
            "stub": stub(sealed),
            "twice": sealed + sealed,
            "other case": sealed.swapcase(),
        }[self.how]


HOWS = (
    "moved,foreign,flipped,truncated,cut at the front,inserted,replaced,header of another,body of another,"
    "other part,stub,twice,other case"
).split(",")
texts = st.lists(
    st.sampled_from(PIECES) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), max_size=6
).map("".join)
changes = st.builds(Change, st.sampled_from(HOWS), st.integers(0, 1000), st.integers(0, 1000), texts)


Clients = dict[str, Client]


@dataclass(frozen=True)
class Target:
    """A column of which one value is changed: how it is revealed, and what may be seen of it by anybody."""

    table: str
    column: str
    row: str
    reveal: Callable[[Clients, Scene], Awaitable[Message]]
    seen: Callable[[Clients, Scene], Awaitable[Message]]


def config(clients: Clients, scene: Scene) -> Awaitable[traders_pb2.TraderConfig]:
    request = traders_pb2.GetTraderConfigRequest(user_id=scene.user_id, trader_id=scene.trader_id)
    return clients["engine"].traders.GetTraderConfig(request)


TARGETS = {
    "exchange": Target(
        "exchanges",
        "api_key",
        "user_id = ?",
        lambda clients, scene: clients["engine"].exchanges.AccessExchangeCredentials(
            exchanges_pb2.AccessExchangeCredentialsRequest(user_id=scene.user_id, id="binance")
        ),
        lambda clients, scene: clients["viewer"].exchanges.ListExchanges(
            exchanges_pb2.ListExchangesRequest(user_id=scene.user_id)
        ),
    ),
    "URL of a signal source": Target(
        "user_signal_sources",
        "coin_pool_url",
        "user_id = ?",
        config,
        lambda clients, scene: clients["viewer"].signal_sources.GetSignalSource(
            signal_sources_pb2.GetSignalSourceRequest(user_id=scene.user_id)
        ),
    ),
    "JWT secret": Target(
        "system_config",
        "value",
        "key = 'jwt_secret' AND ? <> ''",
        lambda clients, scene: clients["gateway"].system_config.AccessSystemSecret(
            system_config_pb2.AccessSystemSecretRequest(key="jwt_secret")
        ),
        lambda clients, scene: clients["viewer"].system_config.ListSystemConfig(
            system_config_pb2.ListSystemConfigRequest()
        ),
    ),
}


@pytest.fixture
async def scene(service: RunningService) -> Scene:
    return await furnish(service)


@pytest.fixture
def clients(service: RunningService) -> Clients:
    """One of each role, for all examples."""
    return {role: service.client(role) for role in ("engine", "gateway", "viewer")}


async def put(service: RunningService, target: Target, scene: Scene, text: str) -> None:
    """Write past the service; what it remembers is dropped."""
    sql = f"UPDATE {target.table} SET {target.column} = ? WHERE {target.row}"  # noqa: S608  # names of ours
    await service.execute(sql, text, scene.user_id)
    await service.execute("UPDATE store_state SET revision = revision + 1")


async def sealed_texts(service: RunningService) -> list[str]:
    """Every sealed text of the store."""
    found = []
    for place in PLACES:
        for (value,) in await service.rows(f"SELECT {place.column.name} FROM {place.table.name}"):  # noqa: S608  # names of ours
            found += [value] if isinstance(value, str) and is_sealed(value) else []
    return found


def sealed_by_another(service: RunningService, where: Location, *, same_id: bool) -> str:
    """A secret sealed for this place by a key that is not ours; it may bear the id of ours."""
    ours = service.app.housekeeping.keys.keyring
    key = Key(ours.primary.id if same_id else "0badf00d", os.urandom(32))
    return Envelope(Keyring(key, {key.id: key}, ours.fingerprint, ours.audit, None)).seal(WORD, where)


def location(target: Target, scene: Scene) -> Location:
    user_id, row_id = ("", "jwt_secret") if target.table == "system_config" else (scene.user_id, "")
    return Location(target.table, target.column, user_id, "binance" if target.table == "exchanges" else row_id)


@pytest.mark.timeout(120 + EXAMPLES)
@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=changes, same_id=st.booleans())
@example(change=Change("moved"), same_id=True)
@example(change=Change("foreign"), same_id=True)
@example(change=Change("foreign"), same_id=False)
@example(change=Change("twice"), same_id=True)
@example(change=Change("replaced", text="ENC:v1:AAAAAAAAAAAAAAAA:BBBBBBBBBBBBBBBBBBBBBBBB"), same_id=True)
async def test_what_is_not_the_sealed_value_is_never_revealed_nor_shown(
    service: RunningService, clients: Clients, scene: Scene, name: str, change: Change, same_id: bool
) -> None:
    target = TARGETS[name]
    ((sealed,),) = await service.rows(f"SELECT {target.column} FROM {target.table} WHERE {target.row}", scene.user_id)  # noqa: S608  # names of ours
    others = sorted(set(await sealed_texts(service)) - {sealed})
    changed = change.apply(sealed, others, sealed_by_another(service, location(target, scene), same_id=same_id))
    if changed in {"", sealed}:  # no secret, or the right one
        return
    await put(service, target, scene, changed)
    try:
        assert_not_in(await revealed(clients, scene, target), changed)
        assert_not_in((await target.seen(clients, scene)).SerializeToString(), changed)
    finally:
        await put(service, target, scene, sealed)


async def revealed(clients: Clients, scene: Scene, target: Target) -> bytes:
    """What an attempt to reveal comes to: a refusal, or a configuration without any credential."""
    if target.reveal is not config:
        refusal = await refused(target.reveal(clients, scene), Code.DATA_LOSS, "SECRET_UNREADABLE")
        return f"{refusal.text} {refusal.metadata}".encode()
    found = await config(clients, scene)
    assert not found.runnable
    assert [blocker.type for blocker in found.blockers] == [common_pb2.BLOCKER_TYPE_SECRET_UNREADABLE]
    parts = (found.exchange_credentials, found.model_credentials, found.signal_source_credentials)
    assert [part.ByteSize() for part in parts] == [0, 0, 0]
    return found.SerializeToString()


def assert_not_in(answer: bytes, changed: str) -> None:
    """No secret, and no part of what was stored but what its writer has put where a URL may be shown."""
    assert WORD.encode() not in answer
    if shown := header(changed).shown:
        answer = answer.replace(shown.encode(), b"")
    for part in (changed, *changed.split(":")):
        if len(part) > LONGEST_HARMLESS:
            assert part.encode() not in answer, part
