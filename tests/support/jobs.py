"""Jobs for a renderer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from imagefactory.model.job import Job
from imagefactory.model.recipe import Recipe
from imagefactory.model.source import Stamp


def job(source: Path, target: Path | None = None, **changes: object) -> Job:
    """A job that makes a small picture."""
    recipe = Recipe(width=40, height=30, fit="stretch", quality=80)
    made = Job(source, Stamp.of(source.stat()), recipe, "webp", target, 50_000_000, 8192, {"method": 0})
    return replace(made, **changes)  # type: ignore[arg-type]
