"""The URL of a variant that is in the cache, for a link in the dashboard, and the name of its encoding."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from ...errors import RequestError
from ...factory import Site
from ...model.recipe import parse
from ...model.source import Source
from ...model.variant import Key
from ...storage.variant_rows import VariantRow

__all__ = ["encoding_name", "variant_url"]

_SIGNED_S = 3600  # how long a link lasts that needs a signature


def encoding_name(row: VariantRow) -> str:
    """The encoding of the variant of *row*; ``base`` where a program made it for others to be rendered from:
    no URL asks for that."""
    if row.key is None:
        return ""
    try:
        recipe = parse(row.key.recipe)
    except ValueError:  # of another version
        return row.key.encoding
    is_sized = recipe.width or recipe.height or recipe.trim is not None or recipe.fit != "stretch"
    return row.key.encoding if recipe.run is None or is_sized else "base"


def variant_url(site: Site, source: Source | None, row: VariantRow, script_root: str) -> str:
    """The URL that gives the variant of *row*, where a simple one does; else empty."""
    takes_presets_only = site.config.limits.sizes == "presets"
    if source is None or source.header is None or row.key is None or takes_presets_only:
        return ""
    try:
        recipe = parse(row.key.recipe)
    except ValueError:  # of another version
        return ""
    asked = dict(recipe.run.values) if recipe.run else {}
    values = {
        "t": asked.get("time"),
        "page": asked.get("page"),
        "dpi": asked.get("dpi"),
        "sprite": asked.get("sprite"),
        "scalex": recipe.width,
        "scaley": recipe.height,
        "fit": "" if recipe.fit in ("inside", "stretch") else recipe.fit,
        "quality": recipe.quality,
        "encoding": row.key.encoding,
    }
    pairs = [(name, str(value)) for name, value in values.items() if value]
    if not _is_key(site, source, pairs, row.key):
        pairs = [("exact", "1"), *pairs]
        if recipe.run is None or not _is_key(site, source, pairs, row.key):
            return ""
    access = site.access
    if access.signer is not None and access.must_sign(source.path):
        pairs += access.signer.sign(source.path, pairs, int(site.clock()) + _SIGNED_S)
    prefix = site.config.http.prefixes[0]
    return f"{script_root}{prefix}/{quote(source.path, safe='/')}?{urlencode(pairs)}"


def _is_key(site: Site, source: Source, pairs: list[tuple[str, str]], key: Key) -> bool:
    """Whether the URL with *pairs* gives the variant with *key*."""
    try:
        request = site.resolver.fitted(source, site.resolver.operators_request(pairs))
        return site.resolver.wanted(source, request, "").key == key
    except RequestError:  # it was made when another program was there
        return False
