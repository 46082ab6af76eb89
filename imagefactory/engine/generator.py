"""From a path and a request to the bytes of a variant: the rules of the cache, readable in one place.

Called by the doors. ``Generator.answer`` is the journey:

- a **hit**: the stamp of the source and of the epoch (two stats), two rows of the index, the object. No
  write, no lock, no decoder; only a new or changed source is hashed and its row written.
- a **miss**: claim the variant, look again, render into a temp file, keep it (object, then row), answer.

Whatever the cache can't do, the visitor gets the right picture: StorageError ends here.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from ..config import Config
from ..errors import (
    Full,
    NotFound,
    RequestError,
    SourceChanged,
    StorageError,
    TimedOut,
    TooLarge,
    Unavailable,
    Undecodable,
)
from ..model.formats import ENCODINGS, SOURCE_FORMATS, default_encoding
from ..model.job import Job, Rendered, Renderer, Stamp
from ..model.variant import Source, Variant
from ..storage.disk import Body, Store, open_store
from ..storage.originals import Sources
from ..upkeep.keeper import Keeper
from ..urls.access import Access
from ..urls.query import Request
from ..workers.rendering import slots
from .counters import Tally
from .gate import Failures, Flights, Gate
from .health import Troubles
from .identify import Register
from .resolve import Rules, Wanted

__all__ = ["Answer", "Generator"]

_log = logging.getLogger(__name__)

_PROBE_S = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A variant or an original to send.

    *result* is hit, miss (rendered for this request), coalesced (rendered for another one meanwhile) or
    bypass (right, but not stored). *body* is None for a hit that was not opened yet: ``Generator.open``
    does it, and a 304 needs none. *is_stable* is false where the source would not hold still. *epoch* is
    that of the store before the look-up, None where the answer may not be remembered.
    """

    source: Source
    etag: str
    bytes: int
    media_type: str
    suffix: str
    result: str = "hit"
    version: str = ""
    variant: Variant | None = None
    body: Body | None = None
    is_stable: bool = True
    epoch: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


