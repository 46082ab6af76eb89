"""The parameters of a picture URL: their names and aliases, what each may say, and how they are written.

Nothing here trusts the text: numbers are matched before they are converted (``int`` takes ``1_000`` and
Arabic digits, ``float`` takes ``nan``), and what is not understood is a BadParameter that says what would be
right. ``query`` puts the values of one query together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import BadParameter, nearest
from ..model.formats import ALIASES, BY_PROGRAMS, ENCODINGS, NEEDS_EXTRA, USUAL
from ..model.recipe import COMPASS, Rect
from .css_colours import CSS_COLOURS

__all__ = [
    "AUTO",
    "FREE",
    "MICRO",
    "NAMES",
    "OURS",
    "PARAMETERS",
    "PIXELS",
    "check_range",
    "number",
    "show",
    "switch",
    "whole",
]

# --- one value each -------------------------------------------------------------------------------------

_NUMBER = re.compile(r"([0-9]{1,6})(?:\.([0-9]{1,6}))?", re.ASCII)
MICRO = 10**6  # numbers are kept as whole millionths
_NUMBER_RULE = "a number is written as 12 or 12.5, with at most six digits before and after the point"


def show(text: str) -> str:
    """A visitor's text for an error: quoted, and short."""
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _micro(name: str, text: str) -> int:
    """A decimal as a whole number of millionths: no float ever sees what a visitor wrote."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise BadParameter(name, f"{name}={show(text)} is not a number; {_NUMBER_RULE}")
    return int(match[1]) * MICRO + int((match[2] or "").ljust(6, "0"))


def check_range(name: str, shown: str, value: float, low: float, high: float) -> None:
    """Raise BadParameter unless *value*, which is written as *shown*, lies from *low* to *high*."""
    if value < low:
        raise BadParameter(name, f"{name}={shown} is below the limit of {low:g}")
    if value > high:
        raise BadParameter(name, f"{name}={shown} is above the limit of {high:g}")


def number(low: float, high: float, may_be_zero: bool = False) -> Callable[[str, str], float]:
    """A reader of decimals from *low* to *high*."""

    def read(name: str, text: str) -> float:
        value = _micro(name, text) / MICRO
        if value == 0 and may_be_zero:
            return 0.0
        check_range(name, text, value, low, high)
        return value

    return read


# A size in millionths of a pixel: 0 follows from the other side, None says nothing about this side.
_Size = tuple[int | None, int | None]
AUTO = -1  # what the visitor's browser says


def _side(name: str, text: str) -> int:
    return _micro(name, text) if text else 0


def _wide(name: str, text: str) -> _Size:
    return (AUTO if text.lower() == "auto" else _side(name, text)), None


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
                f"{name}={show(text)} is not a size; write {example}, or one side alone; {_NUMBER_RULE}",
            ) from None

    return read


def _dpr(name: str, text: str) -> float:
    return AUTO if text.lower() == "auto" else number(0.1, 5)(name, text)


def whole(low: int, high: int) -> Callable[[str, str], int]:
    """A reader of whole numbers from *low* to *high*."""

    def read(name: str, text: str) -> int:
        if re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) is None:
            raise BadParameter(name, f"{name}={show(text)} is not a whole number from {low} to {high}")
        value = int(text)
        check_range(name, str(value), value, low, high)
        return value

    return read


def switch(name: str, text: str) -> bool:
    """0 or 1."""
    if text not in ("0", "1"):
        raise BadParameter(name, f"{name}={show(text)} is neither 0 nor 1")
    return text == "1"


def _word(allowed: Mapping[str, str], what: str) -> Callable[[str, str], str]:
    shown = tuple(dict.fromkeys(allowed.values()))

    def read(name: str, text: str) -> str:
        try:
            return allowed[text.lower()]
        except KeyError:
            hint = nearest(text.lower(), allowed)
            problem = f"{name}={show(text)} is not {what}; allowed: {', '.join(shown)}{hint}"
            raise BadParameter(name, problem) from None

    return read


_ENCODING_WORDS = {name: name for name in ENCODINGS} | dict(ALIASES) | {"auto": "auto"}
_read_encoding = _word(_ENCODING_WORDS, "an encoding")


def _encoding(name: str, text: str) -> str:
    extra = NEEDS_EXTRA.get(text.lower())
    if extra:
        problem = f"{name}={text} needs the extra '{extra}', which this server does not have"
        raise BadParameter(name, f"{problem}; use {' or '.join(USUAL)}")
    return text.lower() if text.lower() in BY_PROGRAMS else _read_encoding(name, text)


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
            name, f"{name}={show(text)} is not a point; write x,y with parts from 0 to 1, as 0.5,0.3"
        )
    read = number(0, 1)
    return "point", (read(name, parts[0]), read(name, parts[1]))


_HEX = re.compile(r"#?([0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})", re.ASCII | re.IGNORECASE)


def _background(name: str, text: str) -> str:
    named = "00000000" if text.lower() == "transparent" else CSS_COLOURS.get(text.lower())
    match = _HEX.fullmatch(text)
    if named is None and match is None:
        raise BadParameter(
            name,
            f"{name}={show(text)} is not a colour; write 3, 4, 6 or 8 hexadecimal digits or a CSS name, "
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
            name, f"{name}={show(text)} is not a rectangle; write x,y,w,h in pixels, or in parts from 0 to 1"
        )
    left, top, width, height = (_micro(name, part) / MICRO for part in parts)
    if width == 0 or height == 0:
        raise BadParameter(name, f"{name}={show(text)} is empty; width and height must be above 0")
    if max(left, top, width, height) <= 1:  # a cut of one pixel at the corner helps nobody: these are parts
        return Rect(left, top, width, height, is_relative=True)
    return Rect(int(left + 0.5), int(top + 0.5), max(1, int(width + 0.5)), max(1, int(height + 0.5)))


def _turn(name: str, text: str) -> int:
    if text not in ("0", "90", "180", "270"):
        raise BadParameter(name, f"{name}={show(text)} is not one of 90, 180, 270 (degrees clockwise)")
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
    """*value* is the name under which the reader's result is kept; several parameters may share one.
    *for_programs*: it is read by ``program_parameters``, once the source is known."""

    read: Callable[[str, str], Any]
    value: str
    aliases: tuple[str, ...] = ()
    changes_pixels: bool = True
    for_programs: bool = False


PARAMETERS: Mapping[str, _Parameter] = MappingProxyType(
    {
        **{
            name: _Parameter(_text, name, for_programs=True)
            for name in ("t", "page", "dpi", "frames", "fps", "exact", "preview", "sprite", "vtt")
        },
        "scalex": _Parameter(_wide, "sizes", ("w", "width")),
        "scaley": _Parameter(_high, "sizes", ("h", "height")),
        "size": _Parameter(_size("x"), "sizes"),
        "resize": _Parameter(_size("*,x"), "sizes"),
        "encoding": _Parameter(_encoding, "encoding", ("format", "fm", "f", "output")),
        "fit": _Parameter(_fit, "fit", ("mode",)),
        "gravity": _Parameter(_gravity, "gravity", ("g", "position", "crop")),
        "fp": _Parameter(_focus, "gravity"),
        "quality": _Parameter(whole(1, 100), "quality", ("q",)),
        "dpr": _Parameter(_dpr, "dpr"),
        "enlarge": _Parameter(switch, "enlarge", ("upscale",)),
        "background": _Parameter(_background, "background", ("bg",)),
        "rect": _Parameter(_rect, "rect"),
        "rotate": _Parameter(_turn, "rotate"),
        "flip": _Parameter(switch, "flip"),
        "flop": _Parameter(switch, "flop"),
        "trim": _Parameter(number(0, 100), "trim"),
        "blur": _Parameter(number(0.1, 100, may_be_zero=True), "blur"),
        "sharpen": _Parameter(number(0.1, 10, may_be_zero=True), "sharpen"),
        "grayscale": _Parameter(switch, "grayscale"),
        "anim": _Parameter(switch, "anim"),
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
    {name: name for name in PARAMETERS}
    | {alias: name for name, parameter in PARAMETERS.items() for alias in parameter.aliases}
)
OURS = frozenset({"v", "s", "e", "k"})  # written by who makes the URL, and not asked of it
# A name that says nothing about which picture to make: allowed with every [limits] sizes.
FREE = frozenset(name for name, row in PARAMETERS.items() if not row.changes_pixels) | {"preset"}
PIXELS = frozenset(name for name, row in PARAMETERS.items() if row.changes_pixels)
