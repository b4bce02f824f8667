"""That nothing was forgotten: every rpc is there, has a permission and says what it does; every error has a status."""

import inspect
from collections.abc import Iterator
from typing import get_args

import grpc

from nofx_grpc import errors
from nofx_grpc.rpc.status import CODES, code_of, status_of
from nofx_grpc.services import Service
from nofx_grpc.v1 import common_pb2
from tests.support.comments import comments
from tests.support.rpcs import METHODS, SERVICES, call_raw, permission_of
from tests.support.service import RunningService

IMPLEMENTED = {cls.DESCRIPTOR.full_name: cls for cls in get_args(Service)}


def complaint(name: str, comment: str) -> str:
    """What was forgotten of one rpc; '' if nothing was."""
    method = METHODS[name]
    handler = getattr(IMPLEMENTED.get(method.containing_service.full_name), method.name, None)
    if handler is None:
        return "not implemented"
    is_right = inspect.isasyncgenfunction if method.server_streaming else inspect.iscoroutinefunction
    if not is_right(handler):
        return "not a coroutine, or for a stream not an asynchronous generator"
    if list(inspect.signature(handler).parameters)[2:] != ["call"]:
        return "does not take (self, request, call)"
    if permission_of(method) == "UNSPECIFIED":
        return "no permission"
    return "" if "Permission: " in comment else "no comment that names its permission"


def test_every_rpc_is_implemented_has_a_permission_and_a_comment() -> None:
    written = comments()
    forgotten = {name: why for name in METHODS if (why := complaint(name, written[name]))}
    assert forgotten == {} and len(METHODS) > 40


def test_every_comment_names_the_permission_that_the_rpc_has() -> None:
    written = comments()
    assert [name for name in METHODS if f"Permission: {permission_of(METHODS[name])}" not in written[name]] == []


async def test_every_rpc_is_served(service: RunningService) -> None:
    missing = []
    for name, method in METHODS.items():
        try:
            await call_raw(service.anonymous(), method, b"")
        except grpc.aio.AioRpcError as error:
            missing += [name] if error.code() is not grpc.StatusCode.UNAUTHENTICATED else []
        else:
            missing.append(name)
    assert missing == []


def test_every_service_of_the_protos_has_a_class_and_the_other_way_round() -> None:
    assert set(IMPLEMENTED) == {service.full_name for service in SERVICES}


def subclasses(root: type[errors.NofxError]) -> Iterator[type[errors.NofxError]]:
    for cls in root.__subclasses__():
        if cls.__module__.startswith("nofx_grpc."):
            yield cls
            yield from subclasses(cls)


def test_every_error_has_a_status_but_those_that_keep_the_process_from_starting() -> None:
    without = {cls for cls in subclasses(errors.NofxError) if not any(ancestor in CODES for ancestor in cls.__mro__)}
    assert without == {errors.StartError, *subclasses(errors.StartError)}


def test_every_error_has_a_reason_of_its_own() -> None:
    classes = list(subclasses(errors.NofxError))
    reasons = [cls.reason for cls in classes]
    assert len(set(reasons)) == len(reasons)
    known = common_pb2.Reason.keys()
    assert [cls.__name__ for cls in classes if f"REASON_{cls.reason}" not in known] == []


def test_the_nearest_ancestor_gives_the_code() -> None:
    assert code_of(errors.EtagMismatch("model", "x")) is grpc.StatusCode.ABORTED
    assert code_of(errors.InUse("model", "x", by="t", users=["t-1"])) is grpc.StatusCode.FAILED_PRECONDITION
    assert code_of(errors.RevisionNotReached(2, 1)) is grpc.StatusCode.UNAVAILABLE


def test_an_error_of_starting_is_told_to_no_client() -> None:
    code, text, details = status_of(errors.MasterKeyError("the path of the key"), "/service/Method")
    assert code is grpc.StatusCode.INTERNAL
    assert "the path" not in text and b"the path" not in details
