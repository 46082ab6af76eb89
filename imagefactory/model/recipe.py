"""A recipe says what to do with a source; its canonical text is the cache key and a part of a file name.

Two requests that must give the same pixels give one recipe: ``query`` folds names and dialects
together, ``geometry.clamp`` folds sizes together once the source is known, and this module writes the
result as text and reads it back. The text is at most 180 characters of ``[a-z0-9,._-]``:

    v1-640x480-q80
    v1-rot90-flop-rect10,20,300,400-240x240-cover-north-bgff000080-blur1.5-gray-q80

Where an external program makes the pixels, the text begins with which one and what it is asked for
(``Run``): ``v1-p1a2b3c4d,time30-640x360-q80``.

Changing what a recipe means (not how well it is encoded) needs a new version in the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import program
from .program import Run

__all__ = ["COMPASS", "FITS", "VERSION", "Recipe", "Rect", "number_text", "parse"]

VERSION = "v1"

FITS = ("stretch", "inside", "cover", "pad", "outside")
# Each word's place: (x, y) as parts of the free space, 0 is left or top.
COMPASS: dict[str, tuple[float, float]] = {
    "center": (0.5, 0.5),
    "north": (0.5, 0.0),
    "northeast": (1.0, 0.0),
    "east": (1.0, 0.5),
    "southeast": (1.0, 1.0),
    "south": (0.5, 1.0),
    "southwest": (0.0, 1.0),
    "west": (0.0, 0.5),
    "northwest": (0.0, 0.0),
}


@dataclass(frozen=True, slots=True)
class Rect:
    """A cut of the turned picture: left, top, width and height, in pixels or as parts (0..1) of its sides."""

    left: float
    top: float
    width: float
    height: float
    is_relative: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to do with a source, in the order of the steps. The default does nothing.

    *run* is there where an external program makes the pixels, *encoder* is the key of one that encodes them.
    *width* and *height* are in pixels; 0 follows from the other side. *gravity* is a word of ``COMPASS``,
    ``smart``, or ``point`` with *focus* (x, y) as parts of the picture. *background* is rrggbbaa in lower
    case, empty for white. A vertical flip has no field: it is a half turn and a *flop*.
    """

    run: Run | None = None
    rotate: int = 0
    flop: bool = False
    rect: Rect | None = None
    trim: float | None = None
    width: int = 0
    height: int = 0
    fit: str = "inside"
    gravity: str = "center"
    focus: tuple[float, float] = (0.5, 0.5)
    enlarge: bool = False
    background: str = ""
    blur: float = 0.0
    sharpen: float = 0.0
    grayscale: bool = False
    anim: bool = True
    quality: int | None = None
    encoder: str = ""
    salt: str = ""

    def size(self) -> tuple[int, int]:
        """Width and height in pixels of what this makes once clamped; 0 where only a render can tell."""
        return (0, 0) if self.trim is not None else (self.width, self.height)

    def text(self, quality: int | None = None) -> str:
        """The canonical text, with *quality* where this has none; ``parse`` reads it back."""
        return _write(self, quality)


