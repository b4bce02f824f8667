"""The two rpcs that say what a trader's decisions came to."""

from typing import Any

from nofx_grpc.v1 import performance_pb2 as pb
from tests.decisions.support import Logs
from tests.support.service import Client


async def statistics(logs: Logs, trader_id: str = "t", user_id: str = "alice") -> pb.DecisionStatistics:
    request = pb.GetDecisionStatisticsRequest(user_id=user_id, trader_id=trader_id)
    return await logs.admin.decision_logs.GetDecisionStatistics(request)


async def performance(
    logs: Logs, trader_id: str = "t", user_id: str = "alice", client: Client | None = None, **fields: Any
) -> pb.Performance:
    request = pb.AnalyzePerformanceRequest(user_id=user_id, trader_id=trader_id, **fields)
    return await (client or logs.admin).decision_logs.AnalyzePerformance(request)
