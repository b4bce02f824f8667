"""A call ends in time, whatever happens; by grpcio-testing's fake channel and clock."""

import grpc
import pytest

from nofx_grpc.client import Client, ClientSettingsError, Retry, errors
from nofx_grpc.v1 import traders_pb2
from tests.client.fake import FakeService, Reply

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
TRADER = Reply(traders_pb2.Trader(id="t-1"))


def get(service: FakeService) -> traders_pb2.Trader:
    return service.client.traders.get_trader(user_id="ada", id="t-1")


def test_there_is_a_deadline_by_default() -> None:
    service = FakeService(TRADER)
    get(service)
    assert service.attempts[0].timeout == 10.0


def test_the_deadline_is_one_for_all_attempts_and_pauses() -> None:
    down = Reply(code=UNAVAILABLE, takes=1.5)
    service = FakeService(down, down, TRADER, timeout=8.0, retry=Retry(first_pause=1.0, longest_pause=1.0))
    get(service)
    assert [attempt.timeout for attempt in service.attempts] == [8.0, 5.5, 3.0]


def test_nobody_waits_for_an_attempt_that_would_come_too_late() -> None:
    service = FakeService(Reply(code=UNAVAILABLE, retry_after=60.0, takes=1.0), TRADER, timeout=5.0)
    with pytest.raises(errors.Unavailable) as caught:
        get(service)
    assert service.pauses == [] and service.time.time() == 1_001.0 and caught.value.retry_after == 60.0


def test_no_attempt_begins_after_the_deadline() -> None:
    down = Reply(code=UNAVAILABLE, takes=0.9)
    service = FakeService(*[down] * 10, timeout=3.0, retry=Retry(attempts=100, first_pause=0.5, longest_pause=0.5))
    with pytest.raises(errors.Unavailable):
        get(service)
    assert [attempt.timeout for attempt in service.attempts] == pytest.approx([3.0, 1.6, 0.2])
    assert service.pauses == [0.5, 0.5]


def test_a_deadline_that_passed_is_not_tried_again() -> None:
    service = FakeService(Reply(code=grpc.StatusCode.DEADLINE_EXCEEDED, takes=10.0), TRADER)
    with pytest.raises(errors.DeadlineExceeded):
        get(service)
    assert len(service.attempts) == 1


@pytest.mark.parametrize("timeout", [0, -1.0, float("inf"), float("nan")])
def test_a_client_without_a_deadline_is_not_made(timeout: float) -> None:
    with pytest.raises(ClientSettingsError, match="timeout is"):
        Client(token="t", timeout=timeout)


def test_the_timeout_may_be_another_for_some_calls() -> None:
    with Client(token="t", timeout=3.0) as nofx:
        assert "timeout=0.5" in repr(nofx.with_options(timeout=0.5))
        assert "timeout=3.0" in repr(nofx.with_options(retry=Retry(attempts=2)))
        with pytest.raises(ClientSettingsError):
            nofx.with_options(timeout=0)
