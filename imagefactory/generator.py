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
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from .access import Access
from .config import Config
from .crowd import Flights, Gate, Recent, Siblings
from .errors import (
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
from .formats import ENCODINGS, PICTURE_SUFFIXES, SOURCE_FORMATS, Header, default_encoding
from .geometry import clamp, snap, turned
from .hints import Hints, read_hints
from .jobs import Job, Rendered, Renderer, Stamp
from .keeper import Keeper
from .negotiation import negotiate
from .parameters import Request, compile_presets, parse_request
from .recipe import Recipe
from .renderers import slots
from .sources import Sources
from .store import Body, Store, open_store
from .tally import Tally
from .troubles import Troubles
from .variants import Key, Source, Variant, version

__all__ = ["Answer", "Generator"]

_log = logging.getLogger(__name__)

_RACY_NS = 2_000_000_000
_PROBE_S = 2.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for a source that is known: which variant it means, and the ``v`` of its URL if one was
    given."""

    key: Key
    recipe: Recipe
    version: str


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
        self.presets = compile_presets(config.presets)
        self.access = Access(config)
        self.troubles = Troubles()
        self.tally = Tally()
        self.meters: list[Callable[[], Mapping[str, float]]] = []  # who else has gauges
        self.keeper = Keeper(self.store, self.tally, self.troubles, self.gauges, clock)
        self._renderer = renderer
        self._clock = clock
        self._salt = hashlib.sha256(config.cache.salt.encode()).hexdigest()[:8] if config.cache.salt else ""
        self._readings: Flights[tuple[Source, bool]] = Flights()
        self._probings: Flights[Source] = Flights()
        self._makings: Flights[Answer] = Flights()
        self._siblings: Siblings[Recipe] = Siblings()
        self._gate = Gate(
            slots(config.render),
            config.render.queue,
            max(1, config.server.threads - 8),
        )
        # Broken sources by digest and encoding, and files that are no pictures by path: a crowd in front of
        # one does not have it decoded, or hashed, again and again.
        self._failures: Recent[RequestError] = Recent(RequestError.lasts_s)
        self._strangers: Recent[Source] = Recent(RequestError.lasts_s)
        self._silent = read_hints(
            {}, config.http, config.limits.ladder
        )  # a browser that says nothing of itself
        self._settings: dict[str, dict[str, int]] = asdict(config.encodings)
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
            wanted = self.wanted(source, request, accept)
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

    def request(
        self, pairs: Iterable[tuple[str, str]], hints: Hints | None = None, *, strict: bool = False
    ) -> Request:
        """The request that the (name, value) *pairs* of a query make here, from a browser that gives these
        *hints*. With *strict*, for who writes the pages, what is unknown is a mistake whatever the config
        says. Raises BadParameter."""
        pairs = list(pairs)
        read = partial(
            parse_request,
            presets=self.presets,
            strict=strict or self.config.http.strict,
            presets_only=self.config.limits.sizes == "presets",
            salt=self._salt,
        )
        if hints is None or hints == self._silent:
            return read(pairs, hints=self._silent)
        return replace(read(pairs, hints=hints), basis=read(pairs, hints=self._silent).recipe)

    def operators_request(self, pairs: Iterable[tuple[str, str]]) -> Request:
        """As ``request``, for who runs this server: ``[limits] sizes`` keeps nobody from asking. Raises
        BadParameter."""
        return parse_request(pairs, self.presets, salt=self._salt, hints=self._silent)

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

    # --- the source

    def source(self, path: str) -> Source:
        """What is known of the source at *path*, true for the bytes it has now. One stat if nothing changed.

        Raises NotFound, TooLarge when it has too many bytes, Busy, TimedOut, and Unavailable when the disk
        fails or the source does not hold still.
        """
        for _ in range(3):
            stamp = self.sources.stamp(path)
            try:
                known = self.store.source(path) or self._strangers.get(path)
            except StorageError as error:
                self.troubles.note(error)
                known = self._strangers.get(path)
            if known is not None and known.stamp == stamp and not known.is_racy:
                return known
            timeout_s = self.config.render.timeout_s
            try:
                work = partial(self._read, path, known)
                (source, is_complete), _ = self._readings.run((path, stamp), work, timeout_s)
                if is_complete:
                    return source
                with self._gate.enter():
                    probe = partial(self._read_header, source)
                    return self._probings.run((path, source.digest), probe, timeout_s)[0]
            except SourceChanged:
                continue
        raise Unavailable("the picture is being written at the moment", retry_after_s=1)

    def _read(self, path: str, known: Source | None) -> tuple[Source, bool]:
        """The source at *path*, hashed; and whether that is all, as the bytes are the *known* ones. Else its
        header is to be read."""
        now_ns = int(self._clock() * 1e9)
        digest, stamp = self.sources.digest(path)
        source = Source(path, stamp, digest, None, now_ns - stamp.ctime_ns < _RACY_NS)
        if known is None or known.digest != digest:
            return source, False
        source = replace(source, header=known.header, problem=known.problem, placeholder=known.placeholder)
        self._learn(source, known)
        return source, True

    def _read_header(self, source: Source) -> Source:
        """Have the header of *source* read. Raises SourceChanged when that may be of other bytes."""
        header, problem = self._probe(source.path, source.digest)
        if self.sources.stamp(source.path) != source.stamp:
            raise SourceChanged
        if problem:
            self.troubles.note_failure(source.path, Undecodable(problem), self._clock())
        source = replace(source, header=header, problem=problem)
        self._learn(source, None)
        return source

    def _learn(self, source: Source, known: Source | None) -> None:
        if source.header is None:
            # Not in the index: another Pillow, or an extra, may read it tomorrow.
            self._strangers.put(source.path, source)
        elif source != known:
            try:
                self.store.put_source(source)
            except StorageError as error:
                self.troubles.note(error)

    def make_placeholder(self, source: Source) -> None:
        """Have the placeholder of *source* made where no render makes it, as its variants were there before
        its row: those of a copy, or of an index that was made anew. Raises as ``make``."""
        wanted = self.wanted(source, self.operators_request([("scalex", "16"), ("encoding", "webp")]), "")
        self.recall_failure(wanted)
        with self._gate.enter():
            self._learn_placeholder(source, self._run(source, wanted, None).placeholder)

    def _learn_placeholder(self, source: Source, placeholder: str) -> None:
        """Add *placeholder* to the row of *source*, if that is still the row of these bytes and has none."""
        if not placeholder:
            return
        try:
            known = self.store.source(source.path)
            if known is not None and known == replace(source, is_racy=known.is_racy):
                self.store.put_source(replace(known, placeholder=placeholder))
        except StorageError as error:
            self.troubles.note(error)

    def _probe(self, path: str, digest: str) -> tuple[Header | None, str]:
        failure = self._failures.get(f"probe {digest}")
        if failure is not None:
            raise failure.again()
        try:
            with self._gate.render(self.config.render.timeout_s):
                try:
                    return self._renderer.probe(self.sources.locate(path)), ""
                except TimedOut as error:
                    self._remember(f"probe {digest}", error)
                    raise
        except Undecodable as error:
            return None, error.reason
        except TooLarge as error:
            return None, str(error)
        except OSError as error:
            raise Unavailable("the picture can't be read at the moment") from error

    # --- the variant

    def wanted(self, source: Source, request: Request, accept: str) -> Wanted:
        """The variant that *request* means for *source*: the encoding chosen, the recipe clamped.

        Raises NotFound when the file is no picture at all, Undecodable when it is a broken one.
        """
        header = _header(source)
        own = default_encoding(header)
        name = negotiate(accept, own) if request.encoding == "auto" else request.encoding or own
        recipe, quality = self._clamped(request.recipe, header, name, request.is_saving)
        if recipe.quality is None and quality is not None:
            recipe = replace(recipe, quality=quality)
        key = Key(source.digest, recipe.text(), name)
        if not request.version:
            return Wanted(key, recipe, "")
        # The same for every visitor, whatever his browser takes and says of itself.
        return Wanted(key, recipe, self.version(source, request.basis or request.recipe, request.encoding)[0])

    def version(self, source: Source, recipe: Recipe, encoding: str) -> tuple[str, tuple[int, int]]:
        """The ``v`` of the URLs that ask for *recipe* of *source* in *encoding* (as in a ``Request``), and
        the size of what they give, in pixels, 0 where only a render can tell. Raises as ``wanted``."""
        header = _header(source)
        own = default_encoding(header)
        recipe, quality = self._clamped(recipe, header, encoding if encoding in ENCODINGS else own)
        # No recipe with the quality in it: a page asks for thousands, and a copy takes 4 us.
        return version(source.digest, recipe.text(quality), encoding or own), recipe.size()

    def _clamped(
        self, recipe: Recipe, header: Header, encoding: str, is_saving: bool = False
    ) -> tuple[Recipe, int | None]:
        """*recipe* as it is for *encoding*, on the ladder and clamped; and the quality if it says none,
        bounded for a visitor who *is_saving*."""
        limits = self.config.limits
        if limits.sizes == "ladder":
            recipe = snap(recipe, *turned(recipe, header.width, header.height), limits.ladder)
        quality = self._settings.get(encoding, {}).get("quality")
        if is_saving and quality is not None:
            quality = min(quality, self.config.http.save_data_quality)
        return clamp(recipe, header, ENCODINGS[encoding], limits.max_side), quality

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
        failure = self._failures.get(_cause(wanted)) or self._failures.get(wanted.key.text())
        if failure is not None:
            raise failure.again()

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
        self._learn_placeholder(source, rendered.placeholder)
        return replace(
            _answer(source, wanted, variant),
            body=body,
            result="miss",
            epoch=epoch,
            seconds={**rendered.seconds, "store": time.perf_counter() - began},
        )

    def _job(self, source: Source, wanted: Wanted, target: Path | None) -> Job:
        settings = self._settings.get(wanted.key.encoding, {})
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
            siblings=self._siblings.of(source.digest),
        )

    def _run(self, source: Source, wanted: Wanted, target: Path | None) -> Rendered:
        """Render *wanted* when it is its turn, sure that the decoder saw the bytes that *source* says.

        The slot is free again before the result is stored: while one waits for the disk another renders.
        """
        began = time.perf_counter()
        try:
            with (
                self._with_siblings(source, wanted),
                self._gate.render(self.config.render.timeout_s, source.digest),
            ):
                waited_s = time.perf_counter() - began
                rendered = self._renderer.render(self._job(source, wanted, target))
                rendered = replace(rendered, seconds={"wait": waited_s, **rendered.seconds})
                for phase, seconds in rendered.seconds.items():
                    self.tally.observe(f"render_seconds {phase} {wanted.key.encoding}", seconds)
        except (Undecodable, TooLarge, TimedOut) as error:
            if self._has_changed(source):
                raise SourceChanged from error
            self.troubles.note_failure(source.path, error, self._clock())
            if not isinstance(error.__cause__, MemoryError):
                cause = wanted.key.text() if error.is_of_recipe else _cause(wanted)
                self._remember(cause, error)
            raise
        except OSError as error:
            if target is not None:
                raise StorageError("objects", f"a render can't be written: {error.strerror}") from error
            if self._has_changed(source):
                raise SourceChanged from error
            _log.error("a picture can't be read: %s", error)
            raise Unavailable("the picture can't be read at the moment") from error
        if source.is_racy and self._has_changed(source):
            raise SourceChanged
        return rendered

    def _with_siblings(self, source: Source, wanted: Wanted) -> AbstractContextManager[None]:
        """While it lasts, others who have *source* decoded see that it is wanted in this size too."""
        if not self.config.render.share_decodes:
            return nullcontext()
        return self._siblings.join(source.digest, replace(wanted.recipe, quality=None))

    def _remember(self, cause: str, error: RequestError) -> None:
        if error.lasts_s:
            self._failures.put(cause, error.again(), error.lasts_s)

    def _has_changed(self, source: Source) -> bool:
        try:
            if self.sources.stamp(source.path) != source.stamp:
                return True
            return source.is_racy and self.sources.digest(source.path)[0] != source.digest
        except (RequestError, SourceChanged):
            return True

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
                wanted = self.wanted(source, request, accept)
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


def _header(source: Source) -> Header:
    if source.header is None:
        suffix = source.path.rpartition(".")[2].lower()
        if source.problem or suffix in PICTURE_SUFFIXES:
            raise Undecodable(source.problem or "it is in no known format")
        raise NotFound
    return source.header


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
