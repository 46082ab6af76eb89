"""``imagefactory programs``: which external programs there are, ready tables for them, and a run of one."""

from __future__ import annotations

import os
import stat
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import click

from .. import config as configs
from ..config import Config
from ..config.programs import ProgramTable
from ..engine.programs import Programs
from ..errors import ConfigError, ProgramStopped, RequestError, nearest
from ..render.programs import finding, sandbox
from .common import Failure, as_json, load, print_json
from .trial import TAKEN, trial

__all__ = ["programs"]

# What Debian calls that which brings a program.
_PACKAGES = {
    "ffmpeg": "ffmpeg",
    "convert": "imagemagick",
    "cjpeg": "libjpeg-turbo-progs",
    "pdftoppm": "poppler-utils",
    "dcraw_emu": "libraw-bin",
}


@click.group(invoke_without_command=True)
@click.option("--write", "names", multiple=True, metavar="NAME", help="Add a ready table to the config.")
@as_json
@click.pass_context
def programs(context: click.Context, names: Sequence[str], is_json: bool) -> None:
    """List the external programs of the config, or add ready ones.

    A program reads what this package can't (films, PDF, SVG, camera RAW), writes an encoding, or makes whole
    answers: the tables [programs.NAME], docs/programs.md. --write puts a ready table at the end of the
    config.toml in use, which is made where there is none.

    \b
    Examples:
      imagefactory programs
      imagefactory programs --write video
      imagefactory programs test video pictures/clip.mp4 t=30

    \b
    Exit codes:
      0    all programs are there
      1    one is missing, or a test failed
      2    wrong usage or config
    """
    if context.invoked_subcommand:
        return
    file: Path | None = context.obj
    if names:
        _write(file, names)
    else:
        _list(load(file), is_json)


# --- the list


def _list(config: Config, is_json: bool) -> None:
    rows = [_row(name, table, config) for name, table in config.programs.items()]
    ready = {name: _words(_ready(name)) for name in _names()}
    if is_json:
        print_json({"programs": rows, "sandbox": sandbox.describe(), "ready": ready})
    else:
        for row in rows:
            click.echo(f"{row['name']}: {row['role']}, {row['found'] or row['problem']}")
            for word in ("version", "reads", "makes", "sandbox"):
                if row[word]:
                    click.echo(f"    {word:8} {row[word]}")
        if not rows:
            click.echo("no programs: write one with --write NAME, or a table [programs.NAME] of your own")
        click.echo(f"\nsandbox here: {sandbox.describe()}\nready tables, for --write NAME:")
        for name, words in ready.items():
            click.echo(f"    {name:18} {words['about']}{'' if words['is_there'] else ' (not installed)'}")
    if any(row["problem"] for row in rows):
        raise Failure("not all programs of the config are there", 1)


def _row(name: str, table: ProgramTable, config: Config) -> dict[str, str]:
    problem, version = "", ""
    start = finding.found(table.command[0])
    if not start:
        problem = f"not found: {_advice(table.command[0])}"
    else:
        try:
            version = Programs(config.programs).program(name).version
        except ProgramStopped as error:
            problem = str(error)
    problem = problem or sandbox.problem(table.sandbox)
    kind = table.sandbox if table.sandbox == "none" else sandbox.available()
    reads = " ".join(table.sources) or ("pixels" if table.role == "encode" else "")
    makes = " ".join(table.encodings) or table.format
    return {
        "name": name,
        "role": table.role,
        "found": " ".join(start),
        "problem": problem,
        "version": version,
        "reads": reads,
        "makes": makes,
        "sandbox": kind,
    }


def _advice(program: str) -> str:
    """How to install *program*."""
    ways = []
    if extra := finding.extra_of(program):
        ways.append(f"pip install 'flask-imagefactory[{extra}]'")
    if package := _PACKAGES.get(program):
        ways.append(f"apt install {package}")
    return " or ".join(ways) or f"install {program}, or write its path"


# --- ready tables


def _names() -> list[str]:
    folder = files(__package__) / "ready"
    return sorted(each.name.removesuffix(".toml") for each in folder.iterdir() if each.name.endswith(".toml"))


def _ready(name: str) -> str:
    """The text of the ready table *name*, with those that it needs. Raises Failure."""
    if name not in _names():
        known = f"; there are {', '.join(_names())}"
        raise Failure(f"there is no ready table {name!r}{nearest(name, _names()) or known}", 2)
    return (files(__package__) / "ready" / f"{name}.toml").read_text(encoding="utf-8")


def _words(text: str) -> dict[str, object]:
    """What a ready table is about, by its first sentence, and whether its program is there."""
    comment = " ".join(line.strip("# ") for line in text.splitlines() if line.startswith("#"))
    first = next(iter(tomllib.loads(text)["programs"].values()))
    return {
        "about": comment.partition(". ")[0].partition(": ")[0],
        "is_there": bool(finding.found(first["command"][0])),
    }


