"""GetDecision and ListDecisions: views, order, pages, times, and who may read."""

from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from nofx_grpc.v1 import decision_logs_pb2 as pb
from tests.decisions.support import Logs
from tests.support.service import refused

NOT_FOUND = grpc.StatusCode.NOT_FOUND
START = 1_763_464_205


async def appended(logs: Logs, count: int, **fields: object) -> list[str]:
    """The ids of records a second apart."""
    made = [await logs.append(time=Timestamp(seconds=START + n), **fields) for n in range(count)]  # type: ignore[arg-type] # fields of a record
    return [decision.id for decision in made]


async def test_newest_first_by_the_time_inside(logs: Logs) -> None:
    early, late = Timestamp(seconds=START), Timestamp(seconds=START + 60)
    second = (await logs.append(time=late)).id
    first = (await logs.append(time=early)).id
    assert await logs.ids() == [second, first]


async def test_pages_go_through_all_once(logs: Logs) -> None:
    ids = await appended(logs, 7)
    seen: list[str] = []
    token = ""
    while True:
        page = await logs.page(page_size=3, page_token=token)
        seen += [decision.id for decision in page.decisions]
        token = page.next_page_token
        if not token:
            break
    assert seen == ids[::-1]


async def test_a_page_ends_where_it_is_full_by_bytes(logs: Logs) -> None:
    ids = await appended(logs, 3, system_prompt="x" * 1_200_000)
    full = await logs.page(view=pb.DECISION_VIEW_FULL)
    assert [decision.id for decision in full.decisions] == [ids[2]] and full.next_page_token
    assert await logs.ids() == ids[::-1]


async def test_times_limit_a_list(logs: Logs) -> None:
    ids = await appended(logs, 5)
    span: dict[str, Any] = {"start_time": Timestamp(seconds=START + 1), "end_time": Timestamp(seconds=START + 3)}
    assert await logs.ids(**span) == [ids[2], ids[1]]
    span["end_time"] = span["start_time"]
    refusal = await refused(logs.page(**span), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert set(refusal.violations) == {"end_time"}


async def test_views(logs: Logs) -> None:
    id = (await appended(logs, 1, system_prompt="s", error_message="e"))[0]
    basic = await logs.get(id, view=pb.DECISION_VIEW_BASIC)
    raw = await logs.get(id, view=pb.DECISION_VIEW_RAW)
    assert (basic.system_prompt, basic.error_message, basic.raw_json) == ("", "e", b"")
    assert raw.system_prompt == "s" and len(raw.raw_json) == raw.size_bytes and b'"s"' in raw.raw_json


async def test_logs_outlive_their_trader_and_stay_its_users(logs: Logs) -> None:
    id = (await appended(logs, 1))[0]
    await logs.service.execute("DELETE FROM traders WHERE id = 't'")
    assert (await logs.get(id)).user_id == "alice"
    assert (await logs.get(id, user_id="")).user_id == "alice"
    await refused(logs.get(id, user_id="bob"), NOT_FOUND, "NOT_FOUND")


async def test_what_is_not_there_is_not_found(logs: Logs) -> None:
    assert await logs.ids() == []
    await refused(logs.get("nothing"), NOT_FOUND, "NOT_FOUND")
    await refused(logs.page("nobody", ""), NOT_FOUND, "NOT_FOUND")
    await refused(logs.page("b", "alice"), NOT_FOUND, "NOT_FOUND")


async def test_a_token_of_one_user_reads_no_other(logs: Logs) -> None:
    await logs.append("b", "bob")
    client = logs.service.client(token=await logs.service.make_token("viewer", "alice"))
    for user in ("bob", ""):
        request = pb.ListDecisionsRequest(user_id=user, trader_id="b")
        await refused(client.decision_logs.ListDecisions(request), NOT_FOUND, "NOT_FOUND")
    request = pb.ListDecisionsRequest(trader_id="t")
    assert (await client.decision_logs.ListDecisions(request)).decisions == []
    get = pb.GetDecisionRequest(trader_id="t", id="x")
    await refused(client.decision_logs.GetDecision(get), grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
