"""A server that is sent junk stays up, tells nothing of its insides, and lets no secret out; `make attack` for long.

ATTACK_INPUTS says how many inputs are sent, ATTACK_SEED repeats the inputs of a run: one server, every rpc, every role.
"""

import os
import secrets
import time
from pathlib import Path

import pytest

from tests.attack.fuzzing import Fuzz
from tests.attack.inputs import ROLES, Inputs
from tests.attack.scene import furnish, scene, secrets_of
from tests.support.rpcs import METHODS

INPUTS = int(os.environ.get("ATTACK_INPUTS", "3000"))
# What a server may hold more at the end than after the first tenth, when all caches are warm.
MOST_GROWTH_KIB = 96 * 1024
PARTS = 20

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120 + INPUTS // 20)]


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
