"""A trader's complete configuration: put together, its secrets opened, and what keeps it from running."""

from collections.abc import Callable
from typing import TypeVar

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.errors import SecretUnreadable
from nofx_grpc.services import exchanges, models, signal_sources
from nofx_grpc.services.config_keys import risk_settings
from nofx_grpc.store.trader_configs import TraderConfig
from nofx_grpc.store.users import DEFAULT_USER
from nofx_grpc.v1 import common_pb2
from nofx_grpc.v1 import traders_pb2 as pb

T = TypeVar("T")


def to_proto(envelope: Envelope, config: TraderConfig, trader: pb.Trader) -> pb.TraderConfig:
    """The configuration of `trader` with its secrets in the clear; without any where one of them does not open."""
    message = pb.TraderConfig(
        trader=trader,
        model=models.to_proto(config.model) if config.model else None,
        exchange=exchanges.to_proto(config.exchange) if config.exchange else None,
        signal_source=signal_sources.to_proto(config.signal_source) if config.signal_source else None,
        risk=_risk(config.risk),
        blockers=_blockers(config),
        revision=config.revision,
    )
    unreadable = _open_secrets(envelope, config, message)
    if unreadable:
        for name in ("model_credentials", "exchange_credentials", "signal_source_credentials"):
            message.ClearField(name)
        message.blockers.extend(_blocker("SECRET_UNREADABLE", field, "enter it again") for field in unreadable)
    message.runnable = not message.blockers
    return message


def _open_secrets(envelope: Envelope, config: TraderConfig, message: pb.TraderConfig) -> list[str]:
    """Fill in the credentials; the fields that do not open."""
    unreadable: list[str] = []

    def attempt(part: str, opener: Callable[[Envelope, T], object], record: T | None) -> None:
        if record is None:
            return
        try:
            getattr(message, f"{part}_credentials").CopyFrom(opener(envelope, record))
        except SecretUnreadable as error:
            unreadable.append(f"{part}.{error.metadata['field']}")

    attempt("model", models.credentials, config.model)
    attempt("exchange", exchanges.credentials, config.exchange)
    attempt("signal_source", signal_sources.credentials, config.signal_source)
    return unreadable


def _blockers(config: TraderConfig) -> list[common_pb2.Blocker]:
    """What keeps the trader from running, apart from secrets that do not open."""
    found = []
    if config.trader.user_id == DEFAULT_USER:
        found.append(
            _blocker(
                "TRADER_OF_TEMPLATE_USER", "", "traders of the user 'default' are templates: make one of a real user"
            )
        )
    if config.model is None:
        found.append(_blocker("MODEL_MISSING", "trader.ai_model_id", "choose a model that exists"))
    else:
        if not config.model.enabled:
            found.append(_blocker("MODEL_DISABLED", "model.enabled", "enable the model"))
        if not config.model.api_key:
            found.append(_blocker("MODEL_KEY_MISSING", "model.api_key", "enter the model's API key"))
    if config.exchange is None:
        found.append(_blocker("EXCHANGE_MISSING", "trader.exchange_id", "choose an exchange that exists"))
    else:
        if not config.exchange.enabled:
            found.append(_blocker("EXCHANGE_DISABLED", "exchange.enabled", "enable the exchange"))
        for field in exchanges.missing_fields(config.exchange):
            found.append(_blocker("EXCHANGE_CREDENTIAL_MISSING", f"exchange.{field}", f"enter the exchange's {field}"))
    return found


def _blocker(type: str, field: str, description: str) -> common_pb2.Blocker:
    value = common_pb2.BlockerType.Value(f"BLOCKER_TYPE_{type}")
    return common_pb2.Blocker(type=value, field=field, description=description)


def _risk(values: dict[str, str]) -> pb.RiskSettings:
    risk = risk_settings(values)
    return pb.RiskSettings(
        max_daily_loss=risk.max_daily_loss,
        max_drawdown=risk.max_drawdown,
        stop_trading_minutes=risk.stop_trading_minutes,
        btc_eth_leverage=risk.btc_eth_leverage,
        altcoin_leverage=risk.altcoin_leverage,
        use_default_coins=risk.use_default_coins,
        default_coins=risk.default_coins,
    )
