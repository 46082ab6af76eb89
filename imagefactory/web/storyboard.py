"""What a sheet of a film's frames shows, as WebVTT: the answer to ``?sprite=5x5&vtt=1``.

Players show these tiles while a visitor seeks. The text is made of what is known of the source: nothing is
rendered, and no program is run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from urllib.parse import quote

from ..engine.answer import Answer
from ..errors import BadParameter, BeingWritten, SourceChanged
from ..factory import Parts
from ..model.source import Source
from ..storage.body import Body
from ..urls.program_parameters import read_asked
from ..urls.query import Request
from ..urls.writing import by_canonical_name, in_order, query_text

__all__ = ["storyboard"]

_SIZES = ("scalex", "scaley", "size", "resize")
# What is said of the URL itself, or of this text alone.
_LEFT_OUT = ("vtt", "download", "v", "s", "e", "k")


def storyboard(parts: Parts, path: str, pairs: Sequence[tuple[str, str]], asked: Request) -> Answer | None:
    """The text for the sheet that *asked*, the request of *pairs*, names; None where it asks for no text, or
    no program reads the source.

    Raises Undecodable where the film does not say how long it is, BadParameter for what the sheet can't be
    asked, and as ``Generator.source``.
    """
    source = parts.generator.source(path)
    if source.header is None or not parts.resolver.programs.decoder(source.header):
        return None
    # Of what a source does not take, nothing is read.
    if not read_asked(pair for pair in asked.texts if pair[0] in ("sprite", "vtt")).is_text:
        return None
    try:
        source, fitted = parts.fitted(source, asked)
    except SourceChanged:
        raise BeingWritten from None
    wanted = parts.resolver.wanted(source, fitted, "")
    tile = wanted.recipe.size()
    if source.header is None or fitted.recipe.run is None or not all(tile):
        raise BadParameter("trim", "with trim only a render can tell how large a frame is; leave it out")
    columns, rows = map(int, dict(fitted.recipe.run.values)["sprite"].split("x"))
    url = _sheet_url(parts, source, pairs, fitted)
    data = _text(url, source.header.duration_s, (columns, rows), tile).encode()
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    media_type = "text/vtt; charset=utf-8"
    return Answer(source, etag, len(data), media_type, "vtt", version=wanted.version, body=Body(data))


def _sheet_url(parts: Parts, source: Source, pairs: Sequence[tuple[str, str]], fitted: Request) -> str:
    """The URL of the sheet beside that of its text, with its version, signed where that is needed."""
    query = {name: text for name, text in by_canonical_name(pairs).items() if name not in _LEFT_OUT}
    recipe = fitted.recipe
    if fitted.negotiated.width or fitted.negotiated.dpr or fitted.is_saving:
        # A browser that asks for the sheet may say other things of itself than for this text.
        sides = {"scalex": recipe.width, "scaley": recipe.height, "dpr": 1}
        query = {name: text for name, text in query.items() if name not in _SIZES}
        query |= {name: str(side) for name, side in sides.items() if side}
    query = in_order(query) | {"v": parts.resolver.version(source, recipe, fitted.encoding)[0]}
    access, signature = parts.access, []
    if access.signer is not None and access.must_sign(source.path):
        signature = access.signer.sign(source.path, [*query.items()], fitted.grant.expires_s)
    name = quote(source.path.rpartition("/")[2], safe="", errors="replace")
    return f"{name}?{query_text([*query.items(), *signature])}"


def _text(url: str, duration_s: float, sheet: tuple[int, int], tile: tuple[int, int]) -> str:
    """WebVTT with a cue for each tile of the *sheet* of (columns, rows) at *url*: the time that its frame
    stands for, and its place (W3C Media Fragments, ``xywh``); sizes are (width, height) in pixels."""
    columns, rows = sheet
    frames, (width, height) = columns * rows, tile
    # Whole milliseconds: of a film shorter than its frames are many, some have no time of their own.
    starts = [round(1000 * duration_s * number / frames) for number in range(frames + 1)]
    cues = [
        f"{_time(start)} --> {_time(end)}\n"
        f"{url}#xywh={number % columns * width},{number // columns * height},{width},{height}\n"
        for number, (start, end) in enumerate(pairwise(starts))
        if start < end
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _time(milliseconds: int) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{milliseconds:03}"