def _write(file: Path | None, names: Sequence[str]) -> None:
    """Put the ready tables *names* at the end of the config, all or none. Raises Failure."""
    text = "\n".join(_ready(name) for name in dict.fromkeys(names))
    named = Path(file or os.environ.get("IMAGEFACTORY_CONFIG") or "config.toml").absolute()
    target = named.resolve()
    if not target.parent.is_dir():
        raise Failure(f"{target}: there is no folder {target.parent}", 2)
    try:
        before = target.read_bytes().decode() if target.exists() else ""
        after, added = _joined(before, text, named.parent)
    except OSError as error:
        raise Failure(f"{target}: this file can't be read: {error.strerror}", 2) from error
    except (ValueError, ConfigError) as error:  # no UTF-8, no TOML, no config
        raise Failure(f"{target}: {error}; nothing was written", 2) from error
    _replace(target, after.encode())
    shown = ", ".join(f"[programs.{each}]" for each in added)
    click.echo(f"added to {target}: {shown}; a running server takes them at its next start")
    missing = dict.fromkeys(row.command[0] for row in added.values() if not finding.found(row.command[0]))
    if missing:
        raise Failure(
            "\n".join(f"its program {each!r} is not there yet: {_advice(each)}" for each in missing), 1
        )


def _joined(before: str, text: str, folder: Path) -> tuple[str, Mapping[str, ProgramTable]]:
    """A config of the texts *before* and *text*, and the tables that *text* adds. Raises ValueError,
    ConfigError."""
    there = tomllib.loads(before.removeprefix("\ufeff")).get("programs", {})
    names = list(tomllib.loads(text)["programs"])
    if twice := [each for each in names if each in there]:
        raise ValueError(f"it has [programs.{twice[0]}] already")
    lines = "\r\n" if "\r\n" in before else "\n"
    after = before.rstrip() + 2 * lines if before.strip() else before
    after += text.replace("\n", lines)
    config = configs.from_mapping(tomllib.loads(after.removeprefix("\ufeff")), folder)
    return after, {each: config.programs[each] for each in names}


def _replace(target: Path, data: bytes) -> None:
    """Put *data* in the place of the file *target*, at once, with the owner and the rights that it had: a
    server may be another user, who reads a file with secrets by its group. Raises OSError."""
    number, name = tempfile.mkstemp(prefix=".config-", dir=target.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            if target.exists():
                old = target.stat()
                if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(number, old.st_uid, old.st_gid)
                os.fchmod(number, stat.S_IMODE(old.st_mode))
            else:
                os.fchmod(number, 0o644)
            file.flush()
            os.fsync(number)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


# --- a test


@programs.command("test")
@click.argument("name", metavar="NAME")
@click.argument("picture", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("parameters", nargs=-1, metavar="[PARAM=VALUE]...")
@click.option("-o", "output", type=click.Path(path_type=Path), metavar="FILE", help="Keep what it makes.")
@as_json
@click.pass_obj
def run_once(
    file: Path | None,
    name: str,
    picture: Path,
    parameters: Sequence[str],
    output: Path | None,
    is_json: bool,
) -> None:
    """Run one program of the config on a file, and say everything.

    NAME is that of [programs.NAME]. It runs as in the server: in the same sandbox, within the same limits,
    and by the table that exact=1, t=auto, preview= or sprite= choose. The status is the server's answer.

    \b
    Examples:
      imagefactory programs test video pictures/clip.mp4 t=30 -o poster.ppm
      imagefactory programs test video pictures/clip.mp4 sprite=5x5
      imagefactory programs test pdf manual.pdf page=2 scalex=800

    \b
    Exit codes:
      0    it made a picture
      1    it failed
      2    wrong usage or config
    """
    config = load(file)
    if name not in config.programs:
        raise Failure(f"there is no [programs.{name}]{nearest(name, config.programs)}", 2)
    pairs = dict(each.partition("=")[::2] for each in parameters)
    for unknown in (each for each in pairs if each not in TAKEN):
        near = nearest(unknown, TAKEN) or f"; there are {', '.join(TAKEN)}"
        raise Failure(f"{unknown!r} is no parameter of programs{near}", 2)
    try:
        said, made = trial(config, name, picture, pairs)
    except RequestError as error:
        raise Failure(str(error), 2 if error.status == 400 else 1) from error
    _say(said, is_json)
    if output and made:
        output.write_bytes(made)
    if "error" in said:
        raise Failure(f"[programs.{name}] failed on {picture.name}", 1)


def _say(said: Mapping[str, object], is_json: bool) -> None:
    if is_json:
        print_json(said)
        return
    for name, value in said.items():
        text = str(value).strip()
        click.echo(
            f"{name:14} {text}" if "\n" not in text else f"{name}\n    " + text.replace("\n", "\n    ")
        )
