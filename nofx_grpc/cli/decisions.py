"""What the commands about a trader's decisions ask a server for."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

from nofx_grpc.v1 import decision_logs_pb2, performance_pb2

if TYPE_CHECKING:
    from nofx_grpc.client import Client


@dataclass(frozen=True, slots=True)
class TraderRecord:
    """What a trader did, and what came of it."""

    trader_id: str
    statistics: performance_pb2.DecisionStatistics
    performance: performance_pb2.Performance
    decisions: Sequence[decision_logs_pb2.Decision]  # the newest first

    def as_json(self) -> dict[str, Any]:
        """The same as protobuf's JSON, with the names of the protos."""

        def plain(message: Any) -> dict[str, Any]:
            return MessageToDict(message, preserving_proto_field_name=True)

        return {
            "trader_id": self.trader_id,
            "statistics": plain(self.statistics),
            "performance": plain(self.performance),
            "decisions": [plain(decision) for decision in self.decisions],
        }


def fetch(nofx: "Client", trader_id: str, user_id: str, *, cycles: int, shown: int, trades: int) -> TraderRecord:
    """Ask for the performance over the latest `cycles`, and for as many decisions as are to be shown.

    Raises NofxClientError.
    """
    logs = nofx.decision_logs
    return TraderRecord(
        trader_id,
        logs.get_decision_statistics(user_id=user_id, trader_id=trader_id),
        logs.analyze_performance(user_id=user_id, trader_id=trader_id, lookback_cycles=cycles, trade_limit=trades),
        list(islice(logs.list_decisions.all(user_id=user_id, trader_id=trader_id, page_size=min(shown, 100)), shown)),
    )
