"""What a mirror of configurations holds: one consistent state after the other, without any I/O."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from nofx_grpc.client.revisions import Revision
from nofx_grpc.v1.traders_pb2 import TraderConfig, WatchTraderConfigsResponse


class TraderId(NamedTuple):
    """Names a trader."""

    user_id: str
    id: str


class ConfigView(Mapping[tuple[str, str], TraderConfig]):
    """All configurations as of one revision, by (user id, trader id).  It stays as it is, and its repr shows no secret.

    The messages are shared with all other readers: read them, and change none.
    """

    def __init__(self, revision: Revision | None, configs: dict[tuple[str, str], TraderConfig]) -> None:
        self.revision, self._configs = revision, configs

    def __getitem__(self, key: tuple[str, str]) -> TraderConfig:
        return self._configs[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._configs)

    def __len__(self) -> int:
        return len(self._configs)

    def __repr__(self) -> str:
        return f"<{len(self)} configurations as of {self.revision}>"


class Told(NamedTuple):
    """What somebody who is told of changes has to be told of: first what was removed, then what has changed."""

    removed: list[TraderConfig]
    changed: list[TraderConfig]

    def __repr__(self) -> str:
        return f"Told({len(self.removed)} removed, {len(self.changed)} changed, with their secrets)"


class MirrorState:
    """The state that a mirror shows, the next one while it is being received, and what has not been told of yet.

    Not locked: whoever uses it in several threads must.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.view = ConfigView(None, {})
        self._clock = clock
        self._current_at: float | None = None
        self._anew = True
        self._configs: dict[tuple[str, str], TraderConfig] = {}
        self._removed: set[tuple[str, str]] = set()
        self._untold: dict[tuple[str, str], TraderConfig | None] = {}  # what was told of each last

    @property
    def age(self) -> float:
        """Seconds since the view was last known to be the store's state; infinite before the first one."""
        return float("inf") if self._current_at is None else self._clock() - self._current_at

    @property
    def has_untold(self) -> bool:
        return bool(self._untold)

    def begin(self, *, anew: bool) -> None:
        """A stream begins: after the view's revision, or (`anew`) with all configurations that there are."""
        self._anew, self._configs, self._removed = anew, {}, set()

    def receive(self, response: WatchTraderConfigsResponse) -> bool:
        """Take a response; whether the view is the store's state at its revision now."""
        for config in response.configs:
            key = TraderId(config.trader.user_id, config.trader.id)
            self._configs[key] = self._known(key, config)
            self._removed.discard(key)
        for gone in response.removed:
            self._removed.add(TraderId(gone.user_id, gone.trader_id))
        if not response.revision:
            return False
        self._show(Revision(response.history_id, response.revision))
        self._current_at = self._clock()
        return True

    def tell(self) -> Told:
        """What has changed since it was told of last, each once, as it is now."""
        untold, self._untold = self._untold, {}
        removed, changed = [], []
        for key, before in untold.items():
            now = self.view.get(key)
            if now is None and before is not None:
                removed.append(before)
            elif now is not None and now is not before:
                changed.append(now)
        return Told(removed, changed)

    def _known(self, key: tuple[str, str], config: TraderConfig) -> TraderConfig:
        """The configuration that the view has, if it differs in nothing but the revision at which it was read."""
        shown = self.view.get(key)
        if shown is None:
            return config
        same = TraderConfig()
        same.CopyFrom(config)
        same.revision = shown.revision
        return shown if same == shown else config

    def _show(self, revision: Revision) -> None:
        """Make what was received the view, all at once."""
        before, configs = self.view, self.view._configs
        if self._anew or self._configs or self._removed:
            configs = {} if self._anew else dict(configs)
            configs.update(self._configs)
            for key in self._removed:
                configs.pop(key, None)
            for key in (*(before if self._anew else self._removed), *self._configs):
                if before.get(key) is not configs.get(key):
                    self._untold.setdefault(key, before.get(key))
        self.view = ConfigView(revision, configs)
        self.begin(anew=False)
