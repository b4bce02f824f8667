"""Every error that the service raises on purpose.  Longer than 300 lines: the tree is read as one.

    NofxError
    ├── InvalidArgument             the request is wrong in itself; carries field violations
    │   ├── InvalidPageToken        the token is damaged, expired or from another query
    │   └── RequestIdReused         the request id was used before, with another request
    ├── Unauthenticated             no credential, or one that is not valid (any more)
    │   └── LoginRefused            e-mail, password or code is wrong; never says which
    ├── PermissionDenied            the caller may not do this
    ├── NotFound                    no such resource for this caller
    ├── AlreadyExists               the key is taken
    ├── EtagMismatch                the resource has changed since the caller read it
    ├── FailedPrecondition          right request, wrong state
    │   ├── InUse                   others still refer to the resource
    │   ├── SecretMustBeReentered   the place a secret is sent to changes, the secret was not given
    │   ├── RegistrationClosed      registration is switched off
    │   ├── BetaCodeInvalid         the beta code is unknown or spent
    │   └── AuditBroken             records that are to be pruned are not as they were sealed
    ├── OutOfRange                  a revision or history that is not (any more) to be had
    │   ├── RevisionCompacted       the changes after the revision are not kept any more
    │   ├── HistoryChanged          the revision counts in another history than the store's
    │   └── RevisionInFuture        the revision is above the store's
    ├── ResourceExhausted           a limit was reached
    │   ├── RequestTooLarge         the message is over the size limit
    │   ├── StoreFull               the database has no room left
    │   ├── RateLimited             too many requests; says when to come back
    │   └── SlowReader              a stream's client fell too far behind
    ├── Unavailable                 try again later
    │   ├── StoreUnavailable        the database is locked, read-only or gone
    │   ├── RevisionNotReached      this server has not seen the revision that the caller asks for
    │   ├── ShuttingDown            the server is going down
    │   └── AuditUnavailable        the audit record could not be made durable, so nothing was done
    ├── DeadlineExceeded            the caller's deadline, or the request's own time, passed before the work was started
    ├── SecretUnreadable            a stored secret does not open under any key of the keyring
    └── StartError                  the process cannot start; never reaches a client
        ├── SettingsError           a setting is missing or wrong
        ├── MasterKeyError          the master key is missing or does not open the keyring
        ├── SchemaError             the database's schema is unknown, too new, or a migration failed
        ├── AdoptionError           a NOFX database cannot be adopted
        ├── CopyError               a store cannot be copied to where it was to go
        └── BackupError             a backup cannot be made, is damaged, or cannot be restored

This module knows nothing of gRPC: `nofx_grpc.rpc.status` maps each class to a status code.  ``reason`` is the name of
a value of the proto enum ``Reason``; clients may rely on it.  No message may contain a secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field: its path as the client wrote it, and what would be accepted."""

    field: str
    description: str


class NofxError(Exception):
    """The root: a message for humans, a reason for programs, and metadata that the reason explains."""

    reason: ClassVar[str]

    def __init__(self, message: str, *, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})


class InvalidArgument(NofxError):
    reason = "INVALID_ARGUMENT"

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = violations


class InvalidPageToken(InvalidArgument):
    reason = "INVALID_PAGE_TOKEN"

    def __init__(self, description: str) -> None:
        super().__init__(Violation("page_token", description))


class RequestIdReused(InvalidArgument):
    reason = "REQUEST_ID_REUSED"

    def __init__(self) -> None:
        super().__init__(
            Violation("request_id", "was already used for a different request; make a new one for each request")
        )


class Unauthenticated(NofxError):
    """``principal`` is who it was, where that is known: for the audit record, not for the caller."""

    reason = "UNAUTHENTICATED"

    def __init__(self, message: str, *, principal: str = "") -> None:
        super().__init__(message)
        self.principal = principal


class LoginRefused(Unauthenticated):
    reason = "LOGIN_REFUSED"

    def __init__(self) -> None:
        super().__init__("the e-mail, the password or the code is wrong")


class PermissionDenied(NofxError):
    reason = "PERMISSION_DENIED"


class NotFound(NofxError):
    reason = "NOT_FOUND"

    def __init__(self, kind: str, id: str, *, field: str = "id") -> None:
        super().__init__(f"no {kind} with {field} {id!r}", metadata={"kind": kind, "id": id})


class AlreadyExists(NofxError):
    reason = "ALREADY_EXISTS"

    def __init__(self, kind: str, id: str, *, field: str = "id") -> None:
        super().__init__(
            f"a {kind} with {field} {id!r} already exists", metadata={"kind": kind, "field": field, "value": id}
        )


class EtagMismatch(NofxError):
    reason = "ETAG_MISMATCH"

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(
            f"the {kind} {id!r} has changed since it was read: read it again and repeat the change",
            metadata={"kind": kind, "id": id},
        )


class FailedPrecondition(NofxError):
    reason = "FAILED_PRECONDITION"


class InUse(FailedPrecondition):
    reason = "IN_USE"

    def __init__(self, kind: str, id: str, *, by: str, users: list[str]) -> None:
        shown = ", ".join(users[:10]) + (f" and {len(users) - 10} more" if len(users) > 10 else "")
        super().__init__(
            f"the {kind} {id!r} is in use by {by}: {shown}", metadata={"kind": kind, "id": id, "used_by": shown}
        )


