"""What is known of the sources: digest, header and placeholder, true for the bytes that a path has now.

Asked by the generator before anything else. Where nothing changed that is one stat and a look into the index;
new bytes are hashed, and their header is read by the renderer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ..errors import RequestError, SourceChanged, StorageError, TimedOut, TooLarge, Unavailable, Undecodable
from ..model.formats import Header
from ..model.job import Renderer
from ..model.variant import Source
from ..storage.disk import Store
from ..storage.originals import Sources
from .gate import Failures, Flights, Gate, Recent
from .health import Troubles

__all__ = ["Register"]

_RACY_NS = 2_000_000_000


class Register:
    """What *store* knows of *sources*. Headers are read by *renderer*, when *gate* lets them and for at most
    *timeout_s* seconds; *clock* gives unix seconds. What fails is noted in *troubles*."""

    def __init__(
        self,
        sources: Sources,
        store: Store,
        renderer: Renderer,
        gate: Gate,
        troubles: Troubles,
        clock: Callable[[], float],
        timeout_s: float,
    ) -> None:
        self._sources = sources
        self._store = store
        self._renderer = renderer
        self._gate = gate
        self._troubles = troubles
        self._clock = clock
        self._timeout_s = timeout_s
        self._readings: Flights[tuple[Source, bool]] = Flights()
        self._probings: Flights[Source] = Flights()
        # Broken headers by digest, and files that are no pictures by path: a crowd in front of one does not
        # have it read, or hashed, again and again.
        self._failures = Failures()
        self._strangers: Recent[Source] = Recent(RequestError.lasts_s)

    def source(self, path: str) -> Source:
        """What is known of the source at *path*, true for the bytes it has now. One stat if nothing changed.

        Raises NotFound, TooLarge when it has too many bytes, Busy, TimedOut, and Unavailable when the disk
        fails or the source does not hold still.
        """
        for _ in range(3):
            stamp = self._sources.stamp(path)
            try:
                known = self._store.source(path) or self._strangers.get(path)
            except StorageError as error:
                self._troubles.note(error)
                known = self._strangers.get(path)
            if known is not None and known.stamp == stamp and not known.is_racy:
                return known
            try:
                work = partial(self._read, path, known)
                (source, is_complete), _ = self._readings.run((path, stamp), work, self._timeout_s)
                if is_complete:
                    return source
                with self._gate.enter():
                    probe = partial(self._read_header, source)
                    return self._probings.run((path, source.digest), probe, self._timeout_s)[0]
            except SourceChanged:
                continue
        raise Unavailable("the picture is being written at the moment", retry_after_s=1)

    def learn_placeholder(self, source: Source, placeholder: str) -> None:
        """Add *placeholder* to the row of *source*, if that is still the row of these bytes and has none."""
        if not placeholder:
            return
        try:
            known = self._store.source(source.path)
            if known is not None and known == replace(source, is_racy=known.is_racy):
                self._store.put_source(replace(known, placeholder=placeholder))
        except StorageError as error:
            self._troubles.note(error)

    def has_changed(self, source: Source) -> bool:
        """Whether the file of *source* is another one by now, or is gone."""
        try:
            if self._sources.stamp(source.path) != source.stamp:
                return True
            return source.is_racy and self._sources.digest(source.path)[0] != source.digest
        except (RequestError, SourceChanged):
            return True

    def _read(self, path: str, known: Source | None) -> tuple[Source, bool]:
        """The source at *path*, hashed; and whether that is all, as the bytes are the *known* ones. Else its
        header is to be read."""
        now_ns = int(self._clock() * 1e9)
        digest, stamp = self._sources.digest(path)
        source = Source(path, stamp, digest, None, now_ns - stamp.ctime_ns < _RACY_NS)
        if known is None or known.digest != digest:
            return source, False
        source = replace(source, header=known.header, problem=known.problem, placeholder=known.placeholder)
        self._learn(source, known)
        return source, True

    def _read_header(self, source: Source) -> Source:
        """Have the header of *source* read. Raises SourceChanged when that may be of other bytes."""
        header, problem = self._probe(source.path, source.digest)
        if self._sources.stamp(source.path) != source.stamp:
            raise SourceChanged
        if problem:
            self._troubles.note_failure(source.path, Undecodable(problem), self._clock())
        source = replace(source, header=header, problem=problem)
        self._learn(source, None)
        return source

    def _learn(self, source: Source, known: Source | None) -> None:
        if source.header is None:
            # Not in the index: another Pillow, or an extra, may read it tomorrow.
            self._strangers.put(source.path, source)
        elif source != known:
            try:
                self._store.put_source(source)
            except StorageError as error:
                self._troubles.note(error)

    def _probe(self, path: str, digest: str) -> tuple[Header | None, str]:
        self._failures.recall(digest)
        try:
            with self._gate.render(self._timeout_s):
                try:
                    return self._renderer.probe(self._sources.locate(path)), ""
                except TimedOut as error:
                    self._failures.note(digest, error)
                    raise
        except Undecodable as error:
            return None, error.reason
        except TooLarge as error:
            return None, str(error)
        except OSError as error:
            raise Unavailable("the picture can't be read at the moment") from error
