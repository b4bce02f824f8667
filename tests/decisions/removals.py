"""Short words for what is pruned, and what is left of it."""

from google.protobuf.timestamp_pb2 import Timestamp

from tests.decisions.support import Logs

START = 1_763_464_205
Two = tuple[Logs, Logs]


async def three(logs: Logs) -> list[str]:
    """The ids of three records, the oldest first, which have their files."""
    made = [await logs.append(time=Timestamp(seconds=START + n)) for n in range(3)]
    await logs.home.settle()
    return [one.id for one in made]


def names(logs: Logs) -> list[str]:
    return sorted(path.stem for path in (logs.root / "t").iterdir())


async def removed(logs: Logs) -> list[str]:
    return sorted(row[0] for row in await logs.service.rows("SELECT id FROM removed_decisions"))


async def look_anew(*servers: Logs) -> None:
    """Have each look through the folder, whatever it knows of it."""
    for logs in servers:
        logs.home._following._seen.clear()
        await logs.ids()
