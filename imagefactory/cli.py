"""The commands: ``imagefactory serve`` and ``imagefactory config``.

Results go to stdout, messages to stderr. Exit 0: done, 1: finished with failures, 2: wrong usage or config.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import click

from . import config as configs
from .config import Config
from .errors import ConfigError
from .parameters import compile_presets
from .servers import SERVERS, log_to_stderr
from .servers import serve as start_server
from .version import __version__

__all__ = ["main"]


class _Failure(click.ClickException):
    """An error for the person at the terminal, with its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance as well


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--config", "file", type=click.Path(path_type=Path), help="The config.toml to use.", metavar="FILE"
)
@click.version_option(__version__, prog_name="imagefactory")
@click.pass_context
def main(context: click.Context, file: Path | None) -> None:
    """Image URLs that resize, with a disk cache that is never wrong.

    The configuration is the file that --config names, else the one that IMAGEFACTORY_CONFIG names, else
    ./config.toml; IMAGEFACTORY_SECTION__KEY in the environment overrides single keys.
    """
    context.obj = file


@main.command()
@click.option("--server", type=click.Choice(SERVERS), default="waitress", help="The WSGI server.")
@click.option("--host", metavar="NAME", help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port; 0 takes a free one.")
@click.option(
    "--workers", type=click.IntRange(1, 256), help="Processes; as many as cores, but one for waitress."
)
@click.option("--threads", type=click.IntRange(1, 10000), help="Requests answered at once by each process.")
@click.pass_obj
def serve(
    file: Path | None,
    server: str,
    host: str | None,
    port: int | None,
    workers: int | None,
    threads: int | None,
) -> None:
    """Serve the pictures until SIGTERM or Ctrl-C."""
    log_to_stderr()
    config = _load(file)
    settings = replace(
        config.server,
        host=config.server.host if host is None else host,
        port=config.server.port if port is None else port,
        threads=config.server.threads if threads is None else threads,
    )
    config = replace(config, server=settings)
    if not config.paths.pictures.is_dir():
        raise _Failure(f"paths.pictures: there is no folder {config.paths.pictures}", 2)

    def tell(url: str) -> None:
        click.echo(f"imagefactory {__version__} serves {config.paths.pictures} at {url}", err=True)

    try:
        start_server(server, config, workers, tell)
    except ConfigError as error:
        raise _Failure(str(error), 2) from error
    except OSError as error:
        reason = error.strerror or error
        raise _Failure(f"{settings.host}:{settings.port}: {reason}", 1) from error


@main.command("config")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def show_config(file: Path | None, is_json: bool) -> None:
    """Print the effective configuration, secrets masked, or what is wrong with it."""
    config = _load(file)
    if is_json:
        click.echo(json.dumps(configs.as_dict(config), indent=2, ensure_ascii=False))
    else:
        click.echo(configs.as_toml(config), nl=False)


def _load(file: Path | None) -> Config:
    try:
        config = configs.load(file, os.environ)
        compile_presets(config.presets)
    except ConfigError as error:
        raise _Failure(str(error), 2) from error
    return config
