"""Many things in groups, each of which may be in memory, or in a response, at one time."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from google.protobuf.message import Message

T = TypeVar("T")
M = TypeVar("M", bound=Message)


def grouped(
    things: Iterable[T], size_of: Callable[[T], int], most_bytes: int, most: int = sys.maxsize
) -> Iterator[list[T]]:
    """Things in their order, in groups of at most so many, that are not larger than this unless one thing is."""
    group: list[T] = []
    size = 0
    for thing in things:
        more = size_of(thing)
        if group and (len(group) == most or size + more > most_bytes):
            yield group
            group, size = [], 0
        group.append(thing)
        size += more
    if group:
        yield group


def by_size(messages: Iterable[M], most_bytes: int) -> Iterator[list[M]]:
    """Messages in groups that are not larger than this, unless one message is."""
    return grouped(messages, size_in_another, most_bytes)


def size_in_another(message: Message) -> int:
    """What a message takes in one that holds it."""
    return message.ByteSize() + 8
