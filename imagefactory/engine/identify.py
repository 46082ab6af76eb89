"""What is known of the sources: digest, header and placeholder, true for the bytes that a path has now.

Where nothing changed that is one stat and a look into the index;
new bytes are hashed, and their header is read by the renderer.
What does not start as a picture is not hashed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

from ..errors import (
    BeingWritten,
    RequestError,
    SourceChanged,
    StorageError,
    TooLarge,
    Unavailable,
    Undecodable,
)
from ..model.formats import HEAD_BYTES, PICTURE_SUFFIXES, format_of, may_be_picture
from ..model.job import Renderer
from ..model.source import Header, Source, Stamp
from ..render import films
from ..storage.protocols import Contents, LocalFile, SourceRows, Sources
from .failures import Failures, Recent
from .flights import Flights, Waiter
from .gate import Gate, Hashing
from .health import Health
from .programs import Programs

__all__ = ["Identifier", "ReadHeader", "read_source"]

# The header of a source by the program of the table with this name: what it makes of it, in its natural size.
ReadHeader = Callable[[Source, str], Header]

_TRIES = 3
# The pauses between the pieces of a slow upload are shorter.
_WRITING_S = 5.0
_KEPT_S = 3600.0


def read_source(
    sources: Sources,
    renderer: Renderer,
    programs: Programs,
    read_header: ReadHeader,
    path: str,
    now_s: float,
) -> Source:
    """What the source at *path* is at unix time *now_s*, read without a memory of it. Raises as
    ``Identifier.source``."""
    for _ in range(_TRIES):
        try:
            if other := _no_picture(sources, programs, path):
                return other
            digest, stamp = sources.digest(path)
            source = Source(path, stamp, digest, None, not sources.is_settled(stamp, now_s))
            with sources.fetch(path, stamp) as local:
                source = _with_header(source, local, renderer, programs, read_header)
            if sources.stamp(path) == stamp:
                return source
        except SourceChanged:
            continue
    raise BeingWritten


class Identifier:
    """What *rows* know of *sources*. Files are hashed when *hashing* lets them. Headers are read by
    *renderer* when *gate* lets them, for at most *timeout_s* seconds; *gate* also bounds the requests that
    wait. *clock* gives unix seconds. What fails is noted in *health*."""

    def __init__(
        self,
        sources: Sources,
        rows: SourceRows,
        renderer: Renderer,
        programs: Programs,
        read_header: ReadHeader,
        gate: Gate,
        hashing: Hashing,
        health: Health,
        clock: Callable[[], float],
        timeout_s: float,
    ) -> None:
        self._sources = sources
        self._rows = rows
        self._renderer = renderer
        self._programs = programs
        self._read_by_program = read_header
        self._gate = gate
        self._hashing = hashing
        self._health = health
        self._clock = clock
        self._timeout_s = timeout_s
        self._hashings: Flights[tuple[Source, bool]] = Flights()
        self._probings: Flights[Source] = Flights()
        self._failures = Failures()
        # Broken pictures that the index could not take: they are not hashed again and again.
        self._unstored: Recent[Source] = Recent()

    def source(self, path: str, waiter: Waiter | None = None) -> Source:
        """What is known of the source at *path*, true for the bytes it has now. One stat if nothing changed.

        Raises NotFound, TooLarge when it has too many bytes, Busy, TimedOut, and Unavailable when the disk
        fails or the source does not hold still. With a *waiter* also Underway.
        """
        for _ in range(_TRIES):
            stamp = self._sources.stamp(path)
            known = self._known(path)
            is_same = known is not None and self._programs.is_current(known)
            if known is not None and is_same and known.stamp == stamp and not known.is_racy:
                return known
            try:
                work = partial(self._read, path, stamp, known if is_same else None)
                (source, is_complete), _ = self._hashings.run(
                    (path, stamp), work, self._timeout_s, waiter, self._gate.follow
                )
                if is_complete:
                    return source
                probe = partial(self._read_header, source)
                return self._probings.run(
                    (path, source.digest), probe, self._timeout_s, waiter, self._gate.follow
                )[0]
            except SourceChanged:
                continue
        raise BeingWritten

    def is_being_written(self, source: Source) -> bool:
        """Whether *source*, which can't be decoded, may be cut off because its writer is not done: it was
        modified in the last five seconds. A writer that keeps the date of a file sets it at the end."""
        return abs(self._clock() - source.stamp.modified_ns / 1e9) < _WRITING_S

    def forget(self, source: Source) -> None:
        """Remove the row of *source*, which could not be opened: its folder may have been moved away, with a
        link to it left behind. Its stamp is the same, but it may not be shown any more."""
        try:
            self._rows.remove([source.path])
        except StorageError as error:
            self._health.note(error)

    def learn_placeholder(self, source: Source, placeholder: str) -> None:
        """Add *placeholder* to the row of *source*, if that is still the row of these bytes and has none."""
        if not placeholder:
            return
        try:
            known = self._rows.get(source.path)
            if known is not None and known == replace(source, is_racy=known.is_racy):
                self._rows.put(replace(known, placeholder=placeholder))
        except StorageError as error:
            self._health.note(error)

    def has_changed(self, source: Source) -> bool:
        """Whether the file of *source* is another one by now, or is gone."""
        try:
            if self._sources.stamp(source.path) != source.stamp:
                return True
            return source.is_racy and self._digest(source.path, source.stamp.size)[0] != source.digest
        except (RequestError, SourceChanged):
            return True

    def _known(self, path: str) -> Source | None:
        try:
            known = self._rows.get(path)
        except StorageError as error:
            self._health.note(error)
            known = None
        if known is None and (unstored := self._unstored.get(path)):
            return unstored[0]
        return known

    def _read(self, path: str, stamp: Stamp, known: Source | None) -> tuple[Source, bool]:
        """The source at *path*, which had *stamp*, hashed; and whether that is all, as the bytes are the
        *known* ones or no picture. Else its header is to be read."""
        if other := _no_picture(self._sources, self._programs, path):
            self._check_at_rest(other)
            return other, True
        now_s = self._clock()
        with self._gate.enter() if self._hashing.is_large(stamp.size) else nullcontext():
            digest, stamp = self._digest(path, stamp.size)
        source = Source(path, stamp, digest, None, not self._sources.is_settled(stamp, now_s))
        if known is None or known.digest != digest:
            return source, False
        source = replace(
            source,
            header=known.header,
            problem=known.problem,
            placeholder=known.placeholder,
            tables=known.tables,
        )
        self._learn(source, known)
        return source, True

    def _digest(self, path: str, size: int) -> tuple[str, Stamp]:
        with self._hashing.turn(size):
            return self._sources.digest(path)

    def _read_header(self, source: Source) -> Source:
        """Have the header of *source* read. Raises SourceChanged when that may be of other bytes."""
        source = self._read_in_turn(source)
        if self._sources.stamp(source.path) != source.stamp:
            raise SourceChanged
        if source.header is None:
            self._check_at_rest(source)
        if source.problem:
            self._health.note_failure(source.path, Undecodable(source.problem))
        self._learn(source, None)
        return source

    def _check_at_rest(self, source: Source) -> None:
        """Raise BeingWritten where *source*, which is no picture, may become one."""
        suffix = source.path.rpartition(".")[2].lower()
        is_named_so = suffix in PICTURE_SUFFIXES or self._programs.may_read(source.path)
        if (source.problem or is_named_so) and self.is_being_written(source):
            raise BeingWritten

    def _learn(self, source: Source, known: Source | None) -> None:
        if source != known:
            try:
                self._rows.put(source)
            except StorageError as error:
                self._health.note(error)
                if source.header is None:
                    self._unstored.put(source.path, source, _KEPT_S)

    def _read_in_turn(self, source: Source) -> Source:
        """As ``_with_header``, when the gate allows it."""
        self._failures.recall_header(source.digest)
        # A program takes a slot when it is run, and not while it waits for its own turn.
        is_for_program = self._programs.may_read(source.path)
        with (
            self._gate.enter(),
            nullcontext() if is_for_program else self._gate.render(self._timeout_s),
            self._sources.fetch(source.path, source.stamp) as local,
        ):
            try:
                return _with_header(source, local, self._renderer, self._programs, self._read_by_program)
            except RequestError as error:
                self._failures.note_header(source.digest, error)
                raise


def _with_header(
    source: Source, local: LocalFile, renderer: Renderer, programs: Programs, read_header: ReadHeader
) -> Source:
    """*source*, which is open as *local*, with its header, or what is wrong with it."""
    tables = programs.tables(source.path)
    if not tables:
        header, problem = _probe(renderer, local)
        return replace(source, header=header, problem=problem)
    head = os.pread(local.descriptor, HEAD_BYTES, 0)
    names = programs.fitting(source.path, head)
    known_by = " ".join(names)
    header, problem = None, ""
    if decoder := next(filter(programs.is_decoder, names), ""):
        try:
            header = read_header(source, decoder)
        except (Undecodable, TooLarge) as error:
            if error.lasts_s < Undecodable.lasts_s:
                raise
            problem = error.reason if isinstance(error, Undecodable) else str(error)
    else:
        if may_be_picture(head):
            header, problem = _probe(renderer, local)
        if header is None and names:
            header, problem = Header(0, 0, ""), ""
    if header is not None and names:
        with open(local.descriptor, "rb", closefd=False) as file:
            duration_s = films.duration_s(file)
        header = replace(
            header,
            format=format_of(head, source.path),
            frames=1 if decoder else header.frames,
            orientation=1 if decoder else header.orientation,
            programs=known_by,
            is_scalable=bool(decoder) and programs.is_scalable(decoder),
            duration_s=duration_s,
        )
    return replace(source, header=header, problem=problem, tables=tables)


def _no_picture(sources: Contents, programs: Programs, path: str) -> Source | None:
    """What there is to know of the file at *path* if it does not start as a picture; it has no digest. Reads
    its first bytes. Raises as ``Contents.open``."""
    file, stamp = sources.open(path)
    try:
        with file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise Unavailable("the picture can't be read at the moment") from error
    is_ours = may_be_picture(head) or bool(programs.may_read(path) and programs.fitting(path, head))
    return None if is_ours else Source(path, stamp, "", None, tables=programs.tables(path))


def _probe(renderer: Renderer, local: LocalFile) -> tuple[Header | None, str]:
    """The header of the file *local*, None where it is no picture or a broken one; and what is wrong with
    that. Raises TimedOut, Unavailable, and what may be otherwise the next time."""
    try:
        return renderer.probe(local.path, local.descriptor), ""
    except (Undecodable, TooLarge) as error:
        if error.blames != "source":
            raise
        return None, error.reason if isinstance(error, Undecodable) else str(error)
    except OSError as error:
        raise Unavailable("the picture can't be read at the moment") from error
