"""Copying the files of decision records from one directory to another, and telling what was passed over."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import typer

from nofx_grpc.cli.reports import EXIT_FAILED, say
from nofx_grpc.decisions.names import plain_folder, spelt_folder, trader_of_folder
from nofx_grpc.decisions.records import NotAllowed, NotARecord
from nofx_grpc.errors import StoreUnavailable
from nofx_grpc.redaction import escaped
from nofx_grpc.store.decisions.folders import Folders, Stamp
from nofx_grpc.store.decisions.reading import shown_name
from nofx_grpc.store.decisions.walking import PassOver, all_folders, count_files

Tell = Callable[[str, int, int], None]

_MOST_NAMED: Final = 100


class Report(NamedTuple):
    """What a command came to: how many of what, what was passed over, and why, and how much of that was unreadable."""

    counts: dict[str, int]
    passed_over: list[str]
    unread: int = 0

    def as_json(self) -> dict[str, Any]:
        return self.counts | {"passed_over": self.passed_over}

    def show_passed_over(self) -> None:
        """Print a line for each thing that was passed over."""
        for what in self.passed_over:
            print(f"passed over: {escaped(what)}")

    def end(self) -> None:
        """End the command.  Raises Exit with another code than 0 if not all could be read."""
        if self.unread:
            say(f"{self.unread} of the files or folders could not be read: run the command again once they can be")
            raise typer.Exit(EXIT_FAILED)


@dataclass(slots=True)
class PassedOver:
    """What is not dealt with: all of it counted, the first of it named with the reason."""

    count: int = 0
    unread: int = 0  # what could not be read; it may be next time
    named: list[str] = field(default_factory=list)

    def __call__(self, path: str, why: str, files: int = 1, *, unread: bool = False) -> None:
        self.count += files
        self.unread += unread
        if len(self.named) < _MOST_NAMED:
            self.named.append(f"{shown_name(path)}: {why}")


def read(source: Folders, folder: str, name: str, passed_over: PassOver, files: int = 1) -> tuple[Stamp, bytes] | None:
    """A file and its stamp; None, and passed over, if there is none to be had, which keeps nobody from the others."""
    try:
        return source.read(folder, name)
    except FileNotFoundError:
        passed_over(f"{folder}/{name}", "it is gone", files)
    except NotARecord as error:
        passed_over(f"{folder}/{name}", str(error), files, unread=isinstance(error, NotAllowed))
    except StoreUnavailable as error:
        passed_over(f"{folder}/{name}", error.message, files, unread=True)
    return None


class Copying:
    """Copies the files of traders, records or not; those that are there already stay as they are."""

    def __init__(self, source: Folders, target: Folders, tell: Tell) -> None:
        self._source, self._target, self._tell = source, target, tell
        self._total = count_files(source)
        self._copied = self._there = 0
        self.passed_over = PassedOver()

    def all(self) -> Report:
        """Copy all folders, each to the place that its trader has or can have; what came of it."""
        for folder in all_folders(self._source.root, self.passed_over):
            self.folder(folder, _place(self._target, trader_of_folder(folder) or ""))
        return self.report()

    def folder(self, folder: str, into: str) -> None:
        """Copy one folder."""
        for done, name in enumerate(self._source.names(folder), self._copied + self._there + 1):
            self._copy(folder, name, into)
            self._tell("decision records", done, max(done, self._total))

    def report(self) -> Report:
        """How many files were copied, and how many were not: those that were there, and what was passed over."""
        counts = {"copied": self._copied, "not_copied": self._there + self.passed_over.count}
        return Report(counts, self.passed_over.named, self.passed_over.unread)

    def _copy(self, folder: str, name: str, into: str) -> None:
        if self._target.has(into, name):
            self._there += 1
            return
        if (found := read(self._source, folder, name, self.passed_over)) is not None:
            self._target.put(into, name, found[1])
            self._copied += 1


def _place(target: Folders, trader_id: str) -> str:
    """The folder that a trader has on disk, or can have."""
    plain = plain_folder(trader_id)
    free = plain is not None and not target.is_taken(plain)
    return target.find(trader_id) or (plain if plain is not None and free else spelt_folder(trader_id))
