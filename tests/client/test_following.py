"""What becomes of a stream that breaks, by a clock that is moved by hand."""

from pathlib import Path

import grpc
import pytest

from nofx_grpc.client import Revision, errors
from nofx_grpc.client.credentials import GivenToken, Token, TokenFile
from nofx_grpc.client.errors import Failure, NofxClientError, error_of
from nofx_grpc.client.following import BACK_OFF, Following
from nofx_grpc.v1.watch_pb2 import WatchResponse

CODES = grpc.StatusCode
FIXED = GivenToken("nofx_fixed")


class Time:
    """Seconds that pass when it is said."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def following(token: Token | None = FIXED, *, time: Time | None = None, jitter: float = 1.0) -> Following:
    return Following(token, clock=time or Time(), random=lambda: jitter)


def failure(code: grpc.StatusCode, reason: str = "", retry_after: float | None = None) -> NofxClientError:
    return error_of(Failure("Watch/Watch", code, "", reason, retry_after=retry_after))


def test_a_stream_is_resumed_from_the_last_whole_revision() -> None:
    stream = following()
    assert stream.opening() == {}
    assert not stream.heard(WatchResponse(history_id="h"))
    assert stream.heard(WatchResponse(revision=7, history_id="h"))
    assert not stream.heard(WatchResponse(history_id="h"))
    stream.pause_after(failure(CODES.UNAVAILABLE))
    assert stream.opening() == {"start_revision": 7, "history_id": "h"}


def test_a_stream_that_broke_in_its_initial_state_begins_anew() -> None:
    stream = following()
    stream.heard(WatchResponse(history_id="h"))
    stream.pause_after(failure(CODES.UNAVAILABLE))
    assert stream.opening() == {}


@pytest.mark.parametrize("reason", ["REVISION_COMPACTED", "HISTORY_CHANGED", "REVISION_IN_FUTURE", "OUT_OF_RANGE"])
def test_a_revision_that_is_not_to_be_had_is_forgotten(reason: str) -> None:
    stream = following()
    stream.heard(WatchResponse(revision=7, history_id="h"))
    stream.pause_after(failure(CODES.OUT_OF_RANGE, reason))
    assert stream.position is None and stream.opening() == {}


@pytest.mark.parametrize(
    "code",
    [CODES.INVALID_ARGUMENT, CODES.PERMISSION_DENIED, CODES.NOT_FOUND, CODES.FAILED_PRECONDITION, CODES.UNIMPLEMENTED],
)
def test_what_does_not_get_better_is_raised(code: grpc.StatusCode) -> None:
    error = failure(code)
    with pytest.raises(NofxClientError) as caught:
        following().pause_after(error)
    assert caught.value is error


@pytest.mark.parametrize(
    "code",
    [
        *(CODES.UNAVAILABLE, CODES.DEADLINE_EXCEEDED, CODES.RESOURCE_EXHAUSTED, CODES.ABORTED, CODES.CANCELLED),
        *(CODES.INTERNAL, CODES.UNKNOWN, CODES.DATA_LOSS, CODES.OUT_OF_RANGE),
    ],
)
def test_everything_else_is_tried_again(code: grpc.StatusCode) -> None:
    assert following().pause_after(failure(code)) >= 0


def test_a_token_that_is_refused_is_fatal_only_where_it_stays_the_same(tmp_path: Path) -> None:
    refused = failure(CODES.UNAUTHENTICATED, "UNAUTHENTICATED")
    for fixed in (FIXED, None):
        with pytest.raises(errors.Unauthenticated):
            following(fixed).pause_after(refused)
    (tmp_path / "token").write_text("nofx_replaced")
    assert following(TokenFile(tmp_path / "token")).pause_after(refused) == 0.1


def test_pauses_grow_and_are_drawn_by_lot() -> None:
    stream = following()
    pauses = [stream.pause_after(failure(CODES.UNAVAILABLE)) for _ in range(9)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert following(jitter=0.25).pause_after(failure(CODES.UNAVAILABLE)) == 0.025
    assert following(jitter=0.0).pause_after(failure(CODES.UNAVAILABLE, retry_after=3.0)) == 3.0


def test_a_stream_that_lasted_makes_the_pauses_short_again() -> None:
    time = Time()
    stream = following(time=time)
    for _ in range(5):
        stream.opening()
        stream.pause_after(failure(CODES.UNAVAILABLE))
    stream.opening()
    stream.heard(WatchResponse(revision=7, history_id="h"))
    assert stream.pause_after(failure(CODES.UNAVAILABLE)) == 3.2  # a server that ends every stream at once is not well
    stream.opening()
    time.now += BACK_OFF.longest_pause + 1
    assert stream.pause_after(failure(CODES.UNAVAILABLE)) == 0.1


def test_trouble_is_told_until_something_is_heard() -> None:
    stream = following()
    error = failure(CODES.UNAVAILABLE)
    stream.pause_after(error)
    assert stream.trouble is error
    stream.heard(WatchResponse(revision=7, history_id="h"))
    assert stream.trouble is None and stream.position == Revision("h", 7)
