"""Large records: what is in memory, and in a response, at one time has a bound; nothing is left out unsaid."""

import json
from itertools import chain
from typing import Any

import pytest

from nofx_grpc.decisions.records import Facts
from nofx_grpc.services import decision_logs
from nofx_grpc.services.decision_messages import proposed_actions
from nofx_grpc.services.decision_portions import AT_ONCE, AT_ONCE_BYTES, portions
from nofx_grpc.store.decisions.entries import entry_of
from nofx_grpc.v1 import decision_logs_pb2 as pb
from tests.decisions.support import Logs, record

FULL, MIB = pb.DECISION_VIEW_FULL, 1024 * 1024


def put(logs: Logs, number: int, **fields: Any) -> str:
    """A file of another program; the id of its record."""
    id = f"decision_20251118_1000{number:02d}_cycle{number}"
    logs.put(f"{id}.json", record(number, f"2025-11-18T10:00:{number:02d}Z", **fields))
    return id


async def every_page(logs: Logs, **fields: Any) -> list[pb.ListDecisionsResponse]:
    pages = [await logs.page(**fields)]
    while token := pages[-1].next_page_token:
        pages.append(await logs.page(page_token=token, **fields))
    return pages


async def history(logs: Logs, **fields: Any) -> list[pb.TailDecisionsResponse]:
    stream = logs.tail(**fields)
    read: list[pb.TailDecisionsResponse] = []
    while not read or not read[-1].synced:
        read.append(await stream.read())
    stream.cancel()
    return read


async def test_large_records_come_in_several_responses(logs: Logs) -> None:
    """A client takes 4 MiB at most unless it is told otherwise: the six together have more."""
    ids = [(await logs.append(cot_trace="x" * 900_000)).id for _ in range(6)]
    pages = await every_page(logs, view=FULL)
    assert [d.id for page in pages for d in page.decisions] == ids[::-1] and len(pages) == 3
    responses = await history(logs, view=FULL, history_count=6)
    assert [d.id for response in responses for d in response.decisions] == ids
    assert all(len(d.cot_trace) == 900_000 for response in responses for d in response.decisions)
    assert max(len(response.decisions) for response in responses) == 2
    responses = await history(logs, view=FULL, after_id=ids[0])
    assert [d.id for response in responses for d in response.decisions] == ids[1:]


async def test_what_is_too_large_for_a_response_is_shortened_and_says_so(files: Logs) -> None:
    small = put(files, 1)
    long = put(files, 2, cot_trace="x" * (3 * MIB), ai_model="m")
    odd = put(files, 3, extra="x" * (3 * MIB), ai_model="m")
    huge = put(files, 4, cot_trace="x" * (5 * MIB), ai_model="m")
    listed = {d.id: d for d in (await files.page(view=FULL)).decisions}
    tailed = {d.id: d for response in await history(files, view=FULL, history_count=9) for d in response.decisions}
    assert listed == tailed and {id for id, d in listed.items() if d.shortened} == {long, odd, huge}
    assert listed[long].ai_model == "m" and not listed[long].HasField("cot_trace")
    for id, number in ((odd, 3), (huge, 4)):
        shown = listed[id]
        assert (shown.id, shown.cycle_number, shown.success, shown.time.seconds % 60) == (id, number, True, number)
        assert shown.size_bytes > 3 * MIB and not shown.HasField("ai_model") and not shown.extra_json
    basic = {d.id: d for d in (await files.page()).decisions}
    assert {id for id, d in basic.items() if d.shortened} == {odd, huge} and basic[small] == listed[small]
    whole = await files.get(long)
    assert len(whole.cot_trace) == 3 * MIB and not whole.shortened


async def test_a_page_does_not_read_without_end(files: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_logs, "_MOST_READ_BYTES", 5 * MIB)
    ids = [put(files, n, cot_trace="x" * (3 * MIB)) for n in range(5)]
    pages = await every_page(files)
    assert [d.id for page in pages for d in page.decisions] == ids[::-1]
    assert [len(page.decisions) for page in pages] == [2, 2, 1]


async def test_the_answer_to_an_append_has_a_bound_too(logs: Logs) -> None:
    """Numbers are written out: what came in 900 KB would leave in more than 3 MB."""
    made = await logs.append(extra_json='{"x": [' + "1e15," * 180_000 + "0]}")
    assert made.shortened and made.cycle_number == 1 and not made.extra_json and made.id in await logs.ids()


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([1] * (AT_ONCE + 1), [AT_ONCE, 1]),
        ([AT_ONCE_BYTES, 1, AT_ONCE_BYTES - 1, 1], [1, 2, 1]),
        ([AT_ONCE_BYTES + 1, 1, 2**40, AT_ONCE_BYTES - 1], [4]),  # larger ones are not read
    ],
)
def test_what_is_read_at_one_time_has_a_bound(sizes: list[int], expected: list[int]) -> None:
    facts = Facts(0, 1, success=True, total_balance=0.0, unrealized_profit=0.0, actions=[])
    entries = [entry_of(str(n), facts, size=size) for n, size in enumerate(sizes)]
    found = list(portions(entries))
    assert [len(portion) for portion in found] == expected
    assert list(chain.from_iterable(found)) == entries


def test_very_long_decisions_of_a_model_are_text_only() -> None:
    assert len(proposed_actions(json.dumps([{}] * 500))) == 500
    assert proposed_actions(json.dumps([{}] * 501)) == []
    reason = json.dumps([{"reasoning": "x" * 262_100}])
    assert len(proposed_actions(reason)) == 1 and proposed_actions(reason + " " * 100) == []
