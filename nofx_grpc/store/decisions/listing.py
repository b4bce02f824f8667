"""The ids in a folder, sorted as the index sorts them, however many there are."""

import heapq
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from tempfile import TemporaryFile
from typing import IO, Final

from nofx_grpc.decisions.names import id_of_file

_AT_ONCE: Final = 50_000  # ids that are in memory at one time, 6 MB
_READ_BYTES: Final = 65_536


def sorted_ids(names: Iterable[str]) -> Iterator[str]:
    """The ids of those files that can hold a record, in the order of their bytes.

    All but the last few wait in temporary files, sorted run by run, and are merged.  All names are read before the
    first id is there, which takes long: ask for it in a thread.  Who lets go of the iterator closes the files, and not
    who goes away while a thread reads them.
    """
    ids = (id for name in names if (id := id_of_file(name)) is not None)
    with ExitStack() as files:
        runs: list[Iterable[str]] = []
        while len(run := sorted(islice(ids, _AT_ONCE))) == _AT_ONCE:
            runs.append(_read(_written(run, files.enter_context(TemporaryFile()))))
        yield from heapq.merge(*runs, run)


def _written(run: list[str], file: IO[bytes]) -> IO[bytes]:
    file.write(b"".join(id.encode() + b"\0" for id in run))  # the one byte that no name has
    file.seek(0)
    return file


def _read(file: IO[bytes]) -> Iterator[str]:
    rest = b""
    while data := file.read(_READ_BYTES):
        *whole, rest = (rest + data).split(b"\0")
        yield from (id.decode() for id in whole)
