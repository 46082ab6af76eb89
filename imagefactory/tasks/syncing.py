"""The job that brings the catalog to the folder, and has what came there by hand worked on like an upload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..catalog.jobs import JobRow, JobRows
from ..catalog.pictures import Picture, PictureRows
from ..engine.identify import Identifier
from ..storage.protocols import Sources
from ..upkeep.syncing import Synced, sync

if TYPE_CHECKING:
    from ..catalog.database import Connection

__all__ = ["SyncKind", "presets_item"]

_NAMED = 100


def presets_item(picture: Picture) -> tuple[str, str]:
    """Kind and subject of the job that makes the presets of *picture*."""
    return "presets", f"{picture.digest} {picture.path}"


class SyncKind:
    """A ``Kind``, and the same for a command. The first time a catalog only gets its rows: the pictures of a
    site that has been there for years are made when they are asked for."""

    def __init__(
        self,
        sources: Sources,
        identifier: Identifier,
        pictures: PictureRows,
        jobs: JobRows,
        clock: Callable[[], float],
    ) -> None:
        self._sources = sources
        self._identifier = identifier
        self._pictures = pictures
        self._jobs = jobs
        self._clock = clock

    def __call__(self, job: JobRow, report: Callable[[int, int], None]) -> Mapping[str, object]:
        done, total = 0, self._pictures.count()

        def count(number: int) -> None:
            nonlocal done
            done += number
            report(done, max(done, total))

        found = asdict(self.sync(count))
        found["failed"] = found["failed"][:_NAMED]
        return found

    def sync(self, on_progress: Callable[[int], object], *, may_empty: bool = False) -> Synced:
        """See ``upkeep.syncing.sync``."""
        is_first = not self._pictures.was_synced()

        def enqueue(pictures: list[Picture], connection: Connection) -> None:
            if not is_first:
                self._jobs.enqueue([presets_item(each) for each in pictures], connection)

        done = sync(
            self._sources,
            self._identifier,
            self._pictures,
            self._clock,
            enqueue,
            on_progress=on_progress,
            may_empty=may_empty,
        )
        if done.is_whole:
            self._pictures.note_synced(self._clock())
        return done
