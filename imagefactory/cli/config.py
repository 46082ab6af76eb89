"""``imagefactory config``."""

from __future__ import annotations

from pathlib import Path

import click

from .. import config as configs
from .common import as_json, load, print_json

__all__ = ["config"]


@click.command()
@as_json
@click.pass_obj
def config(file: Path | None, is_json: bool) -> None:
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
    found = load(file)
    if is_json:
        print_json(configs.as_dict(found))
    else:
        click.echo(configs.as_toml(found), nl=False)
