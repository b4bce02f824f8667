"""The services: for each noun, check the request, call the store, convert the answer."""

from nofx_grpc.services.admin import Admin
from nofx_grpc.services.beta_codes import BetaCodes
from nofx_grpc.services.code_guesses import CodeGuesses
from nofx_grpc.services.decision_keeping import DecisionKeeping
from nofx_grpc.services.decision_logs import DecisionLogs
from nofx_grpc.services.exchanges import Exchanges
from nofx_grpc.services.feed import Feed
from nofx_grpc.services.logins import LoginOptions
from nofx_grpc.services.models import Models
from nofx_grpc.services.pages import Pages
from nofx_grpc.services.signal_sources import SignalSources
from nofx_grpc.services.system_config import SystemConfig
from nofx_grpc.services.traders import Traders
from nofx_grpc.services.users import Users
from nofx_grpc.services.watch import Watch
from nofx_grpc.store.live_keys import LiveKeys

Service = Admin | BetaCodes | DecisionLogs | Exchanges | Models | SignalSources | SystemConfig | Traders | Users | Watch


def build_services(
    keys: LiveKeys, pages: Pages, logins: LoginOptions, feed: Feed, decisions: DecisionKeeping
) -> list[Service]:
    """Every service that there is."""
    envelope, guesses = keys.envelope, CodeGuesses(logins.backoff)
    return [
        Admin(pages, keys),
        BetaCodes(pages, guesses),
        DecisionLogs(decisions, pages, feed.options.poll_seconds),
        Exchanges(envelope, pages),
        Models(envelope, pages),
        SignalSources(envelope),
        SystemConfig(envelope, pages),
        Traders(envelope, pages, feed, decisions),
        Users(envelope, pages, logins, guesses, decisions),
        Watch(feed),
    ]
