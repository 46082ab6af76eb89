"""The names of all pictures, for the page that lists and searches them: read beside the requests.

A thread of its own walks the folder, one for all visitors, and only while somebody asks. So a request costs
the same whatever the number of pictures. It gets what is known, which is a few seconds old, and during the
first walk what that has met until now.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

__all__ = ["NameList", "Names"]

_log = logging.getLogger(__name__)
# What is listed at most: names, bytes of memory, and files that were looked at on the way.
_MOST = 100_000
_MOST_BYTES = 20_000_000
_MOST_FILES = 1_000_000
_FRESH_S = 3.0  # a list is no older while somebody asks, unless a walk takes long:
_SHARE = 10  # then at most a tenth of the time is spent on walks
_KEPT_S = 600.0
# How long the request that has the folder walked waits for the end: one thread, and no other request.
_WAIT_S = 0.5
_AT_ONCE = 1000  # files, before others get their turn
_WORDS = 4  # of a search; each costs up to 4 ms for 100,000 names


@dataclass(frozen=True, slots=True)
class Names:
    """The *paths* of pictures, and the same in *folded* case. *is_whole*: there are no others, unless
    *is_cut*: there are more than are listed. Both lists may grow until the walk ends."""

    paths: list[str] = field(default_factory=list)
    folded: list[str] = field(default_factory=list)
    is_whole: bool = False
    is_cut: bool = False

    def find(self, text: str, start: int, stop: int) -> list[str]:
        """Those from *start* to before *stop* of the paths that have all words of *text*, in any case. Of
        many words the four longest count: one word that none of 100,000 names has costs 5 ms, four words
        16 ms at worst."""
        words = sorted(set(text.casefold().split()), key=len, reverse=True)[:_WORDS]
        if not words:
            return self.paths[start:stop]
        pairs: Iterable[tuple[str, str]] = zip(self.folded, self.paths, strict=False)
        for word in words:
            pairs = _having(pairs, word)
        return [path for _, path in islice(pairs, start, stop)]


def _having(pairs: Iterable[tuple[str, str]], word: str) -> Iterator[tuple[str, str]]:
    return (pair for pair in pairs if word in pair[0])


class NameList:
    """The names that *walk* gives and *is_listed* takes, walked again every few seconds while ``read`` is
    called. *clock* gives seconds of any beginning."""

    def __init__(
        self,
        walk: Callable[[], Iterator[str]],
        is_listed: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._walk = walk
        self._is_listed = is_listed
        self._clock = clock
        self._lock = threading.Lock()
        self._names = Names()
        self._walker = 0  # the process that has a walk under way
        self._due_s = self._asked_s = -math.inf
        self._took_s = 0.0  # the last walk

    def read(self) -> Names:
        """What is known now. A list that is too old is read again by a thread. The first request that meets
        it waits for the end, half a second at most, so that a small folder is always shown as it is."""
        ended = threading.Event()
        with self._lock:
            self._asked_s = self._clock()
            is_due = self._walker != os.getpid() and self._asked_s >= self._due_s
            if is_due:
                self._walker = os.getpid()
        if is_due:
            try:
                thread = threading.Thread(
                    target=self._run, args=(ended,), name="imagefactory-names", daemon=True
                )
                thread.start()
                if self._took_s < _WAIT_S:
                    ended.wait(_WAIT_S)
            except RuntimeError:  # there are too many threads: the next request tries again
                self._walker = 0
        return self._names

    def forget_if_unused(self) -> None:
        """Free the memory of a list that was asked for ten minutes ago."""
        if self._clock() - self._asked_s > _KEPT_S and not self._walker:
            self._names, self._due_s = Names(), -math.inf

    def _run(self, ended: threading.Event) -> None:
        began_s = self._clock()
        try:
            self._names = self._read()
        except Exception:  # the next walk may be better
            _log.exception("the list of pictures can't be read")
        finally:
            self._took_s = self._clock() - began_s
            self._due_s = self._clock() + max(_FRESH_S, self._took_s * _SHARE)
            self._walker = 0
            ended.set()

    def _read(self) -> Names:
        """The names as they are now. Those of the first walk are published while it goes on."""
        names = Names()
        if not self._names.is_whole:
            self._names = names
        size, is_cut = 0, False
        began_s = time.monotonic()
        for number, path in enumerate(self._walk()):
            if number % _AT_ONCE == _AT_ONCE - 1:
                time.sleep(min(1.0, time.monotonic() - began_s))  # half a core at most
                began_s = time.monotonic()
            is_cut = number == _MOST_FILES
            if not is_cut and self._is_listed(path):
                folded = path.casefold()
                folded = path if folded == path else folded
                size += sys.getsizeof(path) + (folded is not path and sys.getsizeof(folded)) + 16
                is_cut = len(names.paths) == _MOST or size > _MOST_BYTES
                if not is_cut:
                    names.paths.append(path)
                    names.folded.append(folded)
            if is_cut:
                break
        return Names(names.paths, names.folded, is_whole=True, is_cut=is_cut)
