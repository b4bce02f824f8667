"""Whose the records are once their trader is gone: never the next one's by accident."""

from collections.abc import Awaitable, Callable

import grpc
import pytest

from nofx_grpc.v1 import traders_pb2, users_pb2
from tests.decisions.support import Logs, record
from tests.support.service import refused

NAME = "decision_20251118_100000_cycle1.json"
NOT_FOUND = grpc.StatusCode.NOT_FOUND, "NOT_FOUND"
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION, "FAILED_PRECONDITION"


async def delete_trader(logs: Logs) -> None:
    await logs.admin.traders.DeleteTrader(traders_pb2.DeleteTraderRequest(user_id="alice", id="t"))


async def delete_user(logs: Logs) -> None:
    await logs.admin.users.DeleteUser(users_pb2.DeleteUserRequest(id="alice", force=True))


DELETIONS = pytest.mark.parametrize("delete", [delete_trader, delete_user])


@DELETIONS
async def test_files_that_nobody_has_read_stay_their_users(
    files: Logs, delete: Callable[[Logs], Awaitable[None]]
) -> None:
    files.put(NAME, record())
    await delete(files)
    await files.add_trader("t", "bob")
    await refused(files.page("t", "bob"), *NOT_FOUND)
    await refused(files.append("t", "bob"), *PRECONDITION)
    assert len(await files.ids("t", "alice")) == 1


@DELETIONS
async def test_records_from_before_the_trader_are_its_users(
    files: Logs, delete: Callable[[Logs], Awaitable[None]]
) -> None:
    """They were in the index as nobody's."""
    await files.service.execute("DELETE FROM traders WHERE id = 't'")
    files.put(NAME, record())
    assert len(await files.ids("t", "")) == 1
    await files.add_trader("t", "alice")
    assert len(await files.ids("t", "alice")) == 1
    await delete(files)
    await files.add_trader("t", "bob")
    await refused(files.page("t", "bob"), *NOT_FOUND)


@DELETIONS
async def test_who_has_the_records_is_asked_of_the_disk_that_has_them(
    files: Logs, delete: Callable[[Logs], Awaitable[None]]
) -> None:
    """While it is not there nobody can say, so the trader stays."""
    files.put(NAME, record())
    away = files.root.rename(files.root.with_name("away"))
    with pytest.raises(grpc.aio.AioRpcError, match="directory of the decision logs is missing"):
        await delete(files)
    away.rename(files.root)
    await delete(files)
    assert len(await files.ids("t", "alice")) == 1


async def test_a_trader_without_records_leaves_nothing(logs: Logs) -> None:
    await delete_trader(logs)
    await logs.add_trader("t", "bob")
    assert (await logs.append("t", "bob")).user_id == "bob"


async def test_a_trader_that_is_not_deleted_changes_nothing(files: Logs) -> None:
    files.put(NAME, record())
    request = traders_pb2.DeleteTraderRequest(user_id="bob", id="t", allow_missing=True)
    await files.admin.traders.DeleteTrader(request)
    assert len(await files.ids("t", "alice")) == 1
    await refused(files.page("t", "bob"), *NOT_FOUND)


async def test_pruning_everything_frees_the_id(logs: Logs) -> None:
    await logs.append()
    await delete_trader(logs)
    await logs.add_trader("t", "bob")
    await refused(logs.append("t", "bob"), *PRECONDITION)
    await logs.service.execute("DELETE FROM traders WHERE id = 't'")
    await logs.prune("t", everything=True, dry_run=True)
    await refused(logs.append("t", "bob"), *NOT_FOUND)
    assert (await logs.prune("t", everything=True)).deleted_count == 1
    await logs.add_trader("t", "bob")
    made = await logs.append("t", "bob")
    assert (made.user_id, made.cycle_number) == ("bob", 2) and await logs.ids("t", "bob") == [made.id]
    await refused(logs.page("t", "alice"), *NOT_FOUND)


async def test_an_empty_log_that_was_not_pruned_on_purpose_is_not_freed(files: Logs) -> None:
    files.put(NAME, record()).unlink()
    await files.append()
    await files.home.settle()
    (path,) = (files.root / "t").iterdir()
    path.unlink()
    assert await files.ids() == []
    await delete_trader(files)
    await files.add_trader("t", "bob")
    await refused(files.append("t", "bob"), *PRECONDITION)
