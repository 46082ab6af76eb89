"""The query string of a picture URL -> one ``Request``.

Its recipe is not yet clamped to a source. What single parameters mean is in ``parameters``; here they meet:
presets, sizes that are given twice, ``dpr`` and what a browser says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from ..errors import BadParameter, ConfigError, nearest
from ..model.formats import ENCODINGS
from ..model.recipe import Recipe
from .client_hints import NO_HINTS, NOTHING_NEGOTIATED, Hints, Negotiated
from .parameters import AUTO, FREE, MICRO, NAMES, PARAMETERS, PIXELS, show
from .program_parameters import read_asked
from .writing import by_canonical_name

__all__ = ["PUBLIC", "Grant", "Preset", "Request", "compile_presets", "negotiated_in", "parse_request"]

_Values = dict[str, Any]  # by the names in the column "value" of the table in ``parameters``


@dataclass(frozen=True, slots=True)
class Grant:
    """What a URL may have: it ends at unix time *expires_s*, None for never; *is_private*: no cache that
    several people share may keep it."""

    expires_s: int | None = None
    is_private: bool = False


PUBLIC = Grant()


@dataclass(frozen=True, slots=True)
class Request:
    """What a query asks for. *encoding* is a name, ``auto``, or empty for the source's own.

    *is_plain* is true where nothing was asked that could change a pixel: the answer is the original.
    *quality* of the recipe is the asked one; the default of the encoding comes in when that is known.
    *download* is the asked file name, empty for the default name, None to show the picture in place.
    *grant* is what ``access`` says about its URL, *negotiated* what the browser's headers choose. *basis*
    is the recipe for a browser that says nothing of itself, None where it is the same; *is_saving*: the
    visitor wants to save bytes, and this server heeds that. *texts* are (name, text) pairs of
    what external programs may be asked for (``program_parameters``), *names* the canonical names of all
    parameters that change pixels. *is_strict*: what the source does not take is a mistake.
    """

    recipe: Recipe
    encoding: str = ""
    is_plain: bool = True
    preset: str = ""
    version: str = ""
    download: str | None = None
    grant: Grant = PUBLIC
    negotiated: Negotiated = NOTHING_NEGOTIATED
    basis: Recipe | None = None
    is_saving: bool = False
    texts: tuple[tuple[str, str], ...] = ()
    names: frozenset[str] = frozenset()
    is_strict: bool = False


@dataclass(frozen=True, slots=True)
class Preset:
    """The values that a preset of the config sets, by their names in ``NAMES``."""

    values: Mapping[str, Any]


# --- from pairs to a request -------------------------------------------------------------------------------


def parse_request(
    pairs: Iterable[tuple[str, str]],
    presets: Mapping[str, Preset] = MappingProxyType({}),
    *,
    strict: bool = False,
    presets_only: bool = False,
    salt: str = "",
    hints: Hints = NO_HINTS,
) -> Request:
    """The request that the (name, value) *pairs* of a query make.

    *strict* refuses unknown names, which are otherwise ignored. *presets_only* takes nothing that changes
    pixels but a preset, and an encoding where the preset leaves it open. *salt* becomes a part of the
    recipe. *hints* is what the visitor's browser says, for ``auto``. Raises BadParameter.
    """
    values, written = _read(pairs, strict)
    if presets_only:
        _drop_texts(values)
    name = values.pop("preset", "")
    if name:
        if name not in presets:
            known = f"; this server has {', '.join(sorted(presets))}" if presets else "; this server has none"
            raise BadParameter("preset", f"there is no preset {show(name)}{known}{nearest(name, presets)}")
        preset = presets[name].values
        if presets_only:
            _check_presets_only(written, may_set_encoding="encoding" not in preset)
        _override(values, preset)
    elif presets_only:
        _check_presets_only(written, may_set_encoding=False)
    return _request(values, salt, name, hints, strict)


def negotiated_in(
    pairs: Iterable[tuple[str, str]], presets: Mapping[str, Preset] = MappingProxyType({})
) -> Negotiated:
    """``Request.negotiated``, also of a query with mistakes: their errors need the right Vary. It is too wide
    where values turn out to do nothing."""
    asked: dict[str, object] = {name: text.lower() for name, text in by_canonical_name(pairs).items()}
    for name, text in pairs:
        if NAMES.get(name) == "preset" and text in presets:
            asked = {**presets[text].values, **asked}
    may_save = not PIXELS.isdisjoint(asked) and ("dpr" in asked or "quality" not in asked)
    return Negotiated(
        asked.get("encoding") == "auto", asked.get("scalex") == "auto", asked.get("dpr") == "auto", may_save
    )


def compile_presets(presets: Mapping[str, Mapping[str, str]]) -> dict[str, Preset]:
    """The presets of the config, read once. Raises ConfigError that names the key, ``presets.thumb.fit``."""
    compiled = {}
    for preset, parameters in presets.items():
        for name in parameters:
            if name not in NAMES or NAMES[name] in FREE:
                problem = f"no parameter that a preset can set{nearest(name, set(NAMES) - FREE)}"
                raise ConfigError(f"presets.{preset}.{name}", problem)
            if NAMES[name] in ("scalex", "dpr") and parameters[name].lower() == "auto":
                problem = "a preset is the same for everybody; write a number, and auto in the URL"
                raise ConfigError(f"presets.{preset}.{name}", problem)
        try:
            values, _ = _read(parameters.items(), strict=True)
            read_asked(_request(dict(values), "", preset, NO_HINTS).texts)
        except BadParameter as error:
            raise ConfigError(f"presets.{preset}.{error.name}", error.problem) from error
        compiled[preset] = Preset(MappingProxyType(values))
    return compiled


def _read(pairs: Iterable[tuple[str, str]], strict: bool) -> tuple[_Values, dict[str, str]]:
    """The values by their names, and which name the visitor wrote for each canonical parameter."""
    values: _Values = {}
    written: dict[str, str] = {}
    seen: set[str] = set()
    for name, text in pairs:
        canonical = NAMES.get(name)
        if canonical is None:
            if strict:
                raise BadParameter(name, f"there is no parameter {show(name)}{nearest(name, NAMES)}")
            continue
        if name in seen:
            raise BadParameter(name, f"{name} is given twice; give it once")
        seen.add(name)
        row = PARAMETERS[canonical]
        if row.changes_pixels:
            values["names"] = values.get("names", frozenset()) | {canonical}
        if row.for_programs:
            values["texts"] = {**values.get("texts", {}), name: text}
            continue
        value = row.read(name, text)
        if row.value == "sizes":  # these can agree in part: they are put together when dpr is known
            value = (*values.get("sizes", ()), (name, value))
        elif row.value in values and values[row.value] != value:
            raise BadParameter(
                name, f"{name}={show(text)} disagrees with {written[row.value]}; give one of them"
            )
        values[row.value] = value
        written[row.value] = name
    return values, written


def _override(values: _Values, preset: Mapping[str, Any]) -> None:
    """Add what *preset* sets and *values* leave open, side by side for sizes."""
    given = values.get("sizes", ())
    has_wide = any(size[0] is not None for _, size in given)
    has_high = any(size[1] is not None for _, size in given)
    for name, value in preset.items():
        values.setdefault(name, value)
    values["names"] = values.get("names", frozenset()) | preset.get("names", frozenset())
    values["texts"] = {**preset.get("texts", {}), **values.get("texts", {})}
    if given and "sizes" in preset:
        values["sizes"] = given + tuple(
            (name, (None if has_wide else size[0], None if has_high else size[1]))
            for name, size in preset["sizes"]
        )


def _drop_texts(values: _Values) -> None:
    """Ignore what a program is asked for, as other unknown names are: a preset may ask for it. What describes
    a preset's sheet is no other picture."""
    texts = values.pop("texts", {})
    kept = {name: text for name, text in texts.items() if name == "vtt"}
    values["texts"] = kept
    values["names"] = values.get("names", frozenset()) - (texts.keys() - kept.keys())


