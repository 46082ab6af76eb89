"""Thumbnails for the dashboard: of a small variant that is there, else rendered and not stored."""

from __future__ import annotations

from dataclasses import replace

from ...common.memo import Memo
from ...factory import Parts
from ...model.formats import EVERYWHERE
from ...model.recipe import Recipe, parse
from ...model.source import Source
from ...storage.variant_rows import VariantRow

__all__ = ["Thumbnails"]

_SIDE = 192  # pixels of the longer side
_MEMO_BYTES = 4_000_000
# Small enough for a list, large enough to be recognised, shown by every browser.
_SMALL = range(96, 401)
_SMALL_BYTES = 60_000


class Thumbnails:
    """The thumbnails of the sources of a site."""

    def __init__(self, parts: Parts) -> None:
        self._disk = parts.disk
        self._resolver = parts.resolver
        self._maker = parts.maker
        self._memo: Memo[str, bytes] = Memo(_MEMO_BYTES)

    def make(self, source: Source) -> tuple[bytes, str]:
        """The bytes of the thumbnail of *source*, and their encoding. It counts as no use, and is not stored
        in the cache. Raises as ``Maker.preview``."""
        data = self._memo.get(source.digest)
        if data is not None:
            return data, "webp"
        rows = self._disk.index.variants.of(source.digest) if self._disk else []
        for row in sorted(rows, key=lambda row: row.bytes):
            if self._disk and row.key and row.variant and self._is_small(row, source):
                body = self._disk.objects.body(row.variant)
                if body is not None:
                    return body.read(), row.key.encoding
        pairs = [("size", f"{_SIDE}x{_SIDE}"), ("encoding", "webp"), ("anim", "0")]
        source, request = self._maker.fitted(source, self._resolver.operators_request(pairs))
        wanted = self._resolver.wanted(source, request, "")
        data = self._maker.preview(source, wanted)
        self._memo.put(source.digest, data, len(data) + 300)
        return data, "webp"

    def _is_small(self, row: VariantRow, source: Source) -> bool:
        """Whether the variant of *row* does as a thumbnail: small, and *source* as it is shown where nothing
        is asked for."""
        key, variant = row.key, row.variant
        if key is None or variant is None or key.encoding not in EVERYWHERE or row.bytes > _SMALL_BYTES:
            return False
        try:
            recipe = parse(key.recipe)
        except ValueError:  # of another version
            return False
        plain = replace(Recipe(), width=recipe.width, height=recipe.height, quality=recipe.quality)
        is_plain = (
            replace(recipe, run=None, encoder="", salt="", fit="inside", enlarge=False) == plain
            and recipe.fit != "pad"
        )
        is_shown = is_plain and self._resolver.is_default(source, recipe.run)
        return is_shown and max(variant.width, variant.height) in _SMALL
