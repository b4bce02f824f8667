"""Two servers of one database that share the directory of the decision logs."""

import asyncio

import pytest

from nofx_grpc.store.decisions import following
from nofx_grpc.store.decisions.looking import Look
from nofx_grpc.v1 import decision_logs_pb2 as pb
from tests.decisions.support import Logs, record


async def test_a_repeated_request_leaves_the_record_that_it_repeats(two: tuple[Logs, Logs]) -> None:
    for n in range(8):
        answers = await asyncio.gather(*(logs.append(request_id=f"r{n}") for logs in two * 2))
        assert all(answer == answers[0] for answer in answers)
        kept = await two[0].get(answers[0].id, view=pb.DECISION_VIEW_FULL)
        assert (kept.time, kept.cycle_number) == (answers[0].time, n + 1)
    assert len(await two[1].ids()) == 8 and len(list((two[0].root / "t").iterdir())) == 8
    assert list((two[0].root / ".pending").iterdir()) == []


async def test_a_large_folder_that_changes_all_the_time_is_looked_through_now_and_then(
    two: tuple[Logs, Logs], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    for n in range(4):
        one.put(f"decision_20251118_1000{n:02d}_cycle{n}.json", record(cycle=n))
    looks = 0
    look = Look.at_records

    async def counted(self: Look) -> None:
        nonlocal looks
        looks += 1
        await look(self)

    monkeypatch.setattr(Look, "at_records", counted)
    monkeypatch.setattr(following, "_SMALL", 3)
    monkeypatch.setattr(following, "_REST_SECONDS_PER_NAME", 1000.0)
    for number in range(4, 10):
        made = await (one, other)[number % 2].append()
        assert made.cycle_number == number
        assert len(await other.ids()) == len(await one.ids()) == number + 1, "each knows of the other's at once"
    assert looks == 2
    one.put("decision_20251118_100059_cycle59.json", record(cycle=59))
    assert len(await one.ids()) == 10
    one.home._following._seen.clear()
    assert len(await one.ids()) == 11
