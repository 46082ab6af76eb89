"""What a visitor's browser says of itself, in few steps: client hints, and ``Save-Data``.

They are read for URLs that leave something to be negotiated (``Negotiated``). Whatever stands in the headers,
such a URL has a handful of answers: a width is a step of the ladder, a dpr one of four. ``Accept`` is read in
``negotiation``.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..config import Http
from ..config.values import MAX_SIDE

__all__ = ["NO_HINTS", "NOTHING_NEGOTIATED", "Hints", "Negotiated", "read_hints"]

# What an answer depends on. The second name of a client hint is the one of before 2021; Accept-CH asks for
# the first. Not Viewport-Width for the width: it says nothing of the picture's place in the page, needs the
# dpr as well, and a shared cache that is told to vary on six headers keeps nothing.
_HEADERS = {
    "encoding": ("Accept",),
    "width": ("Sec-CH-Width", "Width"),
    "dpr": ("Sec-CH-DPR", "DPR"),
    "saving": ("Save-Data",),
}
_DPRS = (1.0, 1.5, 2.0, 3.0)
_HIGHEST_DPR = 10.0
_NUMBER = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,20})?", re.ASCII)  # Chromium zoomed: 1.100000023841858


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What a URL leaves to content negotiation (RFC 9110 §12.1), so that headers choose: the *encoding*, the
    *width*, the *dpr*, where they are ``auto``, and whether *saving* bytes can make a difference."""

    encoding: bool = False
    width: bool = False
    dpr: bool = False
    saving: bool = False

    def heeded(self, http: Http) -> Negotiated:
        """What of it a server with *http* listens for."""
        has_hints = http.client_hints
        return Negotiated(
            self.encoding, self.width and has_hints, self.dpr and has_hints, self.saving and http.save_data
        )

    def vary(self) -> str:
        """The value of Vary (RFC 9110 §12.5.5), empty where nothing is negotiated."""
        return ", ".join(name for part, names in _HEADERS.items() if getattr(self, part) for name in names)

    def said(self, environ: Mapping[str, object]) -> dict[str, str]:
        """Those of its headers that are in *environ*, the first 100 characters of each."""
        names = self.vary().split(", ")
        return {name: str(environ[_key(name)])[:100] for name in names if _key(name) in environ}

    def accept_ch(self) -> str:
        """The value of Accept-CH (RFC 8942 §3.1), empty where no client hint is wanted."""
        return ", ".join(_HEADERS[part][0] for part in ("width", "dpr") if getattr(self, part))


NOTHING_NEGOTIATED = Negotiated()
_ALL = Negotiated(True, True, True, True)


@dataclass(frozen=True, slots=True)
class Hints:
    """What was heard: *width* is that of the picture's place, in device pixels. Both numbers are 0 where
    nobody listened."""

    width: int = 0
    dpr: float = 0.0
    is_saving: bool = False


NO_HINTS = Hints()


def read_hints(
    environ: Mapping[str, object], http: Http, ladder: Sequence[int], negotiated: Negotiated = _ALL
) -> Hints:
    """What *environ* (of WSGI) says of what is in *negotiated*, as far as *http* heeds it.

    A width goes up to the next step of *ladder*, a dpr to the next of 1, 1.5, 2 and 3; above the last it is
    the last. Who says nothing, or nothing that can be true, has a dpr of 1 and the middle step. Firefox and
    Safari never say anything: the source's own width would be megabytes for all of them. With the default
    ladder the middle step is 800, what a phone of 400 CSS pixels can show.
    """
    negotiated = negotiated.heeded(http)
    width, dpr = 0, 0.0
    if negotiated.width:
        width = int(_step(environ, "width", ladder, MAX_SIDE) or ladder[len(ladder) // 2])
    if negotiated.dpr:
        dpr = _step(environ, "dpr", _DPRS, _HIGHEST_DPR) or 1.0
    return Hints(width, dpr, negotiated.saving and _is_saving(environ))


def _step(environ: Mapping[str, object], part: str, steps: Sequence[float], highest: float) -> float | None:
    """The step for the first header of *part* that is a number above 0, up to *highest*; None without one.

    A repeated header is no number: servers join its values with a comma.
    """
    for key in _KEYS[part]:
        text = environ.get(key)
        if isinstance(text, str) and _NUMBER.fullmatch(text) and 0 < float(text) <= highest:
            return steps[min(bisect_left(steps, float(text)), len(steps) - 1)]
    return None


def _key(header: str) -> str:
    return f"HTTP_{header.upper().replace('-', '_')}"


_KEYS = {part: [_key(name) for name in names] for part, names in _HEADERS.items()}


def _is_saving(environ: Mapping[str, object]) -> bool:
    """Whether the request says ``Save-Data: on`` (draft of the WICG, §2), perhaps beside other tokens."""
    value = environ.get("HTTP_SAVE_DATA")
    return isinstance(value, str) and "on" in (token.strip().lower() for token in value.split(";"))
