"""``imagefactory evict``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ..errors import StorageError, TimedOut
from ..upkeep.evict import evict as bring_down
from .common import Failure, as_json, load, open_cache, print_json

__all__ = ["evict"]


@click.command()
@as_json
@click.pass_obj
def evict(file: Path | None, is_json: bool) -> None:
    """Bring the cache within its budget now: [cache] max_bytes, and min_free on the disk.

    What was used least recently goes first. A running server does this by itself; the command is for a cache
    that no server runs on, or for a budget that was just made smaller.
    """
    config = load(file)
    store = open_cache(config)
    try:
        evicted = bring_down(store)
        store.add_up({}, {"evicted variants": evicted.variants, "evicted bytes": evicted.bytes}, 0)
        total, capacity = store.index.total_bytes(), store.capacity()
    except (StorageError, TimedOut) as error:
        raise Failure(str(error), 1) from error
    if is_json:
        print_json(asdict(evicted))
    else:
        click.echo(f"{evicted.variants} variants of {evicted.bytes} bytes evicted; {total} bytes are left")
    if total > capacity:
        raise Failure(f"the cache has {total} bytes, and may have {capacity}", 1)
