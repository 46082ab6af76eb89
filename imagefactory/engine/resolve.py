"""From a query to the variant that it means for a source, by what the config says of sizes and encodings.

It touches no file, and gives the same in all processes of a config.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial

from ..config import Config
from ..errors import BadParameter, NotFound, Undecodable
from ..model.formats import (
    BY_PROGRAMS,
    ENCODINGS,
    KNOWN_ENCODINGS,
    PICTURE_SUFFIXES,
    default_encoding,
)
from ..model.geometry import clamp, snap, source_size, turned
from ..model.program import Run
from ..model.recipe import Recipe
from ..model.source import Header, Source
from ..model.variant import Key, version
from ..urls.client_hints import Hints, read_hints
from ..urls.negotiation import negotiate
from ..urls.program_parameters import read_asked
from ..urls.query import Request, compile_presets, parse_request
from .programs import Ordered, Programs

__all__ = ["Resolver", "Wanted"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for a source that is known: which variant it means, and the ``v`` of its URL if one was
    given.

    With an *order* an external program makes it, else our own pipeline. *is_base*: it is no answer itself,
    but what a program makes for others. *begin* is told the descriptor of the file that it is written into.
    """

    key: Key
    recipe: Recipe
    version: str
    order: Ordered | None = None
    begin: Callable[[int], object] | None = None
    is_base: bool = False


