"""``imagefactory programs``: which external programs there are, ready tables for them, and a run of one."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import click

from .. import config as configs
from ..config import Config
from ..config.programs import ProgramTable
from ..engine.programs import Programs
from ..errors import ConfigError, ImageFactoryError, ProgramFailed, ProgramStopped, RequestError, nearest
from ..model.job import Job, Rendered
from ..model.program import PLACEHOLDER, Program, ProgramJob
from ..model.recipe import Recipe
from ..model.source import Stamp
from ..render.programs import finding, sandbox
from ..urls.program_parameters import read_asked
from ..workers.rendering import InThread
from .common import Failure, as_json, load, print_json

__all__ = ["programs"]

# What Debian calls that which brings a program.
_PACKAGES = {
    "ffmpeg": "ffmpeg",
    "convert": "imagemagick",
    "cjpeg": "libjpeg-turbo-progs",
    "pdftoppm": "poppler-utils",
    "dcraw_emu": "libraw-bin",
}
_NUMBERS = ("scalex", "scaley", "quality")


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
    for name in names:
        _write(file, name)
    if not names:
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


def _write(file: Path | None, name: str) -> None:
    """Put the ready table *name* at the end of the config. Raises Failure, and then nothing was written."""
    text = _ready(name)
    named = file or os.environ.get("IMAGEFACTORY_CONFIG")
    target = Path(named or "config.toml").absolute().resolve()
    try:
        before = target.read_text(encoding="utf-8") if target.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{target}: this file can't be read: {error}", 2) from error
    try:
        there = tomllib.loads(before.removeprefix("\ufeff")).get("programs", {})
        twice = [each for each in tomllib.loads(text)["programs"] if each in there]
        if twice:
            raise Failure(f"{target} has [programs.{twice[0]}] already; nothing was written", 2)
        after = f"{before.rstrip()}\n\n{text}" if before.strip() else text
        config = configs.from_mapping(tomllib.loads(after.removeprefix("\ufeff")), target.parent)
    except (tomllib.TOMLDecodeError, ConfigError) as error:
        raise Failure(f"{target}: {error}; nothing was written", 2) from error
    _replace(target, after)
    added = list(tomllib.loads(text)["programs"])
    shown = ", ".join(f"[programs.{each}]" for each in added)
    click.echo(f"added to {target}: {shown}; a running server takes them at its next start")
    for each, table in config.programs.items():
        if each in added and not finding.found(table.command[0]):
            raise Failure(
                f"its program {table.command[0]!r} is not there yet: {_advice(table.command[0])}", 1
            )


def _replace(target: Path, text: str) -> None:
    """Put *text* in the place of the file *target*, at once and with the rights that it had."""
    number, name = tempfile.mkstemp(prefix=".config-", dir=target.parent)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, name)
        else:
            Path(name).chmod(0o644)
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

    It runs as in the server: in the same sandbox, with the same limits. NAME is that of [programs.NAME].

    \b
    Examples:
      imagefactory programs test video pictures/clip.mp4 t=30 -o poster.ppm
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
    found = Programs(config.programs)
    try:
        pairs = dict(each.split("=", 1) for each in parameters)
        size = int(pairs.pop("scalex", 0)), int(pairs.pop("scaley", 0))
        quality = int(pairs.pop("quality", 80))
        run = found.plain_run(name, read_asked(pairs.items()))
        order = found.ordered(run, size, quality)
    except (ValueError, KeyError) as error:
        raise Failure(f"{error} is not PARAM=VALUE with a parameter of programs, as t=30", 2) from error
    except RequestError as error:
        raise Failure(str(error), 2 if error.status == 400 else 1) from error
    program = order.program
    said: dict[str, object] = {
        "command": shlex.join(_filled(program, order.values)),
        "version": program.version,
        "sandbox": sandbox.kind_for(program),
    }
    began = time.monotonic()
    try:
        if program.role == "encode":
            made = _encoded(config, program, picture, quality)
        else:
            made = _made(config.programs[name], program, order.values, order.fallbacks, picture)
        said |= {"bytes": len(made.body or b""), "width": made.width, "height": made.height}
        said |= {f"{phase}_s": round(seconds, 3) for phase, seconds in made.seconds.items()}
        if output:
            output.write_bytes(made.body or b"")
    except (ImageFactoryError, OSError) as error:
        said |= {"error": str(error), "status": getattr(error, "status", 503)}
        if isinstance(error, ProgramFailed | ProgramStopped):
            said["standard_error"] = error.said
    said["seconds"] = round(time.monotonic() - began, 3)
    _say(said, is_json)
    if "error" in said:
        raise Failure(f"[programs.{name}] made nothing of {picture.name}", 1)


def _filled(program: Program, values: Mapping[str, str]) -> list[str]:
    """The command with its numbers; the names of files stay as they are."""
    shown = {"in": "{in}", "out": "{out}", **values}
    arguments = (PLACEHOLDER.sub(lambda found: shown[found[1]], each) for each in program.arguments)
    return [*program.start, *arguments]


def _made(
    table: ProgramTable,
    program: Program,
    values: Mapping[str, str],
    fallbacks: Sequence[Program],
    picture: Path,
) -> Rendered:
    makes = table.encodings[0] if program.role == "whole" else program.format
    stamp = Stamp.of(picture.stat())
    return InThread().run(ProgramJob(picture, stamp, program, values, makes, None, tuple(fallbacks)))


def _encoded(config: Config, program: Program, picture: Path, quality: int) -> Rendered:
    encoding = next(each.encodings[0] for name, each in config.programs.items() if name == program.name)
    header = InThread().probe(picture)
    if header is None:
        raise ProgramFailed(program.name, "was not started: this is no picture that it could encode")
    recipe = Recipe(width=header.width, height=header.height, fit="stretch", quality=quality)
    limits = config.limits
    job = Job(
        picture,
        Stamp.of(picture.stat()),
        recipe,
        encoding,
        None,
        limits.max_pixels,
        limits.max_side,
        encoder=program,
    )
    return InThread().render(job)


def _say(said: Mapping[str, object], is_json: bool) -> None:
    if is_json:
        print_json(said)
        return
    for name, value in said.items():
        text = str(value).strip()
        click.echo(
            f"{name:14} {text}" if "\n" not in text else f"{name}\n    " + text.replace("\n", "\n    ")
        )
