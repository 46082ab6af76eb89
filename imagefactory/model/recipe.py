"""A recipe says what to do with a source; its canonical text is the cache key and a part of a file name.

Two requests that must give the same pixels give one recipe: ``request`` folds names and dialects
together, ``geometry.clamp`` folds sizes together once the source is known, and this module writes the
result as text and reads it back. The text is at most 180 characters of ``[a-z0-9,._-]``:

    v1-640x480-q80
    v1-rot90-flop-rect10,20,300,400-240x240-cover-north-bgff000080-blur1.5-gray-q80

Changing what a recipe means (not how well it is encoded) needs a new version in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

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

    *width* and *height* are in pixels; 0 follows from the other side. *gravity* is a word of ``COMPASS``,
    ``smart``, or ``point`` with *focus* (x, y) as parts of the picture. *background* is rrggbbaa in lower
    case, empty for white. A vertical flip has no field: it is a half turn and a *flop*.
    """

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
    salt: str = ""

    def size(self) -> tuple[int, int]:
        """Width and height in pixels of what this makes once clamped; 0 where only a render can tell."""
        return (0, 0) if self.trim is not None else (self.width, self.height)

    def text(self, quality: int | None = None) -> str:
        """The canonical text, with *quality* where this has none; ``parse`` reads it back."""
        quality = quality if self.quality is None else self.quality
        words = [VERSION]
        if self.rotate:
            words.append(f"rot{self.rotate}")
        if self.flop:
            words.append("flop")
        if self.rect is not None:
            sides = (self.rect.left, self.rect.top, self.rect.width, self.rect.height)
            words.append(("part" if self.rect.is_relative else "rect") + ",".join(map(number_text, sides)))
        if self.trim is not None:
            words.append(f"trim{number_text(self.trim)}")
        if self.width or self.height:
            words.append(f"{self.width}x{self.height}")
        if self.fit != "stretch":
            words.append(self.fit)
        if self.gravity == "point":
            words.append(f"fp{number_text(self.focus[0])},{number_text(self.focus[1])}")
        elif self.gravity != "center":
            words.append(self.gravity)
        if self.enlarge:
            words.append("enlarge")
        if self.background:
            words.append(f"bg{self.background}")
        if self.blur:
            words.append(f"blur{number_text(self.blur)}")
        if self.sharpen:
            words.append(f"sharpen{number_text(self.sharpen)}")
        if self.grayscale:
            words.append("gray")
        if not self.anim:
            words.append("still")
        if quality is not None:
            words.append(f"q{quality}")
        if self.salt:
            words.append(f"s{self.salt}")
        return "-".join(words)


def number_text(value: float) -> str:
    """*value* with up to six decimals and no more digits than needed: 1, 0.5, 12.25."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


_N = r"[0-9]{1,6}(?:\.[0-9]{1,6})?"
_TEXT = re.compile(
    rf"""{VERSION}
    (?:-rot(?P<rotate>90|180|270))?
    (?P<flop>-flop)?
    (?:-(?P<kind>rect|part)(?P<rect>{_N},{_N},{_N},{_N}))?
    (?:-trim(?P<trim>{_N}))?
    (?:-(?P<width>[0-9]{{1,6}})x(?P<height>[0-9]{{1,6}}))?
    (?:-(?P<fit>{"|".join(FITS[1:])}))?
    (?:-(?P<gravity>{"|".join(word for word in COMPASS if word != "center")}|smart)|-fp(?P<focus>{_N},{_N}))?
    (?P<enlarge>-enlarge)?
    (?:-bg(?P<background>[0-9a-f]{{8}}))?
    (?:-blur(?P<blur>{_N}))?
    (?:-sharpen(?P<sharpen>{_N}))?
    (?P<grayscale>-gray)?
    (?P<still>-still)?
    (?:-q(?P<quality>[0-9]{{1,3}}))?
    (?:-s(?P<salt>[0-9a-f]{{8}}))?""",
    re.VERBOSE | re.ASCII,
)


def parse(text: str) -> Recipe:
    """The recipe that has this canonical text.

    Raises ValueError for any other text, also for one that says the right thing in another way.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:200]!r} is not a canonical recipe")
    found = match.groupdict()
    rect = None
    if found["rect"]:
        left, top, width, height = map(float, found["rect"].split(","))
        rect = Rect(left, top, width, height, is_relative=found["kind"] == "part")
    focus = (0.5, 0.5)
    if found["focus"]:
        x, y = map(float, found["focus"].split(","))
        focus = (x, y)
    recipe = Recipe(
        rotate=int(found["rotate"] or 0),
        flop=found["flop"] is not None,
        rect=rect,
        trim=float(found["trim"]) if found["trim"] else None,
        width=int(found["width"] or 0),
        height=int(found["height"] or 0),
        fit=found["fit"] or "stretch",
        gravity="point" if found["focus"] else found["gravity"] or "center",
        focus=focus,
        enlarge=found["enlarge"] is not None,
        background=found["background"] or "",
        blur=float(found["blur"] or 0),
        sharpen=float(found["sharpen"] or 0),
        grayscale=found["grayscale"] is not None,
        anim=found["still"] is None,
        quality=int(found["quality"]) if found["quality"] else None,
        salt=found["salt"] or "",
    )
    if recipe.text() != text:
        raise ValueError(f"{text[:200]!r} is not a canonical recipe, {recipe.text()!r} is")
    return recipe
