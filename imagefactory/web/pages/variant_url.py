"""The URL of a variant that is in the cache, for a link in the dashboard."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from ...engine.generator import Generator
from ...model.recipe import parse
from ...model.variant import Source
from ...storage.index import VariantRow

__all__ = ["variant_url"]

_SIGNED_S = 3600  # how long a link lasts that needs a signature


def variant_url(generator: Generator, source: Source | None, row: VariantRow, script_root: str) -> str:
    """The URL that gives the variant of *row*, where a simple one does; else empty."""
    takes_presets_only = generator.config.limits.sizes == "presets"
    if source is None or source.header is None or row.key is None or takes_presets_only:
        return ""
    try:
        recipe = parse(row.key.recipe)
    except ValueError:  # of another version
        return ""
    values = {
        "scalex": recipe.width,
        "scaley": recipe.height,
        "fit": "" if recipe.fit in ("inside", "stretch") else recipe.fit,
        "quality": recipe.quality,
        "encoding": row.key.encoding,
    }
    pairs = [(name, str(value)) for name, value in values.items() if value]
    wanted = generator.rules.wanted(source, generator.rules.operators_request(pairs), "")
    if wanted.key != row.key:
        return ""
    access = generator.access
    if access.signer is not None and access.must_sign(source.path):
        pairs += access.signer.sign(source.path, pairs, int(generator.now_s()) + _SIGNED_S)
    prefix = generator.config.http.prefixes[0]
    return f"{script_root}{prefix}/{quote(source.path, safe='/')}?{urlencode(pairs)}"
