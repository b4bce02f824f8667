"""The rpcs of DecisionLogs that say what a trader's decisions came to."""

from typing import Final, NamedTuple

from nofx_grpc.services.call import Call
from nofx_grpc.services.decision_keeping import DecisionKeeping
from nofx_grpc.services.performance_messages import performance_to_proto, timestamp
from nofx_grpc.store.decisions import entries, index, logs, windows
from nofx_grpc.store.decisions.entries import AFTER_ALL, BEFORE_ALL, Entry, Span
from nofx_grpc.store.decisions.logs import Log
from nofx_grpc.store.engine import Connection
from nofx_grpc.v1 import performance_pb2 as pb

_LOOKBACK: Final = 100
_TRADES: Final = 10


class PerformanceRpcs:
    """Statistics of all cycles, and the performance of the latest."""

    def __init__(self, keeping: DecisionKeeping) -> None:
        self._keeping = keeping

    async def GetDecisionStatistics(
        self, request: pb.GetDecisionStatisticsRequest, call: Call
    ) -> pb.DecisionStatistics:
        await self._keeping.owned(request.user_id, request.trader_id)
        return await call.read(statistics_to_proto, overview_of, request.trader_id)

    async def AnalyzePerformance(self, request: pb.AnalyzePerformanceRequest, call: Call) -> pb.Performance:
        log = (await self._keeping.owned(request.user_id, request.trader_id)).log
        if log is None:
            return pb.Performance()
        lookback, trades = request.lookback_cycles or _LOOKBACK, request.trade_limit or _TRADES
        return await call.scan(lambda window: performance_to_proto(window, trades), windows.latest, log.id, lookback)


class Overview(NamedTuple):
    """What the index knows of a log without looking at its records."""

    log: Log
    oldest: list[Entry]  # one, or none
    newest: list[Entry]
    unreadable: int


def overview_of(connection: Connection, trader_id: str) -> Overview | None:
    """The overview of a trader's log; None if it has none."""
    log = logs.find(connection, trader_id).log
    if log is None:
        return None
    oldest = entries.oldest(connection, log.id, BEFORE_ALL, 1)
    newest = entries.newest(connection, log.id, Span(), AFTER_ALL, 1)
    return Overview(log, oldest, newest, index.unreadable(connection, log.id, 1)[0])


def statistics_to_proto(found: Overview | None) -> pb.DecisionStatistics:
    if found is None:
        return pb.DecisionStatistics()
    log = found.log
    return pb.DecisionStatistics(
        total_cycles=log.total_cycles,
        successful_cycles=log.successful_cycles,
        failed_cycles=log.total_cycles - log.successful_cycles,
        total_open_positions=log.opens,
        total_close_positions=log.closes,
        total_partial_closes=log.partial_closes,
        first_time=timestamp(found.oldest[0].time_ns) if found.oldest else None,
        last_time=timestamp(found.newest[0].time_ns) if found.newest else None,
        unreadable_files=found.unreadable,
    )
