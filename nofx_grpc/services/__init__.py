"""The services: for each noun, check the request, call the store, convert the answer."""

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.services.exchanges import Exchanges
from nofx_grpc.services.pages import Pages

Service = Exchanges


def build_services(envelope: Envelope, pages: Pages) -> list[Service]:
    """Every service that there is."""
    return [
        Exchanges(envelope, pages),
    ]
