"""What every trader of the service is to be run with. Needs NOFX_GRPC_TOKEN_FILE, as in data/tokens/engine."""

from nofx_grpc.client import Client

with Client.from_env() as nofx:
    for trader in nofx.traders.list_traders.all():
        config = nofx.traders.get_trader_config(user_id=trader.user_id, trader_id=trader.id)
        model, exchange = config.model.name or "no model", config.exchange.name or "no exchange"
        why = ", ".join(blocker.description for blocker in config.blockers)
        print(f"{trader.name}: {model} on {exchange}: {'ready' if config.runnable else why}")
