"""What `nofx-grpc watch` prints, line by line."""

import io
from collections.abc import Iterable

import pytest
from rich.cells import cell_len
from rich.console import Console

from nofx_grpc.cli.watch_lines import GAP, Line, Lines
from nofx_grpc.cli.watch_output import JsonLines, Table
from nofx_grpc.v1 import models_pb2, traders_pb2
from nofx_grpc.v1 import watch_pb2 as pb


def change(id: str, *, kind: int = pb.RESOURCE_KIND_TRADER, name: str = "") -> pb.Change:
    resource = pb.Resource(trader=traders_pb2.Trader(user_id="ada", id=id, name=name)) if name else None
    return pb.Change(operation=pb.OPERATION_UPDATE, kind=kind, user_id="ada", id=id, resource=resource)  # type: ignore[arg-type]  # a number


def changes(*ids: str, more: bool = False, revision: int = 7) -> pb.WatchResponse:
    told = pb.Changes(revision=revision, changes=[change(id) for id in ids], more=more)
    return pb.WatchResponse(history_id="h", changes=told)


def ids(lines: Iterable[Line]) -> list[tuple[str, bool]]:
    return [(line.id, line.more) for line in lines]


def table(*lines: Line, width: int) -> list[str]:
    """The rows that a table has for these lines on a terminal of this width."""
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    shown = Table(console)
    for line in lines:
        shown.show(line)
    return file.getvalue().splitlines()[1:]


def test_the_changes_of_a_revision_are_shown_when_they_are_complete() -> None:
    lines = Lines()
    assert ids(lines.of(changes("a", "b", more=True))) == []
    assert ids(lines.of(changes("c"))) == [("a", True), ("b", True), ("c", False)]
    assert ids(lines.of(changes("d"))) == [("d", False)]
    assert ids(lines.of(pb.WatchResponse(bookmark=pb.Bookmark()))) == []


def test_what_this_release_does_not_know_is_told_by_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    later = pb.Change.FromString(b"\x08\x63\x10\x62\x22\x01x")  # operation 99 on kind 98
    for line in Lines().of(pb.WatchResponse(changes=pb.Changes(revision=7, changes=[later]))):
        assert (line.operation, line.kind, line.id, line.resource) == ("99", "98", "x", None)
        JsonLines().show(line)
    snapshot = pb.Snapshot(kind=98, resources=[pb.Resource()])  # type: ignore[arg-type]  # a number
    [state] = Lines().of(pb.WatchResponse(snapshot=snapshot))
    assert (state.kind, state.id, state.user_id) == ("98", "", "")
    assert '"kind": "98"' in capsys.readouterr().out


@pytest.mark.parametrize("width", [20, 60, 80, 120, 250])
def test_a_row_is_one_line_whatever_it_holds(width: int) -> None:
    model = models_pb2.Model(name="m\n\x1b[2Jx" * 100, provider="名前" * 200)
    line = Line("change", 7, "h", None, "UPDATE", "MODEL", "\x1b[31mユーザー" * 30, "\x1b\n" * 300, model)
    [row] = table(line, width=width)
    assert cell_len(row) <= width and "\x1b" not in row


def test_long_values_are_cut_with_an_ellipsis() -> None:
    [row] = table(Line("change", 7, kind="TRADER", user_id="u" * 30, id="i" * 90, operation="DELETE"), width=120)
    assert row.split() == ["7", "DELETE", "TRADER", "u" * 18 + "…", "i" * 24 + "…"]


def test_a_gap_is_told_without_steering_the_terminal() -> None:
    assert table(Line(GAP, reason="R", message="gone\x1b[2J"), width=80) == [
        r"what was shown may have gaps: gone\x1b[2J"
    ]