def number_text(value: float) -> str:
    """*value* with up to six decimals and no more digits than needed: 1, 0.5, 12.25."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


# --- the grammar ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Value:
    """A kind of value: the *pattern* of its text, how that is read, and how it is written."""

    pattern: str
    read: Callable[[str], Any]
    write: Callable[[Any], str] = str


@dataclass(frozen=True, slots=True)
class _Word:
    """A word of the text, with the fields that it says in braces, and the kinds of their *values*; it is said
    where one of them is not as in ``_EMPTY``. Or a word that *sets* fields, and is said where they are so."""

    text: str
    values: Mapping[str, _Value] = field(default_factory=dict)
    sets: Mapping[str, Any] = field(default_factory=dict)


def _rect_text(rect: Rect) -> str:
    sides = rect.left, rect.top, rect.width, rect.height
    return ("part" if rect.is_relative else "rect") + ",".join(map(number_text, sides))


def _rect(text: str) -> Rect:
    left, top, width, height = map(float, text[4:].split(","))
    return Rect(left, top, width, height, is_relative=text.startswith("part"))


def _point_text(point: tuple[float, float]) -> str:
    return f"{number_text(point[0])},{number_text(point[1])}"


def _point(text: str) -> tuple[float, float]:
    x, y = text.split(",")
    return float(x), float(y)


_N = r"[0-9]{1,6}(?:\.[0-9]{1,6})?"
_NUMBER = _Value(_N, float, number_text)
_PIXELS = _Value("[0-9]{1,6}", int)
_HEX = _Value("[0-9a-f]{8}", str)
_POINT = _Value(f"{_N},{_N}", _point, _point_text)
_RECT = _Value(f"(?:rect|part){_N},{_N},{_N},{_N}", _rect, _rect_text)
_FIT = _Value("|".join(FITS[1:]), str)
_RUN = _Value(program.PATTERN, Run.parse, Run.text)
_KEY = _Value("[0-9a-f]{8}", str)
_GRAVITY = _Value("|".join([*list(COMPASS)[1:], "smart"]), str)

# All words, in their order. What writes the text and what reads it follow from these rows: a new step of a
# recipe is a field and a row.
_WORDS = (
    _Word("{run}", {"run": _RUN}),
    _Word("rot{rotate}", {"rotate": _Value("90|180|270", int)}),
    _Word("flop", sets={"flop": True}),
    _Word("{rect}", {"rect": _RECT}),
    _Word("trim{trim}", {"trim": _NUMBER}),
    _Word("{width}x{height}", {"width": _PIXELS, "height": _PIXELS}),
    _Word("{fit}", {"fit": _FIT}),
    _Word("fp{focus}", {"focus": _POINT}, {"gravity": "point"}),
    _Word("{gravity}", {"gravity": _GRAVITY}),
    _Word("enlarge", sets={"enlarge": True}),
    _Word("bg{background}", {"background": _HEX}),
    _Word("blur{blur}", {"blur": _NUMBER}),
    _Word("sharpen{sharpen}", {"sharpen": _NUMBER}),
    _Word("gray", sets={"grayscale": True}),
    _Word("still", sets={"anim": False}),
    _Word("q{quality}", {"quality": _Value("[0-9]{1,3}", int)}),
    _Word("enc{encoder}", {"encoder": _KEY}),
    _Word("s{salt}", {"salt": _KEY}),
)
# What a text without a word says, where that is not the default of the field.
_UNSAID = {"fit": "stretch"}
_EMPTY = Recipe(**_UNSAID)  # type: ignore[arg-type]  # which has other fields too


def _writer() -> Callable[[Recipe, int | None], str]:
    """What writes the text of a recipe: compiled, as ``dataclass`` compiles the methods that it adds.

    A loop over the rows takes three times as long, and a page asks for thousands.
    """
    functions: dict[str, Any] = {}
    lines = ["def write(recipe, quality):", " if recipe.quality is not None: quality = recipe.quality"]
    lines.append(f" text = {VERSION!r}")
    before: set[str] = set()
    for word in _WORDS:
        if word.sets:
            test = " and ".join(_is(name, value) for name, value in word.sets.items())
        else:
            test = " or ".join(f"not ({_is(name, getattr(_EMPTY, name))})" for name in word.values)
        parts = {}
        for name, value in word.values.items():
            functions[f"write_{name}"] = value.write
            parts[name] = f"{{{_name(name)}}}" if value.write is str else f"{{write_{name}({_name(name)})}}"
        fields = {*word.values, *word.sets}
        # Of words that follow each other and say the same field, one is said.
        lines.append(f" {'elif' if fields & before else 'if'} {test}:")
        lines.append(f"  text += f'-{word.text.format_map(parts)}'")
        before = fields
    exec("\n".join([*lines, " return text"]), functions)  # noqa: S102  # nothing in it is from outside
    write: Callable[[Recipe, int | None], str] = functions["write"]
    return write


def _name(field: str) -> str:
    return "quality" if field == "quality" else f"recipe.{field}"


def _is(field: str, value: object) -> str:
    """Python for: *field* has *value*. By truth where that is enough, which is faster."""
    if value is None:
        return f"{_name(field)} is None"
    if value is True:
        return _name(field)
    return f"{_name(field)} == {value!r}" if value else f"not {_name(field)}"


# A field, how it is read from the text of a group, and what else its word sets; the field is "" for a word
# that only sets.
_Group = tuple[str, Callable[[str], Any], Mapping[str, Any]]


def _reader() -> tuple[re.Pattern[str], list[_Group]]:
    """The pattern of a text, and what each of its groups says."""
    pattern, groups = VERSION, list[_Group]()
    for word in _WORDS:
        if word.values:
            parts = {name: f"({value.pattern})" for name, value in word.values.items()}
            pattern += f"(?:-{word.text.format_map(parts)})?"
            groups += [(name, value.read, word.sets) for name, value in word.values.items()]
        else:
            pattern += f"(-{word.text})?"
            groups.append(("", str, word.sets))
    return re.compile(pattern, re.ASCII), groups


_write = _writer()
_TEXT, _GROUPS = _reader()


def parse(text: str) -> Recipe:
    """The recipe that has this canonical text.

    Raises ValueError for any other text, also for one that says the right thing in another way.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:200]!r} is not a canonical recipe")
    fields: dict[str, Any] = dict(_UNSAID)
    for (name, read, sets), part in zip(_GROUPS, match.groups(), strict=True):
        if part is not None:
            if name:
                fields[name] = read(part)
            if sets:
                fields.update(sets)
    recipe = Recipe(**fields)
    if recipe.text() != text:
        raise ValueError(f"{text[:200]!r} is not a canonical recipe, {recipe.text()!r} is")
    return recipe
