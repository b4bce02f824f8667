"""What a stream has read at which revision: its client must not be told of older changes again."""

from bisect import bisect_left


class Covered:
    """Which resources of a kind were read at which revision, by ranges of keys: one entry for a page."""

    def __init__(self) -> None:
        self._last_keys: list[tuple[str, ...]] = []
        self._revisions: list[int] = []

    def add(self, last_key: tuple[str, ...], revision: int) -> None:
        """All up to this key, from the last one on, was read at this revision."""
        self._last_keys.append(last_key)
        self._revisions.append(revision)

    def add_rest(self, revision: int) -> None:
        """All that follows the last key was read at this revision."""
        self._revisions.append(revision)

    def at(self, key: tuple[str, ...]) -> int:
        """The revision at which this key was looked for."""
        return self._revisions[bisect_left(self._last_keys, key)]

    @property
    def newest(self) -> int:
        return max(self._revisions, default=0)


class Seen:
    """What was read in pages, and what was read by key since."""

    def __init__(self) -> None:
        self._pages: list[Covered] = []
        self._single: dict[tuple[str, ...], int] = {}

    def add_pages(self, pages: Covered) -> None:
        self._pages.append(pages)

    def add(self, key: tuple[str, ...], revision: int) -> None:
        self._single[key] = revision

    def at(self, key: tuple[str, ...]) -> int:
        """The revision at which this key was read last; 0 if that is forgotten."""
        return max(self._single.get(key, 0), *(pages.at(key) for pages in self._pages), 0)

    def forget(self, revision: int) -> None:
        """Only changes after this revision will be asked about."""
        self._pages = [pages for pages in self._pages if pages.newest > revision]
        self._single = {key: at for key, at in self._single.items() if at > revision}
