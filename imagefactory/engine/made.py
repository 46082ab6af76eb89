"""What external programs make of a source, before it is a picture: run, and opened as a file for our
decoders."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from ..errors import Undecodable
from ..model.job import Rendered, Renderer
from ..model.program import ProgramJob, Run
from ..model.source import Header, Source, Stamp
from ..storage.body import Body
from ..storage.protocols import Contents, LocalFile
from .resolve import Resolver, Wanted

__all__ = ["as_file", "header_of", "job_for", "unstored_header", "with_header"]


def job_for(local: LocalFile, wanted: Wanted, target: Path | None) -> ProgramJob:
    """The job to make *wanted*, which has an order, from the source that is open as *local*."""
    order = wanted.order
    if order is None:
        raise ValueError("no program makes this")
    return ProgramJob(
        local.path,
        local.stamp,
        order.program,
        order.values,
        wanted.key.encoding,
        target,
        order.fallbacks,
        local.descriptor,
    )


@contextmanager
def as_file(body: Body, name: str) -> Iterator[LocalFile]:
    """*body*, which is *name*, as an open file for a renderer; closed after the block."""
    with body.open() if body.file is not None else _anonymous(body.data or b"") as file:
        path = body.root / body.name if body.name else Path(name)
        yield LocalFile(path, Stamp.of(os.fstat(file.fileno())), file.fileno())


def _anonymous(data: bytes) -> BinaryIO:
    if hasattr(os, "memfd_create"):
        file: BinaryIO = os.fdopen(os.memfd_create("made"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
    file.write(data)
    file.seek(0)
    return file


def header_of(renderer: Renderer, local: LocalFile) -> Header:
    """The header of what a program made. Raises Undecodable where it is no picture of ours."""
    header = renderer.probe(local.path, local.descriptor)
    if header is None:
        raise Undecodable("the program that reads it made no picture")
    return header


def with_header(source: Source, header: Header) -> Source:
    """*source* as a run shows it that made a picture with *header*."""
    if source.header is None:
        return source
    shown = replace(source.header, width=header.width, height=header.height, has_alpha=header.has_alpha)
    return replace(source, header=shown)


def unstored_header(
    sources: Contents, renderer: Renderer, resolver: Resolver, source: Source, run: Run
) -> Header:
    """The header of what *run* makes of *source*, which is kept nowhere. Raises as ``Renderer.run``."""
    wanted = resolver.base(source, run)
    with sources.fetch(source.path, source.stamp) as local:
        made: Rendered = renderer.run(job_for(local, wanted, None))
    with as_file(Body(made.body or b""), wanted.key.text()) as local:
        return header_of(renderer, local)
