"""The service Exchanges: users' accounts at crypto exchanges, and their credentials."""

from dataclasses import replace
from typing import Any

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.services.call import Call
from nofx_grpc.services.convert import open_fields, seal_fields, shown_secrets, to_timestamp
from nofx_grpc.services.fields import ResourceFields
from nofx_grpc.services.pages import Pages
from nofx_grpc.services.secret_rules import check_reentered
from nofx_grpc.services.templates import check_may_write
from nofx_grpc.store import exchanges
from nofx_grpc.store.exchanges import Exchange
from nofx_grpc.store.resources import UNWRITTEN, etag_of
from nofx_grpc.store.users import DEFAULT_USER
from nofx_grpc.v1 import exchanges_pb2 as pb

SECRETS = ("api_key", "secret_key", "aster_private_key")

FIELDS = ResourceFields(
    "exchange",
    pb.Exchange.DESCRIPTOR,
    required=("name", "type"),
    defaults={
        "enabled": False,
        "api_key": "",
        "secret_key": "",
        "testnet": False,
        "hyperliquid_wallet_addr": "",
        "aster_user": "",
        "aster_signer": "",
        "aster_private_key": "",
    },
)

# The fields that each exchange needs to trade (design §3).  An account is known by its id, as in NOFX, where the type
# of a user's row is only "cex" or "dex".
REQUIRED_FIELDS = {
    "binance": ("api_key", "secret_key"),
    "hyperliquid": ("api_key", "hyperliquid_wallet_addr"),
    "aster": ("aster_user", "aster_signer", "aster_private_key"),
}


class Exchanges:
    """Creates, reads, changes and deletes exchange accounts; reveals their credentials to whoever may have them."""

    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Exchanges"]

    def __init__(self, envelope: Envelope, pages: Pages) -> None:
        self._envelope, self._pages = envelope, pages

    async def CreateExchange(self, request: pb.CreateExchangeRequest, call: Call) -> pb.Exchange:
        check_may_write(call, request.user_id)
        draft = self._draft(request.user_id, request.exchange_id, request.exchange)
        return await call.write(to_proto, exchanges.resource.create, draft)

    async def GetExchange(self, request: pb.GetExchangeRequest, call: Call) -> pb.Exchange:
        return await call.get(to_proto, exchanges.resource.get, request.user_id, request.id)

    async def ListExchanges(self, request: pb.ListExchangesRequest, call: Call) -> pb.ListExchangesResponse:
        return await self._pages.answer(request, call, exchanges.resource, to_proto, pb.ListExchangesResponse)

    async def UpdateExchange(self, request: pb.UpdateExchangeRequest, call: Call) -> pb.Exchange:
        message = request.exchange
        key = user_id, id = FIELDS.key(message)
        check_may_write(call, user_id)
        changes = self._seal(user_id, id, FIELDS.for_update(message, request.update_mask))

        def change(current: Exchange) -> Exchange:
            check_reentered(current, changes, where=("type", "testnet"), secrets=SECRETS)
            return replace(current, **changes)

        draft = (lambda: self._draft(user_id, id, message)) if request.allow_missing else None
        return await call.write(to_proto, exchanges.resource.update, key, message.etag, change, draft)

    async def DeleteExchange(self, request: pb.DeleteExchangeRequest, call: Call) -> pb.DeleteExchangeResponse:
        check_may_write(call, request.user_id)
        return await call.write(
            lambda _: pb.DeleteExchangeResponse(),
            exchanges.delete,
            request.user_id,
            request.id,
            request.etag,
            allow_missing=request.allow_missing,
        )

    async def ListSupportedExchanges(
        self, request: pb.ListSupportedExchangesRequest, call: Call
    ) -> pb.ListSupportedExchangesResponse:
        return await self._pages.answer(
            request, call, exchanges.resource, to_supported, pb.ListSupportedExchangesResponse, user_id=DEFAULT_USER
        )

    async def AccessExchangeCredentials(
        self, request: pb.AccessExchangeCredentialsRequest, call: Call
    ) -> pb.AccessExchangeCredentialsResponse:
        return await call.reveal(
            lambda exchange: pb.AccessExchangeCredentialsResponse(
                credentials=credentials(self._envelope, exchange), revision=exchange.revision
            ),
            exchanges.resource.get,
            request.user_id,
            request.id,
        )

    def _draft(self, user_id: str, id: str, message: pb.Exchange) -> Exchange:
        return Exchange(id=id, user_id=user_id, **self._seal(user_id, id, FIELDS.for_create(message)), **UNWRITTEN)

    def _seal(self, user_id: str, id: str, values: dict[str, Any]) -> dict[str, Any]:
        return seal_fields(self._envelope, values, exchanges.exchanges.name, SECRETS, user_id=user_id, row_id=id)


def to_proto(exchange: Exchange) -> pb.Exchange:
    """The public resource: fingerprints where the secrets are."""
    return pb.Exchange(
        user_id=exchange.user_id,
        id=exchange.id,
        etag=etag_of(exchange),
        revision=exchange.revision,
        create_time=to_timestamp(exchange.created_at),
        update_time=to_timestamp(exchange.updated_at),
        name=exchange.name,
        type=exchange.type,
        enabled=exchange.enabled,
        testnet=exchange.testnet,
        hyperliquid_wallet_addr=exchange.hyperliquid_wallet_addr,
        aster_user=exchange.aster_user,
        aster_signer=exchange.aster_signer,
        **shown_secrets(exchange, SECRETS),
    )


def to_supported(template: Exchange) -> pb.SupportedExchange:
    """A template as users choose it."""
    return pb.SupportedExchange(
        id=template.id, name=template.name, type=template.type, required_fields=required_fields(template)
    )


def credentials(envelope: Envelope, exchange: Exchange) -> pb.ExchangeCredentials:
    """The secrets of an exchange in the clear.  Raises SecretUnreadable."""
    table = exchanges.exchanges.name
    return pb.ExchangeCredentials(
        **open_fields(envelope, exchange, table, SECRETS, user_id=exchange.user_id, row_id=exchange.id)
    )


def missing_fields(exchange: Exchange) -> list[str]:
    """The fields without which this exchange cannot trade, and that are empty."""
    return [name for name in required_fields(exchange) if not getattr(exchange, name)]


def required_fields(exchange: Exchange) -> tuple[str, ...]:
    """The fields without which this exchange cannot trade."""
    return REQUIRED_FIELDS.get(exchange.id) or REQUIRED_FIELDS.get(exchange.type) or ("api_key",)
