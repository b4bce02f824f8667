"""The messages of Watch: each kind of resource, its enum value and its converter; commits as responses."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from nofx_grpc.services import beta_codes, exchanges, models, signal_sources, system_config, users
from nofx_grpc.services.convert import to_timestamp
from nofx_grpc.services.groups import size_in_another
from nofx_grpc.services.trader_configs import trader_to_proto
from nofx_grpc.store import beta_codes as beta_code_store
from nofx_grpc.store import exchanges as exchange_store
from nofx_grpc.store import models as model_store
from nofx_grpc.store import signal_sources as signal_source_store
from nofx_grpc.store import system_config as config_store
from nofx_grpc.store import traders as trader_store
from nofx_grpc.store import users as user_store
from nofx_grpc.store.changes import Change, Commit
from nofx_grpc.store.resources import Resource
from nofx_grpc.store.revisions import Kind, Operation
from nofx_grpc.v1 import watch_pb2 as pb

MOST_BYTES = 1024 * 1024  # of a response: a quarter of what clients take by default
_AT_ONCE = 10  # changes that are made into messages without a pause: each takes some 40 µs


class WatchedKind(NamedTuple):
    """A kind of resource: its value in the protos, its field in `Resource`, where it is stored, how it is shown."""

    value: pb.ResourceKind.ValueType
    field: str
    resource: Resource[Any]
    to_proto: Callable[[Any], Any]
    of_user: bool = True

    def message(self, record: Any) -> pb.Resource:
        return pb.Resource(**{self.field: self.to_proto(record)})

    def key(self, change: Change) -> tuple[str, ...]:
        """The key that the resource of a change has in its table."""
        return (change.user_id, change.id) if len(self.resource.key) > 1 else (change.id,)


KINDS: dict[Kind, WatchedKind] = {
    Kind.USER: WatchedKind(pb.RESOURCE_KIND_USER, "user", user_store.resource, users.to_proto),
    Kind.MODEL: WatchedKind(pb.RESOURCE_KIND_MODEL, "model", model_store.resource, models.to_proto),
    Kind.EXCHANGE: WatchedKind(pb.RESOURCE_KIND_EXCHANGE, "exchange", exchange_store.resource, exchanges.to_proto),
    Kind.SIGNAL_SOURCE: WatchedKind(
        pb.RESOURCE_KIND_SIGNAL_SOURCE, "signal_source", signal_source_store.resource, signal_sources.to_proto
    ),
    Kind.TRADER: WatchedKind(pb.RESOURCE_KIND_TRADER, "trader", trader_store.resource, trader_to_proto),
    Kind.CONFIG_ENTRY: WatchedKind(
        pb.RESOURCE_KIND_CONFIG_ENTRY, "config_entry", config_store.resource, system_config.to_proto, of_user=False
    ),
    Kind.BETA_CODE: WatchedKind(
        pb.RESOURCE_KIND_BETA_CODE, "beta_code", beta_code_store.resource, beta_codes.to_proto, of_user=False
    ),
}
KIND_OF_VALUE = {watched.value: kind for kind, watched in KINDS.items()}

OPERATIONS = {
    Operation.CREATE: pb.OPERATION_CREATE,
    Operation.UPDATE: pb.OPERATION_UPDATE,
    Operation.DELETE: pb.OPERATION_DELETE,
}


def change_to_proto(change: Change) -> pb.Change:
    """A change, with the resource as it was then."""
    watched = KINDS[Kind(change.kind)]
    message = pb.Change(
        operation=OPERATIONS[Operation(change.operation)], kind=watched.value, user_id=change.user_id, id=change.id
    )
    if change.resource:
        message.resource.CopyFrom(watched.message(watched.resource.from_log(change.resource)))
    return message


async def commit_to_proto(commit: Commit, history_id: str) -> AsyncIterator[pb.WatchResponse]:
    """The changes of one revision: one response, or several if they are too large for one.

    A commit may have thousands of changes: others have their turn meanwhile.
    """
    response, size = _part_of(commit, history_id), 0
    for number, change in enumerate(commit.changes, 1):
        message = change_to_proto(change)
        more = size_in_another(message)
        if size and size + more > MOST_BYTES:
            response.changes.more = True
            yield response
            response, size = _part_of(commit, history_id), 0
        response.changes.changes.append(message)
        size += more
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
    if commit.changes:
        response.revision = commit.revision
        yield response


def _part_of(commit: Commit, history_id: str) -> pb.WatchResponse:
    changes = pb.Changes(revision=commit.revision, time=to_timestamp(commit.at))
    return pb.WatchResponse(history_id=history_id, changes=changes)
