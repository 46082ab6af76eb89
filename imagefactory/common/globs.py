"""Globs of paths: what ``purge --glob`` removes and ``[http] private`` guards."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from ..errors import BadParameter

__all__ = ["Guard", "compile_glob"]

_TOKEN = re.compile(
    r"(?P<folders>(?<![^/])\*\*+/)|(?P<all>\*\*+)|(?P<some>\*)|(?P<one>\?)|(?P<set>\[!?\]?[^]/]*\])"
)


class Guard:
    """The paths that *globs* mean in any spelling: as they are, whatever their case, composed or not.

    There are file systems to which MEMBERS/ and members/ are one folder, and others to which the two forms of
    é are one letter. No spelling replaces another: ``?`` is ß and not its folded form ss, and ``[!a-z]`` is Z
    and not z. So a path is guarded where one of its spellings fits one of a glob's. That is too much rather
    than too little: right for what hides, wrong for what removes. Raises BadParameter for what is no glob.
    """

    def __init__(self, globs: Sequence[str]) -> None:
        self._patterns = [compile_glob(glob, is_any_case=True) for glob in globs]
        for glob in globs:
            for spelling in _spellings(glob, "NFC")[1:]:
                with suppress(BadParameter):  # [Z-a] is a range, [z-a] is none
                    self._patterns.append(compile_glob(spelling, is_any_case=True))

    def guards(self, path: str) -> bool:
        """Whether a glob means *path*."""
        spellings = _spellings(path, "NFC", "NFD") if self._patterns else []
        return any(pattern.fullmatch(each) for each in spellings for pattern in self._patterns)


def _spellings(text: str, *forms: Literal["NFC", "NFD"]) -> list[str]:
    """*text*, its folded case, and the normal *forms* of both."""
    cases = [text, text.casefold()]
    return list(
        dict.fromkeys(cases + [unicodedata.normalize(form, each) for each in cases for form in forms])
    )


def compile_glob(glob: str, *, is_any_case: bool = False) -> re.Pattern[str]:
    """The paths that *glob* means: ``*``, ``?`` and ``[a-z]`` stay in a folder; ``**`` crosses, and ``**/``
    is any number of folders, also none. *is_any_case*: also those that differ in case, and not instead.

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
                groups[-1][1][-1] += "[^/]" if kind == "one" else _set(match[0], is_any_case)
    groups[-1][1][-1] += re.escape(glob[end:])
    wholes = [f"{crossing}{_starred(parts)}" for crossing, parts in groups[:-1]]
    crossing, (*parts, last) = groups[-1]
    tail = f"{crossing}{_starred(parts)}[^/]*{last}" if parts else f"{crossing}{last}"
    flags = re.DOTALL | re.IGNORECASE if is_any_case else re.DOTALL
    try:
        return re.compile("".join(f"(?>{whole})" for whole in wholes) + tail, flags)
    except re.error as error:
        raise BadParameter("glob", f"{glob[:200]!r} is no glob: {error}") from error


def _starred(parts: Sequence[str]) -> str:
    """*parts* with anything of one folder between two of them."""
    return parts[0] + "".join(f"(?>[^/]*?{part})" for part in parts[1:])


def _set(text: str, is_any_case: bool) -> str:
    is_not, inner = text.startswith("[!"), text[1:-1].removeprefix("!")
    inner = re.sub(r"([\\\[\]^&~|]|(?<=.-)-)", r"\\\1", inner)
    found = f"[{'^' if is_not else ''}{inner}]"
    # Where case is ignored, Z is not in [^a-z].
    return f"(?!/)(?:{found}|(?-i:{found}))" if is_any_case else f"(?!/){found}"
