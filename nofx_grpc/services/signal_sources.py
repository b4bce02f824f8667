"""The service SignalSources: the two feeds that a user's traders may take candidate coins from."""

from dataclasses import replace
from typing import Any

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.services.call import Call
from nofx_grpc.services.convert import open_fields, seal_fields, shown_secrets, to_timestamp
from nofx_grpc.services.fields import ResourceFields
from nofx_grpc.services.templates import check_may_write
from nofx_grpc.store import signal_sources
from nofx_grpc.store.resources import UNWRITTEN, etag_of
from nofx_grpc.store.signal_sources import SignalSource
from nofx_grpc.v1 import signal_sources_pb2 as pb

SECRETS = ("coin_pool_url", "oi_top_url")

FIELDS = ResourceFields(
    "signal_source",
    pb.SignalSource.DESCRIPTOR,
    required=(),
    defaults={"coin_pool_url": "", "oi_top_url": ""},
)


class SignalSources:
    """Reads, sets and deletes the one signal source of a user; its URLs come out with a trader's configuration only."""

    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["SignalSources"]

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope

    async def GetSignalSource(self, request: pb.GetSignalSourceRequest, call: Call) -> pb.SignalSource:
        return await call.get(to_proto, signal_sources.resource.get, request.user_id)

    async def SetSignalSource(self, request: pb.SetSignalSourceRequest, call: Call) -> pb.SignalSource:
        message = request.signal_source
        (user_id,) = FIELDS.key(message)
        check_may_write(call, user_id)
        changes = self._seal(user_id, FIELDS.for_update(message, request.update_mask))
        none = SignalSource(user_id=user_id, **FIELDS.defaults, **UNWRITTEN)
        return await call.write(
            to_proto,
            signal_sources.resource.update,
            (user_id,),
            message.etag,
            lambda current: replace(current, **changes),
            lambda: replace(none, **changes),
        )

    async def DeleteSignalSource(
        self, request: pb.DeleteSignalSourceRequest, call: Call
    ) -> pb.DeleteSignalSourceResponse:
        check_may_write(call, request.user_id)
        return await call.write(
            lambda _: pb.DeleteSignalSourceResponse(),
            signal_sources.resource.delete,
            (request.user_id,),
            request.etag,
            allow_missing=request.allow_missing,
        )

    def _seal(self, user_id: str, values: dict[str, Any]) -> dict[str, Any]:
        table = signal_sources.user_signal_sources.name
        return seal_fields(self._envelope, values, table, SECRETS, user_id=user_id, row_id="")


def to_proto(source: SignalSource) -> pb.SignalSource:
    """The public resource: fingerprints, and URLs without their credentials, where the secrets are."""
    return pb.SignalSource(
        user_id=source.user_id,
        etag=etag_of(source),
        revision=source.revision,
        create_time=to_timestamp(source.created_at),
        update_time=to_timestamp(source.updated_at),
        **shown_secrets(source, SECRETS),
    )


def credentials(envelope: Envelope, source: SignalSource) -> pb.SignalSourceCredentials:
    """The URLs of a signal source in the clear.  Raises SecretUnreadable."""
    table = signal_sources.user_signal_sources.name
    return pb.SignalSourceCredentials(
        **open_fields(envelope, source, table, SECRETS, user_id=source.user_id, row_id="")
    )
