"""The mirror of the client that blocks."""

import time
from collections.abc import Callable
from threading import Condition, Event, Thread, current_thread
from types import TracebackType
from typing import Self

from nofx_grpc.client.errors import NofxClientError
from nofx_grpc.client.mirror_base import SILENCE_SECONDS, MirrorBase
from nofx_grpc.client.rpcs import Stream
from nofx_grpc.client.sync import Client
from nofx_grpc.v1.traders_pb2 import TraderConfig, WatchTraderConfigsResponse

Callback = Callable[[TraderConfig], object]


class TraderConfigMirror(MirrorBase):
    """A live copy of the configurations of all traders, or of one user's; threads may share it.

    with Client.from_env() as nofx, TraderConfigMirror(nofx, on_change=run, on_remove=stop) as mirror:
        mirror.wait_until_synced(timeout=30)
        mirror.join()

    `on_change` is called with each configuration that is new or another one, `on_remove` with the last one of a trader
    that is gone (with `runnable_only`: or not runnable any more).  Both are called in one thread of the mirror's own,
    one after the other; while they take their time the view goes on, and of what has changed several times meanwhile
    they are told once.  An error that they raise ends the mirror.  A stream that is silent for `silence` seconds is
    opened anew.
    """

    def __init__(
        self,
        nofx: Client,
        *,
        user_id: str = "",
        runnable_only: bool = False,
        on_change: Callback | None = None,
        on_remove: Callback | None = None,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        self._nofx, following = nofx.following()
        super().__init__(following, user_id=user_id, runnable_only=runnable_only, silence=silence)
        self._on_change, self._on_remove = on_change or _ignore, on_remove or _ignore
        self._news = Condition()  # held while the state is changed, or read with what belongs to it
        self._stop = Event()
        self._stream: Stream[WatchTraderConfigsResponse] | None = None
        self._heard_at = 0.0
        self._threads: list[Thread] = []

    def start(self) -> None:
        """Begin; `with` does it."""
        if self._threads:
            raise RuntimeError("a mirror is started once")
        work = {"follow": self._follow, "silence": self._end_silence, "tell": self._tell}
        for name, run in work.items():
            thread = Thread(target=self._guarded, args=(run,), name=f"nofx-mirror-{name}", daemon=True)
            self._threads.append(thread)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop, and wait for the callback that is running, if it is another thread's.  The view stays as it is."""
        self._end()
        for thread in self._threads:
            if thread is not current_thread():
                thread.join()

    def wait_until_synced(self, timeout: float | None = None) -> None:
        """Wait for the first view.  Raises TimeoutError, and what the mirror has failed with."""
        with self._news:
            self._news.wait_for(lambda: self._state.view.revision or self._stop.is_set(), timeout)
        self._check_synced(timeout, closed=self._stop.is_set())

    def join(self) -> None:
        """Wait until the mirror is closed.  Raises what it has failed with."""
        self._stop.wait()
        self._check()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # whatever it is, whoever uses the mirror must hear of it
            self._end(error)

    def _end(self, error: BaseException | None = None) -> None:
        with self._news:
            if error is not None and not self._stop.is_set():
                self._fail(error)
            self._stop.set()
            self._news.notify_all()
        if (stream := self._stream) is not None:
            stream.close()

    def _follow(self) -> None:
        while not self._stop.is_set():
            with self._news:
                request = self._opening()
            error = self._lost()
            try:
                self._heard_at = time.monotonic()
                with self._nofx.traders.watch_trader_configs(**request) as self._stream:
                    self._read(self._stream)
            except NofxClientError as caught:
                error = caught
            if not self._stop.is_set():
                self._stop.wait(self._pause_after(error))

    def _read(self, stream: Stream[WatchTraderConfigsResponse]) -> None:
        if self._stop.is_set():  # by somebody who did not find this stream to close it
            return
        for response in stream:
            self._heard_at = time.monotonic()
            with self._news:
                if self._receive(response):
                    self._news.notify_all()

    def _end_silence(self) -> None:
        while not self._stop.wait(self._silence / 4):
            if (stream := self._stream) is not None and time.monotonic() - self._heard_at > self._silence:
                stream.close()

    def _tell(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._state.has_untold or self._stop.is_set())
                told = self._state.tell()
            for callback, configs in ((self._on_remove, told.removed), (self._on_change, told.changed)):
                for config in configs:
                    if self._stop.is_set():
                        return
                    callback(config)
            if self._stop.is_set():
                return


def _ignore(_: TraderConfig) -> None:
    """What is called where nobody wants to be told."""
