"""The client's errors are those of the service, by reason."""

import pickle
import re
from collections.abc import Iterator

import grpc
import pytest

from nofx_grpc import errors as service_errors
from nofx_grpc.client import errors
from nofx_grpc.client.errors import CODES, REASONS, Failure, NofxClientError, Violation, class_of, error_of
from nofx_grpc.rpc.status import CODES as SERVICE_CODES
from nofx_grpc.rpc.status import code_of
from nofx_grpc.v1 import common_pb2
from tests.client.fake import FakeService, Reply

NOT_FOUND = grpc.StatusCode.NOT_FOUND


def subclasses(root: type[Exception]) -> Iterator[type[Exception]]:
    for cls in root.__subclasses__():
        yield cls
        yield from subclasses(cls)


# Only what reaches clients: an error of starting never does.
SERVICE_ERRORS = [
    cls
    for cls in subclasses(service_errors.NofxError)
    if cls.__module__ == service_errors.__name__ and any(ancestor in SERVICE_CODES for ancestor in cls.__mro__)
]


@pytest.mark.parametrize("cls", SERVICE_ERRORS, ids=lambda cls: cls.__name__)
def test_each_error_of_the_service_is_the_clients_of_the_same_name(cls: type[service_errors.NofxError]) -> None:
    assert class_of(code_of(cls.__new__(cls)), cls.reason).__name__ == cls.__name__


def test_every_reason_that_reaches_clients_is_known() -> None:
    known = {re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).upper() for cls in subclasses(NofxClientError)}
    wire = {name.removeprefix("REASON_") for name, number in common_pb2.Reason.items() if 0 < number < 100}
    assert wire - known == set()


def test_every_code_of_an_error_has_a_class() -> None:
    assert set(CODES) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


def test_a_reason_that_is_not_known_has_the_class_of_its_code() -> None:
    assert class_of(NOT_FOUND, "NO_SUCH_MOON") is errors.NotFound
    assert class_of(grpc.StatusCode.OUT_OF_RANGE, "") is errors.OutOfRange


def test_a_reason_of_another_code_does_not_count() -> None:
    assert class_of(NOT_FOUND, "ETAG_MISMATCH") is errors.NotFound


def test_every_reason_belongs_to_one_code() -> None:
    for reason, cls in REASONS.items():
        assert [code for code in CODES if class_of(code, reason) is cls] != [], reason


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = set(re.findall(r"── (\w+)", errors.__doc__ or ""))
    assert drawn == {cls.__name__ for cls in subclasses(NofxClientError)}


def test_an_error_says_which_rpc_and_why() -> None:
    assert str(error_of(Failure("Traders/GetTrader", NOT_FOUND, "no trader", "NOT_FOUND"))) == (
        "Traders/GetTrader: NOT_FOUND: no trader"
    )
    assert str(error_of(Failure("Traders/GetTrader", grpc.StatusCode.UNAVAILABLE, "connect failed"))) == (
        "Traders/GetTrader: UNAVAILABLE: connect failed"
    )


def test_an_error_passes_between_processes() -> None:
    failure = Failure("A/B", NOT_FOUND, "m", "NOT_FOUND", {"id": "x"}, (Violation("f", "d"),), 1.5, "r-1")
    error = pickle.loads(pickle.dumps(error_of(failure)))  # noqa: S301 - our own bytes
    assert isinstance(error, errors.NotFound) and error.args == (failure,)
    assert (error.metadata, error.violations, error.retry_after) == ({"id": "x"}, (Violation("f", "d"),), 1.5)


def test_a_reason_from_somebody_else_is_none_of_ours() -> None:
    service = FakeService(Reply(code=NOT_FOUND, reason="NOT_FOUND", domain="a-proxy.example"))
    with pytest.raises(errors.NotFound) as caught:
        service.client.traders.get_trader(user_id="ada", id="t-1")
    assert caught.value.reason == ""


def test_details_that_are_damaged_leave_the_code_and_the_text() -> None:
    service = FakeService(Reply(code=NOT_FOUND, shown=(("grpc-status-details-bin", b"\xff\xff"),)))  # type: ignore[arg-type]  # bytes
    with pytest.raises(errors.NotFound, match="Traders/GetTrader: NOT_FOUND: NOT_FOUND"):
        service.client.traders.get_trader(user_id="ada", id="t-1")


def test_what_grpc_says_stays_at_hand() -> None:
    service = FakeService(Reply(code=NOT_FOUND))
    with pytest.raises(errors.NotFound) as caught:
        service.client.traders.get_trader(user_id="ada", id="t-1")
    assert isinstance(caught.value.__cause__, grpc.RpcError)