class SecretMustBeReentered(FailedPrecondition):
    reason = "SECRET_MUST_BE_REENTERED"

    def __init__(self, changed: str, secrets: list[str]) -> None:
        super().__init__(
            f"{changed} says where {', '.join(secrets)} is sent: give {', '.join(secrets)} in the same update",
            metadata={"changed": changed, "secrets": ",".join(secrets)},
        )


class RegistrationClosed(FailedPrecondition):
    reason = "REGISTRATION_CLOSED"

    def __init__(self) -> None:
        super().__init__("registration is closed: registration_enabled is false in the system configuration")


class BetaCodeInvalid(FailedPrecondition):
    reason = "BETA_CODE_INVALID"

    def __init__(self) -> None:
        super().__init__("the beta code is unknown or was already used")


class AuditBroken(FailedPrecondition):
    reason = "AUDIT_BROKEN"

    def __init__(self, chain_id: str, position: int) -> None:
        super().__init__(
            f"the audit record {position} of the chain {chain_id!r} is not as it was sealed, or missing: nothing from "
            "there on was pruned; ask VerifyAudit, keep a copy, and prune with force",
            metadata={"chain_id": chain_id, "chain_position": str(position)},
        )


class OutOfRange(NofxError):
    reason = "OUT_OF_RANGE"


class RevisionCompacted(OutOfRange):
    reason = "REVISION_COMPACTED"

    def __init__(self, wanted: int, oldest: int) -> None:
        super().__init__(
            f"the changes after revision {wanted} are not kept any more, only those after {oldest}: take the initial "
            "state again",
            metadata={"wanted": str(wanted), "oldest_revision": str(oldest)},
        )
        self.oldest = oldest


class HistoryChanged(OutOfRange):
    reason = "HISTORY_CHANGED"

    def __init__(self, wanted: str, current: str) -> None:
        super().__init__(
            f"the revisions of the history {wanted!r} mean nothing here: the store's history is {current!r}; take the "
            "initial state again",
            metadata={"wanted": wanted, "history_id": current},
        )


class RevisionInFuture(OutOfRange):
    reason = "REVISION_IN_FUTURE"

    def __init__(self, wanted: int, current: int) -> None:
        super().__init__(
            f"the store is at revision {current}: it has not reached revision {wanted}",
            metadata={"wanted": str(wanted), "current_revision": str(current)},
        )


class ResourceExhausted(NofxError):
    reason = "RESOURCE_EXHAUSTED"


class RequestTooLarge(ResourceExhausted):
    reason = "REQUEST_TOO_LARGE"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the request has {size} bytes; at most {limit} are accepted",
            metadata={"size": str(size), "limit": str(limit)},
        )


class StoreFull(ResourceExhausted):
    reason = "STORE_FULL"

    def __init__(self) -> None:
        super().__init__("the database has no room left: nothing was written")


class RateLimited(ResourceExhausted):
    reason = "RATE_LIMITED"

    def __init__(self, message: str, *, limit: str, retry_after: float) -> None:
        super().__init__(message, metadata={"limit": limit})
        self.retry_after = retry_after


class SlowReader(ResourceExhausted):
    reason = "SLOW_READER"

    def __init__(self, revision: int) -> None:
        super().__init__(
            f"changes were made faster than this stream was read: resume from revision {revision}",
            metadata={"resume_revision": str(revision)},
        )


class Unavailable(NofxError):
    """Try again after ``retry_after`` seconds."""

    reason = "UNAVAILABLE"
    retry_after: float = 1.0


class StoreUnavailable(Unavailable):
    reason = "STORE_UNAVAILABLE"


class RevisionNotReached(Unavailable):
    reason = "REVISION_NOT_REACHED"

    def __init__(self, wanted: int, current: int) -> None:
        super().__init__(
            f"this server is at revision {current} and did not reach revision {wanted} in time",
            metadata={"wanted": str(wanted), "current": str(current)},
        )


class ShuttingDown(Unavailable):
    reason = "SHUTTING_DOWN"

    def __init__(self) -> None:
        super().__init__("the server is shutting down")


class AuditUnavailable(Unavailable):
    reason = "AUDIT_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("the audit record could not be made durable, so nothing was revealed or changed")


class DeadlineExceeded(NofxError):
    reason = "DEADLINE_EXCEEDED"

    def __init__(self, message: str = "the deadline passed before the work was started; nothing was done") -> None:
        super().__init__(message)


class SecretUnreadable(NofxError):
    reason = "SECRET_UNREADABLE"

    def __init__(self, *fields: str) -> None:
        super().__init__(
            f"the stored {', '.join(fields)} does not open under any key of the keyring: it must be entered again",
            metadata={"field": ",".join(fields)},
        )
        self.fields = fields


class StartError(NofxError):
    reason = "START_ERROR"


class SettingsError(StartError):
    reason = "SETTINGS_ERROR"


class MasterKeyError(StartError):
    reason = "MASTER_KEY_ERROR"


class SchemaError(StartError):
    reason = "SCHEMA_ERROR"


class AdoptionError(StartError):
    reason = "ADOPTION_ERROR"


class CopyError(StartError):
    reason = "COPY_ERROR"


class BackupError(StartError):
    reason = "BACKUP_ERROR"
