"""Charts for the docs: horizontal bars as small SVG, on a light ground of their own, so that they read the
same on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["bars"]

_WIDTH, _LABEL, _BAR, _GAP, _HEAD = 720, 250, 18, 8, 44
_GROUND, _TEXT, _OURS, _OTHER = "#f6f5f1", "#2b2a27", "#1f6f8b", "#b9b4a7"


def bars(title: str, rows: Sequence[tuple[str, float]], unit: str) -> str:
    """An SVG with one bar for each (label, value) of *rows*; those of imagefactory in a colour."""
    longest = max((value for _, value in rows), default=0.0) or 1.0
    room = _WIDTH - _LABEL - 110
    height = _HEAD + len(rows) * (_BAR + _GAP) + 12
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{_TEXT}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="{_GROUND}"/>',
        f'<text x="16" y="27" font-weight="600">{escape(title)}</text>',
    ]
    for number, (label, value) in enumerate(rows):
        top = _HEAD + number * (_BAR + _GAP)
        length = max(1.0, room * value / longest)
        colour = _OURS if label.startswith("imagefactory") else _OTHER
        lines += [
            f'<text x="{_LABEL - 8}" y="{top + 13}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{_LABEL}" y="{top}" width="{length:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>',
            f'<text x="{_LABEL + length + 6:.1f}" y="{top + 13}">{_number(value)} {escape(unit)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
