"""One file from its bytes to a picture that is there: the order of steps, and what each may refuse.

receive    into a temporary file, hashed and counted (``receiving``)
look       does it start as a picture, is the same already there
check      all pixels are there and within the budget: decoded in a render worker
strip      positions are taken out
sync       the bytes are on the disk
publish    under a claim on its path: conditions, then in one transaction its row, its job and its name

A row is never there without its file, unless the process dies at the very end: then the file is there without
a row, nobody got an answer, and ``imagefactory catalog sync`` adds it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from ..catalog.database import UPLOADS_FOLDER, Database
from ..catalog.jobs import JobRows
from ..catalog.pictures import Picture, PictureRows, is_stamp, stamp_text
from ..config import Config
from ..errors import (
    BadParameter,
    BeingWritten,
    Busy,
    ConfigError,
    Exists,
    RequestError,
    SourceChanged,
    StorageError,
    TimedOut,
    UnderWay,
    WrongPicture,
)
from ..model.formats import HEAD_BYTES, may_be_picture
from ..model.job import Renderer
from ..model.source import Header, Stamp
from ..storage.claims import FileClaims
from ..storage.protocols import Contents
from ..tasks.syncing import presets_item
from . import names
from .completing import complete
from .publishing import Place, place_of
from .receiving import Received, Receiver, from_disk
from .stripping import strip_gps

if TYPE_CHECKING:
    from ..catalog.database import Connection

__all__ = ["Conditions", "Intake", "Stored", "kind_of"]

_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a PUT says of what is there: *must_be_new* (If-None-Match: *), *match* (If-Match)."""

    must_be_new: bool = False
    match: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a file: *status* 201 new, 200 the same is there or took the place of another one.

    *received* and *bytes* are those of the body, *digest* and *stored_bytes* those on the disk. *same_as*
    is another path with the same picture; *removed* says what was taken out; *job* is the token of the work
    in the background.
    """

    path: str
    status: int
    received: str
    bytes: int
    digest: str
    stored_bytes: int
    header: Header
    same_as: str = ""
    removed: tuple[str, ...] = ()
    job: str = ""
    is_replaced: bool = False

    def as_json(self, url: str) -> dict[str, object]:
        """The result as clients get it; *url* is that of the picture."""
        values: dict[str, object] = {
            "path": self.path,
            "status": self.status,
            "sha256": self.received,
            "bytes": self.bytes,
            "stored_sha256": self.digest,
            "stored_bytes": self.stored_bytes,
            "width": self.header.width,
            "height": self.header.height,
            "format": self.header.format,
            "url": url,
            "removed": list(self.removed),
            "job": self.job,
        }
        if self.same_as:
            values["same_as"] = self.same_as
        if self.is_replaced:
            values["replaced"] = True
        return values


def kind_of(header: Header) -> str:
    """The kind of a picture with *header*, as in ``[uploads] types``, but heif."""
    return "jpeg" if header.format == "MPO" else header.format.lower()


class Intake:
    """Takes pictures in. *turn* gives a place among the renders for a check, for a number of seconds at most;
    *wake* is called when there is new work in the background."""

    def __init__(
        self,
        config: Config,
        database: Database,
        pictures: PictureRows,
        jobs: JobRows,
        sources: Contents,
        renderer: Renderer,
        turn: Callable[[], AbstractContextManager[None]],
        wake: Callable[[], object],
        clock: Callable[[], float],
    ) -> None:
        self.settings = config.uploads
        try:
            self.path_of(names.placed(config.uploads.names, "x.jpg", "0" * 64, "jpeg", 0))
        except BadParameter as error:
            raise ConfigError(
                "uploads", f"no picture can come by this folder or these names: {error}"
            ) from None
        self._timeout_s = config.render.timeout_s
        self._max_pixels = config.limits.max_pixels
        self._root = config.paths.pictures
        self._types = {"heif" if name == "heic" else name for name in config.uploads.types}
        self._database = database
        self._pictures = pictures
        self._jobs = jobs
        self._sources = sources
        self._renderer = renderer
        self._turn = turn
        self._wake = wake
        self._clock = clock
        folder = self._root / UPLOADS_FOLDER
        max_bytes = min(config.uploads.max_bytes, config.limits.max_source_bytes)
        self.receiver = Receiver(folder / "tmp", max_bytes, config.uploads.min_free)
        self._claims = FileClaims(folder / "locks" / "uploads")

    def path_of(self, text: str) -> str:
        """The path of a PUT to *text*. Raises BadParameter."""
        return names.path_of(names.joined(self.settings.folder, text))

    def store(
        self, received: Received, path: str, conditions: Conditions = Conditions(), name: str = ""
    ) -> Stored:
        """Make the picture *received* visible at *path*, or where *path* is empty at the place that the
        config gives to a file called *name*. Raises RequestErrors."""
        descriptor = received.temp.number
        if not may_be_picture(os.pread(descriptor, HEAD_BYTES, 0)):
            raise self.unknown()
        if path and (same := self._same(received, path, conditions)):
            return same
        is_of_form = not path
        header = self.check(received)
        kind = kind_of(header)
        if kind not in self._types:
            raise WrongPicture(f"pictures of {header.format} are not taken, only {self._taken()}")
        if not path:
            placed = names.placed(self.settings.names, name, received.digest, kind, self._clock())
            path = self.path_of(placed)
        suffix = path.rpartition("/")[2].rpartition(".")[2].lower()
        if suffix not in names.SUFFIXES[kind]:
            wanted = " or ".join(f".{each}" for each in names.SUFFIXES[kind])
            raise WrongPicture(f"it is a picture of {header.format}, so its name has to end with {wanted}")
        removed = ("gps",) if self._strip(received, kind) else ()
        is_completed = kind == "jpeg" and self._edit(received, complete)
        digest = _digest(descriptor) if removed or is_completed else received.digest
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise from_disk(error) from error
        return self._published(received, path, digest, header, removed, conditions, is_of_form)

    def remove(self, path: str) -> bool:
        """Remove the picture at *path* and its row; whether there was one. Raises UnderWay, Unavailable."""
        try:
            with self._claimed(path), place_of(self._root, path, must_make=False) as place:
                is_there = place.stamp() is not None
                with self._database.write() as connection:
                    count = self._pictures.remove([path], connection)
                    if is_there:
                        place.remove()
                    self._database.commit(connection)
                if is_there:
                    place.settle()
                return bool(is_there or count)
        except FileNotFoundError:
            return bool(self._pictures.remove([path]))
        except BadParameter:
            return False
        except OSError as error:
            raise from_disk(error) from error

    def check(self, received: Received) -> Header:
        """The header of the picture *received*, whose pixels are all there. Raises WrongPicture, Undecodable,
        TooLarge, Busy, TimedOut, Unavailable."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                with self._turn():
                    found = self._renderer.check(received.temp.path, self._max_pixels, received.temp.number)
                break
            except Busy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_S)
            except SourceChanged:
                raise BeingWritten from None
            except OSError as error:
                raise from_disk(error) from error
        if found is None:
            raise self.unknown()
        return found

    def unknown(self) -> WrongPicture:
        """The error of what is no picture."""
        return WrongPicture(f"this is no picture in a known format; taken are {self._taken()}")

    def _taken(self) -> str:
        return ", ".join(self.settings.types)

    def _strip(self, received: Received, kind: str) -> bool:
        return self.settings.strip == "gps" and self._edit(received, partial(strip_gps, kind=kind))

    def _edit(self, received: Received, edit: Callable[[BinaryIO], bool]) -> bool:
        """Have the file *received* changed by *edit*; whether it was."""
        try:
            with open(received.temp.number, "r+b", closefd=False) as file:
                return edit(file)
        except OSError as error:
            raise from_disk(error) from error

    def _same(self, received: Received, path: str, conditions: Conditions) -> Stored | None:
        """The answer where the bytes *received* are at *path* already, and known: they are not checked
        again."""
        try:
            with place_of(self._root, path, must_make=False) as place:
                stamp = place.stamp()
        except (FileNotFoundError, BadParameter):
            return None
        known = None if stamp is None else self._pictures.get(path)
        if stamp is None or known is None or received.digest not in (known.digest, known.received):
            return None
        if not is_stamp(known.stamp, stamp, may_be_racy=True):
            return None
        if conditions.match is not None and not _names(conditions.match, {known.digest, known.received}):
            raise Exists("the picture at this address is not the one that If-Match names")
        job = self._enqueue(known, None)
        header = Header(known.width, known.height, known.format)
        return Stored(path, 200, received.digest, received.bytes, known.digest, stamp.size, header, job=job)

    def _published(
        self,
        received: Received,
        path: str,
        digest: str,
        header: Header,
        removed: tuple[str, ...],
        conditions: Conditions,
        is_of_form: bool,
    ) -> Stored:
        # The files of a form may be the same, and are taken side by side: they wait for each other.
        patience_s = self._timeout_s if is_of_form else 0
        with self._claimed(path, patience_s), place_of(self._root, path) as place:
            is_there, same = self._judge(place, path, (digest, received.digest), conditions)
            stored = same or digest
            now_s = self._clock()

            def note(stamp: Stamp, connection: Connection) -> tuple[str, str]:
                """Write the row and the job; the token of the job, and another path with the same picture."""
                picture = Picture(
                    path,
                    stored,
                    received.digest,
                    stamp_text(stamp),
                    stamp.size,
                    header.width,
                    header.height,
                    header.format,
                    added_s=now_s,
                )
                self._pictures.put([picture], connection)
                twin = self._pictures.twin(path, (digest, received.digest), connection)
                return self._enqueue(picture, connection), twin

            if same:
                stamp = place.stamp()
                if stamp is None:
                    raise UnderWay
                with self._database.write() as connection:
                    job, same_as = note(stamp, connection)
            else:
                # The database is asked first: a file that nobody may hear of shall not be seen meanwhile.
                with (
                    self._database.write() as connection,
                    place.published(received.temp, may_replace=is_there) as stamp,
                ):
                    job, same_as = note(stamp, connection)
                    self._database.commit(connection)
                place.settle()
        self._wake()
        return Stored(
            path,
            200 if is_there else 201,
            received.digest,
            received.bytes,
            stored,
            stamp.size,
            header,
            same_as,
            removed if stored == digest else (),  # what is there may have come by hand
            job,
            is_replaced=is_there and not same,
        )

    @contextmanager
    def _claimed(self, path: str, patience_s: float = 0) -> Iterator[None]:
        """Hold *path*, which one upload at a time has. Raises UnderWay for others, after *patience_s*
        seconds."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self._claims.take(path, patience_s))
            except TimedOut:
                raise UnderWay from None
            except StorageError as error:
                raise from_disk(error.__cause__) from error
            yield

    def _judge(
        self, place: Place, path: str, digests: tuple[str, str], conditions: Conditions
    ) -> tuple[bool, str]:
        """Whether there is a picture at *place*, and if it is one of *digests*, stored or received, the
        digest of its file. Raises Exists where the *conditions* or the config do not let it be replaced."""
        stamp = place.stamp()
        if stamp is None:
            if conditions.match is not None:
                raise Exists("there is no picture at this address")
            return False, ""
        known = self._pictures.get(path)
        if known is not None and is_stamp(known.stamp, stamp, may_be_racy=True):
            stored, there = known.digest, {known.digest, known.received}
        else:
            try:
                stored = self._sources.digest(path)[0]
            except SourceChanged:
                raise UnderWay from None
            except RequestError:
                stored = ""
            there = {stored}
        if there.intersection(digests):
            return True, stored
        if conditions.must_be_new:
            raise Exists("there is another picture at this address")
        if conditions.match is not None:
            if not _names(conditions.match, there):
                raise Exists("the picture at this address is not the one that If-Match names")
            return True, ""
        if not self.settings.overwrite:
            raise Exists("there is another picture at this address, and [uploads] overwrite is off")
        return True, ""

    def _enqueue(self, picture: Picture, connection: Connection | None) -> str:
        return self._jobs.enqueue([presets_item(picture)], connection)[0]


def _names(match: str, digests: set[str]) -> bool:
    """Whether the value of If-Match names one of *digests*, as a whole or as in an ETag."""
    named = {each.strip().strip('"') for each in match.split(",")}
    return "*" in named or any(digest in named or digest[:32] in named for digest in digests)


def _digest(descriptor: int) -> str:
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()
