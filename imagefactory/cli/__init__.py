"""The commands, each group of them in its own file.

Results go to stdout, messages to stderr. Exit 0: done, 1: finished with failures, 2: wrong usage or config.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from .. import config as configs
from ..errors import ConfigError
from ..servers import SERVERS, log_to_stderr
from ..servers import serve as start_server
from ..version import __version__
from .common import Commands, Failure, as_json, load, print_json
from .evict import evict
from .purge import purge
from .stats import stats
from .url import url
from .verify import rebuild, verify
from .warm import warm

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--config", "file", type=click.Path(path_type=Path), help="The config.toml to use.", metavar="FILE"
)
@click.version_option(__version__, prog_name="imagefactory")
@click.pass_context
def main(context: click.Context, file: Path | None) -> None:
    """Image URLs that resize, with a disk cache that is never wrong.

    The configuration is the file that --config names, else the one that IMAGEFACTORY_CONFIG names, else
    ./config.toml, else all keys have their defaults; IMAGEFACTORY_SECTION__KEY in the environment overrides
    single keys. Run the commands where the server runs, as its user.

    \b
    Examples:
      imagefactory config
      imagefactory --config /etc/imagefactory.toml serve
      imagefactory warm --help

    \b
    Exit codes:
      0    done
      1    finished with failures or problems
      2    wrong usage or config, or a cache of another user
      130  stopped by Ctrl-C
    """
    context.obj = file


@main.command()
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


@main.command("config")
@as_json
@click.pass_obj
def show_config(file: Path | None, is_json: bool) -> None:
    """Print the configuration in effect, or what is wrong.

    It is TOML with every key; secrets are masked.

    \b
    Examples:
      imagefactory config
      IMAGEFACTORY_SERVER__PORT=9000 imagefactory config
      imagefactory config --json | jq .cache.max_bytes

    \b
    Exit codes:
      0    the config is right
      2    wrong usage or config
    """
    config = load(file)
    if is_json:
        print_json(configs.as_dict(config))
    else:
        click.echo(configs.as_toml(config), nl=False)


main.add_command(evict)
main.add_command(purge)
main.add_command(stats)
main.add_command(verify)
main.add_command(rebuild)
main.add_command(warm)
main.add_command(url)
