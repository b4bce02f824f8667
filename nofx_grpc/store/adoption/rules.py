"""What the layers above know and an adoption needs: keys, and what is right in the system configuration."""

from collections.abc import Callable
from dataclasses import dataclass, field

Progress = Callable[[str, int, int], None]
"""Told of a step, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class ConfigRules:
    """What is known of the keys of `system_config`."""

    known: frozenset[str]
    secret: frozenset[str]
    fault: Callable[[str, str], str]  # key, value -> what is wrong with it, without the value; '' if nothing is
    is_published: Callable[[str], bool]  # whether anybody can know this JWT secret


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of an adoption.  `master_text` may make the master key, so it is called only when all is checked."""

    nofx: bytes | None = field(repr=False)
    master_text: Callable[[], str]


def no_progress(step: str, done: int, total: int) -> None:
    """For callers that do not watch."""
