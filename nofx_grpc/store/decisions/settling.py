"""Bringing what is kept of open positions in step, a part in each transaction, so that nobody waits for all of it."""

from nofx_grpc.store.decisions import positions
from nofx_grpc.store.engine import Database


async def settle_all(db: Database, trader_id: str) -> None:
    """Go on until all that is kept of a trader's open positions is right."""
    if (await db.read(positions.is_unsettled, trader_id)).value:
        while (await db.write(positions.go_on, trader_id)).value:
            pass
