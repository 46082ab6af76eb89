"""``imagefactory serve``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from ..errors import ConfigError
from ..servers.common import log_to_stderr
from ..servers.serving import SERVERS
from ..servers.serving import serve as start_server
from ..version import __version__
from .common import Failure, load

__all__ = ["serve"]


@click.command()
@click.option(
    "--server", type=click.Choice(SERVERS), default="waitress", show_default=True, help="The WSGI server."
)
@click.option("--host", metavar="NAME", help="The address to listen on, instead of [server] host.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="The port, instead of [server] port; 0 takes a free one.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Processes; as many as cores, but one for waitress.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 10000),
    metavar="N",
    help="Requests answered at once by each process, instead of [server] threads.",
)
@click.pass_obj
def serve(
    file: Path | None,
    server: str,
    host: str | None,
    port: int | None,
    workers: int | None,
    threads: int | None,
) -> None:
    """Serve the pictures until SIGTERM or Ctrl-C.

    Either finishes what was asked, for at most 30 seconds. Messages go to standard error.

    \b
    Examples:
      imagefactory serve
      imagefactory serve --host 0.0.0.0 --port 80
      imagefactory serve --server granian --workers 2

    \b
    Exit codes:
      0    stopped by SIGTERM or Ctrl-C
      1    the address can't be had
      2    wrong usage or config
    """
    log_to_stderr()
    config = load(file)
    settings = replace(
        config.server,
        host=config.server.host if host is None else host,
        port=config.server.port if port is None else port,
        threads=config.server.threads if threads is None else threads,
    )
    config = replace(config, server=settings)
    if not config.paths.pictures.is_dir():
        raise Failure(f"paths.pictures: there is no folder {config.paths.pictures}", 2)

    def tell(url: str) -> None:
        click.echo(f"imagefactory {__version__} serves {config.paths.pictures} at {url}", err=True)

    try:
        start_server(server, config, workers, tell)
    except ConfigError as error:
        raise Failure(str(error), 2) from error
    except OSError as error:
        reason = error.strerror or error
        raise Failure(f"{settings.host}:{settings.port}: {reason}", 1) from error
