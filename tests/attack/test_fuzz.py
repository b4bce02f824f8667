"""A server that is sent junk stays up, tells nothing of its insides, and lets no secret out; `make attack` for long.

ATTACK_INPUTS says how many inputs are sent, ATTACK_SEED repeats the inputs of a run: one server, every rpc, every role.
ATTACK_EXAMPLES says how many hypothesis makes, each by itself: of one that breaks something it shows the smallest.
"""

import os
import random
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.attack.fuzzing import Caller, Fuzz
from tests.attack.inputs import ROLES, Inputs
from tests.attack.scene import Scene, furnish, scene, secrets_of
from tests.support.rpcs import METHODS

EXAMPLES = int(os.environ.get("ATTACK_EXAMPLES", "150"))
INPUTS = int(os.environ.get("ATTACK_INPUTS", "3000"))
# What a server may hold more at the end than after the first tenth, when all caches are warm.
MOST_GROWTH_KIB = 96 * 1024
PARTS = 20

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120 + INPUTS // 20 + EXAMPLES)]


async def test_junk_breaks_nothing_and_gets_nothing(tmp_path: Path) -> None:
    seed, began = os.environ.get("ATTACK_SEED") or secrets.token_hex(4), time.monotonic()
    print(f"seed {seed}", flush=True)
    with scene(tmp_path) as place:
        await furnish(place)
        before, held = await place.revealed(), []
        inputs = Inputs({role: place.server.token(role).strip() for role in ROLES})
        fuzz = Fuzz(place.server.address, inputs, secrets_of(place), seed)
        for part in range(PARTS):
            await fuzz.send(INPUTS * part // PARTS, INPUTS * (part + 1) // PARTS)
            assert fuzz.findings == [], "\n".join(fuzz.findings)
            assert place.alive()
            held.append(place.resident_kib())
            print(f"{fuzz.total} inputs, {time.monotonic() - began:.0f} s, {held[-1]} KiB", flush=True)
        print(fuzz.told(time.monotonic() - began), flush=True)
        assert fuzz.total == INPUTS
        assert len(fuzz.methods) == len(METHODS) or INPUTS < 10_000, "every rpc was called"
        after = await place.revealed()
        assert after.exchange_credentials == before.exchange_credentials, "what no input named is as it was"
        assert after.trader == before.trader
        assert max(held[2:]) - held[1] < MOST_GROWTH_KIB, held
        lines = place.log_lines()
        assert [line for line in lines if line.get("level") in {"error", "critical"}] == []
        assert not secrets_of(place).search(place.server.log.read_bytes())
        assert place.server.stop() == 0


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Scene]:
    """One server for all examples."""
    with scene(tmp_path) as made:
        yield made


@pytest.fixture
def fuzz(place: Scene) -> Fuzz:
    inputs = Inputs({role: place.server.token(role).strip() for role in ROLES})
    return Fuzz(place.server.address, inputs, secrets_of(place), "hypothesis")


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(chance=st.randoms(use_true_random=False))
async def test_no_answer_is_without_an_explanation(place: Scene, fuzz: Fuzz, chance: random.Random) -> None:
    made = fuzz.inputs.make(chance)
    async with grpc.aio.insecure_channel(fuzz.address) as channel:
        assert fuzz.wrong_with(await Caller(channel).call(made), made) == ""
    assert place.alive()
