"""What the commands have in common: the config, the cache, how a failure ends a command."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

import click

from .. import config as configs
from ..config import Config
from ..errors import ConfigError
from ..parameters import compile_presets
from ..store import DiskStore, open_store

__all__ = ["Failure", "as_json", "load", "open_cache", "print_json"]

as_json = click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")


class Failure(click.ClickException):
    """An error for the person at the terminal, with its exit code: 1 failed, 2 wrong usage or config."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance as well


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
    store = open_store(config)
    if not isinstance(store, DiskStore):
        raise Failure("cache.mode: there is nothing on disk with mode = 'memory'", 2)
    check_owner(config)
    store.start()
    return store


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
