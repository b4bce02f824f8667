"""Calls of BetaCodes that several tests make."""

from collections.abc import AsyncIterator
from typing import Any

from nofx_grpc.v1 import beta_codes_pb2 as pb
from nofx_grpc.v1 import beta_codes_pb2_grpc
from tests.support.service import RunningService


def stub(service: RunningService, role: str = "admin") -> "beta_codes_pb2_grpc.BetaCodesAsyncStub":
    return service.client(role).beta_codes


async def send(service: RunningService, *pieces: bytes, role: str = "admin") -> pb.ImportBetaCodesResponse:
    async def requests() -> AsyncIterator[pb.ImportBetaCodesRequest]:
        for piece in pieces:
            yield pb.ImportBetaCodesRequest(data=piece)

    return await stub(service, role).ImportBetaCodes(requests())


async def redeem(service: RunningService, code: str, user_id: str = "alice", request_id: str = "") -> pb.BetaCode:
    request = pb.RedeemBetaCodeRequest(user_id=user_id, code=code, request_id=request_id)
    return await stub(service, "gateway").RedeemBetaCode(request)


async def is_valid(service: RunningService, code: str) -> bool:
    return (await stub(service, "viewer").ValidateBetaCode(pb.ValidateBetaCodeRequest(code=code))).valid


async def stats(service: RunningService) -> tuple[int, int, int]:
    found = await stub(service, "viewer").GetBetaCodeStats(pb.GetBetaCodeStatsRequest())
    return found.total_count, found.used_count, found.unused_count


async def listed(service: RunningService, **fields: Any) -> list[pb.BetaCode]:
    request = pb.ListBetaCodesRequest(**fields)
    found: list[pb.BetaCode] = []
    while True:
        page = await stub(service, "viewer").ListBetaCodes(request)
        found += page.beta_codes
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token
