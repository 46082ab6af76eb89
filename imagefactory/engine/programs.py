"""Which external programs read a source, and what a URL asks of them: the tables of ``[programs]``.

A table that fits is chosen by the name and the first bytes of a source; that is remembered in the source's
row (``Header.programs``), together with what stands for all tables that its name could have fitted
(``Source.tables``). Another table, command or version of a program changes that, and the source is looked at
again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ..config.programs import ProgramTable, magic_bytes
from ..errors import BadParameter, ConfigError, ProgramStopped, Undecodable
from ..model.formats import BY_PROGRAMS, ENCODINGS
from ..model.program import Program, Run
from ..model.recipe import number_text
from ..model.source import Header, Source
from ..render.programs import finding, sandbox
from ..urls.program_parameters import NOTHING, Asked, read_asked
from ..urls.query import Request

__all__ = ["Ordered", "Programs"]

_log = logging.getLogger(__name__)

_FPS = 10.0  # of a preview, where nobody says
_LOOK_S = 1.0  # how long a program is taken for the one that it was


@dataclass(frozen=True, slots=True)
class Ordered:
    """A *program* with the *values* of its placeholders, and what is tried where it gives nothing."""

    program: Program
    values: Mapping[str, str]
    fallbacks: tuple[Program, ...] = ()


class Programs:
    """The programs of *tables*, by their names. None is looked for before it is asked for, or ``check``."""

    def __init__(self, tables: Mapping[str, ProgramTable]) -> None:
        self._tables = tables
        self._found: dict[str, tuple[float, tuple[int, ...], Program]] = {}
        self._versions: dict[tuple[object, ...], str] = {}
        self._digests: dict[str, str] = {}
        self.suffixes = frozenset(suffix for row in tables.values() for suffix in row.sources)
        self._encoders = {
            encoding: name
            for name, row in reversed([*tables.items()])
            if row.role == "encode"
            for encoding in row.encodings
        }

    def check(self) -> None:
        """Raise ConfigError for a program that is not there, or whose sandbox is required and is not."""
        for name, row in self._tables.items():
            if not finding.found(row.command[0]):
                extra = finding.extra_of(row.command[0])
                hint = f"; or pip install 'flask-imagefactory[{extra}]'" if extra else ""
                problem = (
                    f"there is no program {row.command[0]!r} on PATH; install it, or write its path{hint}"
                )
                raise ConfigError(f"programs.{name}.command", problem)
            if problem := sandbox.problem(row.sandbox):
                raise ConfigError(f"programs.{name}.sandbox", problem)
            if row.probe and not self.program(name).version:
                problem = f"{' '.join(row.probe)} prints no line, so its version is not known"
                raise ConfigError(f"programs.{name}.probe", problem)

    # --- what fits a source

    def may_read(self, path: str) -> bool:
        """Whether a file with the name of *path* may be for a program."""
        return bool(self.suffixes) and path.lower().endswith(tuple(self.suffixes))

    def fitting(self, path: str, head: bytes) -> list[str]:
        """The names of the tables for a source at *path* that starts with *head*: in their order, the first
        decoder and all that make whole answers."""
        names, has_decoder = [], False
        for name, row in self._by_name(path):
            marks = [magic_bytes(magic) for magic in row.magic]
            is_right = not marks or any(head[at : at + len(start)] == start for at, start in marks)
            if is_right and not (row.role == "decode" and has_decoder):
                names.append(name)
                has_decoder |= row.role == "decode"
        return names

    def tables(self, path: str) -> str:
        """What stands for all tables that the name of *path* may fit, with their programs' versions; empty
        where there are none."""
        if not self.may_read(path):
            return ""
        keys = [[name, *row.magic, *self._keys(name)] for name, row in self._by_name(path)]
        text = json.dumps(keys)
        if text not in self._digests:
            self._digests = {**dict(list(self._digests.items())[-100:]), text: _digest(keys)}
        return self._digests[text]

    def is_current(self, source: Source) -> bool:
        """Whether *source* was read when these tables, with these versions of their programs, were there."""
        return source.tables == self.tables(source.path)

    def _by_name(self, path: str) -> Iterator[tuple[str, ProgramTable]]:
        path = path.lower()
        for name, row in self._tables.items():
            if row.sources and path.endswith(row.sources):
                yield name, row

    def _keys(self, name: str) -> list[str]:
        """The keys of a table and of its variants."""
        return [self.program(each).key for each in (name, *self._tables[name].variants.values())]

    # --- programs

    def program(self, name: str) -> Program:
        """The program of the table *name*, found, with its version. Raises ProgramStopped where it is
        gone."""
        row, now_s = self._tables[name], time.monotonic()
        known = self._found.get(name)
        if known is not None and now_s - known[0] < _LOOK_S:
            return known[2]
        start = finding.found(row.command[0])
        probe = finding.found(row.probe[0]) if row.probe else ()
        if not start or (row.probe and not probe):
            raise ProgramStopped(name, "is not installed any more")
        mark = (*_mark(start), *_mark(probe))
        if known is not None and known[1] == mark:
            program = known[2]
        else:
            version = self._version(probe, row) if probe else ""
            fallback = self.program(row.fallback).key if row.fallback else ""
            program = _program(name, row, start, version, fallback)
            if known is not None and program.key != known[2].key:
                _log.warning(
                    "the program of [programs.%s] is another one now: its pictures are made anew", name
                )
        self._found[name] = now_s, mark, program
        return program

    def _version(self, probe: tuple[str, ...], row: ProgramTable) -> str:
        """What the program *probe* says of itself: asked once for all tables that ask alike."""
        key = (*_mark(probe), *probe, *row.probe[1:], *row.environment.items())
        if key not in self._versions:
            self._versions[key] = finding.version(probe, row.probe[1:], row.environment)
        return self._versions[key]

    def encoder(self, encoding: str) -> Program | None:
        """The program that encodes as *encoding*, if there is one."""
        name = self._encoders.get(encoding)
        return self.program(name) if name else None

    def concurrency(self, name: str) -> int:
        """How many runs of the program go on at a time; 0 for as many as there are renders."""
        return self._tables[name].concurrency

    def streams(self, name: str) -> bool:
        """Whether its answer is sent while it is made."""
        return self._tables[name].stream

    def decoder(self, header: Header) -> str:
        """The name of the table that makes pixels of a source with *header*, empty where there is none."""
        return next((each for each in self._names(header) if self._tables[each].role == "decode"), "")

    def _names(self, header: Header | None) -> list[str]:
        # A row of another config may name what is not there; it is read again, see ``is_current``.
        return [name for name in (header.programs.split() if header else ()) if name in self._tables]

    # --- what a URL asks for

    def parameters(self, header: Header) -> dict[str, float]:
        """The parameters of URLs that a source with *header* takes, and their defaults."""
        name = self.decoder(header)
        if not name:
            return {}
        row, taken = self._tables[name], {}
        for placeholder in ("time", "page", "dpi"):
            if placeholder in row.placeholders():
                taken["t" if placeholder == "time" else placeholder] = row.parameters.get(placeholder, 0.0)
        return taken | {word: 0.0 for word in row.variants if word != "auto"}

    def is_decoder(self, name: str) -> bool:
        """Whether the table *name* makes pixels."""
        return self._tables[name].role == "decode"

    def is_scalable(self, name: str) -> bool:
        """Whether the table *name* makes pixels in the size that is needed."""
        return not {"width", "height"}.isdisjoint(self._tables[name].placeholders())

    def run(self, header: Header, asked: Asked, *, whole_seconds: bool) -> Run | None:
        """The run that makes the pixels of a source with *header* for what is *asked*; None where our own
        pipeline reads it. With *whole_seconds* the time is cut to such, so that there are no more runs than
        seconds. Raises BadParameter, Undecodable."""
        name = self.decoder(header)
        if not name:
            return None
        row = self._tables[name]
        word = asked.variant()
        if word:
            if word not in row.variants:
                what = "t=auto" if word == "auto" else word
                raise BadParameter(
                    "t" if word == "auto" else word, f"this server has no program for {what} here"
                )
            name = row.variants[word]
        values = self._values(name, asked, whole_seconds=whole_seconds)
        taken = self._tables[name].placeholders()
        if asked.preview or asked.sprite:
            frames, fps = _frames_of(asked, self._tables[name], header)
            values |= {"frames": str(frames), "fps": number_text(fps)}
            values = {key: value for key, value in values.items() if key in taken or key == "fps"}
        if asked.sprite:
            values["sprite"] = f"{asked.sprite[0]}x{asked.sprite[1]}"
        return Run(self.program(name).key, tuple(sorted(values.items())))

    def plain_run(self, name: str, asked: Asked = NOTHING) -> Run:
        """The run of the table *name* itself, for what is *asked*."""
        values = self._values(name, asked, whole_seconds=False)
        return Run(self.program(name).key, tuple(sorted(values.items())))

    def _values(self, name: str, asked: Asked, *, whole_seconds: bool) -> dict[str, str]:
        """The values of placeholders that *asked* and the table's defaults have, without sizes and
        quality."""
        row, values = self._tables[name], {}
        for placeholder in row.placeholders() & {"time", "page", "dpi", "frames", "fps"}:
            value = asked.number(placeholder)
            number = row.parameters.get(placeholder, _DEFAULTS[placeholder]) if value is None else value
            if placeholder == "time" and whole_seconds:
                number = int(number)
            values[placeholder] = number_text(number)
        return values

    def ordered(self, run: Run, size: tuple[int, int], quality: int | None = None) -> Ordered:
        """What is to be started for *run*, at *size* in pixels (0: its natural size). Raises ProgramStopped
        where the program was exchanged meanwhile."""
        name = self._name(run)
        if not name:
            raise ProgramStopped("", "was exchanged at this moment")
        fallbacks = [*self._fallbacks(name)]
        defaults: dict[str, float] = {**_DEFAULTS}
        for each in reversed([name, *(fallback.name for fallback in fallbacks)]):
            defaults |= self._tables[each].parameters
        values = {key: number_text(value) for key, value in defaults.items()} | dict(run.values)
        values |= {"width": str(size[0]), "height": str(size[1]), "quality": str(quality or 0)}
        return Ordered(self.program(name), values, tuple(fallbacks))

    def _name(self, run: Run) -> str:
        """The name of the table of *run*, empty where its program was exchanged meanwhile."""
        return next((name for name in self._tables if self.program(name).key == run.program), "")

    def _fallbacks(self, name: str) -> Iterator[Program]:
        while name := self._tables[name].fallback:
            yield self.program(name)

    def has_own_size(self, run: Run) -> bool:
        """Whether what *run* makes may have another size than what is made where nothing is asked for."""
        name = self._name(run)
        return bool(name) and not {"page", "dpi"}.isdisjoint(self._tables[name].placeholders())

    def takes_size(self, run: Run) -> bool:
        """Whether the program of *run* makes pixels in the size that is needed."""
        name = self._name(run)
        return bool(name) and self.is_scalable(name)

    def whole(self, header: Header, request: Request, encoding: str) -> tuple[Run | None, str]:
        """The run that makes the whole answer to *request* in *encoding*; else None, and the parameter for
        which there is none. Empty where no such program fits at all."""
        missing = ""
        for name in self._names(header):
            row = self._tables[name]
            if row.role != "whole":
                continue
            if encoding not in row.encodings:
                missing = missing or "encoding"
                continue
            taken = row.placeholders()
            left = sorted(each for each in request.names if not _TAKEN_BY.get(each, frozenset()) & taken)
            if left:
                missing = left[0]
                continue
            if {"width", "height"} & taken and not (
                request.recipe.width or request.recipe.height or header.width
            ):
                missing = "scalex"
                continue
            return self.plain_run(name, read_asked(request.texts)), ""
        return None, missing


_DEFAULTS = MappingProxyType({"time": 0.0, "page": 1.0, "dpi": 96.0, "frames": 1.0, "fps": _FPS})
# Parameters of a URL, and the placeholders of which a command has to have one.
_TAKEN_BY: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "scalex": frozenset({"width"}),
        "scaley": frozenset({"height"}),
        "size": frozenset({"width", "height"}),
        "resize": frozenset({"width", "height"}),
        "dpr": frozenset({"width", "height"}),
        "quality": frozenset({"quality"}),
        "encoding": frozenset({"in", "out", *ENCODINGS, *BY_PROGRAMS}),
        "t": frozenset({"time"}),
        "page": frozenset({"page"}),
        "dpi": frozenset({"dpi"}),
        "frames": frozenset({"frames"}),
        "fps": frozenset({"fps"}),
    }
)


def _frames_of(asked: Asked, row: ProgramTable, header: Header) -> tuple[int, float]:
    """How many frames a preview or a sheet takes, and how many a second."""
    if asked.sprite:
        frames = asked.sprite[0] * asked.sprite[1]
        if not header.duration_s:
            raise Undecodable("it does not say how long it lasts, which a sheet of frames needs")
        return frames, max(0.000001, frames / header.duration_s)
    fps = asked.number("fps") or row.parameters.get("fps", _FPS)
    return max(1, round(asked.preview * fps)), fps


def _program(name: str, row: ProgramTable, start: tuple[str, ...], version: str, fallback: str) -> Program:
    key = _digest(
        [row.role, row.command, row.input, row.output, row.format, dict(row.environment), version, fallback]
    )
    return Program(
        name=name,
        role=row.role,
        start=start,
        arguments=row.command[1:],
        key=key,
        version=version,
        input=row.input,
        output=row.output,
        format=row.format,
        timeout_s=row.timeout_s,
        memory_bytes=row.memory_bytes,
        output_bytes=row.output_bytes,
        sandbox=row.sandbox,
        environment=row.environment,
        read=finding.read_folders(start),
    )


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]


def _mark(start: tuple[str, ...]) -> tuple[int, ...]:
    """What changes when a program is exchanged."""
    if not start:
        return ()
    try:
        status = Path(start[-1] if start[-1].startswith("/") else start[0]).stat()
    except OSError:
        return (0,)
    return status.st_ino, status.st_size, status.st_mtime_ns
