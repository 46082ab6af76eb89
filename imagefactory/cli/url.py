"""``imagefactory url``: the canonical URL of a picture."""

from __future__ import annotations

from pathlib import Path

import click

from ..common.units import parse_seconds
from ..errors import NotFound, RequestError, nearest
from ..factory import site_of
from ..markup import Pictures
from ..urls.parameters import NAMES
from .common import Failure, as_json, load, print_json
from .paths import picture_path

__all__ = ["url"]


@click.command()
@click.argument("path", metavar="PATH")
@click.argument("parameters", nargs=-1, metavar="[PARAM=VALUE]...")
@click.option("--sign", is_flag=True, help="Sign it also where the config asks for no signature.")
@click.option("--expires", metavar="TIME", help="How long a signed URL lasts, as 90s, 30m, 12h, 7d, 2w.")
@as_json
@click.pass_obj
def url(
    file: Path | None, path: str, parameters: tuple[str, ...], sign: bool, expires: str | None, is_json: bool
) -> None:
    """Print the canonical URL of a picture.

    With canonical parameter names, with the version that makes its answers immutable, below [http] base_url,
    and signed by the first of [signing.keys] where the config asks for a signature. Nothing is rendered.

    \b
    Examples:
      imagefactory url cats/tom.jpg scalex=640 encoding=webp
      imagefactory url members/eve.jpg w=640 --sign --expires 1h
      imagefactory url cats/tom.jpg preset=thumb --json | jq -r .url

    \b
    Exit codes:
      0    done
      1    there is no such picture, or none that can be read
      2    wrong usage or config
    """
    config = load(file)
    site = site_of(config)
    name = picture_path(path, config)
    if (sign or expires is not None) and site.access.signer is None:
        raise Failure('signing.keys: a signature needs a key; write id = "secret" in [signing.keys]', 2)
    if expires is not None and not (sign or site.access.must_sign(name)):
        raise Failure("--expires is for signed URLs; add --sign", 2)
    try:
        lasts_s = None if expires is None else parse_seconds(expires)
    except ValueError as error:
        raise Failure(f"--expires: {error}", 2) from error
    values = {}
    for each in parameters:
        key, equals, value = each.partition("=")
        if not equals or key in values:
            raise Failure(f"{each!r} is not PARAM=VALUE, each once; write scalex=640", 2)
        if key not in NAMES:
            raise Failure(f"there is no parameter {key!r}{nearest(key, NAMES)}", 2)
        values[key] = value
    try:
        if site.source(name).header is None:
            raise NotFound
        found = Pictures(site, debug=True, must_sign=sign).url(name, expires=lasts_s, **values)
    except RequestError as error:
        raise Failure(f"{name}: {error}", 2 if error.status == 400 else 1) from error
    if is_json:
        print_json({"url": found})
    else:
        click.echo(found)
