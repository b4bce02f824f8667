"""The service BetaCodes: codes that let people register while NOFX is in beta."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from functools import partial

from nofx_grpc.services.call import Call
from nofx_grpc.services.code_guesses import CodeGuesses
from nofx_grpc.services.code_lines import CodeLines
from nofx_grpc.services.convert import to_timestamp
from nofx_grpc.services.pages import Pages
from nofx_grpc.store import beta_codes, users
from nofx_grpc.store.beta_codes import BetaCode, Stats
from nofx_grpc.store.engine import Connection
from nofx_grpc.store.resources import etag_of
from nofx_grpc.v1 import beta_codes_pb2 as pb

CODES_PER_TRANSACTION = 1000
CODE_LENGTH = 8

# Capital letters and digits without those that are taken for one another: 0 and O, 1 and I.
ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"

_SLICE_BYTES = 16 * 1024  # read in about a millisecond, for which every other call waits


class BetaCodes:
    """Imports, makes, checks, spends, lists, counts and deletes beta codes."""

    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["BetaCodes"]

    def __init__(self, pages: Pages, guesses: CodeGuesses) -> None:
        self._pages, self._guesses = pages, guesses

    async def ImportBetaCodes(
        self, requests: AsyncIterator[pb.ImportBetaCodesRequest], call: Call
    ) -> pb.ImportBetaCodesResponse:
        file = FileImport(call)
        async for request in requests:
            await file.take(request.data)
        return await file.finish()

    async def GenerateBetaCodes(self, request: pb.GenerateBetaCodesRequest, call: Call) -> pb.GenerateBetaCodesResponse:
        length = request.length if request.HasField("length") else CODE_LENGTH
        return await call.write(
            lambda codes: pb.GenerateBetaCodesResponse(beta_codes=map(to_proto, codes)),
            beta_codes.generate,
            request.count,
            partial(new_code, length),
        )

    async def ValidateBetaCode(self, request: pb.ValidateBetaCodeRequest, call: Call) -> pb.ValidateBetaCodeResponse:
        async with self._guesses.guess(call) as guess:
            answer = await call.read(
                lambda code: pb.ValidateBetaCodeResponse(valid=code is not None and not code.used),
                beta_codes.resource.find,
                request.code,
            )
            guess.wrong = not answer.valid
            return answer

    async def RedeemBetaCode(self, request: pb.RedeemBetaCodeRequest, call: Call) -> pb.BetaCode:
        async with self._guesses.guess(call):
            return await call.write(to_proto, redeem, request.user_id, request.code)

    async def ListBetaCodes(self, request: pb.ListBetaCodesRequest, call: Call) -> pb.ListBetaCodesResponse:
        listing = beta_codes.Listing(request.used if request.HasField("used") else None)
        return await self._pages.answer(request, call, listing, to_proto, pb.ListBetaCodesResponse)

    async def DeleteBetaCode(self, request: pb.DeleteBetaCodeRequest, call: Call) -> pb.DeleteBetaCodeResponse:
        return await call.write(
            lambda _: pb.DeleteBetaCodeResponse(),
            beta_codes.resource.delete,
            (request.code,),
            request.etag,
            allow_missing=request.allow_missing,
        )

    async def GetBetaCodeStats(self, request: pb.GetBetaCodeStatsRequest, call: Call) -> pb.BetaCodeStats:
        return await call.scan(to_stats, beta_codes.count)


class FileImport:
    """The import of one file: stores its codes as they come, a thousand in a transaction."""

    def __init__(self, call: Call) -> None:
        self._call, self._lines = call, CodeLines()
        self._codes: list[str] = []
        self._answer = pb.ImportBetaCodesResponse()

    async def take(self, data: bytes) -> None:
        """Take the next bytes of the file."""
        for start in range(0, len(data), _SLICE_BYTES):
            self._codes += self._lines.feed(data[start : start + _SLICE_BYTES])
            while len(self._codes) >= CODES_PER_TRANSACTION:
                await self._store()
            await asyncio.sleep(0)  # others have their turn, where nothing was to be stored too

    async def finish(self) -> pb.ImportBetaCodesResponse:
        """Store what is left, and answer what became of the file."""
        self._codes += self._lines.close()
        if self._codes:
            await self._store()
        self._answer.invalid_count = self._lines.invalid_count
        self._answer.invalid_lines.extend(self._lines.invalid_lines)
        return self._answer

    async def _store(self) -> None:
        codes, self._codes = self._codes[:CODES_PER_TRANSACTION], self._codes[CODES_PER_TRANSACTION:]
        stored = await self._call.write(
            lambda new: pb.ImportBetaCodesResponse(imported_count=len(new)), beta_codes.add, codes
        )
        self._answer.imported_count += stored.imported_count
        self._answer.duplicate_count += len(codes) - stored.imported_count


def redeem(connection: Connection, user_id: str, code: str) -> BetaCode:
    """Spend a code for a user.  Raises NotFound for the user, and BetaCodeInvalid."""
    return beta_codes.redeem(connection, code, users.resource.get(connection, user_id).email)


def new_code(length: int) -> str:
    """A code that cannot be guessed: 5 bits a character."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def to_proto(code: BetaCode) -> pb.BetaCode:
    return pb.BetaCode(
        code=code.code,
        etag=etag_of(code),
        revision=code.revision,
        create_time=to_timestamp(code.created_at),
        used=code.used,
        used_by=code.used_by,
        use_time=to_timestamp(code.used_at) if code.used_at else None,
    )


def to_stats(stats: Stats) -> pb.BetaCodeStats:
    return pb.BetaCodeStats(total_count=stats.total, used_count=stats.used, unused_count=stats.total - stats.used)
