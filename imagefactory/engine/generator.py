"""The journey of one picture, from a path and a request to an answer: identify, resolve, find or make.

- a **hit**: the stamp of the source and of the epoch (two stats), two rows of the index, the object. No
  write, no lock, no decoder; only a new or changed source is hashed and its row written.
- a **miss**: claim the variant, look again, render into a temp file, keep it (object, then row), answer.

Whatever the cache can't do, the visitor gets the right picture: finder and maker end every StorageError.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ..errors import NotFound, SourceChanged
from ..model.source import Source
from ..storage.body import Body
from ..urls.query import Request
from .answer import Answer
from .finder import Finder
from .flights import Waiter
from .identify import Identifier
from .maker import Maker
from .resolve import Resolver

__all__ = ["Generator"]


class Generator:
    """Answers with what *finder* finds or *maker* makes. *start* is called in each process before its first
    answer."""

    def __init__(
        self,
        identifier: Identifier,
        resolver: Resolver,
        finder: Finder,
        maker: Maker,
        start: Callable[[], None],
    ) -> None:
        self._identifier = identifier
        self._resolver = resolver
        self._finder = finder
        self._maker = maker
        self._start = start
        self._process = 0

    def answer(
        self,
        path: str,
        request: Request,
        accept: str = "",
        *,
        must_open: bool = False,
        may_stream: bool = False,
        waiter: Waiter | None = None,
    ) -> Answer:
        """The picture at *path* as *request* wants it; *accept* is the Accept header, for ``auto``.

        With *may_stream* it may be one that is still made, where its program is set up so. With *must_open* a
        variant whose object is gone is made again: for a second try, after ``open`` gave
        None. Raises NotFound, BadParameter, Undecodable, TooLarge, Busy, TimedOut, Unavailable; with a
        *waiter* also Underway, instead of waiting for another thread.
        """
        self.start_once()
        for _ in range(3):
            source = self._identifier.source(path, waiter)
            try:
                source, fitted = self._fitted(source, request)
            except SourceChanged:
                continue
            if fitted.is_plain:
                return self._finder.original(source)
            wanted = self._resolver.wanted(source, fitted, accept)
            try:
                found = None if must_open else self._finder.find(source, wanted)
                if found is None and may_stream and self._resolver.is_streamed(wanted):
                    return self._maker.stream(source, wanted)
                return found or self._maker.make(source, wanted, waiter)
            except SourceChanged:
                continue
            except NotFound:
                self._identifier.forget(source)
                raise
        return self._maker.make_unstored(path, request, accept)

    def _fitted(self, source: Source, request: Request) -> tuple[Source, Request]:
        """See ``Maker.fitted``: nothing is to be done for pictures of ours."""
        has_programs = source.header is not None and source.header.programs
        return self._maker.fitted(source, request) if has_programs or request.texts else (source, request)

    def source(self, path: str) -> Source:
        """What is known of the source at *path*; see ``Identifier.source``."""
        return self._identifier.source(path)

    def open(self, answer: Answer) -> Body | None:
        """The bytes of *answer*; see ``Finder.open``."""
        try:
            return self._finder.open(answer)
        except NotFound:
            self._identifier.forget(answer.source)
            raise

    def start_once(self) -> None:
        """As ``start``, unless this process has begun."""
        if self._process != os.getpid():
            self.start()

    def start(self) -> None:
        """Begin to work in this process: once, before the first answer, and again after a fork."""
        self._process = os.getpid()
        self._start()
