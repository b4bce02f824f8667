"""The services: for each noun, check the request, call the store, convert the answer."""

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.services.exchanges import Exchanges
from nofx_grpc.services.models import Models
from nofx_grpc.services.pages import Pages
from nofx_grpc.services.signal_sources import SignalSources
from nofx_grpc.services.system_config import SystemConfig
from nofx_grpc.services.traders import Traders

Service = Exchanges | Models | SignalSources | SystemConfig | Traders


def build_services(envelope: Envelope, pages: Pages) -> list[Service]:
    """Every service that there is."""
    return [
        Exchanges(envelope, pages),
        Models(envelope, pages),
        SignalSources(envelope),
        SystemConfig(envelope, pages),
        Traders(envelope, pages),
    ]
