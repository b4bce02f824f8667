"""Errors to status: the only table from exceptions to gRPC codes, and the details that clients in any language can
read.
"""

import secrets

import structlog
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from nofx_grpc import errors
from nofx_grpc.errors import NofxError

logger = structlog.get_logger(__name__)

DOMAIN = "nofx-grpc"
DETAILS_KEY = "grpc-status-details-bin"

CODES: dict[type[NofxError], StatusCode] = {
    errors.InvalidArgument:    StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated:    StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied:   StatusCode.PERMISSION_DENIED,
    errors.NotFound:           StatusCode.NOT_FOUND,
    errors.AlreadyExists:      StatusCode.ALREADY_EXISTS,
    errors.EtagMismatch:       StatusCode.ABORTED,
    errors.FailedPrecondition: StatusCode.FAILED_PRECONDITION,
    errors.OutOfRange:         StatusCode.OUT_OF_RANGE,
    errors.ResourceExhausted:  StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable:        StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded:   StatusCode.DEADLINE_EXCEEDED,
    errors.SecretUnreadable:   StatusCode.DATA_LOSS,
}  # fmt: skip

# An error travels in the trailing metadata, and over 8 KiB of those gRPC drops the whole call, or the connection with
# every other call on it.  On the way it grows: the text is percent-encoded, the details, which have it too, are base64.
_MOST_TEXT_BYTES = 768
_MOST_VALUE_BYTES = 512  # as long as an id may be
_MOST_VIOLATIONS_BYTES = 1536

# What each code is on the wire; `StatusCode.value[0]`, looked up once.
_NUMBERS: dict[StatusCode, int] = {code: code.value[0] for code in StatusCode}


def code_of(error: NofxError) -> StatusCode:
    """The code of an error: that of its class, or of the nearest ancestor in the table."""
    return next(CODES[ancestor] for ancestor in type(error).__mro__ if ancestor in CODES)


def status_of(error: Exception, method: str) -> tuple[StatusCode, str, bytes]:
    """Code, text and serialised google.rpc.Status of any error.

    What is not ours becomes a fixed text with an id to find in the log: the text of a foreign exception could hold
    anything.
    """
    if isinstance(error, NofxError) and any(ancestor in CODES for ancestor in type(error).__mro__):
        return _status(code_of(error), error.message, error.reason, error.metadata, _details(error))
    incident = secrets.token_hex(8)
    logger.error("internal_error", incident=incident, method=method, exc_info=error)
    text = f"internal error; the server's log tells more under {incident}"
    return _status(StatusCode.INTERNAL, text, "INTERNAL", {"incident": incident}, [])


def _details(error: NofxError) -> list[any_pb2.Any]:
    packed = []
    if isinstance(error, errors.InvalidArgument):
        packed.append(_pack(_bad_request(error)))
    if isinstance(error, errors.Unavailable | errors.RateLimited):
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(error.retry_after * 1000))
        packed.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return packed


def _bad_request(error: errors.InvalidArgument) -> error_details_pb2.BadRequest:
    """The first violations, and how many more there are."""
    shown = error_details_pb2.BadRequest()
    for number, violation in enumerate(error.violations):
        if shown.ByteSize() > _MOST_VIOLATIONS_BYTES:
            shown.field_violations.add(description=f"and {len(error.violations) - number} more")
            break
        field, description = _cut(violation.field, _MOST_VALUE_BYTES), _cut(violation.description, _MOST_VALUE_BYTES)
        shown.field_violations.add(field=field, description=description)
    return shown


def _status(
    code: StatusCode, text: str, reason: str, metadata: dict[str, str], details: list[any_pb2.Any]
) -> tuple[StatusCode, str, bytes]:
    text = _cut(text, _MOST_TEXT_BYTES)
    shown = {name: _cut(value, _MOST_VALUE_BYTES) for name, value in metadata.items()}
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=shown)
    status = status_pb2.Status(code=_NUMBERS[code], message=text, details=[_pack(info), *details])
    return code, text, status.SerializeToString()


def _cut(text: str, most_bytes: int) -> str:
    encoded = text.encode(errors="replace")
    if len(encoded) <= most_bytes:
        return text
    return encoded[: most_bytes - 3].decode(errors="ignore") + "…"


def _pack(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
