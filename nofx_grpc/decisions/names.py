"""Names on disk: a record's id from its time and cycle, and a trader's folder from its id.

NOFX takes a trader's id for a path as it is.  Here an id that is safe as a path is its folder, so that both find each
other's records; any other is spelt in base32 after "=", which no safe id begins with.  So no id leads out of the root,
and no two ids, of whatever case, to one folder.
"""

import re
from base64 import b32decode, b32encode
from datetime import UTC, datetime
from typing import Final

from nofx_grpc.decisions.times import SECOND

SUFFIX: Final = ".json"
MOST_ID_BYTES: Final = 250  # with the suffix it fits into what file systems take for a name
# One that claims more came from elsewhere and is no number of a cycle: counting on from it would soon end.
MOST_CYCLES: Final = 1_000_000_000_000

_CYCLE = re.compile(r"decision_\d{8}_\d{6}_cycle(\d{1,12})", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_MARK: Final = "="
_MOST_PART_BYTES: Final = 255
_CHUNK: Final = 200


def record_id(ns: int, cycle: int) -> str:
    """The id of a record of this time (nanoseconds since 1970) and cycle."""
    return f"decision_{datetime.fromtimestamp(ns // SECOND, UTC):%Y%m%d_%H%M%S}_cycle{cycle}"


def cycle_of(id: str) -> int:
    """The cycle that an id names; 0 if it names none."""
    found = _CYCLE.fullmatch(id)
    return int(found[1]) if found else 0


def id_of_file(name: str) -> str | None:
    """The id of the record that a file of this name holds; None if it can hold none."""
    id = name.removesuffix(SUFFIX)
    if id == name or not id or id.startswith(".") or _CONTROL.search(id) or len(id.encode()) > MOST_ID_BYTES:
        return None
    return id


def plain_folder(trader_id: str) -> str | None:
    """The id as a path below the root; None if it is not safe as one."""
    return trader_id if trader_id and all(_is_safe(part) for part in trader_id.split("/")) else None


def spelt_folder(trader_id: str) -> str:
    """The folder of an id whose plain folder is not safe, or is another's: one that is nobody else's."""
    spelt = b32encode(trader_id.encode()).decode().lower().rstrip("=")
    return "/".join(_MARK + spelt[start : start + _CHUNK] for start in range(0, len(spelt), _CHUNK))


def trader_of_folder(folder: str) -> str | None:
    """The trader whose folder this is; None if it can be nobody's."""
    if plain_folder(folder):
        return folder
    spelt = "".join(part.removeprefix(_MARK) for part in folder.split("/")).upper()
    try:
        trader_id = b32decode(spelt + "=" * (-len(spelt) % 8)).decode()
    except ValueError:
        return None
    return trader_id if spelt_folder(trader_id) == folder else None


def folded(folder: str) -> str:
    """What a file system without case makes of a folder."""
    return folder.casefold()


def _is_safe(part: str) -> bool:
    return (
        bool(part)
        and not part.startswith((".", _MARK))
        and not part.endswith(SUFFIX)
        and not _CONTROL.search(part)
        and "\\" not in part
        and len(part.encode()) <= _MOST_PART_BYTES
    )
