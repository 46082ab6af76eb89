"""From a query to the variant that it means for a source, by what the config says of sizes and encodings.

It touches no file, and gives the same in all processes of a config.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial

from ..config import Config
from ..errors import NotFound, Undecodable
from ..model.formats import ENCODINGS, PICTURE_SUFFIXES, default_encoding
from ..model.geometry import clamp, snap, turned
from ..model.recipe import Recipe
from ..model.source import Header, Source
from ..model.variant import Key, version
from ..urls.client_hints import Hints, read_hints
from ..urls.negotiation import negotiate
from ..urls.query import Request, compile_presets, parse_request

__all__ = ["Resolver", "Wanted"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for a source that is known: which variant it means, and the ``v`` of its URL if one was
    given."""

    key: Key
    recipe: Recipe
    version: str


class Resolver:
    """What requests mean by *config*. Raises ConfigError for a preset with a mistake."""

    def __init__(self, config: Config) -> None:
        self._config = config
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
        limits = self._config.limits
        if limits.sizes == "ladder":
            recipe = snap(recipe, *turned(recipe, header.width, header.height), limits.ladder)
        quality = self.settings(encoding).get("quality")
        if is_saving and quality is not None:
            quality = min(quality, self._config.http.save_data_quality)
        return clamp(recipe, header, ENCODINGS[encoding], limits.max_side), quality

    def settings(self, encoding: str) -> Mapping[str, int]:
        """The encoder's settings by name, without a quality where it has none."""
        return self._settings.get(encoding, {})


def _header(source: Source) -> Header:
    if source.header is None:
        suffix = source.path.rpartition(".")[2].lower()
        if source.problem or suffix in PICTURE_SUFFIXES:
            raise Undecodable(source.problem or "it is in no known format")
        raise NotFound
    return source.header
