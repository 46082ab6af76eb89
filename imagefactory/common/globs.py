"""Globs of paths: what ``purge --glob`` removes and ``[http] private`` guards."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import BadParameter

__all__ = ["compile_glob"]

_TOKEN = re.compile(
    r"(?P<folders>(?<![^/])\*\*+/)|(?P<all>\*\*+)|(?P<some>\*)|(?P<one>\?)|(?P<set>\[!?\]?[^]/]*\])"
)


def compile_glob(glob: str) -> re.Pattern[str]:
    """The paths that *glob* means: ``*``, ``?`` and ``[a-z]`` stay in a folder; ``**`` crosses, and ``**/``
    is any number of folders, also none.

    What comes before another ``*`` or ``**`` is taken where it ends first, and never elsewhere (an atomic
    group): the star takes all between, so a later end can't match more. Else ``*a*a*a*a*b`` tries all ways
    to choose four of 200 letters: 4 s for one path, now 1 us.
    """
    groups, end = [("", [""])], 0  # what crosses folders, and behind it the parts that ``*`` stands between
    for match in _TOKEN.finditer(glob):
        groups[-1][1][-1] += re.escape(glob[end : match.start()])
        end = match.end()
        match match.lastgroup:
            case "folders":
                groups.append(("(?:[^/]++/)*?", [""]))
            case "all":
                groups.append((".*?", [""]))
            case "some":
                groups[-1][1].append("")
            case kind:
                groups[-1][1][-1] += "[^/]" if kind == "one" else _set(match[0])
    groups[-1][1][-1] += re.escape(glob[end:])
    wholes = [f"{crossing}{_starred(parts)}" for crossing, parts in groups[:-1]]
    crossing, (*parts, last) = groups[-1]
    tail = f"{crossing}{_starred(parts)}[^/]*{last}" if parts else f"{crossing}{last}"
    try:
        return re.compile("".join(f"(?>{whole})" for whole in wholes) + tail, re.DOTALL)
    except re.error as error:
        raise BadParameter("glob", f"{glob[:200]!r} is no glob: {error}") from error


def _starred(parts: Sequence[str]) -> str:
    """*parts* with anything of one folder between two of them."""
    return parts[0] + "".join(f"(?>[^/]*?{part})" for part in parts[1:])


def _set(text: str) -> str:
    is_not, inner = text.startswith("[!"), text[1:-1].removeprefix("!")
    inner = re.sub(r"([\\\[\]^&~|])", r"\\\1", inner)
    return f"(?!/)[{'^' if is_not else ''}{inner}]"
