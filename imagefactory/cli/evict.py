"""``imagefactory evict``."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import click

from ..common.units import count_text, size_text
from ..errors import StorageError, TimedOut
from ..upkeep.evict import evict as bring_down
from .common import Failure, as_json, load, open_cache, print_json

__all__ = ["evict"]


@click.command()
@as_json
@click.pass_obj
def evict(file: Path | None, is_json: bool) -> None:
    """Bring the cache within its budget now.

    The budget is [cache] max_bytes, and less where min_free would not be left on the disk. What was used
    least recently goes first. A running server does this by itself; the command is for a cache that no server
    runs on, or for a budget that was just made smaller.

    \b
    Examples:
      imagefactory evict
      IMAGEFACTORY_CACHE__MAX_BYTES="2 GB" imagefactory evict

    \b
    Exit codes:
      0    the cache is within its budget
      1    it is not, or can't be used
      2    wrong usage or config, or a cache of another user
      130  stopped by Ctrl-C
    """
    config = load(file)
    store = open_cache(config)
    try:
        store.index.variants.end_future_uses(time.time())
        evicted = bring_down(store)
        store.index.counts.add({}, {"evicted variants": evicted.variants, "evicted bytes": evicted.bytes}, 0)
        total, capacity = store.index.variants.total_bytes(), store.capacity()
    except (StorageError, TimedOut) as error:
        raise Failure(str(error), 1) from error
    if is_json:
        print_json(asdict(evicted))
    else:
        variants = count_text(evicted.variants, "variant")
        click.echo(f"{variants} of {size_text(evicted.bytes)} evicted; {size_text(total)} left")
    if total > capacity:
        raise Failure(f"the cache has {total} bytes, and may have {capacity}", 1)
