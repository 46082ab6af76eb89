"""The query string of a picture URL: names, aliases and dialects -> one ``Request``.

Called by the doors with the decoded pairs of a query; hands on a ``Request`` whose recipe is not yet
clamped to a source. Nothing here trusts the text: numbers are matched before they are converted (``int``
takes ``1_000`` and Arabic digits, ``float`` takes ``nan``), and what is not understood is a BadParameter
that says what would be right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from .colours import CSS_COLOURS
from .errors import BadParameter, ConfigError, nearest
from .formats import ALIASES, ENCODINGS, NEEDS_EXTRA
from .hints import NO_HINTS, NO_LEEWAY, Hints, Leeway
from .recipe import COMPASS, Recipe, Rect

__all__ = [
    "NAMES",
    "OURS",
    "PUBLIC",
    "Grant",
    "Preset",
    "Request",
    "address",
    "compile_presets",
    "in_order",
    "leeway_of",
    "parse_request",
    "query_text",
]

_Values = dict[str, Any]  # by the names in the column "value" of the table below


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
    *grant* is what ``access`` says about its URL, *leeway* what that leaves to its visitor's browser. *basis*
    is the recipe for a browser that says nothing of itself, None where it is the same; *is_saving*: the
    visitor wants to save bytes, and this server heeds that.
    """

    recipe: Recipe
    encoding: str = ""
    is_plain: bool = True
    preset: str = ""
    version: str = ""
    download: str | None = None
    grant: Grant = PUBLIC
    leeway: Leeway = NO_LEEWAY
    basis: Recipe | None = None
    is_saving: bool = False


@dataclass(frozen=True, slots=True)
class Preset:
    """The values that a preset of the config sets, by their names in ``NAMES``."""

    values: Mapping[str, Any]


# --- one value each -------------------------------------------------------------------------------------

_NUMBER = re.compile(r"([0-9]{1,6})(?:\.([0-9]{1,6}))?", re.ASCII)
_MICRO = 10**6
_NUMBER_RULE = "a number is written as 12 or 12.5, with at most six digits before and after the point"


