"""``imagefactory verify`` and ``imagefactory rebuild``."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import click

from ..common.cores import cores
from ..common.units import count_text, size_text
from ..errors import StorageError, TimedOut
from ..storage.disk import DiskStore
from ..upkeep.rebuild import rebuild as begin_anew
from ..upkeep.verify import Verified
from ..upkeep.verify import verify as look_at_all
from .common import Failure, as_json, check_owner, disk_store, load, open_cache, print_json
from .progress import progress

__all__ = ["rebuild", "verify"]

_SHOWN = 20
_TEXTS = {
    "missing": "has a row and no object",
    "damaged": "is cut, emptied, altered or unreadable",
    "row": "is a row that can't be believed",
    "orphan": "has no row",
    "stranger": "is no object of this cache",
}


@click.command()
@click.option("--repair", "may_repair", is_flag=True, help="Make it right; without it nothing is changed.")
@as_json
@click.pass_obj
def verify(file: Path | None, may_repair: bool, is_json: bool) -> None:
    """Compare the index with the objects, and hash every object.

    It may run beside servers, and be stopped at any moment. An object that was cut, emptied or altered is
    damaged, and one that the index knows but that is not there is missing: neither is ever sent, servers
    render it again when somebody asks. Objects without a row are orphans: wasted bytes, and no problem.

    --repair removes what is damaged and the rows of what is missing; orphans get a row, or are removed if
    they are altered. It never removes files that are not of this cache. A damaged index is made anew.

    \b
    Examples:
      imagefactory verify
      imagefactory verify --repair
      imagefactory verify --json | jq '.missing + .damaged'

    \b
    Exit codes:
      0    no problems, or all of them are repaired
      1    there are problems, or the cache can't be used
      2    wrong usage or config, or a cache of another user
      130  stopped by Ctrl-C
    """
    config = load(file)
    if may_repair:
        store = open_cache(config)
    else:
        store = disk_store(config)
        check_owner(config)
    began = time.monotonic()
    try:
        total = _count(store)
        with progress(total, "objects", "verify") as bar:
            found = look_at_all(store, cores(), may_repair=may_repair, on_progress=bar.update)
    except (StorageError, TimedOut) as error:
        raise Failure(str(error), 1) from error
    except KeyboardInterrupt:
        raise Failure("stopped before the end", 130) from None
    if is_json:
        print_json({**asdict(found), "seconds": round(time.monotonic() - began, 3)})
    else:
        _print(found)
    if found.left:
        raise Failure(f"{count_text(found.left, 'problem')}; imagefactory verify --repair makes it right", 1)


def _count(store: DiskStore) -> int | None:
    """How many objects there are to be hashed, as the directory tells."""
    return sum(map(len, store.objects.by_folder()))


def _print(found: Verified) -> None:
    for problem in found.problems[:_SHOWN]:
        text = _TEXTS.get(problem.kind)
        line = f"{problem.name} {text}" if text else f"the index: {problem.name}"
        click.echo(f"{line}{'; repaired' if problem.is_repaired else ''}")
    count = found.missing + found.damaged + found.rows + found.others + found.orphans
    if count > _SHOWN:
        click.echo(f"and {count - min(_SHOWN, len(found.problems))} more")
    click.echo(
        f"{count_text(found.checked, 'object')} of {size_text(found.bytes)} checked: "
        f"{found.missing} missing, {found.damaged} damaged, "
        f"{found.rows + found.others} damaged in the index, "
        f"{count_text(found.orphans, 'orphan')}; {found.repaired} repaired"
    )


@click.command()
@as_json
@click.pass_obj
def rebuild(file: Path | None, is_json: bool) -> None:
    """Make the index anew from the objects.

    Servers go on answering and follow the new index at once: until it is whole they look for an object before
    they render. They do the same by themselves when the index is lost or damaged; the command is quicker, and
    for a cache that no server runs on. Objects that are cut or altered are removed on the way.

    Lost is when each variant was used last (the dates of the files stand in), and the counts of hits and
    misses; the old index is kept in tmp/damaged-index of the cache until the next time.

    It may be stopped at any moment: a server, or running it again, goes on.

    \b
    Examples:
      imagefactory rebuild
      imagefactory rebuild --json

    \b
    Exit codes:
      0    done
      1    the cache can't be used, or another process began the index anew meanwhile
      2    wrong usage or config, or a cache of another user
      130  stopped by Ctrl-C
    """
    store = open_cache(load(file))
    began = time.monotonic()
    try:
        total = _count(store)
        with progress(total, "objects", "rebuild") as bar:
            filled = begin_anew(store, cores(), bar.update)
    except (StorageError, TimedOut) as error:
        raise Failure(str(error), 1) from error
    except KeyboardInterrupt:
        raise Failure("stopped before the end; a server goes on, or run it again", 130) from None
    seconds = round(time.monotonic() - began, 3)
    if is_json:
        print_json({**asdict(filled), "seconds": seconds})
    else:
        removed = (
            f"; {count_text(filled.removed, 'altered or superseded object')} removed"
            if filled.removed
            else ""
        )
        click.echo(
            f"{count_text(filled.variants, 'variant')} of {size_text(filled.bytes)} in {seconds} s{removed}"
        )
    if not filled.is_whole:
        raise Failure("the index was begun anew by somebody else meanwhile; servers go on with it", 1)
