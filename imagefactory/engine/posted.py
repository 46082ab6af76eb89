"""A picture that a request brings along: its variant is found in the cache by the digest of its bytes, and
made like any other. So the same bytes are worked on once, whoever sends them, and wherever else they lie."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from ..errors import NotFound, SourceChanged, WrongPicture
from ..model.job import Renderer
from ..model.source import Header, Source, Stamp
from ..storage.protocols import LocalFile
from ..urls.query import Request
from .answer import Answer
from .failures import Recent
from .finder import Finder
from .gate import Gate
from .maker import Maker
from .resolve import Resolver

__all__ = ["Lent", "PostedPictures"]

_HEADER_S = 3600.0


class Lent:
    """The files that requests lend for as long as they last: ``Sources`` by names that nobody guesses."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}

    @contextmanager
    def lend(self, descriptor: int) -> Iterator[str]:
        """The name of the open file *descriptor*, for the time of the block."""
        name = f".posted/{secrets.token_hex(16)}/picture"
        self._files[name] = descriptor
        try:
            yield name
        finally:
            del self._files[name]

    def stamp(self, path: str) -> Stamp:
        """See ``Stamps``."""
        return Stamp.of(os.fstat(self._descriptor(path)))

    look = stamp

    def is_current(self, path: str, stamp: Stamp) -> bool:
        """See ``Stamps``."""
        return path in self._files and self.stamp(path) == stamp

    def is_settled(self, stamp: Stamp, now_s: float) -> bool:
        """Always: nobody else writes there."""
        return True

    def open(self, path: str) -> tuple[BufferedReader, Stamp]:
        """See ``Contents``."""
        number = os.dup(self._descriptor(path))
        file = os.fdopen(number, "rb")
        file.seek(0)
        return file, Stamp.of(os.fstat(number))

    def digest(self, path: str) -> tuple[str, Stamp]:
        """Not asked: it was hashed while it came."""
        raise NotFound

    @contextmanager
    def fetch(self, path: str, stamp: Stamp) -> Iterator[LocalFile]:
        """See ``Contents``."""
        file, found = self.open(path)
        with file:
            if found != stamp:
                raise SourceChanged
            yield LocalFile(Path(path), stamp, file.fileno())

    def walk(self, below: str = "") -> Iterator[str]:
        """None: they are no pictures of the site."""
        return iter(())

    def is_readable(self) -> bool:
        """Always."""
        return True

    def _descriptor(self, path: str) -> int:
        try:
            return self._files[path]
        except KeyError:
            raise NotFound from None


class PostedPictures:
    """Answers with variants of what was *lent*. Headers are read by *renderer* when *gate* lets it, within
    *timeout_s* seconds; variants are made by *maker*, which knows no other sources. *start* is called before.
    """

    def __init__(
        self,
        lent: Lent,
        renderer: Renderer,
        gate: Gate,
        timeout_s: float,
        resolver: Resolver,
        finder: Finder,
        maker: Maker,
        start: Callable[[], object],
    ) -> None:
        self._lent = lent
        self._renderer = renderer
        self._gate = gate
        self._timeout_s = timeout_s
        self._resolver = resolver
        self._finder = finder
        self._maker = maker
        self._start = start
        self._headers: Recent[Header] = Recent()

    def answer(self, descriptor: int, digest: str, request: Request, accept: str) -> Answer:
        """The variant that *request* means for the picture in the open file *descriptor*, whose bytes have
        the sha256 *digest*. Raises WrongPicture for what is no picture, and as ``Generator.answer``."""
        self._start()
        os.utime(descriptor, (0, 0))  # it has been written to its end, also where that is broken
        with self._lent.lend(descriptor) as path:
            source = Source(path, self._lent.stamp(path), digest, self._header(path, descriptor, digest))
            wanted = self._resolver.wanted(source, self._resolver.fitted(source, request), accept)
            return self._finder.find(source, wanted) or self._maker.make(source, wanted)

    def _header(self, path: str, descriptor: int, digest: str) -> Header:
        known = self._headers.get(digest)
        if known is not None:
            return known[0]
        with self._gate.enter(), self._gate.render(self._timeout_s, digest):
            header = self._renderer.probe(Path(path), descriptor)
        if header is None:
            raise WrongPicture("this is no picture in a known format")
        self._headers.put(digest, header, _HEADER_S)
        return header
