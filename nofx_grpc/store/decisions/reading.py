"""What a file is for the index: the entry of a record, or why it is none."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from nofx_grpc.decisions.names import id_of_file
from nofx_grpc.decisions.records import Facts, NotARecord, facts, parse
from nofx_grpc.errors import StoreUnavailable
from nofx_grpc.store.decisions.entries import Entry, entry_of
from nofx_grpc.store.decisions.folders import Folders, Stamp
from nofx_grpc.store.decisions.index import Unreadable

logger = structlog.get_logger(__name__)


class Read(NamedTuple):
    """What was found in files."""

    new: list[Entry]
    wrong: list[Unreadable]
    same: dict[str, Stamp]  # which were no records, and are what they were
    unread: list[str]  # which cannot be read for now: nothing is said of them


def read_entries(folders: Folders, folder: str, names: Sequence[str], known: Mapping[str, Stamp] | None = None) -> Read:
    """Read files, but those that are known to be no records; those that are gone are left out."""
    new: list[Entry] = []
    wrong: list[Unreadable] = []
    same: dict[str, Stamp] = {}
    unread: list[str] = []
    for name in names:
        before = known.get(shown_name(name)) if known else None
        if before is not None and stamp_of(folders, folder, name, of_any_change=True) == before:
            same[name] = before
            continue
        try:
            read = read_entry(folders, folder, name)
        except FileNotFoundError:
            continue
        except (OSError, StoreUnavailable) as error:
            logger.warning("decision_not_read", folder=folder, name=shown_name(name), error=str(error))
            unread.append(name)
            continue
        new.append(read) if isinstance(read, Entry) else wrong.append(read)
    return Read(new, wrong, same, unread)


def read_entry(folders: Folders, folder: str, name: str) -> Entry | Unreadable:
    """The entry of a file, or why it is no record.  Raises FileNotFoundError, OSError, StoreUnavailable."""
    state = folders.stamp(folder, name, of_any_change=True)
    try:
        id = id_of_file(name)
        if id is None:
            raise NotARecord("its name is none of a record, which ends in .json")
        return entry_in(id, *folders.read(folder, name))
    except NotARecord as error:
        return Unreadable(shown_name(name), state.size, state.changed_ns, str(error))


def entry_in(id: str, stamp: Stamp, data: bytes) -> Entry:
    """The entry of what is in a file.  Raises NotARecord."""
    return entry_of(id, _facts(data), size=stamp.size, mtime_ns=stamp.changed_ns)


def _facts(data: bytes) -> Facts:
    """Raises NotARecord, whatever the bytes do to what reads them: one file must not keep a trader's others."""
    try:
        return facts(parse(data))
    except NotARecord:
        raise
    except Exception as error:
        logger.exception("decision_unreadable")
        raise NotARecord("reading it fails: the server's log says how") from error


def stamp_of(folders: Folders, folder: str, name: str, *, of_any_change: bool = False) -> Stamp | None:
    """The stamp of a file; None if there is none to be had."""
    try:
        return folders.stamp(folder, name, of_any_change=of_any_change)
    except OSError:
        return None


def shown_name(name: str) -> str:
    """A name as the database can hold it, whatever its bytes are."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\0", "")
