"""A job for an external program: its source opened, the program run, its result in the target.

What the program writes goes into the target itself; nothing is copied on the way.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ImageFactoryError, ProgramFailed
from ..model.job import Rendered
from ..model.program import ProgramJob
from .pipeline import probe
from .programs.running import run
from .programs.targets import opened
from .source_file import SourceFile, check_unchanged

__all__ = ["make"]


def make(job: ProgramJob, watched: int | None = None) -> Rendered:
    """Do *job*. *watched* is a descriptor whose hang-up ends it. Raises ProgramFailed, ProgramStopped,
    SourceChanged; OSError when the source can't be read or the target can't be written."""
    with SourceFile(job.source, job.descriptor) as file, opened(job.target) as target:
        check_unchanged(file, job.stamp)
        programs = (job.program, *job.fallbacks)
        for number, program in enumerate(programs):
            makes = job.makes if program.role == "whole" else program.format
            try:
                ran = run(program, job.values, file.fileno(), target, makes, watched)
                break
            except ProgramFailed as error:
                if not error.is_empty or number == len(programs) - 1:
                    raise
        check_unchanged(file, job.stamp)
        size = _size(target, job.makes)
        body = None
        if job.target is None:
            body = os.pread(target, os.fstat(target).st_size, 0)
        return Rendered(*size, body, {"run": ran.seconds, "cpu": ran.cpu_s})


def _size(target: int, makes: str) -> tuple[int, int]:
    """The size in pixels of what was made, (0, 0) where it is no picture that we read."""
    try:
        header = probe(Path(makes), target)
    except (ImageFactoryError, OSError):
        return 0, 0
    return (header.width, header.height) if header else (0, 0)
