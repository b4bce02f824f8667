"""Every error of a call, by the reason that the service gives.

    NofxClientError
    ├── InvalidArgument             the request is wrong in itself; see `violations`
    │   ├── InvalidPageToken        the token is damaged, expired or from another query
    │   └── RequestIdReused         the request id was used before, with another request
    ├── Unauthenticated             no credential, or one that is not valid (any more)
    │   └── LoginRefused            e-mail, password or code is wrong; never says which
    ├── PermissionDenied            the caller may not do this
    ├── NotFound                    no such resource for this caller
    ├── AlreadyExists               the key is taken
    ├── Aborted
    │   └── EtagMismatch            the resource has changed since it was read: read again, decide again
    ├── FailedPrecondition          right request, wrong state
    │   ├── InUse                   others still refer to the resource
    │   ├── SecretMustBeReentered   the place a secret is sent to changes, the secret was not given
    │   ├── RegistrationClosed      registration is switched off
    │   ├── BetaCodeInvalid         the beta code is unknown or spent
    │   └── AuditBroken             records that are to be pruned are not as they were sealed
    ├── OutOfRange                  a revision or history that is not (any more) to be had
    │   ├── RevisionCompacted       the changes after the revision are not kept any more: take the initial state again
    │   ├── HistoryChanged          the database was restored from a copy: take the initial state again
    │   └── RevisionInFuture        the revision is above the store's
    ├── ResourceExhausted           a limit was reached
    │   ├── RequestTooLarge         the message is over the size limit
    │   ├── StoreFull               the database has no room left; nothing was written
    │   ├── RateLimited             too many requests; `retry_after` says when to come back
    │   └── SlowReader              a stream was not read fast enough; `resume_revision` is where to go on
    ├── Unavailable                 no answer now; of a write nobody knows whether it was done
    │   ├── StoreUnavailable        the database is locked, read-only or gone
    │   ├── RevisionNotReached      the server has not seen what this client has seen
    │   ├── ShuttingDown            the server is going down
    │   └── AuditUnavailable        the audit record could not be made durable, so nothing was revealed
    ├── DeadlineExceeded            no answer in time; of a write nobody knows whether it was done
    ├── DataLoss
    │   └── SecretUnreadable        a stored secret does not open and must be entered again
    ├── Unimplemented               the server has no such rpc
    ├── Cancelled                   the call was cancelled, or the client closed
    ├── Internal                    an error of the service; the message has an id to find in its log
    └── Unknown                     an answer that is none of these

An error whose reason this release does not know has the class of its status code.  `ClientSettingsError` stands by
itself: it is raised where a client is made, before there is any call.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from grpc import StatusCode


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field: its path in the request, and what would be accepted."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of a call that failed."""

    method: str
    code: StatusCode
    message: str
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    retry_after: float | None = None
    request_id: str = ""


class NofxClientError(Exception):
    """A call that failed.

    `method` is the rpc ("Traders/GetTrader") and `code` its status; `reason` is a name of the proto enum Reason without
    its prefix, or "" where the answer is not the service's own; `metadata` and `violations` are what the service says
    with it; `retry_after` is in seconds, None where the service names no time; `request_id` is what a write was sent
    with: sent again with the same id, it is done once.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.method, self.code, self.message = failure.method, failure.code, failure.message
        self.reason, self.metadata, self.violations = failure.reason, failure.metadata, failure.violations
        self.retry_after, self.request_id = failure.retry_after, failure.request_id

    def __str__(self) -> str:
        return f"{self.method}: {self.reason or self.code.name}: {self.message}"


class InvalidArgument(NofxClientError): ...


class InvalidPageToken(InvalidArgument): ...


class RequestIdReused(InvalidArgument): ...


class Unauthenticated(NofxClientError): ...


class LoginRefused(Unauthenticated): ...


class PermissionDenied(NofxClientError): ...


class NotFound(NofxClientError): ...


class AlreadyExists(NofxClientError): ...


class Aborted(NofxClientError): ...


class EtagMismatch(Aborted): ...


class FailedPrecondition(NofxClientError): ...


class InUse(FailedPrecondition): ...


class SecretMustBeReentered(FailedPrecondition): ...


class RegistrationClosed(FailedPrecondition): ...


class BetaCodeInvalid(FailedPrecondition): ...


class AuditBroken(FailedPrecondition): ...


class OutOfRange(NofxClientError): ...


class RevisionCompacted(OutOfRange):
    @property
    def oldest_revision(self) -> int:
        """The first revision that a stream could begin after."""
        return int(self.metadata.get("oldest_revision", 0))


class HistoryChanged(OutOfRange):
    @property
    def history_id(self) -> str:
        """The history that the store's revisions count in now."""
        return self.metadata.get("history_id", "")