class Resolver:
    """What requests mean by *config*. Raises ConfigError for a preset with a mistake."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.programs = Programs(config.programs)
        self.presets = compile_presets(config.presets)
        self.salt = hashlib.sha256(config.cache.salt.encode()).hexdigest()[:8] if config.cache.salt else ""
        # What is heard of a browser that says nothing of itself.
        self._silent = read_hints({}, config.http, config.limits.ladder)
        self._settings: dict[str, dict[str, int]] = asdict(config.encodings)

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
            strict=strict or self._config.http.strict,
            presets_only=self._config.limits.sizes == "presets",
            salt=self.salt,
        )
        if hints is None or hints == self._silent:
            return read(pairs, hints=self._silent)
        return replace(read(pairs, hints=hints), basis=read(pairs, hints=self._silent).recipe)

    def operators_request(self, pairs: Iterable[tuple[str, str]]) -> Request:
        """As ``request``, for who runs this server: ``[limits] sizes`` keeps nobody from asking. Raises
        BadParameter."""
        return parse_request(pairs, self.presets, salt=self.salt, hints=self._silent)

    def fitted(self, source: Source, request: Request) -> Request:
        """*request* as it is for *source*: with the run of an external program where one makes its pixels.

        Raises BadParameter for what such a program can't be asked, Undecodable, ProgramStopped."""
        header = source.header
        if header is None or not header.programs or not self.programs.decoder(header):
            if request.texts and request.is_strict:
                name = request.texts[0][0]
                raise BadParameter(
                    name, f"{name} is for what an external program reads, and none reads this source"
                )
            return request
        taken = self.programs.parameters(header)
        texts = [(name, text) for name, text in request.texts if name in taken or name in _OF_FRAMES]
        left = [name for name, _ in request.texts if name not in taken and name not in _OF_FRAMES]
        if request.is_strict and left:
            name = left[0]
            raise BadParameter(name, f"{name} is nothing that this source takes; it takes {', '.join(taken)}")
        if request.is_plain and not texts:
            return request
        is_ladder = self._config.limits.sizes == "ladder"
        run = self.programs.run(header, read_asked(texts), whole_seconds=is_ladder)
        basis = request.basis and replace(request.basis, run=run)
        return replace(request, recipe=replace(request.recipe, run=run), basis=basis, is_plain=False)

    def base(self, source: Source, run: Run, recipe: Recipe | None = None) -> Wanted:
        """What the program of *run* has to make of *source*, so that *recipe* gets all its pixels, in its
        natural size where that is None. Raises ProgramStopped."""
        size = (0, 0)
        if self.programs.takes_size(run):
            if recipe is not None:
                size = source_size(recipe, _header(source), self._config.limits.max_pixels)
            run = replace(run, values=(*run.values, ("height", str(size[1])), ("width", str(size[0]))))
            run = replace(run, values=tuple(sorted(run.values)))
        whole = Recipe(run=run, fit="stretch", salt=self.salt)
        ordered = self.programs.ordered(run, size)
        key = Key(source.digest, whole.text(), ordered.program.format)
        return Wanted(key, whole, "", ordered, is_base=True)

    def is_streamed(self, wanted: Wanted) -> bool:
        """Whether *wanted* is sent while its program still writes it."""
        return wanted.order is not None and self.programs.streams(wanted.order.program.name)

    def moves(self, header: Header, recipe: Recipe) -> bool:
        """Whether *recipe*, as it is fitted, gives an animation where the encoding has such."""
        frames = header.frames if recipe.run is None else _frames(recipe.run)
        return frames > 1 and recipe.anim

    def is_default(self, source: Source, run: Run | None) -> bool:
        """Whether *run* shows *source* as it is shown where nothing is asked for."""
        if run is None or source.header is None:
            return run is None
        return run == self.programs.plain_run(self.programs.decoder(source.header))

    def wanted(self, source: Source, request: Request, accept: str) -> Wanted:
        """The variant that *request*, which is fitted, means for *source*: the encoding chosen, the recipe
        clamped.

        Raises NotFound when the file is no picture at all, Undecodable when it is a broken one, BadParameter
        for what can't be made of it.
        """
        header = _header(source)
        own = _own_encoding(header, request.recipe)
        name = negotiate(accept, own) if request.encoding == "auto" else request.encoding or own
        version = ""
        if request.version:  # the same for every visitor, whatever his browser takes and says of itself
            version = self._version_of(source, header, request)
        whole = self._whole(header, request, name)
        recipe, quality = self._clamped(whole or request.recipe, header, name, request.is_saving)
        if recipe.quality is None and quality is not None:
            recipe = replace(recipe, quality=quality)
        order = None
        if whole is not None and recipe.run is not None:
            # A side that follows from the other is not a bound: programs take 0 for a pixel, or for an error.
            most = self._config.limits.max_side
            size = recipe.width or most, recipe.height or most
            order = self.programs.ordered(recipe.run, size, recipe.quality)
        return Wanted(Key(source.digest, recipe.text(), name), recipe, version, order)

    def _whole(self, header: Header, request: Request, encoding: str) -> Recipe | None:
        """The recipe for the program that makes the whole answer; None where our own pipeline does. Raises
        BadParameter where neither can."""
        if not header.programs and encoding not in BY_PROGRAMS:
            return None
        run, missing = self.programs.whole(header, request, encoding)
        if run is not None:
            return replace(request.recipe, run=run)
        if encoding in BY_PROGRAMS:
            problem = (
                f"encoding={encoding} is made by external programs only, and none makes it of this source"
            )
            raise BadParameter("encoding", f"{problem} with these parameters" if missing else problem)
        if not header.width:
            problem = (
                f"the external program that reads this source can't be asked for {missing} as it stands here"
            )
            raise BadParameter(missing, problem)
        return None

    def _version_of(self, source: Source, header: Header, request: Request) -> str:
        recipe = request.basis or request.recipe
        if header.programs and request.encoding != "auto":
            name = request.encoding or _own_encoding(header, recipe)
            recipe = self._whole(header, request, name) or recipe
        return self.version(source, recipe, request.encoding)[0]

    def version(self, source: Source, recipe: Recipe, encoding: str) -> tuple[str, tuple[int, int]]:
        """The ``v`` of the URLs that ask for *recipe* of *source* in *encoding* (as in a ``Request``), and
        the size of what they give, in pixels, 0 where only a render can tell. Raises as ``wanted``."""
        header = _header(source)
        own = _own_encoding(header, recipe)
        name = encoding if encoding in ENCODINGS or encoding in BY_PROGRAMS else own
        recipe, quality = self._clamped(recipe, header, name)
        # No recipe with the quality in it: a page asks for thousands, and a copy takes 4 us.
        return version(source.digest, recipe.text(quality), encoding or own), recipe.size()

    def _clamped(
        self, recipe: Recipe, header: Header, encoding: str, is_saving: bool = False
    ) -> tuple[Recipe, int | None]:
        """*recipe* as it is for *encoding*, on the ladder and clamped; and the quality if it says none,
        bounded for a visitor who *is_saving*."""
        limits, max_side = self._config.limits, self._config.limits.max_side
        if recipe.run is not None:
            header, max_side = _as_run(header, recipe.run, max_side)
        if limits.sizes == "ladder":
            recipe = snap(recipe, *turned(recipe, header.width, header.height), limits.ladder)
        quality = self.settings(encoding).get("quality")
        if is_saving and quality is not None:
            quality = min(quality, self._config.http.save_data_quality)
        recipe = clamp(recipe, header, KNOWN_ENCODINGS[encoding], max_side)
        program = self.programs.encoder(encoding)
        if program is not None:
            recipe = replace(recipe, encoder=program.key)
        return recipe, quality

    def settings(self, encoding: str) -> Mapping[str, int]:
        """The encoder's settings by name, without a quality where it has none."""
        return self._settings.get(encoding, {})


# Parameters of frames: of previews and sheets.
_OF_FRAMES = frozenset({"frames", "fps", "vtt"})


def _own_encoding(header: Header, recipe: Recipe) -> str:
    """The encoding where none is asked for."""
    is_film = recipe.run is not None and _frames(recipe.run) > 1
    return "webp" if is_film else default_encoding(header)


def _frames(run: Run) -> int:
    """How many frames of an animation *run* makes."""
    values = dict(run.values)
    return 1 if "sprite" in values else int(values.get("frames", 1))


def _as_run(header: Header, run: Run, max_side: int) -> tuple[Header, int]:
    """*header* as of what *run* makes, and the longest side that a frame of it may have, in pixels."""
    sheet = dict(run.values).get("sprite")
    if sheet:
        max_side = max(1, max_side // max(map(int, sheet.split("x"))))
    return replace(header, frames=_frames(run)), max_side


def _header(source: Source) -> Header:
    if source.header is None:
        suffix = source.path.rpartition(".")[2].lower()
        if source.problem or suffix in PICTURE_SUFFIXES:
            raise Undecodable(source.problem or "it is in no known format")
        raise NotFound
    return source.header
