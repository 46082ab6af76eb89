"""The command ``imagefactory``: its options, and the commands that it has, each in its own file.

Results go to stdout, messages to stderr. Exit 0: done, 1: finished with failures, 2: wrong usage or config.
"""

from __future__ import annotations

from pathlib import Path

import click

from ..version import __version__
from .catalog import catalog
from .common import Commands
from .config import config
from .evict import evict
from .jobs import jobs
from .programs import programs
from .purge import purge
from .serve import serve
from .stats import stats
from .url import url
from .verify import rebuild, verify
from .warm import warm
from .worker import worker

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


main.add_command(serve)
main.add_command(config)
main.add_command(evict)
main.add_command(purge)
main.add_command(stats)
main.add_command(verify)
main.add_command(rebuild)
main.add_command(warm)
main.add_command(url)
main.add_command(programs)
main.add_command(catalog)
main.add_command(worker)
main.add_command(jobs)
