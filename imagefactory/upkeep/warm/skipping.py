"""Orders of which all is there already: many at a time, by one stat each and their rows in the index.

No source and no object is opened. A picture whose row is damaged, old or missing is left to the workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from ...errors import RequestError
from ...model.source import Stamp
from ...storage.index import DiskIndex
from ...storage.protocols import Stamps
from .cache_space import CacheSpace
from .orders import Order, is_picture
from .plans import Plans
from .progress import Progress

__all__ = ["skip_complete"]


def skip_complete(
    orders: Sequence[Order],
    sources: Stamps,
    index: DiskIndex,
    plans: Plans,
    space: CacheSpace,
    progress: Progress,
) -> list[Order]:
    """The orders of which something is missing or not known; what is there of the others is counted."""
    stamps: dict[str, Stamp] = {}
    for order in orders:
        with suppress(RequestError):
            stamps[order.path] = sources.stamp(order.path)
    known = {path: (digest, header, names) for path, digest, header, names in index.sources.unchanged(stamps)}
    others = index.sources.known([path for path in stamps if path not in known and not is_picture(path)])
    changed = {path for path, source in others.items() if source.header is not None}
    pictures = present = 0
    left = []
    for order in orders:
        if order.path in known:
            digest, header, names = known[order.path]
            plan = plans.get(header, order.wishes)
            if not plan.refused and plan.needed.issubset(names):
                space.protect(digest, plan.names)
                pictures += not order.is_more
                present += plan.total
                continue
        # A text in the folder is no failure, but what was a picture once is expected to be one.
        is_meant = is_picture(order.path) or plans.reads(order.path)
        if order.is_named or order.path in known or order.path in changed or is_meant:
            left.append(order)
    progress.add(pictures=pictures, present=present)
    return left
