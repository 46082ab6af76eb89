"""Makes a variant that is not there: one render for all who ask, in this process and in others.

flight      requests of this process that want the same variant wait for the first of them
gate        too many at once is Busy
claim       other processes wait for the one that makes it
look again  another process may have been quicker
render      when it is its turn, into a temporary file
keep        object, then row; what can't be kept is answered all the same
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from ..config import Config
from ..errors import (
    BeingWritten,
    Full,
    ProgramFailed,
    ProgramStopped,
    RequestError,
    SourceChanged,
    StorageError,
    Unavailable,
    Undecodable,
)
from ..model.formats import KNOWN_ENCODINGS
from ..model.geometry import turned
from ..model.job import Job, Rendered, Renderer
from ..model.program import Run
from ..model.recipe import Recipe, Rect
from ..model.source import Header, Source, Stamp
from ..storage.body import Body
from ..storage.protocols import Contents, LocalFile, Store
from ..urls.query import Request
from .answer import Answer, stored_answer, unstored_answer
from .counters import Counters
from .failures import Failures, Recent
from .finder import Finder
from .flights import Flights, Waiter
from .gate import Gate
from .health import Health
from .identify import Identifier
from .made import as_file, header_of, job_for, with_header
from .resolve import Resolver, Wanted
from .streams import Stream

__all__ = ["Maker", "BudgetKeeper"]

_log = logging.getLogger(__name__)

_TRIES = 3
_HEADER_S = 3600.0


class BudgetKeeper(Protocol):
    """What hears when the budget of the cache is short, and makes room beside the requests."""

    def make_room(self, error: Full) -> None:
        """A variant was too large to be stored."""

    def wake(self) -> None:
        """A variant was stored, and took from the reserve."""


class Maker:
    """Makes what *finder* does not find, by *renderer*, and keeps it in *store*. *limits* and *timeout_s* are
    those of *config*; *room* hears when the budget is short."""

    def __init__(
        self,
        config: Config,
        renderer: Renderer,
        sources: Contents,
        store: Store,
        finder: Finder,
        identifier: Identifier,
        resolver: Resolver,
        gate: Gate,
        counters: Counters,
        health: Health,
        room: BudgetKeeper,
    ) -> None:
        self._limits = config.limits
        self._timeout_s = config.render.timeout_s
        self._queue = config.render.queue
        self._renderer = renderer
        self._sources = sources
        self._store = store
        self._finder = finder
        self._identifier = identifier
        self._resolver = resolver
        self._gate = gate
        self._counters = counters
        self._health = health
        self._room = room
        self._programs = resolver.programs
        self._program_gates: dict[str, Gate] = {}
        self._headers: Recent[Header] = Recent()
        self._flights: Flights[Answer] = Flights()
        self._failures = Failures()

    def make(self, source: Source, wanted: Wanted, waiter: Waiter | None = None) -> Answer:
        """The variant, rendered once for all who ask for it at this moment, here and in other processes.

        Raises Undecodable, TooLarge, Busy, TimedOut, Unavailable, and SourceChanged when the source is not
        what it was: then begin again. With a *waiter* also Underway.
        """
        self.recall_failure(wanted)
        answer, is_follower = self._flights.run(
            wanted.key,
            lambda: self._make_claimed(source, wanted),
            self._timeout_s,
            waiter,
            self._gate.follow,
        )
        if is_follower and answer.result == "miss":
            answer = replace(answer, result="coalesced", seconds={})
        return replace(answer, source=source, version=wanted.version)

    def stream(self, source: Source, wanted: Wanted) -> Answer:
        """As ``make``, by a program that takes long: an answer with a stream as soon as there are bytes."""
        found = Stream(
            wanted.key.encoding,
            lambda stream: self.make(source, replace(wanted, begin=stream.begin)),
            lambda: self._counters.add("program_failed_late"),
        )
        answer = found.answer(self._patience_s(wanted))
        if answer is not None:
            return answer
        encoding = KNOWN_ENCODINGS[wanted.key.encoding]
        return Answer(
            source, "", 0, encoding.media_type, encoding.suffix, "miss", is_stable=False, stream=found
        )

    def recall_failure(self, wanted: Wanted) -> None:
        """Raise what rendering *wanted* came to a moment ago, if it failed."""
        is_moving = wanted.recipe.anim and KNOWN_ENCODINGS[wanted.key.encoding].has_animation
        self._failures.recall(wanted.key, is_moving=is_moving)

    def preview(self, source: Source, wanted: Wanted) -> bytes:
        """The bytes of *wanted*, rendered and not stored, for a look at the cache that leaves no trace in it.
        Raises as ``make``."""
        self.recall_failure(wanted)
        with self._gate.enter():
            return self._render(source, wanted, None).body or b""

    def make_placeholder(self, source: Source) -> None:
        """Have the placeholder of *source* made where no render makes it, as its variants were there before
        its row: those of a copy, or of an index that was made anew. Raises as ``make``."""
        smallest = self._resolver.operators_request([("scalex", "16"), ("encoding", "webp")])
        wanted = self._resolver.wanted(source, smallest, "")
        self.recall_failure(wanted)
        with self._gate.enter():
            self._identifier.learn_placeholder(source, self._render(source, wanted, None).placeholder)

    # --- what external programs make

    def fitted(self, source: Source, request: Request) -> tuple[Source, Request]:
        """*request* as it is for *source* (``Resolver.fitted``), and *source* with the header of what it asks
        for: another page of a document may have another size. Raises as ``make``, and BadParameter."""
        request = self._resolver.fitted(source, request)
        run = request.recipe.run
        if run is None or not self._programs.has_own_size(run) or self._resolver.is_default(source, run):
            return source, request
        name = f"{source.digest} {run.text()}"
        found = self._headers.get(name)
        header = found[0] if found else self.header(source, run)
        self._headers.put(name, header, _HEADER_S)
        return with_header(source, header), request

    def header(self, source: Source, run: Run) -> Header:
        """The header of what *run* makes of *source* in its natural size. Raises as ``make``."""
        with self._made(source, run, None) as local, self._gate.render(self._timeout_s, source.digest):
            return header_of(self._renderer, local)

    @contextmanager
    def _made(self, source: Source, run: Run, recipe: Recipe | None) -> Iterator[LocalFile]:
        """What *run* makes of *source* for *recipe*, as an open file: made once, by whoever is the first, and
        kept like a variant."""
        for _ in range(_TRIES):
            wanted = self._resolver.base(source, run, recipe)
            self._failures.recall(wanted.key, is_moving=False)
            answer, _ = self._flights.run(
                wanted.key, partial(self._make_claimed, source, wanted), self._patience_s(wanted)
            )
            body = self._finder.open(answer)
            if body is not None:  # no use is noted: eviction shall take it before what visitors see
                with as_file(body, wanted.key.text()) as local:
                    yield local
                return
        raise Unavailable("the picture changes all the time", retry_after_s=1)

    def _patience_s(self, wanted: Wanted) -> float:
        """How long others wait for *wanted*, in seconds."""
        order = wanted.order
        if order is None:
            return self._timeout_s
        return self._timeout_s + order.program.timeout_s + sum(each.timeout_s for each in order.fallbacks)

    def _run(self, source: Source, wanted: Wanted, target: Path | None) -> Rendered:
        """Have the program of *wanted* make it, when it is the program's turn and there is a slot."""
        name = wanted.order.program.name if wanted.order else ""
        with (
            self._program_turn(name, source.digest),
            self._gate.render(self._timeout_s, source.digest),
            self._sources.fetch(source.path, source.stamp) as local,
        ):
            result = "failed"
            try:
                rendered = self._renderer.run(job_for(local, wanted, target))
                result = "ok"
            except (ProgramFailed, ProgramStopped) as error:
                result = "stopped" if isinstance(error, ProgramStopped) else result
                said = f"; the end of what it said: {error.said}" if error.said else ""
                _log.warning("the program of [programs.%s] %s on %r%s", name, error.how, source.path, said)
                raise
            finally:
                self._counters.add(f"program_runs {name} {result}")
        for phase, seconds in rendered.seconds.items():
            self._counters.observe(f"program_seconds {name} {phase}", seconds)
        return rendered

    def _program_turn(self, name: str, digest: str) -> AbstractContextManager[None]:
        """Hold one of the places that the program *name* has of its own, if it has."""
        places = self._programs.concurrency(name)
        if not places:
            return nullcontext()
        gate = self._program_gates.setdefault(name, Gate(places, self._queue, places + self._queue))
        return gate.render(self._timeout_s, digest)

    def make_unstored(self, path: str, request: Request, accept: str) -> Answer:
        """The picture of a source that does not hold still: rendered from a private copy, kept nowhere."""
        try:
            with (
                self._gate.enter(),
                self._gate.render(self._timeout_s),
                tempfile.NamedTemporaryFile(prefix="imagefactory-") as copy,
            ):
                file, stamp = self._sources.open(path)
                with file:
                    shutil.copyfileobj(file, copy, 2**20)
                copy.seek(0)
                digest = hashlib.file_digest(copy, "sha256").hexdigest()
                local = LocalFile(Path(copy.name), Stamp.of(os.fstat(copy.fileno())), copy.fileno())
                if self._programs.may_read(path):
                    raise BeingWritten
                source = Source(path, stamp, digest, self._renderer.probe(local.path, local.descriptor))
                wanted = self._resolver.wanted(source, request, accept)
                rendered = self._renderer.render(self._job(source, local, wanted, None))
        except (Undecodable, OSError) as error:
            raise BeingWritten from error
        answer = unstored_answer(source, wanted, rendered, rendered.body or b"")
        return replace(answer, is_stable=False)

    # --- the steps

    def _make_claimed(self, source: Source, wanted: Wanted) -> Answer:
        try:
            with (
                self._entered(wanted),
                self._store.claims.take(wanted.key.text(), self._patience_s(wanted)) as has_waited,
            ):
                found = self._find_sound(source, wanted)
                if found:
                    return replace(found, result="coalesced" if has_waited else "hit")
                return self._make_alone(source, wanted)
        except StorageError as error:
            self._health.note(error)
        with self._entered(wanted):
            return self._make_alone(source, wanted)

    def _entered(self, wanted: Wanted) -> AbstractContextManager[None]:
        """Be one of the requests that render; who makes the base of a variant is one already."""
        return nullcontext() if wanted.is_base else self._gate.enter()

    def _find_sound(self, source: Source, wanted: Wanted) -> Answer | None:
        """The variant if its object is there, with a row or without."""
        try:
            found = self._finder.find(source, wanted)
            if found and found.variant and self._store.objects.has(found.variant):
                return found
            adopted = self._store.adopt(wanted.key)
        except StorageError as error:
            self._health.note(error)
            return None
        return stored_answer(source, wanted, adopted) if adopted else None

    def _make_alone(self, source: Source, wanted: Wanted) -> Answer:
        epoch = self._store.notices.epoch()
        if not self._health.is_paused():
            try:
                return self._render_and_keep(source, wanted, epoch)
            except Full as error:
                self._room.make_room(error)
            except StorageError as error:
                self._health.note(error)
        rendered = self._render(source, wanted, None)
        return unstored_answer(source, wanted, rendered, rendered.body or b"")

    def _render_and_keep(self, source: Source, wanted: Wanted, epoch: int) -> Answer:
        """Render into the cache, and answer from it. Raises StorageError when no file can be written."""
        with self._store.temp() as temp:
            if temp and wanted.begin:
                wanted.begin(temp.number)
            rendered = self._render(source, wanted, temp.path if temp else None)
            began = time.perf_counter()
            variant = None
            try:
                variant = self._store.keep(wanted.key, rendered, temp)
                self._health.note_stored()
                if self._store.is_tight:
                    self._room.wake()
            except Full as error:
                self._room.make_room(error)
            except StorageError as error:
                self._health.note(error)
            if variant is None or self._store.notices.epoch() != epoch:
                # A purge in between: this visitor gets the variant, later ones do not find it.
                data = temp.read() if temp else rendered.body or b""
                if not rendered.is_of(data):
                    raise StorageError("objects", "a render is not in its file as it was made")
                answer = unstored_answer(source, wanted, rendered, data)
                if variant is None:
                    return answer
                self._store.remove(variant)
                return replace(answer, result="miss")
        self._identifier.learn_placeholder(source, rendered.placeholder)
        return replace(
            stored_answer(source, wanted, variant),
            # Where memory is short, others may have taken its place before it is sent.
            body=None if temp else Body(rendered.body or b""),
            result="miss",
            epoch=epoch,
            seconds={**rendered.seconds, "store": time.perf_counter() - began},
        )

    def _render(self, source: Source, wanted: Wanted, target: Path | None) -> Rendered:
        """Render *wanted* when it is its turn, sure that the decoder saw the bytes that *source* says.

        The slot is free again before the result is stored: while one waits for the disk another renders.
        """
        try:
            if wanted.order is not None:
                rendered = self._run(source, wanted, target)
            elif wanted.recipe.run is not None:
                # Made before a slot is taken: the program needs one itself.
                with self._made(source, wanted.recipe.run, wanted.recipe) as local:
                    rendered = self._render_in_turn(source, nullcontext(local), wanted, target)
            else:
                fetched = self._sources.fetch(source.path, source.stamp)
                rendered = self._render_in_turn(source, fetched, wanted, target)
        except RequestError as error:
            if not error.lasts_s:  # it says nothing of this picture
                raise
            if self._identifier.has_changed(source):
                raise SourceChanged from error
            # What costs a worker is remembered all the same: a file that is cut off does not.
            is_no = type(error) in (Undecodable, ProgramFailed)
            is_plain_no = is_no and isinstance(error, Undecodable) and not error.cost_a_worker
            if is_plain_no and self._identifier.is_being_written(source):
                raise BeingWritten from error
            self._note_failure(source, wanted, error)
            raise
        except OSError as error:
            if target is not None:
                raise StorageError("objects", f"a render can't be written: {error.strerror}") from error
            if self._identifier.has_changed(source):
                raise SourceChanged from error
            _log.error("a picture can't be read: %s", error)
            raise Unavailable("the picture can't be read at the moment") from error
        if source.is_racy and self._identifier.has_changed(source):
            raise SourceChanged
        if target is None and not rendered.is_of(rendered.body or b""):
            raise Unavailable("the picture can't be made at the moment")
        return rendered

    def _render_in_turn(
        self,
        source: Source,
        fetched: AbstractContextManager[LocalFile],
        wanted: Wanted,
        target: Path | None,
    ) -> Rendered:
        began = time.perf_counter()
        with self._gate.render(self._timeout_s, source.digest), fetched as local:
            waited_s = time.perf_counter() - began
            rendered = self._renderer.render(self._job(source, local, wanted, target))
        rendered = replace(rendered, seconds={"wait": waited_s, **rendered.seconds})
        for phase, seconds in rendered.seconds.items():
            self._counters.observe(f"render_seconds {phase} {wanted.key.encoding}", seconds)
        return rendered

    def _note_failure(self, source: Source, wanted: Wanted, error: RequestError) -> None:
        self._health.note_failure(source.path, error)
        self._failures.note(wanted.key, error)

    def _job(self, source: Source, local: LocalFile, wanted: Wanted, target: Path | None) -> Job:
        settings = self._resolver.settings(wanted.key.encoding)
        recipe, run = wanted.recipe, wanted.recipe.run
        return Job(
            local.path,
            local.stamp,
            recipe if run is None else _of_made(recipe, source),
            wanted.key.encoding,
            target,
            self._limits.max_pixels,
            self._limits.max_side,
            {name: value for name, value in settings.items() if name != "quality"},
            wants_placeholder=not source.placeholder and self._resolver.is_default(source, run),
            may_transcode=wanted.recipe.quality == settings.get("quality"),
            descriptor=local.descriptor,
            encoder=self._programs.encoder(wanted.key.encoding),
        )


def _of_made(recipe: Recipe, source: Source) -> Recipe:
    """*recipe* for what a program made, which may have more or fewer pixels than the header of *source* says:
    with its cut in parts of the sides, and free to get the size that was promised."""
    if recipe.rect is None or source.header is None:
        return replace(recipe, enlarge=True)
    width, height = turned(recipe, source.header.width, source.header.height)
    rect = recipe.rect
    parts = Rect(rect.left / width, rect.top / height, rect.width / width, rect.height / height, True)
    return replace(recipe, rect=parts, enlarge=True)
