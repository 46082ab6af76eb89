"""Parameters of a URL that an external program takes: ``t``, ``page``, ``dpi``, ``sprite`` and others.

They are read when the source is known. For a picture that no program reads they mean nothing, whatever they
say: pages write ``?t=1733011200`` to get past a cache.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import BadParameter
from .parameters import check_range, number, show, switch, whole

__all__ = ["NOTHING", "Asked", "read_asked"]

_MAX_FRAMES = 400
_MAX_SIDE = 40  # frames beside each other in a sheet
# Parameters that choose another table: one of them at a time.
_WORDS = ("exact", "preview", "sprite")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a URL asks of a program: *numbers* by the names of parameters; the seconds of a *preview*, 0 for
    none; columns and rows of a *sprite*, a sheet of frames; with *is_text* what such a sheet shows, as
    WebVTT."""

    numbers: Mapping[str, float]
    is_auto: bool = False
    is_exact: bool = False
    preview: float = 0.0
    sprite: tuple[int, int] | None = None
    is_text: bool = False

    def number(self, placeholder: str) -> float | None:
        """The number for *placeholder*, None where nothing was asked."""
        return self.numbers.get("t" if placeholder == "time" else placeholder)

    def variant(self) -> str:
        """Which variant of the table is asked for, empty for itself."""
        if self.sprite:
            return "sprite"
        if self.preview:
            return "preview"
        return "exact" if self.is_exact else "auto" if self.is_auto else ""


NOTHING = Asked({})


def read_asked(texts: Iterable[tuple[str, str]]) -> Asked:
    """What *texts*, pairs of a parameter's name and its value, say. Raises BadParameter."""
    values: dict[str, Any] = {name: _READERS[name](name, text) for name, text in texts}
    chosen = [name for name in _WORDS if values.get(name)]
    if len(chosen) > 1:
        raise BadParameter(chosen[1], f"{chosen[0]} and {chosen[1]} can't be had together; give one of them")
    if values.get("vtt") and chosen != ["sprite"]:
        raise BadParameter("vtt", "vtt=1 describes a sheet of frames; give sprite=5x5 beside it")
    is_auto = values.get("t") == "auto"
    if is_auto and chosen:
        raise BadParameter("t", f"t=auto looks for one frame; give a number beside {chosen[0]}")
    preview, fps = values.get("preview", 0.0), values.get("fps", 0.0)
    if preview * fps > _MAX_FRAMES:
        raise BadParameter(
            "preview", f"these are {round(preview * fps)} frames, above the limit of {_MAX_FRAMES}"
        )
    numbers = {
        name: float(value)
        for name, value in values.items()
        if name in ("t", "page", "dpi", "frames", "fps") and value != "auto"
    }
    return Asked(
        numbers, is_auto, bool(values.get("exact")), preview, values.get("sprite"), bool(values.get("vtt"))
    )


def _time(name: str, text: str) -> float | str:
    if text.lower() == "auto":
        return "auto"
    return round(number(0, 999_999, may_be_zero=True)(name, text), 3)


def _sheet(name: str, text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,2})x([0-9]{1,2})", text, re.ASCII)
    if match is None:
        raise BadParameter(name, f"{name}={show(text)} is no sheet of frames; write columns x rows, as 5x5")
    columns, rows = int(match[1]), int(match[2])
    for side in (columns, rows):
        check_range(name, text, side, 1, _MAX_SIDE)
    check_range(name, f"{text} ({columns * rows} frames)", columns * rows, 1, _MAX_FRAMES)
    return columns, rows


_READERS: Mapping[str, Callable[[str, str], object]] = {
    "t": _time,
    "page": whole(1, 99_999),
    "dpi": whole(1, 2400),
    "frames": whole(1, _MAX_FRAMES),
    "fps": number(0.1, 60),
    "exact": switch,
    "preview": number(0.1, 60),
    "sprite": _sheet,
    "vtt": switch,
}
