"""AppendDecision: whole or not at all, numbered without a gap, safe to repeat."""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from nofx_grpc.errors import StoreUnavailable
from nofx_grpc.store.decisions.folders import Folders
from nofx_grpc.store.decisions.home import Staged
from nofx_grpc.v1 import decision_logs_pb2 as pb
from tests.decisions.support import SAMPLE, Logs, record
from tests.support.service import refused

MOMENT = Timestamp(seconds=1763464205, nanos=707586713)


async def test_a_record_gets_its_id_and_the_next_number(logs: Logs) -> None:
    first = await logs.append(time=MOMENT, utc_offset_minutes=480)
    second = await logs.append(time=MOMENT)
    assert (first.id, first.cycle_number) == ("decision_20251118_111005_cycle1", 1)
    assert (second.id, second.cycle_number) == ("decision_20251118_111005_cycle2", 2)
    assert (first.user_id, first.trader_id) == ("alice", "t")


async def test_what_was_appended_is_what_is_read(logs: Logs) -> None:
    sent = pb.Decision(
        time=MOMENT,
        utc_offset_minutes=-210,
        ai_model="deepseek",
        success=False,
        error_message="no",
        system_prompt="you are",
        account_state=pb.AccountSnapshot(
            total_balance=0.1, position_count=2**62, extra_json='{"x": 18446744073709551616}'
        ),
        positions=[pb.PositionSnapshot(symbol="BTCUSDT", leverage=5, null_fields=["side"])],
        candidate_coins=["BTCUSDT"],
        decisions=[pb.ExecutedAction(action="open_long", order_id=2**63 - 1, time=MOMENT, utc_offset_minutes=480)],
        risk_notes=["too much"],
        extra_json='{"market": {"regime": "bear"}, "n": 9007199254740993}',
        null_fields=["execution_log"],
    )
    sent.ai_request_duration.FromMilliseconds(22739)
    answer = await logs.append(**{field.name: value for field, value in sent.ListFields()})
    kept = await logs.get(answer.id)
    for name in ("user_id", "id", "trader_id", "cycle_number", "size_bytes"):
        kept.ClearField(name)
    sent.success = False
    assert kept == sent


async def test_the_answer_leaves_the_long_texts_out(logs: Logs) -> None:
    answer = await logs.append(system_prompt="long", cot_trace="long", error_message="short")
    assert (answer.system_prompt, answer.cot_trace, answer.error_message) == ("", "", "short")
    assert (await logs.get(answer.id)).system_prompt == "long"


async def test_proposed_actions_are_written_as_the_models_json(logs: Logs) -> None:
    action = pb.ProposedAction(symbol="BTCUSDT", action="open_long", leverage=5, extra_json='{"note": "x"}')
    answer = await logs.append(proposed_actions=[action])
    kept = await logs.get(answer.id)
    assert kept.decision_json.startswith("[") and list(kept.proposed_actions) == [action]


async def test_without_a_time_it_is_now(logs: Logs) -> None:
    answer = await logs.append()
    assert answer.time.ToDatetime() == logs.service.app.housekeeping.clock().replace(tzinfo=None)


async def test_many_at_once_are_numbered_without_a_gap(logs: Logs) -> None:
    answers = await asyncio.gather(*(logs.append("tu"[n % 2]) for n in range(60)))
    for trader in "tu":
        numbers = sorted(answer.cycle_number for answer in answers if answer.trader_id == trader)
        assert numbers == list(range(1, 31))
        assert len(await logs.ids(trader)) == await logs.counted(trader) == 30


