"""What is tried again, when, and with what; by grpcio-testing's fake channel and clock."""

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from nofx_grpc.client import NO_RETRY, ClientSettingsError, Retry, errors
from nofx_grpc.client.errors import Failure, NofxClientError, error_of
from nofx_grpc.client.retries import may_repeat
from nofx_grpc.client.rpcs import Method
from nofx_grpc.v1 import traders_pb2, users_pb2
from tests.client.fake import FakeService, Reply
from tests.support.rpcs import METHODS, permission_of

UNAVAILABLE, EXHAUSTED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED
DOWN = Reply(code=UNAVAILABLE)
TRADER = Reply(traders_pb2.Trader(id="t-1"))


def failure(code: grpc.StatusCode, retry_after: float | None = None) -> NofxClientError:
    return error_of(Failure("Service/Rpc", code, "", retry_after=retry_after))


def method(rpc: MethodDescriptor) -> Method:
    return Method.of(rpc, Message, Message)


def repeated(error: NofxClientError) -> set[str]:
    """The rpcs that are made again after an error."""
    return {name for name, rpc in METHODS.items() if may_repeat(method(rpc), error)}


def test_what_is_made_again_when_the_service_is_unavailable() -> None:
    reads = {name for name, rpc in METHODS.items() if rpc.GetOptions().idempotency_level == 1}
    reveals = {name for name, rpc in METHODS.items() if permission_of(rpc).startswith("REVEAL")}
    with_id = {name for name, rpc in METHODS.items() if "request_id" in rpc.input_type.fields_by_name}
    assert repeated(failure(UNAVAILABLE)) == reads | reveals | with_id
    assert {"Traders.GetTrader", "Traders.GetTraderConfig", "Traders.CreateTrader"} <= reads | reveals | with_id


def test_no_update_and_no_delete_is_ever_made_again() -> None:
    again = repeated(failure(UNAVAILABLE)) | repeated(failure(EXHAUSTED, 1.0))
    changing = ("Update", "Delete", "Set", "Start", "Stop", "Revoke", "Import")
    assert {name for name in again if name.split(".")[1].startswith(changing)} == set()


def test_only_reads_are_made_again_when_a_limit_was_reached_and_only_if_it_says_when() -> None:
    again = repeated(failure(EXHAUSTED, 1.0))
    assert "Traders.GetTraderConfig" in again and "Traders.ListTraders" in again
    assert "Users.Authenticate" not in again and "Traders.CreateTrader" not in again
    assert repeated(failure(EXHAUSTED)) == set()


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code not in {UNAVAILABLE, EXHAUSTED}])
def test_nothing_else_is_made_again(code: grpc.StatusCode) -> None:
    assert repeated(failure(code, 1.0)) == set()


def test_a_read_is_made_again_until_it_is_answered() -> None:
    service = FakeService(DOWN, DOWN, TRADER)
    assert service.client.traders.get_trader(user_id="ada", id="t-1").id == "t-1"
    assert [attempt.request.id for attempt in service.attempts] == ["t-1"] * 3
    service.check_asked_for_all()


def test_pauses_double_up_to_the_longest() -> None:
    service = FakeService(*[DOWN] * 6, TRADER, timeout=60.0, retry=Retry(first_pause=0.1, longest_pause=1.0))
    service.client.traders.get_trader(user_id="ada", id="t-1")
    assert service.pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_a_pause_is_a_random_part() -> None:
    service = FakeService(DOWN, DOWN, TRADER, jitter=0.25)
    service.client.traders.get_trader(user_id="ada", id="t-1")
    assert service.pauses == pytest.approx([0.025, 0.05])


def test_the_service_says_how_long_to_wait_at_least() -> None:
    service = FakeService(Reply(code=UNAVAILABLE, reason="SHUTTING_DOWN", retry_after=3.0), TRADER)
    service.client.traders.get_trader(user_id="ada", id="t-1")
    assert service.pauses == pytest.approx([3.1])


def test_a_limit_that_says_when_is_waited_for() -> None:
    service = FakeService(Reply(code=EXHAUSTED, reason="RATE_LIMITED", retry_after=2.0), TRADER)
    service.client.traders.get_trader(user_id="ada", id="t-1")
    assert service.pauses == pytest.approx([2.1])


def test_attempts_are_counted() -> None:
    service = FakeService(DOWN, DOWN, DOWN, retry=Retry(attempts=3))
    with pytest.raises(errors.Unavailable) as caught:
        service.client.traders.get_trader(user_id="ada", id="t-1")
    assert len(service.attempts) == 3 and caught.value.__notes__ == ["after 3 attempts"]


def test_without_retries_there_is_one_attempt() -> None:
    service = FakeService(DOWN, retry=NO_RETRY)
    with pytest.raises(errors.Unavailable):
        service.client.traders.get_trader(user_id="ada", id="t-1")
    assert service.pauses == []


def test_a_write_has_one_request_id_for_all_its_attempts_and_another_one_has_another() -> None:
    made = Reply(traders_pb2.Trader(id="t-1"))
    service = FakeService(DOWN, DOWN, made, made)
    service.client.traders.create_trader(user_id="ada")
    service.client.traders.create_trader(user_id="ada")
    first, second, third, other = [attempt.request.request_id for attempt in service.attempts]
    assert first == second == third != other and len(first) == len(other) == 36


def test_a_request_id_of_the_callers_own_is_kept() -> None:
    service = FakeService(DOWN, Reply(traders_pb2.Trader()))
    service.client.traders.create_trader(user_id="ada", request_id="mine")
    assert [attempt.request.request_id for attempt in service.attempts] == ["mine", "mine"]


def test_an_error_of_a_write_tells_its_request_id() -> None:
    service = FakeService(DOWN, retry=NO_RETRY)
    with pytest.raises(errors.Unavailable) as caught:
        service.client.traders.create_trader(user_id="ada")
    assert caught.value.request_id == service.attempts[0].request.request_id != ""


def test_an_update_is_attempted_once() -> None:
    service = FakeService(DOWN)
    with pytest.raises(errors.Unavailable) as caught:
        service.client.traders.update_trader(trader=traders_pb2.Trader(user_id="ada", id="t-1", etag="1.x"))
    assert len(service.attempts) == 1 and not hasattr(caught.value, "__notes__")


def test_a_refused_login_is_attempted_once() -> None:
    service = FakeService(Reply(code=grpc.StatusCode.UNAUTHENTICATED, reason="LOGIN_REFUSED"))
    with pytest.raises(errors.LoginRefused):
        service.client.users.authenticate(email="ada@example.org", password="wrong")
    assert len(service.attempts) == 1


def test_a_login_that_is_held_back_is_not_repeated_by_itself() -> None:
    service = FakeService(Reply(code=EXHAUSTED, reason="RATE_LIMITED", retry_after=1.0), Reply(users_pb2.User()))
    with pytest.raises(errors.RateLimited) as caught:
        service.client.users.authenticate(email="ada@example.org", password="wrong")
    assert caught.value.retry_after == 1.0 and len(service.attempts) == 1


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"first_pause": -1.0}, {"first_pause": 2.0, "longest_pause": 1.0}], ids=str
)
def test_a_retry_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ClientSettingsError, match="expected attempts >= 1"):
        Retry(**wrong)  # type: ignore[arg-type]  # the cases are of both types


def test_pauses_do_not_overflow() -> None:
    assert Retry().pause(5_000, None, lambda: 1.0) == 2.0
