"""What PostgreSQL's errors mean, by their codes (SQLSTATE)."""

import psycopg
from sqlalchemy.engine import ExceptionContext

from nofx_grpc.errors import NofxError, StoreFull, StoreUnavailable

_NO_ROOM = "53100"
_BY_CODE = {
    "25006": "the database is read-only",
    "25P03": "the server was stopped in the middle of a transaction",
    "40001": "others are changing the same rows",
    "40P01": "others are changing the same rows",
    "53300": "the database has no connection to spare",
    "55000": "the database is read-only",  # a standby, asked for the place where a primary writes
    "55P03": "another session keeps the database locked for longer than NOFX_GRPC_LOCK_TIMEOUT_SECONDS",
    "57014": "the database took longer than NOFX_GRPC_DATABASE_STATEMENT_SECONDS allows",
}
_BY_CLASS = {
    "": "the database cannot be reached",
    "08": "the database cannot be reached",
    "28": "the database refuses this service; the server's log says why",
    "3D": "the database does not exist",
    "53": "the database has no resources left; the server's log says why",
    "57": "the database is shutting down or starting",
    "58": "the database cannot be read or written; the server's log says why",
    "XX": "the database cannot be read or written; the server's log says why",
}
_LOST = {"", "08", "57"}  # classes of errors after which the connection is gone
_IDLE = "25P03"  # so is it after this one
LOCKED = "55P03"
_CANCELED = "57014"
_CONFLICTS = {"40001", "40P01", "53300"}
_PROMOTING = "55000"  # a standby may be a primary soon
_UNKNOWN_OUTCOME = "40003"


def code_of(error: BaseException) -> str | None:
    """The SQLSTATE of an error of the driver's; '' if the server did not come to send one; None for any other error."""
    cause = getattr(error, "orig", error)
    if not isinstance(cause, psycopg.Error):
        return None
    return cause.sqlstate or ("" if isinstance(cause, psycopg.OperationalError) else None)


def explained(error: BaseException) -> NofxError | None:
    """What a client is told; None for what says nothing about the state of the database."""
    code = code_of(error)
    if code == _NO_ROOM:
        return StoreFull()
    text = None if code is None else _BY_CODE.get(code, _BY_CLASS.get(code[:2]))
    return None if text is None else StoreUnavailable(text)


def is_lost(error: BaseException) -> bool:
    """Whether an error tells that the connection is gone, or cannot be made."""
    code = code_of(error)
    return code is not None and code != _CANCELED and (code[:2] in _LOST or code == _IDLE)


def is_transient(error: BaseException) -> bool:
    """Whether the same thing, done again a little later, may well work."""
    return code_of(error) in _CONFLICTS | {_PROMOTING} or is_lost(error)


def is_uncertain(error: BaseException) -> bool:
    """Whether a COMMIT that failed with this error may have taken effect all the same."""
    return code_of(error) == _UNKNOWN_OUTCOME or (is_lost(error) and code_of(error) != _IDLE)


def leave_out_rows(context: ExceptionContext) -> None:
    """Keep what PostgreSQL adds to an error, such as the values of the row that it refuses, out of texts and logs."""
    error = context.original_exception
    if not isinstance(error, psycopg.Error) or not error.diag.message_primary:
        return
    error.args = (error.diag.message_primary,)
    if context.sqlalchemy_exception is not None:
        kind = f"{type(error).__module__}.{type(error).__name__}"
        context.sqlalchemy_exception.args = (f"({kind}) {error.diag.message_primary}",)
