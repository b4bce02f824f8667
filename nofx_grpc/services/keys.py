"""The keys that seal what is stored: listed, rotated, retired, and all values sealed anew.

A part of the service Admin.
"""

import os
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from nofx_grpc.crypto.keyring import KeyRecord
from nofx_grpc.errors import InUse
from nofx_grpc.services.call import Call
from nofx_grpc.services.convert import to_timestamp
from nofx_grpc.services.pages import Pages
from nofx_grpc.store import audit, keys
from nofx_grpc.store.engine import Database
from nofx_grpc.store.live_keys import LiveKeys
from nofx_grpc.store.sealed import PLACES, Place, Sealed
from nofx_grpc.v1 import keys_pb2 as pb

PAGE = 200  # values that are read at one time
STEP = 25  # values that are sealed anew in one write: who waits to write waits for one step at most

_PURPOSES = {
    "data": pb.KEY_PURPOSE_DATA,
    "fingerprint": pb.KEY_PURPOSE_FINGERPRINT,
    "audit": pb.KEY_PURPOSE_AUDIT,
}
_STATES = {"primary": pb.KEY_STATE_PRIMARY, "decrypt_only": pb.KEY_STATE_DECRYPT_ONLY}

Uses = Mapping[str, Mapping[Place, int]]  # by the id of the key


class Keys:
    """The rpcs of the keyring."""

    def __init__(self, pages: Pages, keys: LiveKeys) -> None:
        self._pages, self._keys = pages, keys

    async def ListKeys(self, request: pb.ListKeysRequest, call: Call) -> pb.ListKeysResponse:
        uses = await count_uses(call.db, self._keys)
        return await self._pages.answer(
            request,
            call,
            keys.Listing(),
            lambda record: to_proto(record, uses.get(record.id, {})),
            pb.ListKeysResponse,
        )

    async def RotateKey(self, request: pb.RotateKeyRequest, call: Call) -> pb.RotateKeyResponse:
        return await call.write(
            lambda done: pb.RotateKeyResponse(key=to_proto(done.new), previous=to_proto(done.previous)),
            keys.rotate,
            self._keys.master,
            os.urandom,
        )

    async def Reencrypt(self, request: pb.ReencryptRequest, call: Call) -> AsyncGenerator[pb.ReencryptResponse, None]:
        await call.record(audit.OK, resources="begun")
        work = Reencryption(call.db, self._keys)
        async with aclosing(work.run()) as messages:
            async for progress in messages:
                yield progress
        await call.record(
            audit.OK, resources=f"{work.resealed} values sealed anew, {work.unreadable} unreadable: all seen to"
        )

    async def RetireKey(self, request: pb.RetireKeyRequest, call: Call) -> pb.RetireKeyResponse:
        records = (await call.db.read(keys.read_all)).value
        if request.allow_missing and request.id not in {record.id for record in records}:
            return await call.write(lambda _: pb.RetireKeyResponse(), lambda _: None)
        keys.check_retirable(records, request.id)
        # Since the key is not primary no write seals by it, so what is counted now cannot become more.
        if uses := (await count_uses(call.db, self._keys)).get(request.id):
            by_table: Counter[str] = Counter()
            for place, number in uses.items():
                by_table[place.table.name] += number
            tables = [f"{table} ({number})" for table, number in by_table.items()]
            raise InUse(keys.KIND, request.id, by=f"{by_table.total()} values that it seals", users=tables)
        return await call.write(lambda _: pb.RetireKeyResponse(), keys.retire, request.id)


@dataclass
class Reencryption:
    """All values that the primary key has not sealed, sealed anew by it."""

    db: Database
    keys: LiveKeys
    total: int = 0
    done: int = 0
    resealed: int = 0
    unreadable: int = 0
    _found: list[Sealed] = field(default_factory=list)

    async def run(self) -> AsyncGenerator[pb.ReencryptResponse, None]:
        """Do it, and tell how far it is: at the beginning, and after each page."""
        uses = await count_uses(self.db, self.keys)
        primary = self.keys.envelope.primary_id
        self.total = sum(sum(places.values()) for id, places in uses.items() if id != primary)
        yield self._progress()
        for place in PLACES:
            after: tuple[object, ...] = ()
            while page := (await self.db.scan(place.page, self.keys.envelope, after, PAGE)).value:
                await self._reseal(place, page)
                after = page[-1].key
                yield self._progress()

    async def _reseal(self, place: Place, page: list[Sealed]) -> None:
        for start in range(0, len(page), STEP):
            outcome = (await self.db.write(place.reseal, page[start : start + STEP])).value
            self.resealed += outcome.resealed
            self.unreadable += len(outcome.unreadable)
            self._found += outcome.unreadable
        self.done += len(page)

    def _progress(self) -> pb.ReencryptResponse:
        found, self._found = self._found, []
        return pb.ReencryptResponse(
            key_id=self.keys.envelope.primary_id,
            total_count=max(self.total, self.done),
            done_count=self.done,
            resealed_count=self.resealed,
            unreadable_count=self.unreadable,
            unreadable=map(unreadable_to_proto, found),
        )


async def count_uses(db: Database, live: LiveKeys) -> Uses:
    """How many values each key seals, each place read in a snapshot of its own."""
    uses: dict[str, Counter[Place]] = {}
    for place in PLACES:
        counts = (await db.scan(place.count, live.envelope)).value
        for id, number in counts.items():
            uses.setdefault(id, Counter())[place] = number
    return uses


def to_proto(record: KeyRecord, uses: Mapping[Place, int] | None = None) -> pb.Key:
    """The public key: all but the key."""
    uses = uses or {}
    return pb.Key(
        id=record.id,
        create_time=to_timestamp(record.created_at),
        purpose=_PURPOSES[record.purpose],
        state=_STATES[record.state],
        algorithm=record.algorithm,
        value_count=sum(uses.values()),
        uses=[
            pb.KeyUse(table=place.table.name, column=place.column.name, value_count=number)
            for place, number in uses.items()
        ],
    )


def unreadable_to_proto(sealed: Sealed) -> pb.UnreadableValue:
    """Where a value is that does not open, and which key it names."""
    where = sealed.where
    return pb.UnreadableValue(
        table=where.table, column=where.column, user_id=where.user_id, row_id=where.row_id, key_id=sealed.key_id
    )
