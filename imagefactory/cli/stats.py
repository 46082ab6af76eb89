"""``imagefactory stats``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from ..common.units import count_text, ratio_text, size_text
from ..errors import StorageError
from ..upkeep.stats import Notable, Stats, Sum, take_stats
from .common import Failure, as_json, check_owner, disk_store, load, print_json

__all__ = ["stats"]


@click.command()
@as_json
@click.pass_obj
def stats(file: Path | None, is_json: bool) -> None:
    """Say what is in the cache, and what it was good for.

    Pictures and variants, bytes by encoding and by size, the hit ratio, what visitors did not have to load,
    and which variants are the largest and the most used. It reads and changes nothing, and may run beside
    servers; their counts are at most a second old.

    A hit is a variant that was handed out without a render, a miss one that was rendered for its visitor;
    originals and errors count in neither. Sizes are SI: 1 kB is 1000 bytes.

    \b
    Examples:
      imagefactory stats
      imagefactory stats --json | jq .hit_ratio

    \b
    Exit codes:
      0    done
      1    the cache can't be read
      2    wrong usage or config, or a cache of another user
      130  stopped by Ctrl-C
    """
    config = load(file)
    store = disk_store(config, "; ask its /metrics")
    check_owner(config)
    if not config.paths.cache.is_dir():
        click.echo(f"paths.cache: there is no folder {config.paths.cache} yet", err=True)
    store.index.database.may_replace = False  # a damaged index is for verify, rebuild and servers
    try:
        found = take_stats(store)
    except (StorageError, OSError) as error:
        raise Failure(str(error), 1) from error
    if is_json:
        print_json(asdict(found))
    else:
        click.echo("\n".join(_lines(found)))


def _lines(found: Stats) -> Iterable[str]:
    part = found.bytes / found.max_bytes if found.max_bytes else None
    yield from _table(
        [
            ("pictures", f"{found.pictures}"),
            ("variants", f"{found.variants}"),
            ("objects", f"{found.objects}"),
            ("bytes", f"{size_text(found.bytes)} of {size_text(found.max_bytes)} ({ratio_text(part)})"),
            ("free on the disk", size_text(found.free)),
            ("their originals", size_text(found.source_bytes)),
            ("hits", f"{found.hits}"),
            ("misses", f"{found.misses}"),
            ("hit ratio", ratio_text(found.hit_ratio)),
            ("originals sent", f"{found.originals}"),
            ("errors", f"{found.errors}"),
            ("bytes sent", size_text(found.sent)),
            ("saved visitors", f"{size_text(found.saved)} against the originals"),
            ("evicted", f"{count_text(found.evicted.variants, 'variant')}, {size_text(found.evicted.bytes)}"),
        ]
    )
    if found.variants:
        yield from _sums("encoding", found.by_encoding)
        sizes = {size if size == "larger" else f"to {size} px": each for size, each in found.by_size.items()}
        yield from _sums("longer side", sizes)
        yield from _notables("largest", found.largest)
    if found.most_used:
        yield from _notables("most used", found.most_used)


def _sums(title: str, sums: Mapping[str, Sum]) -> Iterable[str]:
    rows = [(title, "variants", "bytes")]
    rows += [(name, f"{each.variants}", size_text(each.bytes)) for name, each in sums.items()]
    yield ""
    yield from _table(rows, "<>>")


def _notables(title: str, notables: Sequence[Notable]) -> Iterable[str]:
    rows = [(title, "uses", "bytes", "")]
    for each in notables:
        path = each.path or f"sha256:{each.digest[:12]}…"
        rows.append((path, f"{each.uses}", size_text(each.bytes), f"{each.recipe} {each.encoding}"))
    yield ""
    yield from _table(rows, "<>><")


def _table(rows: Sequence[tuple[str, ...]], sides: str = "<<") -> Iterable[str]:
    """Lines with the columns of *rows* below each other, on the left or the right as *sides* says."""
    rows = [tuple(_printable(text) for text in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{text:{side}{width}}" for text, side, width in zip(row, sides, widths, strict=True)]
        yield "  ".join(cells).rstrip()


def _printable(text: str) -> str:
    """*text* without what would take over a terminal: names of files may have anything."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
