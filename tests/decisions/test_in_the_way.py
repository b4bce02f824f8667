"""What is in the way of a folder, or is missing: told of, never followed, and no other trader's trouble."""

import os
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from nofx_grpc.errors import StoreUnavailable
from nofx_grpc.services.decision_pruning import Retention
from nofx_grpc.store.decisions.folders import Folders
from tests.decisions.support import Logs, record
from tests.support.service import refused

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"
NAME = "decision_20251118_100000_cycle1.json"


async def moved_and_linked(files: Logs, tmp_path: Path, trader: str = "t") -> Path:
    """The folder of a trader with a record, moved to another disk; a link is in its place."""
    made = await files.append(trader)
    await files.home.settle()
    outside = tmp_path / "outside"
    (files.root / trader).rename(outside)
    (files.root / trader).symlink_to(outside)
    assert [path.stem for path in outside.iterdir()] == [made.id]
    return outside


async def test_a_folder_that_became_a_link_is_an_error_with_words(files: Logs, tmp_path: Path) -> None:
    outside = await moved_and_linked(files, tmp_path)
    for call in (files.page, files.append, lambda: files.prune(keep_count=1), lambda: anext(aiter(files.tail()))):
        refusal = await refused(call(), *UNAVAILABLE)
        assert "symbolic link" in str(refusal.text)
    assert await files.counted() == 1 and len(list(outside.iterdir())) == 1
    (files.root / "t").unlink()
    outside.rename(files.root / "t")
    assert len(await files.ids()) == 1
    assert (await files.append()).cycle_number == 2


@pytest.mark.parametrize("trader", ["way/x", "way/x/y"])
@pytest.mark.parametrize("link", [True, False])
async def test_a_folder_inside_a_link_or_a_file_is_spelt(
    files: Logs, tmp_path: Path, trader: str, *, link: bool
) -> None:
    files.root.mkdir(exist_ok=True)
    if link:
        (tmp_path / "outside").mkdir()
        (files.root / "way").symlink_to(tmp_path / "outside")
    else:
        (files.root / "way").write_text("")
    await files.add_trader(trader, "alice")
    made = await files.append(trader)
    assert await files.ids(trader) == [made.id]
    [path] = files.root.rglob(f"{made.id}.json")
    assert path.relative_to(files.root).as_posix().startswith("=") and not list((files.root / ".pending").iterdir())


async def test_what_cannot_be_cleaned_up_keeps_nothing_else(files: Logs) -> None:
    await files.append()
    pending = files.root / ".pending"
    for n in range(20):
        (pending / f"{n:02d}").write_text("")
        os.utime(pending / f"{n:02d}", (1, 1))
    (pending / "07").unlink()
    (pending / "07").mkdir()
    os.utime(pending / "07", (1, 1))
    await files.home.tidy()
    assert [path.name for path in pending.iterdir()] == ["07"]


async def test_retention_passes_over_who_cannot_be_got_at(files: Logs, tmp_path: Path) -> None:
    """Of b the folder is gone, of t it is a link: u, which comes last, is pruned all the same."""
    for trader, user in (("b", "bob"), ("u", "alice")):
        for n in range(3):
            files.put(f"decision_20251118_10000{n}_cycle{n}.json", record(n), trader)
        assert len(await files.ids(trader, user)) == 3
    await moved_and_linked(files, tmp_path)
    for path in (files.root / "b").iterdir():
        path.unlink()
    (files.root / "b").rmdir()
    await replace(files.service.app.housekeeping, retention=Retention(count=1)).sweep()
    assert len(list((files.root / "u").iterdir())) == 1
    assert [await files.counted(trader) for trader in "btu"] == [0, 1, 1]


async def test_retention_sees_what_nobody_has_read(files: Logs) -> None:
    await files.append()
    for n in range(2, 5):
        files.put(f"decision_20251118_10000{n}_cycle{n}.json", record(n))
    await replace(files.service.app.housekeeping, retention=Retention(count=2)).sweep()
    assert len(list((files.root / "t").iterdir())) == 2


def test_removing_from_a_folder_that_is_gone_is_done(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    Folders(tmp_path / "there").remove("t", ["x"])
    with pytest.raises(StoreUnavailable):
        Folders(tmp_path / "missing").remove("t", ["x"])
