"""What both mirrors have in common: what they show, and what they say of themselves."""

import logging
from types import TracebackType
from typing import Any

from nofx_grpc.client.config_view import ConfigView, MirrorState
from nofx_grpc.client.errors import ClientSettingsError, NofxClientError
from nofx_grpc.client.following import Following, lost
from nofx_grpc.v1.traders_pb2 import TraderConfig, WatchTraderConfigsResponse

logger = logging.getLogger("nofx_grpc.client")

METHOD = "Traders/WatchTraderConfigs"
# A server sends a sign of life every ten seconds, unless it is set up otherwise.
SILENCE_SECONDS = 60.0


class MirrorBase:
    """A live copy of the configurations of all traders, or of one user's.

    It may be behind, as `age` tells; it never shows a part of a revision.  Where it has failed for good, using it
    raises the error: nobody must go on trading with what has not been looked after for hours.
    """

    def __init__(self, following: Following, *, user_id: str, runnable_only: bool, silence: float) -> None:
        if not 0 < silence <= 86_400:
            raise ClientSettingsError(f"silence is {silence!r}: expected seconds, more than 0 and at most a day")
        self._following, self._state = following, MirrorState()
        self._fields: dict[str, Any] = {"user_id": user_id, "runnable_only": runnable_only}
        self._silence = silence
        self._error: BaseException | None = None
        self._trace: TracebackType | None = None

    @property
    def view(self) -> ConfigView:
        """All configurations as of one revision; empty before the first.  Raises what the mirror has failed with."""
        self._check()
        return self._state.view

    def get(self, user_id: str, trader_id: str) -> TraderConfig | None:
        """The configuration of a trader, if there is one.  Raises what the mirror has failed with."""
        return self.view.get((user_id, trader_id))

    @property
    def age(self) -> float:
        """Seconds since the view was last known to be the store's state; infinite before it was for the first time.

        In quiet times the server says so every ten seconds.
        """
        return self._state.age

    @property
    def trouble(self) -> NofxClientError | None:
        """Why the view is not being brought up to date at the moment; None while it is."""
        return self._following.trouble

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._state.view!r}, {self.age:.1f} s old>"

    def _opening(self) -> dict[str, Any]:
        """A stream is about to be opened: its request."""
        start = self._following.opening()
        self._state.begin(anew=not start)
        return {**self._fields, **start}

    def _receive(self, response: WatchTraderConfigsResponse) -> bool:
        """Take a response; whether the view is another one now, or was confirmed."""
        if (trouble := self._following.trouble) is not None:
            logger.info("configurations are followed again, after: %s", trouble)
        self._following.heard(response)
        return self._state.receive(response)

    def _lost(self) -> NofxClientError:
        return lost(METHOD, f"the stream has ended, or was silent for {self._silence:g} seconds")

    def _pause_after(self, error: NofxClientError) -> float:
        """Seconds to wait before the stream is opened again.  Raises the error if that would not help."""
        if self._following.trouble is None and not self._following.is_fatal(error):
            logger.warning("configurations are not followed at the moment, trying again: %s", error)
        return self._following.pause_after(error)

    def _fail(self, error: BaseException) -> None:
        logger.error("configurations are not followed any more: %s", error)
        self._error, self._trace = error, error.__traceback__

    def _check(self) -> None:
        if self._error is not None:
            raise self._error.with_traceback(self._trace)

    def _check_synced(self, timeout: float | None, *, closed: bool) -> None:
        self._check()
        if self._state.view.revision is None:
            if closed:
                raise RuntimeError("the mirror was closed before it held anything")
            raise TimeoutError(f"no configurations within {timeout} seconds: {self.trouble or 'they are on their way'}")
