"""How `nofx-grpc watch` prints its lines: as a table for people, or as JSON for programs."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from google.protobuf.json_format import MessageToDict
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from nofx_grpc.cli.watch_lines import CHANGE, GAP, SYNCED, Line
from nofx_grpc.redaction import escaped, redacted_fields

_FIRST_OWN_FIELD = 10  # before come the key, the etag and the times, which all resources have
_WIDTH_OF_FILES = 200
_COLORS = {"CREATE": "green", "UPDATE": "yellow", "DELETE": "red"}


class Output(Protocol):
    """Prints lines.  Raises BrokenPipeError when nobody reads them any more."""

    def show(self, line: Line) -> None: ...


class JsonLines:
    """One JSON object a line, each flushed."""

    def show(self, line: Line) -> None:
        print(json.dumps(_as_json(line)), flush=True)


class Table:
    """A row for each object, cut to the width of the terminal; nothing in a row can steer it."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or _Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = _WIDTH_OF_FILES
        self._headed = False

    def show(self, line: Line) -> None:
        if not self._headed:
            self._row("REVISION", "TIME UTC", "", "KIND", "USER", "ID", "VALUES", style="bold")
            self._headed = True
        if line.event == SYNCED:
            self._print(Text(f"up to date at revision {line.revision}", style="dim"))
        elif line.event == GAP:
            self._print(Text(escaped(f"what was shown may have gaps: {line.message}"), style="bold red"))
        else:
            time = f"{line.time:%H:%M:%S}" if line.time else ""
            operation = line.operation if line.event == CHANGE else ""
            values = redacted_fields(line.resource, _FIRST_OWN_FIELD) if line.resource else []
            cells = (str(line.revision), time, operation, line.kind, line.user_id, line.id, ", ".join(values))
            self._row(*map(escaped, cells), style=_COLORS.get(operation, ""))

    def _row(self, *cells: str, style: str) -> None:
        """Print seven cells, of which the operation is in the style."""
        room = max(self._console.width - 44, 24)
        user, id = min(20, room // 4), min(40, room // 3)
        widths = (9, 8, 6, 14, user, id, room - user - id)
        row = Text()
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            row.append(_fitted(cell, width) + " ", style if number == 2 or style == "bold" else "")
        row.rstrip()
        self._print(row)

    def _print(self, text: Text) -> None:
        self._console.print(text, no_wrap=True, crop=True, overflow="ellipsis", soft_wrap=False)
        self._console.file.flush()


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError  # rich would end the process with an error


def _fitted(text: str, width: int) -> str:
    """The text in so many cells of a terminal, with an ellipsis where it was cut."""
    return set_cell_size(text, width) if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…"


def _as_json(line: Line) -> Mapping[str, Any]:
    """What docs/cli.md says that a line has."""
    if line.event == GAP:
        return {"event": GAP, "reason": line.reason, "message": line.message}
    place = {"event": line.event, "revision": line.revision, "history_id": line.history_id}
    if line.event == SYNCED:
        return place
    resource = None
    if line.resource is not None:
        resource = MessageToDict(
            line.resource, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    named = {"kind": line.kind, "user_id": line.user_id, "id": line.id, "resource": resource}
    if line.event != CHANGE:
        return {**place, **named}
    time = line.time.isoformat().replace("+00:00", "Z") if line.time else None
    return {**place, "more": line.more, "time": time, "operation": line.operation, **named}
