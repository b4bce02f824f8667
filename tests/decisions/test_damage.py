"""Files that are damaged, or odd: told of, not counted, and in nobody's way."""

import errno
import os
from pathlib import Path
from typing import Any

import grpc
import pytest

from nofx_grpc.decisions import records
from nofx_grpc.store.decisions import reading
from nofx_grpc.store.decisions.logs import find
from tests.decisions.support import Logs, record
from tests.support.clock import FakeClock
from tests.support.service import refused, running_service

NAME = "decision_20251118_100000_cycle1.json"


@pytest.mark.parametrize("damage", [b"{", b"", b"link"])
@pytest.mark.parametrize("by_id", [True, False])
async def test_a_file_that_is_damaged_later_is_told_of_by_who_reads_it(
    files: Logs, damage: bytes, *, by_id: bool
) -> None:
    """And is no longer counted; once it is mended it is a record again."""
    path = files.put(NAME, record())
    good = files.put("decision_20251118_100001_cycle2.json", record(2)).stem
    assert len(await files.ids()) == 2
    if damage == b"link":
        path.rename(path.parent.parent / "elsewhere")
        path.symlink_to("/etc/passwd")
    else:
        path.write_bytes(damage)
    if by_id:
        await refused(files.get(path.stem), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    for _ in range(3):
        page = await files.page()
        assert [decision.id for decision in page.decisions] == [good]
        assert [file.name for file in page.unreadable_files.files] == [NAME] and await files.counted() == 1
    path.unlink()
    path.write_text('{"timestamp": "2025-11-18T10:00:00Z", "success": true}')
    assert len(await files.ids()) == await files.counted() == 2


def without_rights(monkeypatch: pytest.MonkeyPatch, names: dict[str, bool]) -> None:
    """Files of these names can be opened only if they say so, or by whom their mode lets: root is let by any."""
    real = os.open

    def checked(path: Any, flags: int, *args: Any, dir_fd: int | None = None, **kwargs: Any) -> int:
        if path in names and not (names[path] or os.stat(path, dir_fd=dir_fd).st_mode & 0o400):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, *args, dir_fd=dir_fd, **kwargs)

    monkeypatch.setattr(os, "open", checked)


@pytest.mark.parametrize("known", [True, False])
async def test_a_file_that_may_be_read_again_is_read(
    files: Logs, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    path = files.put(NAME, record())
    if known:
        assert await files.ids() == [path.stem]
    path.chmod(0)
    without_rights(monkeypatch, {NAME: False})
    if known:
        await refused(files.get(path.stem), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    for _ in range(2):
        page = await files.page()
        assert [file.reason for file in page.unreadable_files.files] == ["it cannot be read: Permission denied"]
        assert not page.decisions
    path.chmod(0o600)
    page = await files.page()
    assert [decision.id for decision in page.decisions] == [path.stem] and not page.HasField("unreadable_files")
    assert await files.counted() == 1


async def test_a_file_that_the_server_may_read_once_it_runs_as_another_user_is_read_from_its_start(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {NAME: False}
    without_rights(monkeypatch, names)
    async with running_service(tmp_path / "data", clock=clock) as service:
        logs = await Logs.of(service)
        path = logs.put(NAME, record())
        path.chmod(0)
        assert (await logs.page()).unreadable_files.count == 1
    names[NAME] = True
    async with running_service(tmp_path / "data", clock=clock) as service:
        logs = Logs(service, service.client("admin"))
        assert await logs.ids() == [path.stem] and not (await logs.page()).HasField("unreadable_files")


async def test_a_file_that_is_damaged_is_told_of_by_a_stream(files: Logs) -> None:
    path = files.put(NAME, record())
    assert len(await files.ids()) == 1
    path.write_bytes(b"{")
    stream = files.tail(history_count=5)
    response = await stream.read()
    assert response.synced and not response.decisions and response.unreadable_files.count == 1
    stream.cancel()


async def test_what_is_found_damaged_while_a_file_gets_its_name_is_watched(files: Logs) -> None:
    path = files.put(NAME, record())
    good = files.put("decision_20251118_100001_cycle2.json", record(2))
    assert len(await files.ids()) == 2
    path.write_bytes(b"{")
    with files.home._following.own_change("t"):
        files.put("decision_20251118_100002_cycle3.json", record(3))
        log = (await files.service.app.db.read(find, "t")).value.log
        assert log is not None
        await files.home.reread(log, [path.stem])
    assert await files.ids() == [good.stem], "what is done in the block is not looked for"
    path.write_text('{"timestamp": "2025-11-18T10:00:00Z", "success": true}')
    assert path.stem in await files.ids()


async def test_names_that_are_no_text_are_told_of_once(files: Logs) -> None:
    """The second one looks as the first is shown."""
    files.put(NAME, record())
    long = b"\xff" * 200  # as it is shown it is longer than any name
    for name in (b"x\xff.json", rb"x\udcff.json", b"y\xfe", long):
        (files.root / "t" / os.fsdecode(name)).write_bytes(b"")
    for n in range(4):
        page = await files.page()
        assert {file.name for file in page.unreadable_files.files} == {r"x\udcff.json", r"y\udcfe", r"\udcff" * 200}
        assert page.unreadable_files.count == 3 and len(page.decisions) == n + 1
        files.put(f"decision_20251118_10000{n}_cycle{n + 2}.json", record(n + 2))
    for other in (files.root / "t").iterdir():
        if not other.name.startswith("decision"):
            other.unlink()
    assert not (await files.page()).HasField("unreadable_files")


async def test_a_file_that_cannot_be_dealt_with_keeps_no_other(files: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is that we have not thought of."""
    files.put(NAME, record())
    odd = files.put("odd.json", record())

    def parse(data: bytes) -> object:
        if b'"odd"' in data:
            raise ZeroDivisionError
        return records.parse(data)

    monkeypatch.setattr(reading, "parse", parse)
    odd.write_text('{"timestamp": "2025-11-18T10:00:00Z", "success": true, "x": "odd"}')
    page = await files.page()
    assert len(page.decisions) == 1 and "reading it fails" in page.unreadable_files.files[0].reason
    assert (await files.append()).cycle_number == 2
