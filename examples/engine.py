"""A trading engine in small: every trader that is to run decides in its rhythm, always by its newest configuration.

With a server of `make run`, in the same directory:

    NOFX_GRPC_TOKEN_FILE=data/tokens/engine .venv/bin/python examples/engine.py

Then change a model, stop a trader, restart the server. A real engine does more in `decide`; the rest it needs as well.
"""

import signal
import time
from collections.abc import Iterable
from threading import Event

from nofx_grpc.client import Client, NofxClientError, TraderConfigMirror
from nofx_grpc.v1.traders_pb2 import TraderConfig

OLDEST = 30.0  # seconds: who knows no better for so long must not open positions


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def report(config: TraderConfig) -> None:
    """A trader is new, or anything that it is made of has changed."""
    why = ", ".join(blocker.description for blocker in config.blockers)
    state = f"cannot run: {why}" if why else "is to run" if config.trader.is_running else "is stopped"
    say(f"{config.trader.name} {state}")


def report_gone(config: TraderConfig) -> None:
    say(f"{config.trader.name} is gone")


class Engine:
    """Lets each trader decide when it is time to, or when its configuration is another one."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[TraderConfig, float]] = {}  # by which configuration each has decided, and when

    def work(self, configs: Iterable[TraderConfig]) -> None:
        now = time.monotonic()
        for config in configs:
            trader = config.trader
            known, decided = self._last.get(trader.id, (None, 0.0))
            due = known is not config or now >= decided + 60 * trader.scan_interval_minutes
            if trader.is_running and config.runnable and due:
                self._last[trader.id] = config, now
                self.decide(config)

    def decide(self, config: TraderConfig) -> None:
        """Here the model is asked by `config.model_credentials`, and orders placed by `config.exchange_credentials`."""
        model = config.model.custom_model_name or config.model.name
        say(f"{config.trader.name} asks {model} and trades on {config.exchange.name}")


def main() -> None:
    stop, engine, held = Event(), Engine(), False
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with Client.from_env() as nofx, TraderConfigMirror(nofx, on_change=report, on_remove=report_gone) as mirror:
        mirror.wait_until_synced(timeout=30)
        while not stop.wait(0.2):
            if held != (mirror.age > OLDEST):
                held = not held
                say(f"held up: {mirror.trouble}" if held else "going on")
            if not held:
                engine.work(mirror.view.values())
    say("stopped")


if __name__ == "__main__":
    try:
        main()
    except (NofxClientError, TimeoutError, ValueError) as error:  # what the mirror, or the client, cannot go on with
        raise SystemExit(f"engine: {error}") from error
