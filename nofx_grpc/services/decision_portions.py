"""How much of the records is in memory, and in a response, at one time: a bound in bytes for each."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from google.protobuf.message import Message

from nofx_grpc.services.decision_messages import LONG
from nofx_grpc.services.groups import grouped
from nofx_grpc.store.decisions.entries import Entry
from nofx_grpc.v1 import decision_logs_pb2 as pb

AT_ONCE: Final = 25  # records that are in memory at one time
AT_ONCE_BYTES: Final = 4 * 1024 * 1024  # of their bodies; a larger one is not read where there may be several
MOST_SHOWN_BYTES: Final = 2 * 1024 * 1024  # of a message, and of all in a response

_MORE: Final = LONG | {"raw_json", "proposed_actions"}
_PLACE: Final = frozenset(
    {"user_id", "id", "trader_id", "time", "utc_offset_minutes", "cycle_number", "success", "size_bytes", "shortened"}
)
_REST: Final = frozenset(field.name for field in pb.Decision.DESCRIPTOR.fields) - _PLACE


class Shown(NamedTuple):
    """A record as it is shown, and how much of a response that takes; no message if it was deleted meanwhile, or is
    no record any more.
    """

    entry: Entry
    message: pb.Decision | None
    size: int


def portions(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Entries in their order, as many at one time as may be in memory."""
    return grouped(entries, body_bytes, AT_ONCE_BYTES, AT_ONCE)


def is_too_large(entry: Entry) -> bool:
    """Whether a record is not read where there may be several."""
    return entry.size_bytes > AT_ONCE_BYTES


def body_bytes(entry: Entry) -> int:
    """How much is read of a record where there may be several."""
    return 0 if is_too_large(entry) else entry.size_bytes


def responses(shown: Sequence[Shown], most_bytes: int) -> Iterator[list[pb.Decision]]:
    """The messages in their order, as many at one time as a response may have."""
    there = (record for record in shown if record.message is not None)
    for group in grouped(there, lambda record: record.size, most_bytes):
        yield [record.message for record in group if record.message is not None]


def shorten(message: pb.Decision) -> int:
    """Leave out of a message what is too much for a response; the size of what is left."""
    size = message.ByteSize()
    for names in (_MORE, _REST):
        if size > MOST_SHOWN_BYTES:
            _clear(message, names)
            message.shortened = True
            size = message.ByteSize()
    return size


def _clear(message: Message, names: Iterable[str]) -> None:
    for name in names:
        message.ClearField(name)
