"""``imagefactory warm``."""

from __future__ import annotations

import gzip
import io
import os
import re
import signal
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, cast

import click

from ..common.units import count_text, parse_bytes, size_text
from ..config import Config
from ..errors import BadParameter, StorageError
from ..factory import Parts, assemble
from ..model.formats import ENCODINGS, NEEDS_EXTRA, USUAL
from ..storage.disk import DiskStore
from ..upkeep.index_copy import copy_index
from ..upkeep.warm.access_logs import read_log
from ..upkeep.warm.orders import Budget, Order, Warmed, Wish, is_picture
from ..upkeep.warm.replay import demand, expand
from ..upkeep.warm.replay import orders as orders_of
from ..upkeep.warm.run import warm as render_ahead
from ..workers.rendering import slots
from .common import Failure, as_json, check_owner, disk_store, load, open_cache, print_json
from .paths import picture_path
from .progress import Progress, progress

__all__ = ["warm"]

_NICE = 10
_GZIP = b"\x1f\x8b"
_TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FULL = (
    "the cache is full: all that was there before has made room; "
    "raise [cache] max_bytes, free space on the disk, or warm less"
)


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--preset", "presets", multiple=True, metavar="NAME", help="A preset of the config.")
@click.option(
    "--size", "sizes", multiple=True, metavar="WxH", help="A size in pixels: 640x480, 640x, x480, 640."
)
@click.option("--ladder", "is_ladder", is_flag=True, help="All widths of [limits] ladder.")
@click.option(
    "--encoding",
    "encodings",
    multiple=True,
    metavar="NAME",
    help=f"{', '.join([*ENCODINGS, *NEEDS_EXTRA])}; "
    f"or auto: what browsers get, {', '.join(USUAL)} and the default one.",
)
@click.option("--from-log", "log", metavar="FILE", help="Replay an access log instead; - is standard input.")
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Render processes; one per core.")
@click.option("--budget", metavar="B", help="Stop after so many bytes (2 GB) or so long (90s, 10m, 1h).")
@click.option("--dry-run", "is_dry", is_flag=True, help="Render and write nothing; count all there is to do.")
@as_json
@click.pass_obj
def warm(
    file: Path | None,
    paths: Sequence[str],
    presets: Sequence[str],
    sizes: Sequence[str],
    is_ladder: bool,
    encodings: Sequence[str],
    log: str | None,
    jobs: int | None,
    budget: str | None,
    is_dry: bool,
    is_json: bool,
) -> None:
    """Render variants ahead, so that no visitor waits for them.

    Every picture, or those that PATH names (a picture, a folder, or a picture's URL), is made in each of the
    sizes (--preset, --size, --ladder) in each of the encodings. Without a size: in all presets, or in the
    widths of the ladder where the config has no preset. Without --encoding: in the one that a URL without
    encoding gives.

    \b
    Examples:
      imagefactory warm                               all pictures in all presets
      imagefactory warm cats --size 640x --encoding auto
      imagefactory warm --ladder --encoding jpeg --encoding webp --encoding avif
      imagefactory warm --from-log /var/log/nginx/access.log.1.gz --budget 10m
      imagefactory warm --ladder --dry-run --json

    What is there is skipped, so stop it with Ctrl-C whenever you like: the next run does the rest. It may
    run beside servers, at a lower priority. In a cache that is full it makes room by removing what nobody has
    used since it began, never what it made itself.

    --from-log takes the common and combined format and our own JSON lines, also gzipped, and makes what was
    asked for most first, with the parameters of its URL.

    \b
    Exit codes:
      0    done, or the budget is spent
      1    some variants can't be made (they are listed at the end), or the cache is full
      2    wrong usage or config, or a cache of another user
      130  stopped by Ctrl-C; 143: by SIGTERM
    """
    config = load(file)
    step_back()
    if not config.paths.pictures.is_dir():
        raise Failure(f"paths.pictures: there is no folder {config.paths.pictures}", 2)
    if log is not None and (presets or sizes or encodings or is_ladder):
        raise Failure("--from-log makes what its URLs ask for, and takes no sizes and encodings beside it", 2)
    bounds = _budget(budget)
    named = [picture_path(path, config) for path in paths]
    with _cache(config, is_dry) as (store, config), _stopping() as stopping:
        sites = _sites(config, store, jobs)
        chosen = _Chosen(sites[0], named)
        if log is None:
            wishes = _wishes(sites[0], presets, sizes, is_ladder, encodings)
            _check_number(wishes, config)
            orders, count = chosen.orders(wishes), lambda: chosen.count() * len(wishes)
        else:
            listed = _replayed(log, sites[0], chosen)
            orders, total = iter(listed), sum(len(order.wishes) for order in listed)
            count = lambda: total  # noqa: E731
        with progress(None, "variants", "looking" if is_dry else "warming") as shown:
            meter = _Meter(shown, count)
            try:
                found = render_ahead(
                    sites, store, orders, bounds, stopping.event, meter.tell, time.monotonic, is_dry=is_dry
                )
            except StorageError as error:
                raise Failure(str(error), 1) from error
    _report(found, is_json, is_dry)
    if stopping.signal:
        raise SystemExit(128 + stopping.signal)
    if found.failed or found.stopped == "full":
        raise SystemExit(1)