class Generator:
    """The generator of one configuration. *renderer* decodes and encodes, *clock* gives unix seconds,
    *store* is one that several generators share.

    Raises ConfigError for a preset with a mistake. Nothing on disk is touched before the first use.
    """

    def __init__(
        self,
        config: Config,
        renderer: Renderer,
        clock: Callable[[], float] = time.time,
        store: Store | None = None,
    ) -> None:
        self.config = config
        self.sources = Sources(config.paths.pictures, config.limits.max_source_bytes)
        self.store: Store = store or open_store(config)
        self.rules = Rules(config)
        self.access = Access(config)
        self.troubles = Troubles()
        self.tally = Tally()
        self.meters: list[Callable[[], Mapping[str, float]]] = []  # who else has gauges
        self.keeper = Keeper(self.store, self.tally, self.troubles, self.gauges, clock)
        self._renderer = renderer
        self._clock = clock
        self._makings: Flights[Answer] = Flights()
        self._gate = Gate(
            slots(config.render),
            config.render.queue,
            max(1, config.server.threads - 8),
        )
        self._register = Register(
            self.sources,
            self.store,
            renderer,
            self._gate,
            self.troubles,
            self.now_s,
            config.render.timeout_s,
        )
        # By digest and encoding: a crowd does not have a broken source decoded again and again.
        self._failures = Failures()
        self._epoch = 0
        self._process = 0
        self._probed_s = 0.0  # when storing was tried last, by a health check or by a miss

    # --- the journey

    def answer(self, path: str, request: Request, accept: str = "", *, must_open: bool = False) -> Answer:
        """The picture at *path* as *request* wants it; *accept* is the Accept header, for ``auto``.

        With *must_open* the answer has its body: for a second try, when the object of the first was gone.

        Raises NotFound, BadParameter, Undecodable, TooLarge, Busy, TimedOut, Unavailable.
        """
        if self._process != os.getpid():
            self.start()
        for _ in range(3):
            source = self.source(path)
            if request.is_plain:
                return self._original(source)
            wanted = self.rules.wanted(source, request, accept)
            try:
                return (None if must_open else self.find(source, wanted)) or self.make(source, wanted)
            except SourceChanged:
                continue
        return self._unstored(path, request, accept)

    def start(self) -> None:
        """Begin to work in this process: once, before the first answer, and again after a fork."""
        self._process = os.getpid()
        self.store.start()

    def gauges(self) -> dict[str, float]:
        """What this process is doing at the moment, by name."""
        gauges: dict[str, float] = {"renders_waiting": self._gate.waiting}
        gauges["renders_running"] = self._gate.running
        gauges |= {f"trouble {part}": 1 for part in self.troubles.current}
        for meter in self.meters:
            gauges |= meter()
        return gauges

    def open(self, answer: Answer) -> Body | None:
        """The bytes of *answer*; None if they are gone or not the right ones: then ask ``answer`` once more,
        with *must_open*."""
        if answer.body is not None:
            return answer.body
        if answer.variant is None:
            return self._open_original(answer.source)
        try:
            return self.store.body(answer.variant)
        except StorageError as error:
            self.troubles.note(error)
            return None

    def stream(self, answer: Answer) -> bytes | BinaryIO | None:
        """As ``open``, but the bytes themselves or an open file: for an answer that was opened before."""
        if answer.variant is not None:
            try:
                return self.store.open(answer.variant)
            except StorageError as error:
                self.troubles.note(error)
                return None
        try:
            file, stamp = self.sources.open(answer.source.path)
        except RequestError:
            return None
        if stamp == answer.source.stamp:
            return file
        file.close()
        return None

    def _open_original(self, source: Source) -> Body | None:
        file, stamp = self.sources.open(source.path)
        if stamp == source.stamp and not source.is_racy:
            return Body(file=file)
        with file:
            data = file.read()
        return Body(data) if hashlib.sha256(data).hexdigest() == source.digest else None

    def health(self) -> dict[str, object]:
        """Whether pictures can be read and rendered, and what is wrong with the cache, by part."""
        if self._clock() - self._probed_s >= _PROBE_S:
            self._probed_s = self._clock()
            try:
                # A disk that is almost full has room for a little and not for a picture.
                self.store.probe(1_000_000 if self.troubles.current else 4096)
                self.troubles.clear(but="budget")  # whether there is room shows when a picture is stored
            except StorageError as error:
                self.troubles.note(error)
        return {
            "pictures": self.sources.is_readable(),
            "render": self._renderer.is_working(),
            "cache": dict(self.troubles.current),
        }

    def now_s(self) -> float:
        """The time by this generator's clock, in unix seconds."""
        return self._clock()

    def source(self, path: str) -> Source:
        """What is known of the source at *path*: see ``Register.source``."""
        return self._register.source(path)

    def make_placeholder(self, source: Source) -> None:
        """Have the placeholder of *source* made where no render makes it, as its variants were there before
        its row: those of a copy, or of an index that was made anew. Raises as ``make``."""
        wanted = self.rules.wanted(
            source, self.rules.operators_request([("scalex", "16"), ("encoding", "webp")]), ""
        )
        self.recall_failure(wanted)
        with self._gate.enter():
            self._register.learn_placeholder(source, self._run(source, wanted, None).placeholder)

    def find(self, source: Source, wanted: Wanted) -> Answer | None:
        """The variant if it has a row; whether its object is sound shows when it is opened."""
        epoch = self.store.epoch()
        if epoch != self._epoch:
            self._epoch = epoch
            self.store.follow()
        try:
            variant = self.store.find(wanted.key)
        except StorageError as error:
            self.troubles.note(error)
            return None
        return replace(_answer(source, wanted, variant), epoch=epoch) if variant else None

    def make(self, source: Source, wanted: Wanted) -> Answer:
        """The variant, rendered once for all who ask for it at this moment, here and in other processes.

        Raises Undecodable, TooLarge, Busy, TimedOut, Unavailable, and SourceChanged when the source is not
        what it was: then begin again.
        """
        self.recall_failure(wanted)
        with self._gate.enter():
            answer, is_follower = self._makings.run(
                wanted.key, lambda: self._lead(source, wanted), self.config.render.timeout_s
            )
        if is_follower and answer.result == "miss":
            answer = replace(answer, result="coalesced", seconds={})
        return replace(answer, source=source, version=wanted.version)

    def recall_failure(self, wanted: Wanted) -> None:
        """Raise what rendering *wanted* came to a moment ago, if it failed."""
        self._failures.recall(_cause(wanted), wanted.key.text())

    def preview(self, source: Source, wanted: Wanted) -> bytes:
        """The bytes of *wanted*, rendered and not stored: for who looks at the cache and shall leave no trace
        in it. Raises as ``make``."""
        self.recall_failure(wanted)
        with self._gate.enter():
            return self._run(source, wanted, None).body or b""

    def _lead(self, source: Source, wanted: Wanted) -> Answer:
        try:
            with self.store.claim(wanted.key, self.config.render.timeout_s) as has_waited:
                found = self.find(source, wanted)
                body = found and self.open(found)
                if found and body:
                    return replace(found, body=body, result="coalesced" if has_waited else "hit")
                adopted = self.store.adopt(wanted.key)
                if adopted:
                    return replace(_answer(source, wanted, adopted), body=self.store.body(adopted))
                return self._render(source, wanted)
        except StorageError as error:
            self.troubles.note(error)
            return self._render(source, wanted)

    def _render(self, source: Source, wanted: Wanted) -> Answer:
        epoch = self.store.epoch()
        if not self.troubles.is_paused():
            try:
                return self._render_and_keep(source, wanted, epoch)
            except Full as error:
                self.keeper.make_room(error)
            except StorageError as error:
                self.troubles.note(error)
        rendered = self._run(source, wanted, None)
        return _unstored_answer(source, wanted, rendered, rendered.body or b"")

    def _render_and_keep(self, source: Source, wanted: Wanted, epoch: int) -> Answer:
        """Render into the cache, and answer from it. Raises StorageError when no file can be written."""
        with self.store.temp() as temp:
            rendered = self._run(source, wanted, temp.path if temp else None)
            began = time.perf_counter()
            try:
                variant = self.store.keep(wanted.key, rendered, temp)
                body = self.store.body(variant)
                self.troubles.clear()
                self._probed_s = self._clock()
                if self.store.is_tight:
                    self.keeper.wake()
            except Full as error:
                self.keeper.make_room(error)
                body = None
            except StorageError as error:
                self.troubles.note(error)
                body = None
            if body is None or self.store.epoch() != epoch:
                # Not kept, or purged meanwhile: then nobody after this visitor shall find it.
                data = temp.read() if temp else rendered.body or b""
                answer = _unstored_answer(source, wanted, rendered, data)
                if body is None:
                    return answer
                self.store.remove(variant)
                return replace(answer, result="miss")
        self._register.learn_placeholder(source, rendered.placeholder)
        return replace(
            _answer(source, wanted, variant),
            body=body,
            result="miss",
            epoch=epoch,
            seconds={**rendered.seconds, "store": time.perf_counter() - began},
        )

    def _job(self, source: Source, wanted: Wanted, target: Path | None) -> Job:
        settings = self.rules.settings(wanted.key.encoding)
        limits = self.config.limits
        return Job(
            self.sources.locate(source.path),
            source.stamp,
            wanted.recipe,
            wanted.key.encoding,
            target,
            limits.max_pixels,
            limits.max_side,
            {name: value for name, value in settings.items() if name != "quality"},
            wants_placeholder=not source.placeholder,
            may_transcode=wanted.recipe.quality == settings.get("quality"),
        )

    def _run(self, source: Source, wanted: Wanted, target: Path | None) -> Rendered:
        """Render *wanted* when it is its turn, sure that the decoder saw the bytes that *source* says.

        The slot is free again before the result is stored: while one waits for the disk another renders.
        """
        began = time.perf_counter()
        try:
            with self._gate.render(self.config.render.timeout_s, source.digest):
                waited_s = time.perf_counter() - began
                rendered = self._renderer.render(self._job(source, wanted, target))
                rendered = replace(rendered, seconds={"wait": waited_s, **rendered.seconds})
                for phase, seconds in rendered.seconds.items():
                    self.tally.observe(f"render_seconds {phase} {wanted.key.encoding}", seconds)
        except (Undecodable, TooLarge, TimedOut) as error:
            if self._register.has_changed(source):
                raise SourceChanged from error
            self.troubles.note_failure(source.path, error, self._clock())
            if not isinstance(error.__cause__, MemoryError):
                cause = wanted.key.text() if error.is_of_recipe else _cause(wanted)
                self._failures.note(cause, error)
            raise
        except OSError as error:
            if target is not None:
                raise StorageError("objects", f"a render can't be written: {error.strerror}") from error
            if self._register.has_changed(source):
                raise SourceChanged from error
            _log.error("a picture can't be read: %s", error)
            raise Unavailable("the picture can't be read at the moment") from error
        if source.is_racy and self._register.has_changed(source):
            raise SourceChanged
        return rendered

    def _unstored(self, path: str, request: Request, accept: str) -> Answer:
        """The picture of a source that does not hold still: rendered from a private copy, kept nowhere."""
        try:
            with (
                self._gate.enter(),
                self._gate.render(self.config.render.timeout_s),
                self.sources.open(path)[0] as file,
                tempfile.TemporaryDirectory(prefix="imagefactory-") as folder,
            ):
                copy = Path(folder, "source")
                with copy.open("w+b") as target:
                    shutil.copyfileobj(file, target, 2**20)
                    target.seek(0)
                    digest = hashlib.file_digest(target, "sha256").hexdigest()
                source = Source(path, Stamp.of(os.fstat(file.fileno())), digest, self._renderer.probe(copy))
                wanted = self.rules.wanted(source, request, accept)
                job = replace(self._job(source, wanted, None), source=copy, stamp=Stamp.of(copy.stat()))
                rendered = self._renderer.render(job)
        except (Undecodable, OSError) as error:
            raise Unavailable("the picture is being written at the moment", retry_after_s=1) from error
        answer = _unstored_answer(source, wanted, rendered, rendered.body or b"")
        return replace(answer, is_stable=False)

    def _original(self, source: Source) -> Answer:
        """The source itself, if it is a picture and originals are open. Raises NotFound."""
        is_open = self.config.http.originals and self.config.limits.sizes != "presets"
        if source.header is None or not is_open:
            raise NotFound
        media_type = SOURCE_FORMATS[source.header.format].media_type
        stem, _, suffix = source.path.rpartition("/")[2].rpartition(".")
        if not stem:  # a name without a suffix
            suffix = ENCODINGS[default_encoding(source.header)].suffix
        etag, epoch = f'"{source.digest[:32]}"', self.store.epoch()
        return Answer(source, etag, source.stamp.size, media_type, suffix, epoch=epoch)


def _cause(wanted: Wanted) -> str:
    """What a failure depends on: a source with broken late frames still makes a still picture."""
    return f"{wanted.key.digest} {wanted.key.encoding} {wanted.recipe.anim}"


def _answer(source: Source, wanted: Wanted, variant: Variant) -> Answer:
    encoding = ENCODINGS[variant.key.encoding]
    return Answer(
        source,
        variant.etag,
        variant.bytes,
        encoding.media_type,
        encoding.suffix,
        version=wanted.version,
        variant=variant,
    )


def _unstored_answer(source: Source, wanted: Wanted, rendered: Rendered, data: bytes) -> Answer:
    body = hashlib.sha256(data).hexdigest()
    variant = Variant(wanted.key, body, len(data), rendered.width, rendered.height)
    return replace(
        _answer(source, wanted, variant), body=Body(data), result="bypass", seconds=rendered.seconds
    )
