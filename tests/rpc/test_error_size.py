"""Errors are cut to what gRPC lets through: an error that is too long would end the caller's connection instead."""

import asyncio
from urllib.parse import quote

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from nofx_grpc import errors
from nofx_grpc.errors import NofxError, Violation
from nofx_grpc.rpc.status import status_of
from nofx_grpc.v1 import traders_pb2 as pb
from tests.support.service import RunningService, refused

Code = grpc.StatusCode
INVALID = Code.INVALID_ARGUMENT, "INVALID_ARGUMENT"

# What gRPC takes without a word, less what every answer has beside its error.
MOST_METADATA_BYTES = 8 * 1024 - 512

LONG_IDS = ["漢" * 170 + str(number) for number in range(12)]


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidArgument(*(Violation(f"settings[{i}].key", f"{id!r} is wrong") for i, id in enumerate(LONG_IDS))),
        errors.InvalidArgument(*(Violation(f"trader.trading_symbols[{i}]", "is wrong") for i in range(100_000))),
        errors.InvalidArgument(Violation("x" * 1_000_000, "y" * 1_000_000)),
        errors.InUse("exchange", LONG_IDS[0], by="the traders", users=LONG_IDS),
        errors.AlreadyExists("user", LONG_IDS[0], field="email"),
        errors.NotFound("trader", "\u200b" * 170),
    ],
    ids=["ids", "many", "long", "in use", "exists", "escaped"],
)
def test_an_error_fits_into_the_metadata(error: NofxError) -> None:
    _, text, details = status_of(error, "/a.B/C")
    assert len(quote(text)) + len(details) * 4 / 3 < MOST_METADATA_BYTES


async def test_of_very_many_violations_the_first_are_told_and_how_many_more(service: RunningService) -> None:
    request = pb.CreateTraderRequest(user_id="default", trader=pb.Trader(trading_symbols=["A,"] * 400))
    refusal = await refused(service.client().traders.CreateTrader(request), *INVALID)
    assert refusal.violations["trader.trading_symbols[0]"]
    assert refusal.violations[""] == f"and {401 - len(refusal.violations)} more"
    assert refusal.text.endswith("…")


async def test_a_message_full_of_violations_does_not_hold_up_the_others(service: RunningService) -> None:
    request = pb.CreateTraderRequest(user_id="default", trader=pb.Trader(trading_symbols=[","] * 16_000))
    async with asyncio.timeout(10):  # to look for all of them would take most of a minute
        refusal = await refused(service.client().traders.CreateTrader(request), *INVALID)
    assert len(refusal.violations) == 1


async def test_a_mask_of_very_many_fields_is_not_looked_at(service: RunningService) -> None:
    mask = FieldMask(paths=["nothing"] * 10_000)
    request = pb.UpdateTraderRequest(trader=pb.Trader(user_id="default", id="t1"), update_mask=mask)
    refusal = await refused(service.client().traders.UpdateTrader(request), *INVALID)
    assert refusal.violations == {"update_mask": "names 10,000 fields: expected at most 100"}


async def test_a_very_long_name_in_a_mask_is_cut(service: RunningService) -> None:
    mask = FieldMask(paths=["x" * 100_000])
    request = pb.UpdateTraderRequest(trader=pb.Trader(user_id="default", id="t1"), update_mask=mask)
    refusal = await refused(service.client().traders.UpdateTrader(request), *INVALID)
    assert refusal.violations["update_mask"].startswith("'xxx")