# --- what is asked for ------------------------------------------------------------------------------------


def _wishes(
    site: Parts,
    presets: Sequence[str],
    sizes: Sequence[str],
    is_ladder: bool,
    encodings: Sequence[str],
) -> list[Wish]:
    """The product of sizes and encodings. Raises Failure for what no URL could ask."""
    asked = [("preset", name) for name in presets] + [("size", text) for text in sizes]
    if not asked and not is_ladder:
        asked = [("preset", name) for name in site.resolver.presets]
    if is_ladder or not asked:
        asked += [("scalex", str(width)) for width in site.config.limits.ladder]
    wishes: list[Wish] = []
    for name, text in asked:
        if text.lower() == "auto" and name == "size":
            problem = "what a browser will say can't be rendered ahead; --ladder has every width of auto"
            raise Failure(f"--size auto: {problem}", 2)
        for encoding in encodings or [""]:
            pairs = [(name, text), *([("encoding", encoding)] if encoding else [])]
            try:
                request = site.resolver.operators_request(pairs)
            except BadParameter as error:
                raise Failure(f"--{_OPTIONS.get(error.name, error.name)}: {error}", 2) from error
            if request.is_plain and name == "size":
                raise Failure(f"--size {text} asks for the original, which is not rendered", 2)
            wishes += expand(request, "&".join("=".join(pair) for pair in pairs))
    return wishes


_OPTIONS = {"preset": "preset", "size": "size", "scalex": "ladder", "encoding": "encoding"}


def _check_number(wishes: Sequence[Wish], config: Config) -> None:
    limit = config.limits.variants_per_source
    if 0 < limit < len(wishes):
        problem = f"{len(wishes)} variants of each picture are asked for, and the cache keeps {limit} of one"
        raise Failure(f"limits.variants_per_source: {problem}", 2)


class _Chosen:
    """The pictures at and below the paths *named*; all where there are none."""

    def __init__(self, site: Parts, named: Sequence[str]) -> None:
        self._sources = site.sources
        named = list(dict.fromkeys(named)) or [""]
        self._folders = [path for path in named if not path or (site.config.paths.pictures / path).is_dir()]
        # One folder in another, or a picture in one of them, would be made twice.
        self._folders = [path for path in self._folders if not _is_below(path, self._folders)]
        self._files = [path for path in named if path not in self._folders and not self._is_walked(path)]
        self._is_all = self._folders == [""]

    def __contains__(self, path: str) -> bool:
        return self._is_all or path in self._files or self._is_walked(path)

    def _is_walked(self, path: str) -> bool:
        return _is_below(path, self._folders)

    def orders(self, wishes: Sequence[Wish]) -> Iterator[Order]:
        """*wishes* of each, those that are named by themselves first."""
        for path in self._files:
            yield Order(path, wishes, is_named=True)
        for folder in self._folders:
            for path in self._sources.walk(folder):
                yield Order(path, wishes)

    def count(self) -> int:
        """How many pictures there are, as far as their names tell."""
        walked = (is_picture(path) for folder in self._folders for path in self._sources.walk(folder))
        return len(self._files) + sum(walked)


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(path != folder and (not folder or path.startswith(f"{folder}/")) for folder in folders)


def _replayed(log: str, site: Parts, chosen: _Chosen) -> list[Order]:
    """What the file *log* asks for. Raises Failure when it can't be read."""
    try:
        with _opened(log) as file, _plain(file) as text:
            entries = read_log(text)
            prefixes = site.config.http.prefixes
            found = demand(entries, prefixes, site.resolver.operators_request, chosen.__contains__)
    except (OSError, EOFError, zlib.error) as error:
        raise Failure(f"--from-log {log}: {getattr(error, 'strerror', None) or error}", 2) from error
    said = f"{count_text(found.requests, 'request')} for {count_text(len(found.counts), 'variant')}"
    skipped = f"; {count_text(entries.skipped, 'line')} of no known format" if entries.skipped else ""
    rare = f"; {count_text(found.forgotten, 'request')} for rare variants left out" if found.forgotten else ""
    open_ = f"; {count_text(found.unknown, 'request')} with a size of auto left out" if found.unknown else ""
    click.echo(f"{log}: {said}{skipped}{rare}{open_}", err=True)
    return list(orders_of(found))


def _opened(log: str) -> BinaryIO:
    return sys.stdin.buffer if log == "-" else Path(log).open("rb")


