"""The messages of a trader and of its complete configuration: secrets opened, and what keeps it from running."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.errors import SecretUnreadable
from nofx_grpc.services import exchanges, models, signal_sources
from nofx_grpc.services.config_keys import risk_settings
from nofx_grpc.services.convert import split_symbols, to_timestamp
from nofx_grpc.store import trader_configs
from nofx_grpc.store.engine import Connection
from nofx_grpc.store.resources import etag_of
from nofx_grpc.store.trader_configs import TraderConfig
from nofx_grpc.store.traders import Trader
from nofx_grpc.store.users import DEFAULT_USER
from nofx_grpc.v1 import common_pb2
from nofx_grpc.v1 import traders_pb2 as pb

T = TypeVar("T")


def trader_to_proto(trader: Trader) -> pb.Trader:
    """The public resource, which is all of a trader: it has no secrets."""
    return pb.Trader(
        user_id=trader.user_id,
        id=trader.id,
        etag=etag_of(trader),
        revision=trader.revision,
        create_time=to_timestamp(trader.created_at),
        update_time=to_timestamp(trader.updated_at),
        name=trader.name,
        ai_model_id=trader.ai_model_id,
        exchange_id=trader.exchange_id,
        initial_balance=trader.initial_balance,
        scan_interval_minutes=trader.scan_interval_minutes,
        is_running=trader.is_running,
        btc_eth_leverage=trader.btc_eth_leverage,
        altcoin_leverage=trader.altcoin_leverage,
        trading_symbols=split_symbols(trader.trading_symbols),
        use_coin_pool=trader.use_coin_pool,
        use_oi_top=trader.use_oi_top,
        custom_prompt=trader.custom_prompt,
        override_base_prompt=trader.override_base_prompt,
        system_prompt_template=trader.system_prompt_template,
        is_cross_margin=trader.is_cross_margin,
        use_default_coins=trader.use_default_coins,
        custom_coins=split_symbols(trader.custom_coins),
    )


class Prepared(NamedTuple):
    """A configuration as it was read, and all of its message but the secrets."""

    config: TraderConfig
    public: pb.TraderConfig


def prepare(connection: Connection, user_id: str, trader_id: str) -> Prepared:
    """Read a configuration and convert what is not secret.  Raises NotFound if this user has no such trader."""
    config = trader_configs.get(connection, user_id, trader_id)
    return Prepared(config, _public(config))


def to_proto(envelope: Envelope, prepared: Prepared) -> pb.TraderConfig:
    """The configuration with its secrets in the clear; without any where one of them does not open."""
    config, message = prepared.config, pb.TraderConfig()
    message.CopyFrom(prepared.public)
    unreadable = _open_secrets(envelope, config, message)
    if unreadable:
        for name in ("model_credentials", "exchange_credentials", "signal_source_credentials"):
            message.ClearField(name)
        message.blockers.extend(_blocker("SECRET_UNREADABLE", field, "enter it again") for field in unreadable)
    message.runnable = not message.blockers
    return message


def complete(envelope: Envelope, config: TraderConfig) -> pb.TraderConfig:
    """The configuration with its secrets in the clear, as `to_proto` gives it."""
    return to_proto(envelope, Prepared(config, _public(config)))


def _public(config: TraderConfig) -> pb.TraderConfig:
    return pb.TraderConfig(
        trader=trader_to_proto(config.trader),
        model=models.to_proto(config.model) if config.model else None,
        exchange=exchanges.to_proto(config.exchange) if config.exchange else None,
        signal_source=signal_sources.to_proto(config.signal_source) if config.signal_source else None,
        risk=_risk(config.risk),
        blockers=_blockers(config),
        revision=config.revision,
    )


def _open_secrets(envelope: Envelope, config: TraderConfig, message: pb.TraderConfig) -> list[str]:
    """Fill in the credentials; the fields that do not open."""
    unreadable: list[str] = []

    def attempt(part: str, opener: Callable[[Envelope, T], object], record: T | None) -> None:
        if record is None:
            return
        try:
            getattr(message, f"{part}_credentials").CopyFrom(opener(envelope, record))
        except SecretUnreadable as error:
            unreadable.extend(f"{part}.{field}" for field in error.fields)

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
