"""What a page may offer of a picture: the encodings, the widths, and the URL and the size of each.

Nothing is rendered: the generator says what a URL would give. What all URLs of a picture have in common is
read, checked, quoted and signed once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..errors import BadParameter, nearest
from ..factory import Site
from ..model.formats import ALIASES, ENCODINGS, NEEDS_EXTRA, fallback_encoding
from ..model.recipe import Recipe
from ..model.source import Source
from ..urls.query import Request
from ..urls.signing import Policy
from ..urls.writing import in_order, picture_url, query_text
from .queries import SIZES, Query, encoded
from .sizing import Sizing

__all__ = ["Candidate", "Candidates", "Offer"]


class Candidate(NamedTuple):
    """A URL, and the size in pixels of what it gives, 0 where only a render can tell."""

    url: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Offer:
    """The candidates of one picture by encoding, widths ascending; a single one where its width is unknown.
    What was asked for as a *recipe*, and the size in pixels that it has in the layout, 0 where only a render
    can tell."""

    candidates: Mapping[str, Sequence[Candidate]]
    recipe: Recipe
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of the pictures of *site*, below *prefix*.

    With *must_sign* all URLs are signed, else those that have to be; they end at unix time *end_s*. With
    *is_debug* a format that this server can't write is an error, else it is left out.

    The methods raise BadParameter, and what ``Resolver.wanted`` raises.
    """

    site: Site
    prefix: str
    must_sign: bool
    end_s: int | None
    is_debug: bool

    def url(self, source: Source, query: Query) -> str:
        """The URL for *query*, with its version unless it is that of the original."""
        source, request = self._fitted(source, query)
        if request.is_plain and not self.site.access.has_originals:
            problem = "this server has no originals; name a size, an encoding or a preset"
            raise BadParameter("scalex", problem)
        signature = self._sign(source.path, query)
        if not request.is_plain:
            query = {**query, "v": self.site.resolver.version(source, request.recipe, request.encoding)[0]}
        found = picture_url(self.prefix, source.path, query.items())
        return found + (signature if query else signature.replace("&", "?", 1))

    def encodings(self, source: Source, query: Query, formats: Sequence[str]) -> list[str]:
        """The encodings to offer, best first, the last one for every browser. "" leaves it to the URL.

        An ``encoding`` in *query* or in its preset is the only one.
        """
        source, request = self._fitted(source, query)
        if request.encoding and request.encoding != "auto":
            return [query.get("encoding") or ("" if self._takes_presets_only() else request.encoding)]
        if self._takes_presets_only() and "encoding" in self._preset_names(request):
            return [""]
        if source.header is None:
            return [""]  # an error of its own comes when it is asked for
        is_moving = self.site.resolver.moves(source.header, request.recipe)
        last = fallback_encoding(source.header, is_moving)
        found = []
        for name in formats:
            encoding = ALIASES.get(name, name)
            if encoding not in ENCODINGS:
                if self.is_debug:
                    raise _unknown_format(encoding)
            elif is_moving and not _moves_well(encoding):
                pass  # a still picture is not what was asked for, and a slow one takes minutes to render
            elif encoding != last and encoding not in found:
                found.append(encoding)
        return [*found, last]

    def offer(
        self, source: Source, query: Query, encodings: Sequence[str], widths: Sequence[int] | None
    ) -> Offer:
        """What *query* gives in *encodings*, whatever its own, and in several widths: those of the ladder or
        *widths*, up to what the source has; of one that is made in any size, up to twice that in the
        layout."""
        if self._takes_presets_only() and "preset" not in query:
            named = ", ".join(sorted(self.site.resolver.presets))
            raise BadParameter("preset", f"this server takes presets only; name one of {named}")
        query = {name: value for name, value in query.items() if name != "encoding"}
        source, request = self._fitted(source, encoded(query, encodings[-1]))
        size = self._size(source, request, request.recipe)
        fixed, steps = self._steps(source, query, request, size, widths)
        first = self._fitted(source, {**steps[0], **encoded(fixed, encodings[-1])})[1].recipe
        recipes = [
            replace(first, width=int(step["scalex"]), height=int(step.get("scaley", 0))) if step else first
            for step in steps
        ]
        base = picture_url(self.prefix, source.path)
        starts = [f"{base}?{_front(step)}" for step in steps]
        policy = self._policy(steps, encodings)
        shared = None if policy is None else self._sign(source.path, {**steps[0], **fixed}, policy)
        candidates = {}
        for encoding in encodings:
            name = request.encoding if encoding == encodings[-1] else encoding
            full = encoded(fixed, encoding)
            middle = f"{_front(full)}v="
            rungs = {}
            for start, step, recipe in zip(starts, steps, recipes, strict=True):
                version, (width, height) = self.site.resolver.version(source, recipe, name)
                signature = self._sign(source.path, {**step, **full}) if shared is None else shared
                rungs[width] = Candidate(f"{start}{middle}{version}{signature}", width, height)
            candidates[encoding] = [rungs[width] for width in sorted(rungs)]
        return Offer(candidates, request.recipe, *size)

    def _request(self, query: Query) -> Request:
        return self.site.resolver.request(query.items(), strict=True)

    def _fitted(self, source: Source, query: Query) -> tuple[Source, Request]:
        return self.site.fitted(source, self._request(query))

    def _size(self, source: Source, request: Request, recipe: Recipe) -> tuple[int, int]:
        return self.site.resolver.version(source, recipe, request.encoding)[1]

    def _preset_names(self, request: Request) -> Collection[str]:
        """The names of what the preset of *request* says; none without a preset."""
        preset = self.site.resolver.presets.get(request.preset)
        return () if preset is None else preset.values

    def _takes_presets_only(self) -> bool:
        return self.site.config.limits.sizes == "presets"

    def _steps(
        self,
        source: Source,
        query: Query,
        request: Request,
        size: tuple[int, int],
        widths: Sequence[int] | None,
    ) -> tuple[Query, list[Query]]:
        """What of *query* is in all its URLs, and the ``scalex`` and ``scaley`` of each, ascending: nothing
        where there is one size only, the preset's or, of what is trimmed, the one that was asked for. The
        widest of *widths* where none was."""
        limits, recipe = self.site.config.limits, request.recipe
        if self._takes_presets_only():
            if widths is not None:
                raise BadParameter("widths", "this server takes presets only, in the one size that they have")
            return query, [{}]
        if recipe.trim is not None and (widths is None or recipe.width or recipe.height):
            return query, [{}]  # a width that only a render can tell is none to choose by
        whole = replace(recipe, width=0, height=0, fit="inside", enlarge=False, trim=None)
        natural = self._size(source, request, whole)
        is_scalable = source.header is not None and source.header.is_scalable
        sizing = Sizing(
            recipe,
            size,
            natural,
            limits.ladder,
            is_snapped=limits.sizes == "ladder",
            most=limits.max_side if is_scalable else 0,
        )
        preset = self._preset_names(request)
        steps = []
        for width in sizing.widths(widths):
            height = sizing.height(width)
            if height is None and "sizes" in preset:
                height = 0  # else the preset's would bind
            step = {"scalex": str(width)}
            steps.append(step if height is None else step | {"scaley": str(height)})
        fixed = {name: value for name, value in query.items() if name not in SIZES}
        if "dpr" in preset:
            fixed["dpr"] = "1"
        return in_order(fixed), steps if recipe.trim is None else steps[-1:]

    def _policy(self, steps: Sequence[Query], encodings: Sequence[str]) -> Policy | None:
        """What one signature for all *steps* and *encodings* allows, None where they need one each."""
        is_several = len({step.get("scaley") for step in steps}) > 1
        # A policy knows encodings as they are written in the table: not auto, nor none, nor WEBP.
        if is_several or not steps[0] or not {*encodings} <= {*ENCODINGS, *ALIASES}:
            return None
        widths = [int(step["scalex"]) for step in steps]
        is_ladder = {*widths[:-1]} <= {*self.site.config.limits.ladder}
        return Policy(max(widths), tuple(encodings), is_ladder)

    def _sign(self, path: str, query: Query, policy: Policy | None = None) -> str:
        """What is to stand behind *query*, or behind all that *policy* allows; nothing where that is not
        signed."""
        access = self.site.access
        if access.signer is None or not (self.must_sign or access.must_sign(path)):
            return ""
        try:
            pairs = access.signer.sign(path, [*query.items()], self.end_s, policy)
        except ValueError as error:
            raise BadParameter("", str(error)) from error
        return f"&{query_text(pairs)}"


def _front(query: Query) -> str:
    """*query* as text that more is to follow."""
    return f"{query_text(query.items())}&" if query else ""


# --- encodings --------------------------------------------------------------------------------------------


def _moves_well(encoding: str) -> bool:
    row = ENCODINGS[encoding]
    return row.has_animation and not row.has_slow_animation


def _unknown_format(name: str) -> BadParameter:
    if name in NEEDS_EXTRA:
        problem = f"needs the extra {NEEDS_EXTRA[name]!r}, which this server does not have"
    else:
        problem = (
            f"is not a format of this server; there are {', '.join(ENCODINGS)}{nearest(name, ENCODINGS)}"
        )
    return BadParameter("formats", f"{name!r} {problem}")