@contextmanager
def _plain(file: BinaryIO) -> Iterator[io.TextIOWrapper]:
    """The text of *file*, unpacked if it is gzipped."""
    buffered = io.BufferedReader(cast("io.RawIOBase", file))  # standard input may have no peek
    raw: Any = gzip.GzipFile(fileobj=buffered) if buffered.peek(2)[:2] == _GZIP else buffered
    with io.TextIOWrapper(raw, "utf-8", "surrogateescape", "\n") as text:
        yield text


def _budget(text: str | None) -> Budget:
    """The bytes or seconds that *text* says. Raises Failure."""
    if text is None:
        return Budget()
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) *([smhd])", text.strip().lower())
    if found:
        return Budget(seconds=float(found[1]) * _TIMES[found[2]])
    try:
        return Budget(bytes=parse_bytes(text))
    except ValueError:
        problem = "write bytes, such as 500 MB or 2 GB, or a time, such as 90s, 10m or 1h"
        raise Failure(f"--budget: {text!r} is neither; {problem}", 2) from None


# --- how it is done ---------------------------------------------------------------------------------------


@contextmanager
def _cache(config: Config, is_dry: bool) -> Iterator[tuple[DiskStore, Config]]:
    """The cache, and the config for it: for a dry run a copy of its index. Raises Failure."""
    if not is_dry:
        yield open_cache(config), config
        return
    check_owner(config)
    with tempfile.TemporaryDirectory(prefix="imagefactory-") as folder:
        copied = replace(config, paths=replace(config.paths, cache=Path(folder)))
        store = disk_store(copied)
        try:
            copy_index(config.paths.cache, Path(folder))
        except StorageError as error:
            raise Failure(str(error), 1) from error
        yield store, copied


def _sites(config: Config, store: DiskStore, jobs: int | None) -> list[Parts]:
    """As many sites as there may be renders at a time, each with a process of its own: so a picture
    stays with the process that has decoded it."""
    processes = config.render.processes
    count = jobs or slots(config.render)
    one = replace(
        config,
        render=replace(config.render, processes=processes if processes < 0 and not jobs else 1),
        server=replace(config.server, threads=max(config.server.threads, 64)),
    )
    return [assemble(one, store=store) for _ in range(count)]


class _Stopping:
    """The *signal* that came, and an *event* that it sets."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal = 0


@contextmanager
def _stopping() -> Iterator[_Stopping]:
    """Ctrl-C and SIGTERM have what is under way finished; a second one ends it."""
    stopping = _Stopping()
    before: dict[signal.Signals, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        if stopping.signal:
            raise KeyboardInterrupt
        stopping.signal = number
        stopping.event.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, stop)
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Meter:
    """Tells the progress; counts what there is to do in a thread of its own, once it takes longer."""

    def __init__(self, shown: Progress, count: Callable[[], int]) -> None:
        self._shown = shown
        self._count = count
        self._done = 0
        self._began_s = time.monotonic()
        self._total: int | None = None
        self._thread: threading.Thread | None = None

    def tell(self, reached: int, size: int) -> None:
        """So many variants are reached, and so many bytes written."""
        if self._thread is None and time.monotonic() - self._began_s > 1:
            self._thread = threading.Thread(target=self._find_total, name="imagefactory-count", daemon=True)
            self._thread.start()
        self._shown.expect(self._total)
        self._shown.update(reached - self._done, f"{size_text(size)} written")
        self._done = reached

    def _find_total(self) -> None:
        with suppress(OSError):
            self._total = self._count()


def step_back() -> None:
    """Let servers go first; render processes step back further."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(_NICE, os.getpriority(os.PRIO_PROCESS, 0)))


# --- what came of it --------------------------------------------------------------------------------------


def _report(found: Warmed, is_json: bool, is_dry: bool) -> None:
    if is_json:
        values: dict[str, object] = {
            "pictures": found.pictures,
            "variants": found.variants,
            "rendered": found.rendered,
            "present": found.present,
            "failed": [asdict(each) for each in found.failed],
            "bytes": found.bytes,
            "seconds": round(found.seconds, 3),
        }
        values |= {"stopped": found.stopped} if found.stopped else {}
        values |= {"dry_run": True} if is_dry else {}
        print_json(values)
    else:
        rendered = "to be rendered" if is_dry else f"rendered ({size_text(found.bytes)})"
        click.echo(
            f"{count_text(found.variants, 'variant')} of {count_text(found.pictures, 'picture')}: "
            f"{found.rendered} {rendered}, "
            f"{found.present} present, {len(found.failed)} failed, in {found.seconds:.1f} s"
        )
        failed = Counter((each.path, each.error, each.detail) for each in found.failed)
        for (path, error, detail), count in sorted(failed.items()):
            click.echo(f"{path}: {error}: {detail} ({count_text(count, 'variant')})", err=True)
    if found.stopped == "full":
        click.echo(f"Error: {_FULL}", err=True)
    elif found.stopped:
        what = "the budget is spent" if found.stopped == "budget" else "stopped"
        click.echo(f"{what}; run it again for the rest", err=True)
