"""What the commands have in common: the config, the cache, how a failure ends a command."""

from __future__ import annotations

import errno
import json
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

import click

from .. import config as configs
from ..config import Config
from ..errors import ConfigError
from ..factory import open_disk
from ..storage.disk import DiskStore
from ..urls.query import compile_presets

__all__ = ["Commands", "Failure", "as_json", "check_owner", "disk_store", "load", "open_cache", "print_json"]

as_json = click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")


class Failure(click.ClickException):
    """An error for the person at the terminal, with its exit code: 1 failed, 2 wrong usage or config."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance as well


class Commands(click.Group):
    """The commands; what none of them expects ends in one line as well: a second Ctrl-C, and a result that
    can't be written."""

    def invoke(self, ctx: click.Context) -> object:
        """What the command returns. Raises Failure, and what click turns into an exit code itself."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Failure("stopped", 130) from None
        except OSError as error:
            if error.errno == errno.EPIPE:  # nobody reads any more, as behind head: click is silent then
                raise
            where = f"{error.filename}: " if error.filename else ""
            raise Failure(f"{where}{error.strerror or error}", 1) from error


def load(file: Path | None) -> Config:
    """The config that *file* or the environment names. Raises Failure."""
    try:
        config = configs.load(file, os.environ)
        compile_presets(config.presets)
    except ConfigError as error:
        raise Failure(str(error), 2) from error
    return config


def open_cache(config: Config) -> DiskStore:
    """The cache on disk, begun to be used by this process.

    Raises Failure where there is none, or where it belongs to another user: files that this one makes could
    not be read, or not be removed, by the server.
    """
    store = disk_store(config)
    check_owner(config)
    store.start()
    return store


def disk_store(config: Config, hint: str = "") -> DiskStore:
    """The cache on disk, not yet touched. Raises Failure, with a *hint*, where there is none."""
    if config.cache.mode == "memory":
        raise Failure(f"cache.mode: there is nothing on disk with mode = 'memory'{hint}", 2)
    return open_disk(config)


def check_owner(config: Config) -> None:
    """Raise Failure if the cache belongs to another user than the one of this process."""
    try:
        owner = config.paths.cache.stat().st_uid
    except OSError:
        return
    if owner != os.geteuid():
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = str(owner)
        raise Failure(f"paths.cache: {config.paths.cache} belongs to {name}; run this as that user", 2)


def print_json(values: Mapping[str, object]) -> None:
    """Print one JSON object on stdout."""
    click.echo(json.dumps(values, indent=2, ensure_ascii=False))