class RevisionInFuture(OutOfRange):
    @property
    def current_revision(self) -> int:
        """The revision that the store is at."""
        return int(self.metadata.get("current_revision", 0))


class ResourceExhausted(NofxClientError): ...


class RequestTooLarge(ResourceExhausted): ...


class StoreFull(ResourceExhausted): ...


class RateLimited(ResourceExhausted): ...


class SlowReader(ResourceExhausted):
    @property
    def resume_revision(self) -> int:
        """The revision up to which all was sent: the `start_revision` to go on from."""
        return int(self.metadata.get("resume_revision", 0))


class Unavailable(NofxClientError): ...


class StoreUnavailable(Unavailable): ...


class RevisionNotReached(Unavailable): ...


class ShuttingDown(Unavailable): ...


class AuditUnavailable(Unavailable): ...


class DeadlineExceeded(NofxClientError): ...


class DataLoss(NofxClientError): ...


class SecretUnreadable(DataLoss): ...


class Unimplemented(NofxClientError): ...


class Cancelled(NofxClientError): ...


class Internal(NofxClientError): ...


class Unknown(NofxClientError): ...


class ClientSettingsError(ValueError):
    """A client cannot be made of what it was given; the message says which value is wrong and what would do."""


CODES: Mapping[StatusCode, type[NofxClientError]] = {
    StatusCode.INVALID_ARGUMENT:    InvalidArgument,
    StatusCode.UNAUTHENTICATED:     Unauthenticated,
    StatusCode.PERMISSION_DENIED:   PermissionDenied,
    StatusCode.NOT_FOUND:           NotFound,
    StatusCode.ALREADY_EXISTS:      AlreadyExists,
    StatusCode.ABORTED:             Aborted,
    StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    StatusCode.OUT_OF_RANGE:        OutOfRange,
    StatusCode.RESOURCE_EXHAUSTED:  ResourceExhausted,
    StatusCode.UNAVAILABLE:         Unavailable,
    StatusCode.DEADLINE_EXCEEDED:   DeadlineExceeded,
    StatusCode.DATA_LOSS:           DataLoss,
    StatusCode.UNIMPLEMENTED:       Unimplemented,
    StatusCode.CANCELLED:           Cancelled,
    StatusCode.INTERNAL:            Internal,
    StatusCode.UNKNOWN:             Unknown,
}  # fmt: skip

# Only reasons that say more than their code does.
REASONS: Mapping[str, type[NofxClientError]] = {
    "INVALID_PAGE_TOKEN":       InvalidPageToken,
    "REQUEST_ID_REUSED":        RequestIdReused,
    "LOGIN_REFUSED":            LoginRefused,
    "ETAG_MISMATCH":            EtagMismatch,
    "IN_USE":                   InUse,
    "SECRET_MUST_BE_REENTERED": SecretMustBeReentered,
    "REGISTRATION_CLOSED":      RegistrationClosed,
    "BETA_CODE_INVALID":        BetaCodeInvalid,
    "AUDIT_BROKEN":             AuditBroken,
    "REVISION_COMPACTED":       RevisionCompacted,
    "HISTORY_CHANGED":          HistoryChanged,
    "REVISION_IN_FUTURE":       RevisionInFuture,
    "REQUEST_TOO_LARGE":        RequestTooLarge,
    "STORE_FULL":               StoreFull,
    "RATE_LIMITED":             RateLimited,
    "SLOW_READER":              SlowReader,
    "STORE_UNAVAILABLE":        StoreUnavailable,
    "REVISION_NOT_REACHED":     RevisionNotReached,
    "SHUTTING_DOWN":            ShuttingDown,
    "AUDIT_UNAVAILABLE":        AuditUnavailable,
    "SECRET_UNREADABLE":        SecretUnreadable,
}  # fmt: skip


def class_of(code: StatusCode, reason: str) -> type[NofxClientError]:
    """The class of a reason, or that of the code where the reason is unknown or belongs to another code."""
    by_code = CODES.get(code, Unknown)
    by_reason = REASONS.get(reason, by_code)
    return by_reason if issubclass(by_reason, by_code) else by_code


def error_of(failure: Failure) -> NofxClientError:
    """The error to raise for a failure."""
    return class_of(failure.code, failure.reason)(failure)