async def test_a_repeated_request_gets_the_first_answer(logs: Logs) -> None:
    first = await logs.append(request_id="r", error_message="x")
    assert await logs.append(request_id="r", error_message="x") == first
    assert await logs.ids() == [first.id]
    await refused(logs.append(request_id="r", error_message="y"), grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert (await logs.append()).cycle_number == 2


async def test_the_revision_stays(logs: Logs) -> None:
    before = await logs.service.revision()
    await logs.append()
    assert await logs.service.revision() == before


async def test_it_is_on_record(logs: Logs) -> None:
    answer = await logs.append()
    assert (f"create decision alice/t/{answer.id}",) in await logs.service.rows("SELECT resources FROM audit_log")


@pytest.mark.parametrize(("trader", "user"), [("missing", "alice"), ("b", "alice"), ("t", "bob"), ("t", "nobody")])
async def test_only_the_users_own_traders(logs: Logs, trader: str, user: str) -> None:
    await refused(logs.append(trader, user), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    assert await logs.counted(trader) == 0


async def test_the_last_words_of_a_deleted_trader_are_taken(logs: Logs) -> None:
    await logs.append()
    await logs.service.execute("DELETE FROM traders WHERE id = 't'")
    assert (await logs.append()).cycle_number == 2
    await refused(logs.append("t", "bob"), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_the_logs_of_another_user_are_not_gone_on_with(logs: Logs) -> None:
    await logs.append()
    await logs.service.execute("DELETE FROM traders WHERE id = 't'")
    await logs.add_trader("t", "bob")
    await refused(logs.append("t", "bob"), grpc.StatusCode.FAILED_PRECONDITION, "FAILED_PRECONDITION")
    await refused(logs.page("t", "bob"), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    assert len(await logs.ids("t", "alice")) == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"extra_json": "[1]"}, "decision.extra_json"),
        ({"extra_json": "{"}, "decision.extra_json"),
        ({"extra_json": '{"x": NaN}'}, "decision.extra_json"),
        ({"extra_json": '{"success": true}'}, "decision.extra_json"),
        ({"extra_json": "[" * 100_000}, "decision.extra_json"),
        ({"extra_json": '{"x": ' + "[" * 500 + r'"\ud800"' + "]" * 500 + "}"}, "decision.extra_json"),
        ({"extra_json": '{"x": 1e400}'}, "decision.extra_json"),
        ({"null_fields": ["nothing"]}, "decision.null_fields"),
        ({"account_state": pb.AccountSnapshot(total_balance=float("nan"))}, "decision.account_state.total_balance"),
        ({"decisions": [pb.ExecutedAction(price=float("inf"))]}, "decision.decisions[0].price"),
        ({"decisions": [pb.ExecutedAction(time=Timestamp(nanos=-1))]}, "decision.decisions[0].time"),
        (
            {"decisions": [pb.ExecutedAction(time=Timestamp(seconds=-62_135_596_801), utc_offset_minutes=480)]},
            "decision.decisions[0].time",
        ),
        ({"proposed_actions": [pb.ProposedAction(leverage=float("nan"))]}, "decision.proposed_actions[0].leverage"),
        ({"ai_request_duration": Duration(seconds=2**60)}, "decision.ai_request_duration"),
        ({"extra_json": '{"x": ' + "[" * 90 + ",".join(["[1]"] * 200_000) + "]" * 90 + "}"}, "decision"),
        ({"time": Timestamp(seconds=-1)}, "decision.time"),
        ({"time": Timestamp(seconds=10_000_000_000)}, "decision.time"),
        ({"time": Timestamp(seconds=2**60)}, "decision.time"),
        ({"utc_offset_minutes": 1440}, "decision.utc_offset_minutes"),
    ],
)
async def test_what_json_cannot_hold_is_refused(files: Logs, fields: dict[str, Any], field: str) -> None:
    refusal = await refused(files.append(**fields), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert set(refusal.violations) == {field}
    assert await files.ids() == []


@pytest.mark.parametrize("role", ["viewer", "gateway"])
async def test_only_engines_and_admins_record(files: Logs, role: str) -> None:
    client = files.service.client(role)
    await refused(files.append(client=client), grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert (await files.append(client=files.service.client("engine"))).cycle_number == 1


async def test_an_engine_of_one_user_records_for_no_other(files: Logs) -> None:
    client = files.service.client(token=await files.service.make_token("engine", "alice"))
    await files.append(client=client)
    await refused(files.append("b", "bob", client=client), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_what_is_refused_leaves_nothing(files: Logs) -> None:
    await files.append(request_id="r")
    for _ in range(3):
        call = files.append(request_id="r", error_message="another")
        await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    await files.append(request_id="r")
    assert list((files.root / ".pending").iterdir()) == []


async def test_a_repeat_is_answered_where_its_spare_file_cannot_be_deleted(
    files: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise StoreUnavailable("a disk that fails")

    made = await files.append(request_id="r")
    monkeypatch.setattr(Folders, "discard", fails)
    assert await files.append(request_id="r") == made
    refusal = files.append(request_id="r", error_message="another")
    await refused(refusal, grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


async def test_who_goes_away_leaves_nothing_half_done(files: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []
    go_on = asyncio.Event()
    publish = files.home.publish

    async def slowly(folder: str, id: str, staged: Staged) -> None:
        reached.append(id)
        await go_on.wait()
        await publish(folder, id, staged)

    monkeypatch.setattr(files.home, "publish", slowly)
    call = asyncio.ensure_future(files.append())
    await until(files.counted)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
    following = asyncio.ensure_future(files.append())
    await asyncio.sleep(0.2)  # until the server has heard of both
    assert len(reached) == 1, "one at a time"
    go_on.set()
    assert (await following).cycle_number == 2
    assert await files_named(files) == 2
    assert list((files.root / ".pending").iterdir()) == []


async def files_named(files: Logs) -> int:
    return len(list((files.root / "t").glob("*.json")))


async def until(there: Callable[[], Awaitable[int]]) -> None:
    async with asyncio.timeout(20):
        while not await there():  # noqa: ASYNC110  # what is in another place makes no event
            await asyncio.sleep(0.01)


# ---- files


async def test_files_are_private_and_nothing_else_is_left(files: Logs) -> None:
    answer = await files.append()
    path = files.root / "t" / f"{answer.id}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(p.stat().st_mode) for p in (files.root, files.root / "t")} == {0o700}
    assert [p.name for p in (files.root / "t").iterdir()] == [path.name]
    assert list((files.root / ".pending").iterdir()) == []


async def test_numbers_go_on_after_those_of_nofx(files: Logs) -> None:
    for name in sorted(p.name for p in next(SAMPLE.iterdir()).iterdir()):
        files.put(name, (next(SAMPLE.iterdir()) / name).read_bytes())
    last = max(d.cycle_number for d in (await files.page(page_size=1000)).decisions)
    assert last > 20
    assert (await files.append()).cycle_number == last + 1


async def test_a_number_that_is_none_is_not_gone_on_from(files: Logs) -> None:
    files.put("decision_20251118_100000_cycle1.json", record(cycle=2**63 - 1))
    files.put("decision_20251118_100001_cycle2.json", record(cycle=7))
    assert (await files.append()).cycle_number == 8


async def test_a_number_in_the_name_of_a_file_is_taken(files: Logs) -> None:
    """Be it a file with another number inside, or one that is no record: it is not overwritten."""
    files.put("decision_20251118_111005_cycle2.json", record(cycle=1, at="2025-11-18T11:10:05Z"))
    assert (await files.append(time=MOMENT)).cycle_number == 3
    torn = files.put("decision_20251118_111005_cycle4.json", b'{"timesta')
    assert (await files.append(time=MOMENT)).cycle_number == 5
    assert torn.read_bytes() == b'{"timesta'


@pytest.mark.parametrize("links", [True, False])
async def test_a_name_that_is_taken_at_the_last_moment_stays(
    files: Logs, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    torn = files.root / "t" / "decision_20251118_111005_cycle2.json"
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    first = await files.append(time=MOMENT)
    assert (files.root / "t" / f"{first.id}.json").is_file()
    stage = Folders.stage

    def just_before(folders: Folders, data: bytes) -> str:
        torn.write_bytes(b"torn")
        return stage(folders, data)

    monkeypatch.setattr(Folders, "stage", just_before)
    assert (await files.append(time=MOMENT)).id == torn.stem
    assert torn.read_bytes() == b"torn"
    assert len(await files.service.rows("SELECT 1 FROM decision_bodies WHERE id = ?", torn.stem)) == 1
    assert list((files.root / ".pending").iterdir()) == []


def no_links(*_: object, **__: object) -> None:
    raise PermissionError(1, "Operation not permitted")
