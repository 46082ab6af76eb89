"""What a URL means here, or why it is refused: the answer to ``?explain=1`` where ``[http] explain`` is on.

It takes the same steps as a picture's answer, and stops before anything is rendered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from urllib.parse import quote

from ..errors import RequestError, TooLarge
from ..factory import Parts
from ..urls.client_hints import NOTHING_NEGOTIATED, read_hints
from ..urls.parameters import NAMES, OURS
from ..urls.writing import by_canonical_name, in_order, picture_url

__all__ = ["NAME", "explain"]

NAME = "explain"


def explain(
    parts: Parts, path: str, pairs: Sequence[tuple[str, str]], environ: Mapping[str, object]
) -> dict[str, object]:
    """What the picture at *path* with *pairs* would be for a browser that sends the headers in *environ*.

    ``status`` is that of the answer, ``error`` and ``detail`` say why there is no picture; what was found out
    until then is there as well. ``url`` is the canonical one, without a signature. ``cache`` is ``hit``,
    ``miss``, or ``original``. ``hints`` is there where the URL leaves more than the encoding to the browser:
    its headers, and the steps that became of them. Sizes in pixels are null where only a render can tell.
    *pairs* are without ``explain`` itself: it is no part of what was signed.
    """
    found: dict[str, object] = {
        "path": path,
        "parameters": by_canonical_name(pairs),
        "ignored": sorted(name for name, _ in pairs if name not in NAMES),
    }
    try:
        _explain(parts, path, pairs, environ, found)
        return {"status": 200, **found}
    except RequestError as error:
        return {"status": error.status, "error": error.code, "detail": str(error), **found}


def _explain(
    parts: Parts,
    path: str,
    pairs: Sequence[tuple[str, str]],
    environ: Mapping[str, object],
    found: dict[str, object],
) -> None:
    """Put what is found out into *found*. Raises what ends the way to a picture."""
    now_s = parts.clock()
    grant = parts.access.check(path, pairs, now_s)
    found["expires"], found["private"] = grant.expires_s, grant.is_private
    http, ladder = parts.config.http, parts.config.limits.ladder
    request = parts.resolver.request(pairs, read_hints(environ, http, ladder))
    negotiated = replace(request.negotiated.heeded(http), encoding=False)
    if negotiated != NOTHING_NEGOTIATED:
        found["hints"] = {
            "headers": negotiated.said(environ),
            **asdict(read_hints(environ, http, ladder, negotiated)),
        }
    source, request = parts.fitted(parts.identifier.source(path), request)
    if source.header is not None:
        header = source.header
        found["source"] = {
            "width": header.width,
            "height": header.height,
            "format": header.format,
            "frames": header.frames,
            "bytes": source.stamp.size,
            "sha256": source.digest,
        }
        if header.programs:
            found["programs"] = header.programs.split()
    if request.is_plain:
        answer = parts.generator.answer(path, request)
        found |= {"cache": "original", "type": answer.media_type, "bytes": answer.bytes}
        return
    wanted = parts.resolver.wanted(
        source, replace(request, version=request.version or "?"), str(environ.get("HTTP_ACCEPT", ""))
    )
    width, height = wanted.recipe.size()
    found |= {
        "recipe": wanted.key.recipe,
        "encoding": wanted.key.encoding,
        "width": width or None,
        "height": height or None,
        "v": wanted.version,
        "immutable": request.version == wanted.version and grant.expires_s is None,
    }
    query = in_order({name: text for name, text in by_canonical_name(pairs).items() if name not in OURS})
    start = quote(str(environ.get("SCRIPT_NAME", "")), encoding="latin-1") + http.prefixes[0]
    found["url"] = picture_url(start, path, [*query.items(), ("v", wanted.version)])
    limit = parts.config.limits.max_pixels
    if source.header is not None and source.header.width * source.header.height > limit:
        raise TooLarge("pixels", source.header.width * source.header.height, limit)
    parts.maker.recall_failure(wanted)
    hit = parts.finder.find(source, wanted)
    found |= {"cache": "miss"} if hit is None else {"cache": "hit", "bytes": hit.bytes}
