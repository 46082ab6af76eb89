"""What a browser would find in a page."""

from __future__ import annotations

import html
import re


def links_of(page: str) -> list[str]:
    """The addresses that a browser would follow or load."""
    found = [html.unescape(link) for link in re.findall(r'(?:href|src)="([^"]*)"', page)]
    return [link for link in found if link != "data:,"]  # the empty icon
