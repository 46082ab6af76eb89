"""Runs an external program on an open source: in a sandbox, within its limits, its output into an open file.

Called in a render worker, a process with one thread. What the program reads and writes are the open files
themselves, so nothing is copied on the way. Here is the command; ``supervising`` has the processes,
``sandbox`` what a program can see, and ``verdict`` says what went wrong.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...model.formats import KNOWN_ENCODINGS
from ...model.program import PLACEHOLDER, Program
from . import kernel, private_folder, sandbox
from .starting import REPORT, SOURCE, Start
from .supervising import supervised
from .verdict import cpu_s, size_of_output, unstarted

__all__ = ["Ran", "run"]

_OPEN_FILES = 256
_PATH = "/usr/local/bin:/usr/bin:/bin"
_NUMBERS = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
_NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run took: wall time, the processor time of all its processes, the *bytes* of its output."""

    seconds: float
    cpu_s: float
    bytes: int


def run(
    program: Program,
    values: Mapping[str, str],
    source: int,
    target: int,
    expected: str,
    watched: int | None = None,
) -> Ran:
    """Run *program* with *values* for its placeholders; its output is in *target* then.

    *source* is an open regular file, which is read from its start, *target* an empty file, open for writing.
    *expected* is the format of the output, as in ``starts_as``. All processes are ended when the
    peer of the descriptor *watched* hangs up; nothing is read from it. Whether this returns or raises, no
    process, folder or descriptor of the run is left.

    Raises ProgramFailed and ProgramStopped, see ``verdict``, and OSError when *target* can't be written.
    """
    began = time.monotonic()
    if not os.access(program.start[0], os.X_OK):  # in a sandbox it would be the sandbox that says so
        raise unstarted(program, errno.EACCES if Path(program.start[0]).exists() else errno.ENOENT)
    os.lseek(source, 0, os.SEEK_SET)
    os.lseek(target, 0, os.SEEK_SET)
    try:
        outcome = supervised(_start(program, values, source, target, expected), watched)
    except OSError as error:
        raise unstarted(program, error.errno or 0) from error
    size = size_of_output(program, outcome, target, expected)
    return Ran(time.monotonic() - began, outcome.cpu_s, size)


def _start(program: Program, values: Mapping[str, str], source: int, target: int, expected: str) -> Start:
    kind = sandbox.kind_for(program)
    is_bound = kind == "bubblewrap" and os.fstat(source).st_nlink > 0  # what is in memory alone has no path
    is_pipe, makes_file = program.input == "pipe", program.output == "file"
    at = 0 if is_pipe and not is_bound else SOURCE
    folder = private_folder.new_name() if makes_file or kind != "bubblewrap" else ""
    inside, out = ("/tmp", "/out") if kind == "bubblewrap" else (folder, folder)  # noqa: S108  # its own /tmp
    row = KNOWN_ENCODINGS.get(expected)
    result = f"result.{row.suffix if row else expected}".rstrip(".")
    names = {"in": "/in" if is_bound else f"{_NUMBERS}/{at}", "out": f"{out}/{result}", **values}
    arguments = [
        *program.start,
        *(PLACEHOLDER.sub(lambda found: names[found[1]], each) for each in program.arguments),
    ]
    if kind == "bubblewrap":
        arguments = sandbox.bubblewrapped(
            arguments,
            sandbox.readable(program),
            program.output_bytes,
            source=SOURCE if is_bound else None,
            is_input=is_pipe and is_bound,
            folder=folder,
            report=REPORT,
        )
    return Start(
        arguments,
        {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": inside, "TMPDIR": inside, **program.environment},
        {at: source} if makes_file else {at: source, 1: target},
        _limits(program),
        program.timeout_s,
        _confine(kind, program, at, folder),
        reports=kind == "bubblewrap",
        folder=folder,
        result=f"{folder}/{result}" if makes_file else "",
        result_bytes=program.output_bytes,
        target=target,
    )


def _confine(kind: sandbox.Kind, program: Program, at: int, folder: str) -> Callable[[], None] | None:
    if kind == "bubblewrap":  # does it itself, and may be a set-user-id program
        return None
    if kind == "none":
        return kernel.take_no_rights
    writable = () if program.output == "file" else (1,)
    return partial(kernel.confine, sandbox.readable_in_landlock(program), (at,), writable, folder)


def _limits(program: Program) -> list[tuple[int, int, int]]:
    """(limit, soft, hard). The worker's own are not those of the program."""
    wanted = (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES, 0),
        (resource.RLIMIT_CPU, cpu_s(program), 1),  # the first limit can be caught, the second one can't
        (resource.RLIMIT_AS, program.memory_bytes or _NO_LIMIT, 0),
        # One more than it may have: so a file that was cut can be told from one that just fits.
        (resource.RLIMIT_FSIZE, program.output_bytes + 1 if program.output_bytes else _NO_LIMIT, 0),
    )
    limits = []
    for limit, soft, more in wanted:
        highest = resource.getrlimit(limit)[1]
        if highest != resource.RLIM_INFINITY:
            soft, more = min(soft, highest), min(more, max(0, highest - soft))
        limits.append((limit, soft, soft + more))
    return limits
