"""``imagefactory worker``: background work in a process of its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import click

from ..common.units import count_text
from ..config import Config
from ..errors import CatalogUnavailable
from ..factory import Parts, assemble
from ..markup.pictures import Pictures
from ..markup.ready import ready_markup
from ..servers.common import log_to_stderr
from ..tasks.worker import Worked, Workers
from . import warm
from .catalogs import catalog_errors, need_catalog, taking_of
from .common import Failure, load, open_cache

__all__ = ["worker"]

_LOOK_S = 0.2
_FINISH_S = 60.0


@click.command()
@click.option("--once", "is_once", is_flag=True, help="Do what is due now, and end.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Jobs at a time, instead of [tasks] workers.",
)
@click.pass_obj
def worker(file: Path | None, is_once: bool, workers: int | None) -> None:
    """Do background work until SIGTERM or Ctrl-C.

    That is to make the presets of pictures that came in. Servers do it in their own processes, unless [tasks]
    workers is 0. This is for more of it, or for a machine of its own, at a lower priority than a server; any
    number may run. Either signal has the jobs under way finished, for at most 60 seconds; a second one ends
    them at once. A job whose worker was killed is given to another one after [tasks] lease_s.

    \b
    Examples:
      imagefactory worker
      imagefactory worker --workers 4
      imagefactory worker --once

    \b
    Exit codes:
      0    stopped by SIGTERM or Ctrl-C; with --once, nothing is due
      1    with --once, a job has failed (imagefactory jobs --failed), or the catalog can't be used
      2    wrong usage or config, or a cache of another user
      130  stopped by a second Ctrl-C
    """
    config = load(file)
    need_catalog(config)
    if not config.paths.pictures.is_dir():
        raise Failure(f"paths.pictures: there is no folder {config.paths.pictures}", 2)
    log_to_stderr(config.server.log_level)
    warm.step_back()
    count = workers or max(1, config.tasks.workers)
    config = replace(
        config,
        tasks=replace(config.tasks, workers=count),
        server=replace(config.server, threads=max(config.server.threads, 64)),  # places of the gate
    )
    parts, found = _workers(config)
    parts.generator.start()
    parts.keeper.start()
    if is_once:
        with _stopping(found.begin_stop), catalog_errors():
            worked = found.run_until_empty()
        parts.keeper.flush()
        _report(worked)
        return
    with _stopping(lambda: None) as stopping:
        found.start()
        click.echo(f"{count_text(count, 'worker')} for {config.paths.pictures}", err=True)
        while not stopping.signal:
            time.sleep(_LOOK_S)
        found.stop(_FINISH_S)


def _workers(config: Config) -> tuple[Parts, Workers]:
    """The workers that *config* asks for, and the parts of a site that they use. Raises Failure."""
    parts = assemble(config, store=open_cache(config))
    taking = taking_of(parts)
    taking.markup = partial(ready_markup, Pictures(parts))
    with catalog_errors(), suppress(CatalogUnavailable):  # which workers wait for
        taking.database.open()
    return parts, taking.workers


class _Stopping:
    """The *signal* that came."""

    def __init__(self) -> None:
        self.signal = 0


@contextmanager
def _stopping(stop: Callable[[], None]) -> Iterator[_Stopping]:
    """SIGTERM and Ctrl-C call *stop*; a second one ends what goes on in this thread."""
    stopping = _Stopping()
    before: dict[signal.Signals, Any] = {}

    def hear(number: int, frame: FrameType | None) -> None:
        if stopping.signal:
            raise KeyboardInterrupt
        stopping.signal = number
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, hear)
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(worked: Worked) -> None:
    later = f", {worked.retried} to be tried again later" if worked.retried else ""
    click.echo(f"{count_text(worked.done, 'job')} done, {worked.failed} failed{later}")
    if worked.failed:
        raise Failure(f"{count_text(worked.failed, 'job')} failed; imagefactory jobs --failed says why", 1)
