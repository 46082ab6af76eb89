"""``imagefactory catalog``: bring it to the folder, list it, find duplicates, compare it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from ..catalog.pictures import Picture
from ..common.units import count_text, size_text
from ..factory import Parts, Taking, assemble
from ..upkeep.syncing import compare
from .catalogs import catalog_errors, need_catalog, taking_of
from .common import Failure, as_json, check_owner, load
from .progress import progress
from .stats import _printable, _table

__all__ = ["catalog"]

_SHOWN = 20
_TEXTS = {
    "missing": "has no row",
    "gone": "has a row and no file",
    "changed": "is not the file that its row knows",
    "altered": "has other bytes under the same date",
    "unreadable": "can't be read",
}


@click.group()
def catalog() -> None:
    """The database with a row for each picture.

    The folder is the truth: after pictures were copied, moved or deleted by hand, sync brings the catalog to
    it. The catalog is on with uploads, or where [catalog] has a url.

    \b
    Examples:
      imagefactory catalog sync
      imagefactory catalog duplicates
      imagefactory catalog list --q "cats 2026"
      imagefactory catalog check --hash

    \b
    Exit codes:
      0    done
      1    finished with failures or differences, or the catalog can't be used
      2    wrong usage or config, or a cache of another user
      130  stopped by Ctrl-C
    """


@catalog.command()
@click.option("--empty", "may_empty", is_flag=True, help="Remove all rows, if the folder has no file at all.")
@as_json
@click.pass_obj
def sync(file: Path | None, may_empty: bool, is_json: bool) -> None:
    """Bring the catalog to what lies in the folder.

    New and changed pictures are hashed and get their row, rows whose file is gone are removed; a file that is
    as its row knows it is not read. It may run beside servers, and be stopped at any moment: the next one
    does the rest. A file that is no picture gets no row; a broken one is named.

    \b
    Examples:
      imagefactory catalog sync
      imagefactory catalog sync --json | jq .failed

    \b
    Exit codes:
      0    the catalog is as the folder
      1    there are files that could not be brought in, or the catalog can't be used
      2    wrong usage or config, or a cache of another user
      130  stopped by Ctrl-C
    """
    with _open(file) as opened, progress(None, "files", "sync") as bar:
        done = opened.taking.sync.sync(bar.update, may_empty=may_empty)
    if is_json:
        _print_json(asdict(done))
    else:
        for each in done.failed[:_SHOWN]:
            click.echo(_printable(f"{each.path}: {each.detail}"))
        _say_more(done.failures, min(_SHOWN, len(done.failed)))
        click.echo(
            f"{done.added} added, {done.changed} changed, {done.removed} removed, "
            f"{done.unchanged} unchanged, {done.failures} failed in {done.seconds} s"
        )
    if done.failures:
        raise Failure(f"{count_text(done.failures, 'file')} could not be brought in", 1)


@catalog.command()
@as_json
@click.pass_obj
def duplicates(file: Path | None, is_json: bool) -> None:
    """Name the pictures that have the same bytes.

    It reads the catalog alone: sync before. Nothing is removed.

    \b
    Examples:
      imagefactory catalog duplicates
      imagefactory catalog duplicates --json | jq -r '.duplicates[].paths[1:][]'

    \b
    Exit codes:
      0    done, whether there are any or not
      1    the catalog can't be used
      2    wrong usage or config, or a cache of another user
      130  stopped by Ctrl-C
    """
    with _open(file) as opened:
        if is_json:
            found = [
                {"sha256": digest, "paths": paths} for digest, paths in opened.taking.pictures.duplicates()
            ]
            _print_json({"duplicates": found})
            return
        count = 0
        for digest, paths in opened.taking.pictures.duplicates():
            count += len(paths) - 1
            click.echo(digest)
            for path in paths:
                click.echo(f"  {_printable(path)}")
        click.echo(count_text(count, "duplicate"))


@catalog.command("list")
@click.option(
    "--q", default="", metavar="WORDS", help="Those whose path has all of these words, in any case."
)
@click.option("--state", default="", metavar="STATE", help="Those in this state, such as ready.")
@click.option("--sha256", "digest", default="", metavar="DIGEST", help="Those with these bytes.")
@click.option("--after", default="", metavar="PATH", help="Begin behind this path: what next said before.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="So many at most.")
@as_json
@click.pass_obj
def list_(file: Path | None, q: str, state: str, digest: str, after: str, limit: int, is_json: bool) -> None:
    """List pictures of the catalog in the order of their paths.

    --sha256 takes the digest of the file, or of what was uploaded where that was changed on the way in.

    \b
    Examples:
      imagefactory catalog list --limit 20
      imagefactory catalog list --q "cats jpg" --json | jq -r '.pictures[].path'
      imagefactory catalog list --sha256 "$(sha256sum < tom.jpg | cut -d' ' -f1)"

    \b
    Exit codes:
      0    done
      1    the catalog can't be used
      2    wrong usage or config, or a cache of another user
      130  stopped by Ctrl-C
    """
    found: list[Picture] = []
    with _open(file) as opened:
        while True:
            page, after = opened.taking.pictures.page(after, limit - len(found), q, state, digest.lower())
            found += page
            if len(found) >= limit or not after:
                break
    if is_json:
        _print_json({"pictures": [_shown(each) for each in found], "next": after})
    elif found:
        rows = [
            (each.path, f"{each.width}x{each.height}", each.format, size_text(each.bytes), each.state)
            for each in found
        ]
        click.echo("\n".join(_table(rows, "<><><")))
        if after:
            click.echo(f"there are more: --after {json.dumps(after)}", err=True)


@catalog.command()
@click.option("--hash", "may_hash", is_flag=True, help="Hash every file that has a row.")
@as_json
@click.pass_obj
def check(file: Path | None, may_hash: bool, is_json: bool) -> None:
    """Compare the catalog with the folder, and change nothing.

    Without --hash no file is read but the first bytes of those that have no row. What differs is mended by
    sync, but for bytes that are altered under the same date: that is a failing disk.

    \b
    Examples:
      imagefactory catalog check
      imagefactory catalog check --hash --json | jq .altered

    \b
    Exit codes:
      0    the catalog is as the folder
      1    they differ, or the catalog can't be used
      2    wrong usage or config, or a cache of another user
      130  stopped by Ctrl-C
    """
    with _open(file) as opened, progress(opened.taking.pictures.count(), "rows", "check") as bar:
        parts = opened.parts
        found = compare(
            parts.sources,
            parts.store.index.sources,
            parts.resolver.programs,
            opened.taking.pictures,
            may_hash=may_hash,
            on_progress=bar.update,
        )
    if is_json:
        _print_json(asdict(found))
    else:
        for each in found.differences[:_SHOWN]:
            click.echo(_printable(f"{each.path} {_TEXTS[each.kind]}"))
        _say_more(found.count, min(_SHOWN, len(found.differences)))
        click.echo(
            f"{count_text(found.rows, 'row')}: {found.missing} missing, {found.gone} gone, "
            f"{found.changed} changed, {found.altered} altered, {found.unreadable} unreadable"
        )
    if found.count:
        hint = "; imagefactory catalog sync makes it right" if found.count > found.altered else ""
        raise Failure(f"{count_text(found.count, 'difference')}{hint}", 1)


@dataclass(frozen=True, slots=True)
class _Opened:
    """What the commands work with."""

    parts: Parts
    taking: Taking


@contextmanager
def _open(file: Path | None) -> Iterator[_Opened]:
    """The catalog of the config. Raises Failure where there is none, and for what fails in the block."""
    config = load(file)
    need_catalog(config)
    check_owner(config)
    try:
        with catalog_errors():
            parts = assemble(config)
            taking = taking_of(parts)
            taking.database.open()
            yield _Opened(parts, taking)
            taking.database.close()
    except KeyboardInterrupt:
        raise Failure("stopped before the end; the next one does the rest", 130) from None


def _shown(picture: Picture) -> Mapping[str, object]:
    """*picture* as JSON has it, with the keys that an upload is answered with."""
    return {
        "path": picture.path,
        "sha256": picture.received,
        "stored_sha256": picture.digest,
        "stored_bytes": picture.bytes,
        "width": picture.width,
        "height": picture.height,
        "format": picture.format,
        "state": picture.state,
        "added_s": picture.added_s,
    }


def _say_more(count: int, shown: int) -> None:
    if count > shown:
        click.echo(f"and {count - shown} more")


def _print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object, all ASCII: names of files may have what takes over a terminal."""
    click.echo(json.dumps(values, indent=2))
