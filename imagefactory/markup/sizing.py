"""In which sizes a page may offer a picture: the widths, and the heights for a ratio of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..model.geometry import snap
from ..model.recipe import Recipe

__all__ = ["Sizing"]

_BOXED = frozenset({"cover", "pad", "stretch"})  # fits whose result has the ratio that was asked for


class Sizing:
    """The sizes of a picture that was asked for as *recipe*. All sizes are (width, height) in pixels.

    *size* is what *recipe* gives, (0, 0) where only a render can tell; *natural* what it gives without a
    resize. With *is_snapped* the server changes each width to the next step of *ladder*. With *most* the
    source has pixels for every size, and that is the widest to offer.
    """

    def __init__(
        self,
        recipe: Recipe,
        size: tuple[int, int],
        natural: tuple[int, int],
        ladder: Sequence[int],
        *,
        is_snapped: bool,
        most: int = 0,
    ) -> None:
        self._recipe = recipe
        self._natural = natural
        self._ladder = ladder
        self._is_snapped = is_snapped
        self._most = most
        is_boxed = bool(recipe.width and recipe.height) and recipe.fit in _BOXED
        is_stretched = is_boxed and recipe.fit == "stretch"
        self._width = size[0] or min(recipe.width or natural[0], natural[0])  # in the layout
        self._box: tuple[int, int] | None = None  # the ratio that all sizes keep, if not the picture's own
        if is_boxed:
            self._box = size if is_stretched and all(size) else (recipe.width, recipe.height)
        # Of what is larger the server cuts each side by itself, and this comes of it.
        self._cut = snap(recipe, *natural, ladder) if is_snapped and is_stretched else None
        self._widest = self._find_widest()

    def _find_widest(self) -> int:
        """The width above which there are no more pixels; at least that in the layout."""
        width, height = self._natural
        if self._box is not None:
            width = min(width, height * self._box[0] // self._box[1])
        width = max(width, self._width, self._most)
        return min(width, self._ladder[-1]) if self._is_snapped else width

    def widths(self, given: Sequence[int] | None) -> list[int]:
        """The widths to offer, ascending: those *given*, else the ladder's. The widest is the last one, or
        twice the width in the layout if less than all was asked for."""
        chosen = self._of_ladder() if given is None else {min(each, self._widest) for each in given}
        return sorted({self._snapped(each) for each in chosen} if self._is_snapped else chosen)

    def _of_ladder(self) -> set[int]:
        is_sized = self._recipe.width or self._recipe.height or self._most
        top = min(2 * self._width, self._widest) if is_sized else self._widest
        return {*(step for step in self._ladder if step < top), top}

    def _snapped(self, width: int) -> int:
        width = snap(replace(self._recipe, width=width), *self._natural, self._ladder).width
        return self._cut.width if self._cut and width > self._widest else width

    def height(self, width: int) -> int | None:
        """The height that belongs to *width*; None where the picture's own ratio says it."""
        if self._cut and width > self._widest:
            return self._cut.height
        if self._box is None:
            return None
        wide, high = self._box
        return max(1, (2 * width * high + wide) // (2 * wide))  # rounded half up
