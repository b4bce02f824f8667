"""Which refusals go on record: so many a minute of each principal, and the number of the others.

A refusal costs its caller nothing and the audit log a row: neither a stranger nor whoever has the least of tokens may
fill the disk.  Strangers share one budget, so that a token that is known, valid or not, has its own.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

from nofx_grpc.store import audit
from nofx_grpc.store.audit import AuditRecord

PER_MINUTE = 60
LEFT_OUT = "LEFT_OUT"
_SECONDS = 60


@dataclass(slots=True)
class _Budget:
    """What one principal has left until a time, and how many refusals had no place in it; the last of these."""

    left: int
    until: float
    left_out: int = 0
    last: AuditRecord | None = None


class Refusals:
    """The refusals of every principal of this process.  Used on one event loop."""

    def __init__(self, per_minute: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._monotonic = per_minute, monotonic
        self._of: dict[str, _Budget] = {}

    def spend(self, record: AuditRecord) -> bool:
        """Whether this refusal goes on record; else it is counted."""
        now = self._monotonic()
        budget = self._of.get(record.principal)
        if budget is None:
            budget = self._of[record.principal] = _Budget(self._per_minute, now + _SECONDS)
        elif now >= budget.until:
            budget.left, budget.until = self._per_minute, now + _SECONDS
        if budget.left > 0:
            budget.left -= 1
            return True
        budget.left_out += 1
        budget.last = record
        return False

    def left_out(self) -> Generator[AuditRecord, None, None]:
        """A record for each principal that has some without a place: the last, and how many.

        They count as recorded when the next record is asked for, so that what fails is not forgotten.
        """
        for budget in list(self._of.values()):
            if budget.last is not None and (number := budget.left_out):
                yield _summary(budget.last, number)
                budget.left_out -= number
        now = self._monotonic()
        self._of = {of: budget for of, budget in self._of.items() if budget.left_out or now < budget.until}


def _summary(last: AuditRecord, left_out: int) -> AuditRecord:
    return AuditRecord(
        principal=last.principal,
        role=last.role,
        method=last.method,
        peer=last.peer,
        resources=f"{left_out} refusals",
        outcome=audit.DENIED,
        reason=LEFT_OUT,
    )