def _check_presets_only(written: Mapping[str, str], may_set_encoding: bool) -> None:
    for value, name in written.items():
        if NAMES[name] not in FREE and not (value == "encoding" and may_set_encoding):
            raise BadParameter(name, f"{name} can't be chosen on this server, which takes presets only")


def _request(values: _Values, salt: str, preset: str, hints: Hints, is_strict: bool = False) -> Request:
    recipe = _recipe(values, salt, hints)
    encoding = values.get("encoding", "")
    # A background alone is seen nowhere: the source's own encoding keeps its transparency.
    is_plain = not encoding and replace(recipe, background="") == Recipe(salt=salt)
    negotiated = NOTHING_NEGOTIATED if is_plain else _negotiated(values, encoding)
    return Request(
        recipe,
        encoding,
        is_plain,
        preset,
        values.get("version", ""),
        values.get("download"),
        negotiated=negotiated,
        is_saving=hints.is_saving and negotiated.saving,
        texts=tuple(values.get("texts", {}).items()),
        names=values.get("names", frozenset()) - {"preset"},
        is_strict=is_strict,
    )


def _negotiated(values: _Values, encoding: str) -> Negotiated:
    sides = [side for _, size in values.get("sizes", ()) for side in size if side]
    has_number = any(side != AUTO for side in sides)  # else there is nothing to multiply
    dpr = values.get("dpr", 1.0) if has_number else 1.0
    has_quality = encoding not in ENCODINGS or ENCODINGS[encoding].has_quality
    return Negotiated(
        encoding == "auto",
        AUTO in sides,
        dpr == AUTO,
        (has_quality and "quality" not in values) or dpr == AUTO or dpr > 1,
    )


