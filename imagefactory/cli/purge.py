"""``imagefactory purge``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..common.units import count_text, parse_seconds, size_text
from ..config import Config
from ..errors import BadParameter, StorageError, TimedOut, Unavailable
from ..factory import open_purger, open_sources
from ..storage.disk import DiskStore
from ..upkeep.purge.purger import Outcome
from ..upkeep.purge.selection import NotOneKind, Selection, check
from .common import Failure, as_json, load, open_cache, print_json
from .paths import picture_path
from .progress import progress

__all__ = ["purge"]

_SHOWN = 20
_OPTIONS = {
    "paths": "PATH",
    "digests": "sha256:HEX",
    "prefix": "--prefix",
    "glob": "--glob",
    "older_than_s": "--older-than",
    "is_stale": "--stale",
    "is_all": "--all",
}  # by their names in Selection


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH | sha256:HEX]...")
@click.option("--prefix", metavar="FOLDER", help="All pictures in this folder and below.")
@click.option("--glob", metavar="PATTERN", help="Pictures by a pattern, in quotes; ** crosses folders.")
@click.option("--older-than", metavar="TIME", help="What was not used for so long: 30d, 12h, 90m, 2w.")
@click.option("--stale", "is_stale", is_flag=True, help="What no picture needs: its source changed or went.")
@click.option("--all", "is_all", is_flag=True, help="Everything.")
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only say what would go.")
@click.option("--yes", "is_sure", is_flag=True, help="Don't ask before --all.")
@as_json
@click.pass_obj
def purge(
    file: Path | None,
    paths: tuple[str, ...],
    prefix: str | None,
    glob: str | None,
    older_than: str | None,
    is_stale: bool,
    is_all: bool,
    is_dry_run: bool,
    is_sure: bool,
    is_json: bool,
) -> None:
    """Remove variants, while servers run.

    Servers see it with their next request. Pictures themselves are never touched; what is asked for again is
    rendered again. Name one kind of what shall go.

    \b
    Examples:
      imagefactory purge cats/tom.jpg flag.png      these pictures; they may be gone from the disk
      imagefactory purge http://host/picture/cats/tom.jpg
      imagefactory purge sha256:0123456789ab        a content, by 12 or more digits of its sha256
      imagefactory purge --prefix cats              the folder cats/ and those below, never catsuits/
      imagefactory purge --glob 'cats/*.jpg'        * stays in a folder, ** crosses: '**/*.png'
      imagefactory purge --older-than 30d           not used for thirty days
      imagefactory purge --stale                    of pictures that were removed or replaced
      imagefactory purge --all --yes

    A picture's path means what it holds now and what it held when it was last asked for; a copy under
    another path has the same variants, and is rendered again as well. --prefix, --glob and --stale look
    at the pictures and hash those that changed.

    [admin] purge_url and purge_command in the config tell a CDN.

    \b
    Exit codes:
      0    done, also where there was nothing to remove
      1    the CDN could not be told, a picture or the cache could not be read, or you said no
      2    wrong usage or config, or a cache of another user
      130  stopped by Ctrl-C
    """
    config = load(file)
    selection = _selection(config, paths, prefix, glob, older_than, is_stale, is_all)
    if is_all and not is_sure and not is_dry_run and not sys.stdin.isatty():
        raise Failure("--all removes everything: say --yes, or --dry-run to see what would go", 2)
    store = open_cache(config)
    purger = open_purger(config, store, open_sources(config))
    try:
        if is_all and not is_sure and not is_dry_run:
            _ask(store)
        with progress(None, "pictures", "looked at") as bar:
            purged = purger.remove(selection, is_dry_run=is_dry_run, report=bar.update)
    except BadParameter as error:
        raise Failure(str(error), 2) from error
    except (StorageError, TimedOut, Unavailable) as error:
        raise Failure(str(error), 1) from error
    except KeyboardInterrupt:
        raise Failure("stopped; what was begun is finished by the next command or server", 130) from None
    _show(purger.tell(selection, purged, is_dry_run=is_dry_run), is_json)


def _selection(
    config: Config,
    paths: tuple[str, ...],
    prefix: str | None,
    glob: str | None,
    older_than: str | None,
    is_stale: bool,
    is_all: bool,
) -> Selection:
    """What the arguments select. Raises Failure."""
    for name, value in (("--prefix", prefix), ("--glob", glob)):
        if value is not None and not (picture_path(value, config) if name == "--prefix" else value):
            raise Failure(f"{name} is empty; --all means everything", 2)
    digests = [path.removeprefix("sha256:").lower() for path in paths if path.startswith("sha256:")]
    named = [picture_path(path, config) for path in paths if not path.startswith("sha256:")]
    try:
        older_than_s = None if older_than is None else parse_seconds(older_than)
    except ValueError as error:
        raise Failure(f"--older-than: {error}", 2) from error
    selection = Selection(
        paths=tuple(named),
        digests=tuple(digests),
        prefix=picture_path(prefix, config) if prefix else "",
        glob=glob or "",
        older_than_s=older_than_s,
        is_stale=is_stale,
        is_all=is_all,
    )
    try:
        check(selection)
    except NotOneKind as error:
        found = " and ".join(_OPTIONS[name] for name in error.given)
        what = f"{found} are different things" if found else "it is not said what shall go"
        raise Failure(f"{what}; write one of {', '.join(_OPTIONS.values())}", 2) from error
    except BadParameter as error:
        raise Failure(str(error), 2) from error
    return selection


def _ask(store: DiskStore) -> None:
    """Have the person at the terminal confirm. Raises Failure."""
    variants, bytes_ = store.index.variants.count(), store.index.variants.total_bytes()
    try:
        is_sure = click.confirm(
            f"Remove all {count_text(variants, 'variant')} ({size_text(bytes_)})?", err=True
        )
    except click.Abort as error:
        click.echo(err=True)
        if isinstance(error.__context__, KeyboardInterrupt):
            raise Failure("stopped; nothing was removed", 130) from None
        is_sure = False
    if not is_sure:
        raise Failure("nothing was removed", 1)


def _show(done: Outcome, is_json: bool) -> None:
    """Print what came of it. Raises Failure where something is left to be done."""
    purged, told = done.purged, done.told
    if is_json:
        print_json(done.as_json())
    else:
        what = "would go" if done.is_dry_run else "gone"
        click.echo(
            f"{count_text(purged.variants, 'variant')} of {count_text(purged.pictures, 'picture')}, "
            f"{size_text(purged.bytes)}, {what}"
        )
    problems = [f"{path!r} can't be read: only what was known of it went" for path in purged.unread]
    if told is not None and not told.ok:
        problems.append(f"{told.detail}; the variants are gone here all the same")
    if problems:
        more = f"\n... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise Failure("\n".join(problems[-_SHOWN:]) + more, 1)
