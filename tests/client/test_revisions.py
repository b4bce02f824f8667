"""No read is older than what the client has seen; by grpcio-testing's fake channel and clock."""

import grpc
import pytest

from nofx_grpc.client import Revision, errors
from nofx_grpc.client.revisions import Revisions
from nofx_grpc.v1 import traders_pb2
from tests.client.fake import HISTORY, FakeService, Reply, at

TRADER = traders_pb2.Trader(id="t-1")
OTHER = "7d0a3e5c-0000-4000-8000-000000000002"
LATE = Reply(code=grpc.StatusCode.DEADLINE_EXCEEDED, takes=10.0)


def get(service: FakeService, *replies: Reply) -> list[str | None]:
    """Read once; which revision each attempt asked for."""
    before = len(service.attempts)
    service.will(*replies).client.traders.get_trader(user_id="ada", id="t-1")
    service.check_asked_for_all()
    return [attempt.metadata.get("nofx-min-revision") for attempt in service.attempts[before:]]


def read(revision: int, history: str = HISTORY) -> Reply:
    return Reply(TRADER, shown=at(revision, history))


def test_a_read_asks_for_the_newest_revision_seen() -> None:
    service = FakeService()
    assert get(service, read(7)) == [None]
    assert get(service, read(9)) == ["7"]
    assert get(service, read(9)) == ["9"]


def test_a_write_asks_for_none_and_is_seen_by_the_next_read() -> None:
    service = FakeService(read(7), read(8))
    service.client.traders.create_trader(user_id="ada")
    service.client.traders.update_trader(trader=TRADER)
    assert ["nofx-min-revision" in attempt.metadata for attempt in service.attempts] == [False, False]
    assert get(service, read(8)) == ["8"]


def test_a_reveal_is_a_read() -> None:
    service = FakeService(read(7), Reply(traders_pb2.TraderConfig(), shown=at(7)))
    service.client.traders.create_trader(user_id="ada")
    service.client.traders.get_trader_config(user_id="ada", trader_id="t-1")
    assert service.attempts[1].metadata["nofx-min-revision"] == "7"


def test_an_error_shows_a_revision_too() -> None:
    service = FakeService(Reply(code=grpc.StatusCode.NOT_FOUND, shown=at(12)))
    with pytest.raises(errors.NotFound):
        service.client.traders.get_trader(user_id="ada", id="t-1")
    assert get(service, read(12)) == ["12"]


def test_it_can_be_switched_off() -> None:
    service = FakeService(revisions=None)
    assert [get(service, read(7)), get(service, read(3)), get(service, read(7))] == [[None], [None], [None]]


def test_an_answer_that_is_older_than_what_was_seen_is_asked_for_again() -> None:
    service = FakeService()
    get(service, read(7))
    assert get(service, read(6), read(7)) == ["7", "7"]


def test_an_answer_that_stays_too_old_is_no_answer() -> None:
    service = FakeService()
    get(service, read(7))
    service.will(*[read(6)] * 10)
    with pytest.raises(errors.RevisionNotReached, match="of revision 6, and revision 7 was seen before") as caught:
        service.client.traders.get_trader(user_id="ada", id="t-1")
    assert caught.value.reason == "REVISION_NOT_REACHED" and caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_a_restored_store_counts_anew() -> None:
    service = FakeService()
    get(service, read(700))
    behind = Reply(code=grpc.StatusCode.UNAVAILABLE, reason="REVISION_NOT_REACHED", retry_after=1.0, shown=at(3, OTHER))
    assert get(service, behind, read(3, OTHER)) == ["700", "3"]
    assert get(service, read(3, OTHER)) == ["3"]


def test_a_client_whose_deadline_is_shorter_than_the_servers_wait_hears_of_a_restored_store_too() -> None:
    service = FakeService()
    get(service, read(700))
    with pytest.raises(errors.DeadlineExceeded):
        get(service, LATE)
    assert get(service, read(3, OTHER)) == [None]
    assert get(service, read(3, OTHER)) == ["3"]


def test_a_doubt_does_not_let_an_older_answer_pass() -> None:
    service = FakeService()
    get(service, read(7))
    with pytest.raises(errors.DeadlineExceeded):
        get(service, LATE)
    assert get(service, read(6), read(7)) == [None, "7"]


def test_a_deadline_that_the_server_speaks_of_is_no_reason_for_doubt() -> None:
    service = FakeService()
    get(service, read(7))
    with pytest.raises(errors.DeadlineExceeded):
        get(service, Reply(code=grpc.StatusCode.DEADLINE_EXCEEDED, reason="DEADLINE_EXCEEDED"))
    assert get(service, read(7)) == ["7"]


def test_the_highest_of_each_history_is_kept() -> None:
    seen = Revisions()
    for revision, history in [(5, HISTORY), (2, OTHER), (4, HISTORY)]:
        seen.note(at(revision, history))
    assert seen.latest == Revision(HISTORY, 5)


@pytest.mark.parametrize("shown", [(), at(5, ""), (("nofx-revision", "five"), ("nofx-history", HISTORY))], ids=str)
def test_metadata_that_shows_no_revision_is_passed_over(shown: tuple[tuple[str, str], ...]) -> None:
    seen = Revisions()
    assert seen.note(shown) is None and seen.latest is None
