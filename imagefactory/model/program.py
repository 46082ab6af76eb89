"""An external program that makes pictures: what is needed to run it, and what it is run with.

``[programs.NAME]`` of the config becomes a ``Program``; which one is run for a source, and with which values,
is decided in ``engine.programs``; ``render.programs`` runs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from .source import Stamp

__all__ = ["PATTERN", "PLACEHOLDER", "PLACEHOLDERS", "VARIANTS", "Program", "ProgramJob", "Run"]

# What a command may have in braces. ``in`` and ``out`` are files that we name, all else are numbers.
PLACEHOLDERS = ("in", "out", "width", "height", "quality", "time", "page", "dpi", "frames", "fps")
# Parameters of URLs that choose another table: ``t=auto``, and these by their names.
VARIANTS = ("auto", "exact", "preview", "sprite")
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Program:
    """One way to run an external program. *role* is ``decode``, ``encode`` or ``whole``, *sandbox* is
    ``auto``, ``required`` or ``none``.

    *start* is the program itself, found: an absolute path, perhaps with arguments before those of
    *arguments*, which have placeholders. *input* is how it gets what it reads: a ``file`` named by ``{in}``,
    or its standard input (``pipe``); *output* likewise, ``{out}`` or its standard output. *version* is what
    its probe said. *format* is what a ``decode`` program makes, what an ``encode`` program reads. *key* is 8
    hex digits that stand for the table and the program's version, *timeout_s* its wall time; its processor
    time is two thirds of that. Limits of 0 are none. *read* are folders beside the system's that it may read.
    """

    name: str
    role: str
    start: tuple[str, ...]
    arguments: tuple[str, ...]
    key: str
    version: str = ""
    input: str = "file"
    output: str = "pipe"
    format: str = "ppm"
    timeout_s: int = 20
    memory_bytes: int = 0
    output_bytes: int = 0
    sandbox: str = "auto"
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    read: tuple[str, ...] = ()

    def takes(self, name: str) -> bool:
        """Whether its command has the placeholder *name*."""
        return any(f"{{{name}}}" in each for each in self.arguments)


@dataclass(frozen=True, slots=True)
class Run:
    """By which program the pixels of a source are made, by its *key*, and with which *values*: (name, text)
    pairs, sorted by name. A part of a recipe."""

    program: str
    values: tuple[tuple[str, str], ...] = ()

    def text(self) -> str:
        """The canonical text, as ``p1a2b3c4d,page2,time30``; ``parse`` reads it back."""
        return ",".join([f"p{self.program}", *(f"{name}{value}" for name, value in self.values)])

    @classmethod
    def parse(cls, text: str) -> Run:
        """The run with this text, which matches ``PATTERN``."""
        program, *words = text[1:].split(",")
        pairs = (re.match("([a-z]+)(.+)", word) for word in words)
        return cls(program, tuple((pair[1], pair[2]) for pair in pairs if pair))


# Of the text of a ``Run``.
PATTERN = r"p[0-9a-f]{8}(?:,[a-z]{1,12}[0-9]{1,6}(?:\.[0-9]{1,6}|x[0-9]{1,3})?)*"


@dataclass(frozen=True, slots=True)
class ProgramJob:
    """One run of *program* on a source, with the *values* of its placeholders.

    *source*, *stamp*, *descriptor* and *target* are as for a ``Job``. *makes* is the encoding or format that
    has to come out. The *fallbacks* are tried, one after the other, where a run ends well without a byte.
    """

    source: Path
    stamp: Stamp
    program: Program
    values: Mapping[str, str]
    makes: str
    target: Path | None
    fallbacks: tuple[Program, ...] = ()
    descriptor: int | None = None

    @property
    def timeout_s(self) -> int:
        """The wall time that all runs together may take."""
        return self.program.timeout_s + sum(each.timeout_s for each in self.fallbacks)