def _show(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _micro(name: str, text: str) -> int:
    """A decimal as a whole number of millionths: no float ever sees what a visitor wrote."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise BadParameter(name, f"{name}={_show(text)} is not a number; {_NUMBER_RULE}")
    return int(match[1]) * _MICRO + int((match[2] or "").ljust(6, "0"))


def _check_range(name: str, shown: str, value: float, low: float, high: float) -> None:
    if value < low:
        raise BadParameter(name, f"{name}={shown} is below the limit of {low:g}")
    if value > high:
        raise BadParameter(name, f"{name}={shown} is above the limit of {high:g}")


def _number(low: float, high: float, may_be_zero: bool = False) -> Callable[[str, str], float]:
    def read(name: str, text: str) -> float:
        value = _micro(name, text) / _MICRO
        if value == 0 and may_be_zero:
            return 0.0
        _check_range(name, text, value, low, high)
        return value

    return read


# A size in millionths of a pixel: 0 follows from the other side, None says nothing about this side.
_Size = tuple[int | None, int | None]
_AUTO = -1  # what the visitor's browser says


def _side(name: str, text: str) -> int:
    return _micro(name, text) if text else 0


def _wide(name: str, text: str) -> _Size:
    return (_AUTO if text.lower() == "auto" else _side(name, text)), None


def _high(name: str, text: str) -> _Size:
    return None, _side(name, text)


def _size(separators: str) -> Callable[[str, str], _Size]:
    example = f"{separators[0]}".join(("640", "480"))

    def read(name: str, text: str) -> _Size:
        wide, mark, high = text, "", ""
        for mark in separators:
            if mark in text.lower():
                wide, _, high = text.lower().partition(mark)
                break
        try:
            return _side(name, wide), _side(name, high)
        except BadParameter:
            raise BadParameter(
                name,
                f"{name}={_show(text)} is not a size; write {example}, or one side alone; {_NUMBER_RULE}",
            ) from None

    return read


def _dpr(name: str, text: str) -> float:
    return _AUTO if text.lower() == "auto" else _number(0.1, 5)(name, text)


def _whole(low: int, high: int) -> Callable[[str, str], int]:
    def read(name: str, text: str) -> int:
        if re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) is None:
            raise BadParameter(name, f"{name}={_show(text)} is not a whole number from {low} to {high}")
        value = int(text)
        _check_range(name, str(value), value, low, high)
        return value

    return read


def _switch(name: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise BadParameter(name, f"{name}={_show(text)} is neither 0 nor 1")
    return text == "1"


def _word(allowed: Mapping[str, str], what: str) -> Callable[[str, str], str]:
    shown = tuple(dict.fromkeys(allowed.values()))

    def read(name: str, text: str) -> str:
        try:
            return allowed[text.lower()]
        except KeyError:
            hint = nearest(text.lower(), allowed)
            problem = f"{name}={_show(text)} is not {what}; allowed: {', '.join(shown)}{hint}"
            raise BadParameter(name, problem) from None

    return read


_ENCODING_WORDS = {name: name for name in ENCODINGS} | dict(ALIASES) | {"auto": "auto"}
_read_encoding = _word(_ENCODING_WORDS, "an encoding")


def _encoding(name: str, text: str) -> str:
    extra = NEEDS_EXTRA.get(text.lower())
    if extra:
        raise BadParameter(
            name,
            f"{name}={text} needs the extra '{extra}', which this server does not have; use avif or webp",
        )
    return _read_encoding(name, text)


# The words of other systems: imgix clip, max, crop; Cloudflare scale-down, contain; sharp and others.
_FIT_WORDS = {word: word for word in ("inside", "cover", "pad", "stretch", "outside")} | {
    "clip": "inside",
    "max": "inside",
    "scale-down": "inside",
    "contain": "inside",
    "crop": "cover",
    "letterbox": "pad",
    "squeeze": "stretch",
}
_read_fit = _word(_FIT_WORDS, "a fit")


def _fit(name: str, text: str) -> str:
    if text.lower() == "fill":
        raise BadParameter(
            name,
            f"{name}=fill means three things in three systems; write cover (cut what is over), "
            "stretch (change the proportions) or pad (add bars)",
        )
    return _read_fit(name, text)


_GRAVITY_WORDS = {word: word for word in (*COMPASS, "smart")} | {"centre": "center"}
for _long in ("northeast", "southeast", "southwest", "northwest"):
    _GRAVITY_WORDS[f"{_long[:5]}-{_long[5:]}"] = _long
_read_gravity = _word(_GRAVITY_WORDS, "a gravity")


def _gravity(name: str, text: str) -> tuple[str, tuple[float, float]]:
    return _read_gravity(name, text), (0.5, 0.5)


def _focus(name: str, text: str) -> tuple[str, tuple[float, float]]:
    parts = text.split(",")
    if len(parts) != 2:
        raise BadParameter(
            name, f"{name}={_show(text)} is not a point; write x,y with parts from 0 to 1, as 0.5,0.3"
        )
    read = _number(0, 1)
    return "point", (read(name, parts[0]), read(name, parts[1]))


_HEX = re.compile(r"#?([0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})", re.ASCII | re.IGNORECASE)


def _background(name: str, text: str) -> str:
    named = "00000000" if text.lower() == "transparent" else CSS_COLOURS.get(text.lower())
    match = _HEX.fullmatch(text)
    if named is None and match is None:
        raise BadParameter(
            name,
            f"{name}={_show(text)} is not a colour; write 3, 4, 6 or 8 hexadecimal digits or a CSS name, "
            f"as ff8800 or teal{nearest(text.lower(), CSS_COLOURS)}",
        )
    digits = (named or (match and match[1]) or "").lower()
    if len(digits) < 6:
        digits = "".join(digit * 2 for digit in digits)
    return digits.ljust(8, "f")


def _rect(name: str, text: str) -> Rect:
    parts = text.split(",")
    if len(parts) != 4:
        raise BadParameter(
            name, f"{name}={_show(text)} is not a rectangle; write x,y,w,h in pixels, or in parts from 0 to 1"
        )
    left, top, width, height = (_micro(name, part) / _MICRO for part in parts)
    if width == 0 or height == 0:
        raise BadParameter(name, f"{name}={_show(text)} is empty; width and height must be above 0")
    if max(left, top, width, height) <= 1:  # a cut of one pixel at the corner helps nobody: these are parts
        return Rect(left, top, width, height, is_relative=True)
    return Rect(int(left + 0.5), int(top + 0.5), max(1, int(width + 0.5)), max(1, int(height + 0.5)))


def _turn(name: str, text: str) -> int:
    if text not in ("0", "90", "180", "270"):
        raise BadParameter(name, f"{name}={_show(text)} is not one of 90, 180, 270 (degrees clockwise)")
    return int(text)


def _file_name(name: str, text: str) -> str:
    if len(text) > 200 or any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise BadParameter(name, f"{name} is not a file name: at most 200 characters, no control characters")
    name = re.split(r"[/\\]", text)[-1]
    return name if name.strip(". ") else ""


def _text(name: str, text: str) -> str:
    return text


# --- the table ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Parameter:
    """*value* is the name under which the reader's result is kept; several parameters may share one."""

    read: Callable[[str, str], Any]
    value: str
    aliases: tuple[str, ...] = ()
    changes_pixels: bool = True


_PARAMETERS: Mapping[str, _Parameter] = MappingProxyType(
    {
        "scalex": _Parameter(_wide, "sizes", ("w", "width")),
        "scaley": _Parameter(_high, "sizes", ("h", "height")),
        "size": _Parameter(_size("x"), "sizes"),
        "resize": _Parameter(_size("*,x"), "sizes"),
        "encoding": _Parameter(_encoding, "encoding", ("format", "fm", "f", "output")),
        "fit": _Parameter(_fit, "fit", ("mode",)),
        "gravity": _Parameter(_gravity, "gravity", ("g", "position", "crop")),
        "fp": _Parameter(_focus, "gravity"),
        "quality": _Parameter(_whole(1, 100), "quality", ("q",)),
        "dpr": _Parameter(_dpr, "dpr"),
        "enlarge": _Parameter(_switch, "enlarge", ("upscale",)),
        "background": _Parameter(_background, "background", ("bg",)),
        "rect": _Parameter(_rect, "rect"),
        "rotate": _Parameter(_turn, "rotate"),
        "flip": _Parameter(_switch, "flip"),
        "flop": _Parameter(_switch, "flop"),
        "trim": _Parameter(_number(0, 100), "trim"),
        "blur": _Parameter(_number(0.1, 100, may_be_zero=True), "blur"),
        "sharpen": _Parameter(_number(0.1, 10, may_be_zero=True), "sharpen"),
        "grayscale": _Parameter(_switch, "grayscale"),
        "anim": _Parameter(_switch, "anim"),
        "preset": _Parameter(_text, "preset", ("p",)),
        "download": _Parameter(_file_name, "download", ("dl",), changes_pixels=False),
        "v": _Parameter(_text, "version", changes_pixels=False),
        "s": _Parameter(_text, "signature", changes_pixels=False),
        "e": _Parameter(_text, "expires", changes_pixels=False),
        "k": _Parameter(_text, "key_id", changes_pixels=False),
    }
)
# Every name that a URL may use -> the canonical name.
NAMES: Mapping[str, str] = MappingProxyType(
    {name: name for name in _PARAMETERS}
    | {alias: name for name, parameter in _PARAMETERS.items() for alias in parameter.aliases}
)
_ORDER = {name: number for number, name in enumerate(_PARAMETERS)}
OURS = frozenset({"v", "s", "e", "k"})  # written by who makes the URL, and not asked of it
# A name that says nothing about which picture to make: allowed with every [limits] sizes.
_FREE = frozenset(name for name, row in _PARAMETERS.items() if not row.changes_pixels) | {"preset"}
_PIXELS = frozenset(name for name, row in _PARAMETERS.items() if row.changes_pixels)


# --- canonical URLs -------------------------------------------------------------------------------------


def in_order(query: Mapping[str, str]) -> dict[str, str]:
    """*query*, which has canonical names, in the order of the table."""
    return dict(sorted(query.items(), key=lambda item: _ORDER[item[0]]))


def by_canonical_name(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The values of *pairs* that mean something here. Where two names say one thing it is the one that does:
    a side of 0, or of nothing, follows from the others."""
    found: dict[str, str] = {}
    for name, text in pairs:
        canonical = NAMES.get(name, "")
        if canonical and (text.strip("0.") or canonical not in found):
            found[canonical] = text
    return found


def query_text(pairs: Iterable[tuple[str, str]]) -> str:
    """*pairs* with canonical names as they stand in a URL. Halves of characters, as names of files have them,
    become question marks."""
    return "&".join(f"{name}={quote(value, safe='', errors='replace')}" for name, value in pairs)


def address(prefix: str, path: str, pairs: Iterable[tuple[str, str]] = ()) -> str:
    """The URL of the picture at *path* below *prefix*, with *pairs* as its query."""
    query = query_text(pairs)
    return f"{prefix}/{quote(path, safe='/', errors='replace')}{'?' if query else ''}{query}"


# --- from pairs to a request ----------------------------------------------------------------------------


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
    name = values.pop("preset", "")
    if name:
        if name not in presets:
            known = f"; this server has {', '.join(sorted(presets))}" if presets else "; this server has none"
            raise BadParameter("preset", f"there is no preset {_show(name)}{known}{nearest(name, presets)}")
        preset = presets[name].values
        if presets_only:
            _check_presets_only(written, may_set_encoding="encoding" not in preset)
        _override(values, preset)
    elif presets_only:
        _check_presets_only(written, may_set_encoding=False)
    return _request(values, salt, name, hints)


def leeway_of(
    pairs: Iterable[tuple[str, str]], presets: Mapping[str, Preset] = MappingProxyType({})
) -> Leeway:
    """``Request.leeway``, also of a query with mistakes: their errors need the right Vary. It is too wide
    where values turn out to do nothing."""
    asked: dict[str, object] = {name: text.lower() for name, text in by_canonical_name(pairs).items()}
    for name, text in pairs:
        if NAMES.get(name) == "preset" and text in presets:
            asked = {**presets[text].values, **asked}
    may_save = not _PIXELS.isdisjoint(asked) and ("dpr" in asked or "quality" not in asked)
    return Leeway(
        asked.get("encoding") == "auto", asked.get("scalex") == "auto", asked.get("dpr") == "auto", may_save
    )


def compile_presets(presets: Mapping[str, Mapping[str, str]]) -> dict[str, Preset]:
    """The presets of the config, read once. Raises ConfigError that names the key, ``presets.thumb.fit``."""
    compiled = {}
    for preset, parameters in presets.items():
        for name in parameters:
            if name not in NAMES or NAMES[name] in _FREE:
                problem = f"no parameter that a preset can set{nearest(name, set(NAMES) - _FREE)}"
                raise ConfigError(f"presets.{preset}.{name}", problem)
            if NAMES[name] in ("scalex", "dpr") and parameters[name].lower() == "auto":
                problem = "a preset is the same for everybody; write a number, and auto in the URL"
                raise ConfigError(f"presets.{preset}.{name}", problem)
        try:
            values, _ = _read(parameters.items(), strict=True)
            _request(dict(values), "", preset, NO_HINTS)
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
                raise BadParameter(name, f"there is no parameter {_show(name)}{nearest(name, NAMES)}")
            continue
        if name in seen:
            raise BadParameter(name, f"{name} is given twice; give it once")
        seen.add(name)
        row = _PARAMETERS[canonical]
        value = row.read(name, text)
        if row.value == "sizes":  # these can agree in part: they are put together when dpr is known
            value = (*values.get("sizes", ()), (name, value))
        elif row.value in values and values[row.value] != value:
            raise BadParameter(
                name, f"{name}={_show(text)} disagrees with {written[row.value]}; give one of them"
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
    if given and "sizes" in preset:
        values["sizes"] = given + tuple(
            (name, (None if has_wide else size[0], None if has_high else size[1]))
            for name, size in preset["sizes"]
        )


def _check_presets_only(written: Mapping[str, str], may_set_encoding: bool) -> None:
    for value, name in written.items():
        if NAMES[name] not in _FREE and not (value == "encoding" and may_set_encoding):
            raise BadParameter(name, f"{name} can't be chosen on this server, which takes presets only")


def _request(values: _Values, salt: str, preset: str, hints: Hints) -> Request:
    recipe = _recipe(values, salt, hints)
    encoding = values.get("encoding", "")
    # A background alone is seen nowhere: the source's own encoding keeps its transparency.
    is_plain = not encoding and replace(recipe, background="") == Recipe(salt=salt)
    leeway = NO_LEEWAY if is_plain else _leeway(values, encoding)
    return Request(
        recipe,
        encoding,
        is_plain,
        preset,
        values.get("version", ""),
        values.get("download"),
        leeway=leeway,
        is_saving=hints.is_saving and leeway.saving,
    )


def _leeway(values: _Values, encoding: str) -> Leeway:
    sides = [side for _, size in values.get("sizes", ()) for side in size if side]
    has_number = any(side != _AUTO for side in sides)  # else there is nothing to multiply
    dpr = values.get("dpr", 1.0) if has_number else 1.0
    has_quality = encoding not in ENCODINGS or ENCODINGS[encoding].has_quality
    return Leeway(
        encoding == "auto",
        _AUTO in sides,
        dpr == _AUTO,
        (has_quality and "quality" not in values) or dpr == _AUTO or dpr > 1,
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
    dpr = _heard("dpr", hints.dpr) if asked == _AUTO else asked
    if hints.is_saving:
        dpr = min(dpr, 1.0)

    def whole(micro: int, dpr: float) -> int:
        if micro == _AUTO:
            return int(_heard("scalex", hints.width))
        return max(1, (micro * int(dpr * _MICRO + 0.5) + _MICRO**2 // 2) // _MICRO**2) if micro else 0

    sides = [0, 0]
    for name, size in values.get("sizes", ()):
        for axis, micro in enumerate(size):
            first = sides[axis]
            if micro and first and not _agree(micro, first, asked, whole):
                what = ("width", "height")[axis]
                this, other = ("auto" if each == _AUTO else whole(each, dpr) for each in (micro, first))
                raise BadParameter(name, f"{name} gives a {what} of {this}, another parameter {other}")
            sides[axis] = first or micro or 0
    return whole(sides[0], dpr), whole(sides[1], dpr)


def _agree(micro: int, other: int, dpr: float, whole: Callable[[int, float], int]) -> bool:
    """Whether two parameters mean one side, for whatever browser: no header makes a right URL a wrong one."""
    if _AUTO in (micro, other, dpr):
        return micro == other
    return whole(micro, dpr) == whole(other, dpr)


def _heard(name: str, value: float) -> float:
    """*value* of a client hint. Raises BadParameter where there is none."""
    if not value:
        problem = f"{name}=auto takes what the visitor's browser says, which needs [http] client_hints = true"
        raise BadParameter(name, f"{problem}; write a number")
    return value
