"""One run of a program of the config, as a server has it: what ``imagefactory programs test`` tells."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..config import Config
from ..engine.made import as_file, header_of
from ..engine.programs import Ordered, Programs
from ..errors import BadParameter, ImageFactoryError, ProgramFailed, ProgramStopped
from ..model.formats import HEAD_BYTES, KNOWN_ENCODINGS
from ..model.geometry import clamp, source_size
from ..model.job import Job, Rendered
from ..model.program import PLACEHOLDER, VARIANTS, ProgramJob, Run
from ..model.recipe import Recipe
from ..model.source import Header, Stamp
from ..render import films
from ..render.programs import sandbox
from ..storage.body import Body
from ..urls.parameters import PARAMETERS, whole
from ..urls.program_parameters import read_asked
from ..workers.rendering import InThread

__all__ = ["TAKEN", "trial"]

_SIDES = ("scalex", "scaley")
# What a program may be asked for: parameters of URLs, and the placeholders that they fill.
TAKEN = {
    **{name: name for name, row in PARAMETERS.items() if row.for_programs and name != "vtt"},
    "t": "time",
    "scalex": "width",
    "scaley": "height",
    "quality": "quality",
}
_SMALL = 16  # pixels: to see whether they can be read


def trial(
    config: Config, name: str, picture: Path, pairs: Mapping[str, str]
) -> tuple[dict[str, object], bytes]:
    """What to say of a run of the table *name* on *picture*, with an ``error`` where a server would answer
    with one, and the bytes that were made.

    *pairs* are parameters with names of ``TAKEN``. Raises BadParameter for what the program can't be asked,
    Undecodable, ProgramStopped where it is not installed, OSError where *picture* can't be read.
    """
    row, limits = config.programs[name], config.limits
    programs = Programs(config.programs)
    width, height = (whole(1, limits.max_side)(side, pairs[side]) if side in pairs else 0 for side in _SIDES)
    quality = whole(1, 100)("quality", pairs.get("quality", "80"))
    with picture.open("rb") as file:
        head = file.read(HEAD_BYTES)
        header = Header(0, 0, "", programs=name, duration_s=films.duration_s(file))
    run = _run(programs, header, row.role, pairs)
    size = (0, 0) if row.role == "decode" else (width or limits.max_side, height or limits.max_side)
    order = programs.ordered(run, size, quality)
    _check_taken(order, pairs)
    said: dict[str, object] = {}
    fitting = programs.fitting(picture.name, head)
    if row.sources and name not in fitting:
        said["note"] = (
            f"for this name and these first bytes a server takes {', '.join(fitting) or 'no program'}"
        )
    began, body = time.monotonic(), b""
    try:
        if row.role == "encode":
            made = _encoded(config, order, row.encodings[0], picture, quality)
        else:
            made = _made(order, row.encodings[0] if row.role == "whole" else order.program.format, picture)
        if row.role == "decode" and (width or height):  # as for its header, and then for what is asked
            order = programs.ordered(run, _scaled(made, width, height, config), quality)
            made = _made(order, order.program.format, picture)
        body = made.body or b""
        said |= {"bytes": len(body), "width": made.width, "height": made.height}
        said |= {f"{phase}_s": round(seconds, 3) for phase, seconds in made.seconds.items()}
        if row.role == "decode":
            _check_pixels(config, made)
        said["status"] = 200
    except (ImageFactoryError, OSError) as error:
        said |= {"error": str(error), "status": getattr(error, "status", 503)}
        if isinstance(error, ProgramFailed | ProgramStopped):
            said["standard_error"] = error.said
    said["seconds"] = round(time.monotonic() - began, 3)
    about = {
        "command": shlex.join(_filled(order)),
        "version": order.program.version,
        "sandbox": sandbox.kind_for(order.program),
    }
    return {**about, **said}, body


def _run(programs: Programs, header: Header, role: str, pairs: Mapping[str, str]) -> Run:
    """The run of a table, or of the table that *pairs* choose by one of its variants."""
    own = {each: text for each, text in pairs.items() if PARAMETERS[each].for_programs}
    asked = read_asked(own.items())
    if role == "decode" and asked.variant():
        found = programs.run(header, asked, whole_seconds=False)
        if found is not None:
            return found
    return programs.plain_run(header.programs, asked)


def _check_taken(order: Ordered, pairs: Mapping[str, str]) -> None:
    """Raise BadParameter for one of *pairs* that the command has no placeholder for."""
    program = order.program
    for name, text in pairs.items():
        chooses = name in VARIANTS or (name, text.lower()) == ("t", "auto")
        if not chooses and not program.takes(TAKEN[name]):
            taken = [each for each, placeholder in TAKEN.items() if program.takes(placeholder)]
            made_later = "; sizes are made of what it gives" if name in _SIDES else ""
            problem = f"[programs.{program.name}] takes no {name}; it takes {', '.join(taken) or 'none'}"
            raise BadParameter(name, problem + made_later)


def _filled(order: Ordered) -> list[str]:
    """The command with its numbers; the names of files stay as they are."""
    shown = {"in": "{in}", "out": "{out}", **order.values}
    arguments = (PLACEHOLDER.sub(lambda found: shown[found[1]], each) for each in order.program.arguments)
    return [*order.program.start, *arguments]


def _made(order: Ordered, makes: str, picture: Path) -> Rendered:
    stamp = Stamp.of(picture.stat())
    return InThread().run(
        ProgramJob(picture, stamp, order.program, order.values, makes, None, order.fallbacks)
    )


def _scaled(natural: Rendered, width: int, height: int, config: Config) -> tuple[int, int]:
    """The size that a server asks for, where the source has the size of *natural*."""
    header = Header(natural.width or 1, natural.height or 1, "", is_scalable=True)
    recipe = clamp(Recipe(width=width, height=height), header, KNOWN_ENCODINGS["png"], config.limits.max_side)
    return source_size(recipe, header, config.limits.max_pixels)


def _encoded(config: Config, order: Ordered, encoding: str, picture: Path, quality: int) -> Rendered:
    header = InThread().probe(picture)
    if header is None:
        raise ProgramFailed(order.program.name, "was not started: this is no picture that it could encode")
    recipe = Recipe(width=header.width, height=header.height, fit="stretch", quality=quality)
    limits = config.limits
    job = Job(picture, Stamp.of(picture.stat()), recipe, encoding, None, limits.max_pixels, limits.max_side)
    return InThread().render(replace(job, encoder=order.program))


def _check_pixels(config: Config, made: Rendered) -> None:
    """Have our pipeline read all pixels that a decoder *made*, as a server does next. Raises as a render."""
    limits = config.limits
    with as_file(Body(made.body or b""), "made") as local:
        header = header_of(InThread(), local)
        recipe = clamp(Recipe(width=_SMALL, quality=80), header, KNOWN_ENCODINGS["jpeg"], _SMALL)
        job = Job(local.path, local.stamp, recipe, "jpeg", None, limits.max_pixels, limits.max_side)
        InThread().render(replace(job, descriptor=local.descriptor))