def _recipe(values: _Values, salt: str, hints: Hints) -> Recipe:
    wide, high = _pixels(values, hints)
    gravity, focus = values.get("gravity", ("center", (0.5, 0.5)))
    flip, flop = values.get("flip", False), values.get("flop", False)
    return Recipe(
        # Top to bottom is half a turn and left to right: eight ways to lie, one spelling each.
        rotate=(values.get("rotate", 0) + (180 if flip else 0)) % 360,
        flop=flip != flop,
        rect=values.get("rect"),
        trim=values.get("trim"),
        width=wide,
        height=high,
        fit=values.get("fit", "inside") if wide or high else "inside",
        gravity=gravity if wide or high else "center",
        focus=focus if wide or high else (0.5, 0.5),
        enlarge=values.get("enlarge", False) and bool(wide or high),
        background=values.get("background", ""),
        blur=values.get("blur", 0.0),
        sharpen=values.get("sharpen", 0.0),
        grayscale=values.get("grayscale", False),
        anim=values.get("anim", True),
        quality=values.get("quality"),
        salt=salt,
    )


def _pixels(values: _Values, hints: Hints) -> tuple[int, int]:
    """Width and height in whole pixels, dpr multiplied out; 0 follows from the other side.

    The width of *hints* is in device pixels already: no dpr multiplies it.
    """
    asked = values.get("dpr", 1.0)
    dpr = _heard("dpr", hints.dpr) if asked == AUTO else asked
    if hints.is_saving:
        dpr = min(dpr, 1.0)

    def whole(micro: int, dpr: float) -> int:
        if micro == AUTO:
            return int(_heard("scalex", hints.width))
        return max(1, (micro * int(dpr * MICRO + 0.5) + MICRO**2 // 2) // MICRO**2) if micro else 0

    sides = [0, 0]
    for name, size in values.get("sizes", ()):
        for axis, micro in enumerate(size):
            first = sides[axis]
            if micro and first and not _agree(micro, first, asked, whole):
                what = ("width", "height")[axis]
                this, other = ("auto" if each == AUTO else whole(each, dpr) for each in (micro, first))
                raise BadParameter(name, f"{name} gives a {what} of {this}, another parameter {other}")
            sides[axis] = first or micro or 0
    return whole(sides[0], dpr), whole(sides[1], dpr)


def _agree(micro: int, other: int, dpr: float, whole: Callable[[int, float], int]) -> bool:
    """Whether two parameters mean one side, for whatever browser: no header makes a right URL a wrong one."""
    if AUTO in (micro, other, dpr):
        return micro == other
    return whole(micro, dpr) == whole(other, dpr)


def _heard(name: str, value: float) -> float:
    """*value* of a client hint. Raises BadParameter where there is none."""
    if not value:
        problem = f"{name}=auto takes what the visitor's browser says, which needs [http] client_hints = true"
        raise BadParameter(name, f"{problem}; write a number")
    return value
