"""stub: replaced by the branch runner"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import ProgramFailed
from ...model.formats import starts_as
from ...model.program import PLACEHOLDER, Program


@dataclass(frozen=True, slots=True)
class Ran:
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
    began = time.perf_counter()
    fills = dict(values) | {"in": f"/proc/self/fd/{source}"}
    argv = [*program.start, *(PLACEHOLDER.sub(lambda m: fills[m[1]], each) for each in program.arguments)]
    os.lseek(source, 0, 0)
    done = subprocess.run(
        argv,
        stdin=source if program.input == "pipe" else subprocess.DEVNULL,
        stdout=target,
        stderr=subprocess.PIPE,
        pass_fds=[source],
        timeout=program.timeout_s,
    )
    said = done.stderr.decode(errors="replace")[-2000:]
    if done.returncode:
        raise ProgramFailed(program.name, f"ended with exit code {done.returncode}", said)
    size = os.fstat(target).st_size
    if not size:
        error = ProgramFailed(program.name, "gave nothing", said)
        error.is_empty = True
        raise error
    if not starts_as(expected, os.pread(target, 64, 0)):
        raise ProgramFailed(program.name, f"gave something that is no {expected}", said)
    return Ran(time.perf_counter() - began, 0.0, size)
