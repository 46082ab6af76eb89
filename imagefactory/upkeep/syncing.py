"""Bring the catalog to what lies in the folder: the folder is the truth. And compare the two.

Called by ``imagefactory catalog``. A first walk goes through the folder: a file whose row has its stamp costs
one look, no byte is read; others are identified, and written 500 in a transaction. A second one goes through
the rows, and removes those whose file is gone. The walk is sorted within each folder alone, and links come
last, so the two are not merged. Both together cost 25 us of processor time for an unchanged file, and memory
for no more than a batch and the names in one folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from ..catalog.pictures import (
    PATH_LENGTH,
    READY,
    OnNew,
    Picture,
    PictureRows,
    is_stamp,
    stamp_text,
)
from ..engine.identify import Identifier
from ..engine.programs import Programs
from ..errors import BeingWritten, NotFound, RequestError, SourceChanged, StorageError, Unavailable
from ..model.formats import HEAD_BYTES, may_be_picture
from ..model.source import Source, Stamp
from ..storage.protocols import SourceRows, Sources

__all__ = ["Compared", "Difference", "Failed", "Synced", "compare", "sync"]

_AT_ONCE = 500
_MOST_AGAIN = 10_000
_MOST_NAMED = 1000


@dataclass(frozen=True, slots=True)
class Failed:
    """A file at *path* that could not be brought in, and why (*detail*)."""

    path: str
    detail: str


@dataclass(frozen=True, slots=True)
class Synced:
    """How many rows were *added*, *changed* (the bytes are others), *removed* and *unchanged*. *failures*
    counts the files that could not be brought in, and *failed* names the first thousand. *seconds* is the
    time it took. *is_whole*: it was not stopped before the end."""

    added: int
    changed: int
    removed: int
    unchanged: int
    failures: int
    failed: tuple[Failed, ...]
    seconds: float
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class _Finding:
    """What is to become of the row of *path*, which is *known*: that of *source*, or none. True while the
    file has *stamp*, None for no file."""

    path: str
    known: Picture | None
    stamp: Stamp | None
    source: Source | None = None


def sync(
    sources: Sources,
    identifier: Identifier,
    rows: PictureRows,
    clock: Callable[[], float],
    on_new: OnNew = lambda pictures, connection: None,
    may_go_on: Callable[[], bool] = lambda: True,
    on_progress: Callable[[int], object] = lambda count: None,
    *,
    may_empty: bool = False,
) -> Synced:
    """Give each picture of *sources* its row, and remove the rows of others; *clock* gives unix seconds.

    A file that is no picture gets no row. One that is broken or too large gets none either, and is named.
    A row with the same digest keeps its state, and one that is not ready stays without a file in the folder:
    that one is elsewhere. Files that are busy or being written are tried again at the end, then named, and
    their rows stay as they are. A copy of a known file has the digest as received of the known one.

    *on_new* gets the rows that are new, or whose bytes are others, in the transaction that writes them.
    Stopped at any moment, by *may_go_on* too, the next one does the rest. Raises Unavailable where the folder
    can't be read, or, unless it *may_empty* the catalog, where there is no file in it at all (a disk that is
    not mounted), and as ``Database``.
    """
    began_s = clock()
    run = _Run(sources, identifier, rows, clock, on_new)
    run.check_folder()
    has_files = is_stopped = False
    for paths in _batches(sources.walk()):
        has_files = True
        known = rows.known([path for path in paths if len(path) <= PATH_LENGTH])
        for path in paths:
            if is_stopped := not may_go_on():
                break
            run.unchanged += run.is_current(path, known.get(path))
            on_progress(1)
        if is_stopped:
            break
    run.write()
    if not (has_files or may_empty or is_stopped) and rows.count():
        raise Unavailable("there is no file in the folder of pictures; is its disk mounted?")
    if not is_stopped:
        for known_one in rows.walk():
            if is_stopped := not may_go_on():
                break
            run.is_current(known_one.path, known_one, may_be_racy=True)
        run.write()
        run.try_again()
    return Synced(
        run.added,
        run.changed,
        run.removed,
        run.unchanged,
        run.failures,
        tuple(run.failed),
        round(max(0.0, clock() - began_s), 3),
        not is_stopped,
    )


class _Run:
    """One sync: what was found and is not written yet, and the counts."""

    def __init__(
        self,
        sources: Sources,
        identifier: Identifier,
        rows: PictureRows,
        clock: Callable[[], float],
        on_new: OnNew,
    ) -> None:
        self._sources = sources
        self._identifier = identifier
        self._rows = rows
        self._clock = clock
        self._on_new = on_new
        self._findings: list[_Finding] = []
        self._again: dict[str, None] = {}
        self._is_last = False
        self.added = self.changed = self.removed = self.unchanged = self.failures = 0
        self.failed: list[Failed] = []

    def is_current(self, path: str, known: Picture | None, may_be_racy: bool = False) -> bool:
        """Whether the row of *path*, which is *known*, has the stamp of the file; else what is found out of
        the file is written later."""
        try:
            stamp = self._sources.look(path)
        except NotFound:
            if known is not None and known.state == READY:
                self._find(_Finding(path, known, None))
            return False
        except RequestError as error:
            self._put_off(path, error)
            return False
        if known is not None and is_stamp(known.stamp, stamp, may_be_racy):
            return True
        try:
            if len(path) > PATH_LENGTH:
                self._fail(path, f"its path has more than {PATH_LENGTH} characters")
                return False
            source = self._identifier.source(path)
        except NotFound:
            if known is not None and known.state == READY:
                self._find(_Finding(path, known, None))
        except Unavailable as error:
            self._put_off(path, error)
        except RequestError as error:
            self._fail(path, str(error))
            if known is not None:
                self._find(_Finding(path, known, stamp))
        else:
            if source.problem:
                self._fail(path, source.problem)
            if source.header is not None or known is not None:
                self._find(_Finding(path, known, source.stamp, source))
        return False

    def try_again(self) -> None:
        """Look at what was busy or being written once more."""
        self._is_last = True
        for paths in _batches(list(self._again)):
            known = self._rows.known(paths)
            for path in paths:
                self.is_current(path, known.get(path))
        self.write()

    def write(self) -> None:
        """Write what was found of files that are still the same."""
        if not self._findings:
            return
        self.check_folder()
        findings, self._findings = self._findings, []
        added: list[Picture] = []
        changed: list[Picture] = []
        touched: list[Picture] = []
        gone: list[str] = []
        stale: list[str] = []
        with self._rows.transaction() as connection:
            digests = {each.source.digest for each in findings if each.source is not None}
            received = self._rows.received(digests, connection)
            for each in findings:
                picture = self._row(each, received)
                # A row that was written meanwhile is of a later file, which has another stamp.
                if not self._is_still(each):
                    stale.append(each.path)
                elif picture is None:
                    gone.append(each.path)
                elif each.known is None:
                    added.append(picture)
                else:
                    (touched if each.known.digest == picture.digest else changed).append(picture)
            self._rows.put(added + changed + touched, connection)
            if added or changed:
                self._on_new(added + changed, connection)
            removed = self._rows.remove(gone, connection)
        self.added += len(added)
        self.changed += len(changed)
        self.unchanged += len(touched)
        self.removed += removed
        for path in stale:
            self._put_off(path, BeingWritten())

    def check_folder(self) -> None:
        """Raise Unavailable if the folder can't be read: no file is gone because of that."""
        if not self._sources.is_readable():
            raise Unavailable("the folder of pictures can't be read")

    def _is_still(self, found: _Finding) -> bool:
        try:
            return self._sources.look(found.path) == found.stamp
        except NotFound:
            return found.stamp is None
        except RequestError:
            return False

    def _row(self, found: _Finding, received: Mapping[str, str]) -> Picture | None:
        source = found.source
        if source is None or source.header is None:
            return None
        if found.known is not None and found.known.digest == source.digest:
            came = found.known.received
        else:
            came = received.get(source.digest, source.digest)
        header = source.header
        return Picture(
            source.path,
            source.digest,
            came,
            stamp_text(source.stamp, source.is_racy),
            source.stamp.size,
            header.width,
            header.height,
            header.format,
            READY,
            self._clock(),
        )

    def _find(self, found: _Finding) -> None:
        self._findings.append(found)
        if len(self._findings) >= _AT_ONCE:
            self.write()

    def _put_off(self, path: str, error: RequestError) -> None:
        if self._is_last or len(self._again) >= _MOST_AGAIN:
            self._fail(path, str(error))
        else:
            self._again[path] = None

    def _fail(self, path: str, detail: str) -> None:
        self.failures += 1
        if len(self.failed) < _MOST_NAMED:
            self.failed.append(Failed(path, detail))


@dataclass(frozen=True, slots=True)
class Difference:
    """What is wrong at *path*. *kind*: ``missing`` (a picture without a row), ``gone`` (a row without a
    file), ``changed`` (the file has another stamp), ``altered`` (other bytes under the same stamp) or
    ``unreadable``."""

    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class Compared:
    """How many *rows* there are, and how many differences of each kind; *differences* are the first
    thousand."""

    rows: int
    missing: int
    gone: int
    changed: int
    altered: int
    unreadable: int
    differences: tuple[Difference, ...]

    @property
    def count(self) -> int:
        """How many differences there are."""
        return self.missing + self.gone + self.changed + self.altered + self.unreadable


def compare(
    sources: Sources,
    source_rows: SourceRows,
    programs: Programs,
    rows: PictureRows,
    *,
    may_hash: bool = False,
    on_progress: Callable[[int], object] = lambda count: None,
) -> Compared:
    """The rows beside the files, nothing is changed. With *may_hash* every file that has a row is hashed.

    Whether a file without a row is a picture is what the index (*source_rows*) remembers of it, else what its
    first bytes look like. Raises Unavailable where the folder can't be read, and as ``Database``.
    """
    if not sources.is_readable():
        raise Unavailable("the folder of pictures can't be read")
    counts = dict.fromkeys(("missing", "gone", "changed", "altered", "unreadable"), 0)
    differences: list[Difference] = []

    def note(kind: str, path: str) -> None:
        if kind:
            counts[kind] += 1
            if len(differences) < _MOST_NAMED:
                differences.append(Difference(kind, path))

    for paths in _batches(sources.walk()):
        known = rows.known([path for path in paths if len(path) <= PATH_LENGTH])
        for path in paths:
            if path not in known:
                note(_of_unknown(sources, source_rows, programs, path), path)
    count = 0
    for count, row in enumerate(rows.walk(), 1):  # noqa: B007  # how many there were
        note(_of_known(sources, row, may_hash), row.path)
        on_progress(1)
    return Compared(count, **counts, differences=tuple(differences))


def _of_unknown(sources: Sources, source_rows: SourceRows, programs: Programs, path: str) -> str:
    """The kind of the difference where the file at *path* has no row, else empty."""
    try:
        stamp = sources.look(path)
        try:
            source = source_rows.get(path)
        except StorageError:
            source = None
        if source is not None and source.stamp == stamp and programs.is_current(source):
            return "missing" if source.header is not None else ""
        file, _ = sources.open(path)
        with file:
            head = file.read(HEAD_BYTES)
    except NotFound:
        return ""
    except (RequestError, OSError):
        return "unreadable"
    is_ours = may_be_picture(head) or bool(programs.may_read(path) and programs.fitting(path, head))
    return "missing" if is_ours else ""


def _of_known(sources: Sources, row: Picture, may_hash: bool) -> str:
    """The kind of the difference between *row* and its file, empty where there is none."""
    try:
        if not is_stamp(row.stamp, sources.look(row.path), may_be_racy=True):
            return "changed"
        return "altered" if may_hash and sources.digest(row.path)[0] != row.digest else ""
    except NotFound:
        return "gone" if row.state == READY else ""
    except SourceChanged:
        return "changed"
    except RequestError:
        return "unreadable"


def _batches(paths: Iterable[str]) -> Iterator[list[str]]:
    """*paths* in lists of the size of a transaction."""
    each = iter(paths)
    while batch := list(islice(each, _AT_ONCE)):
        yield batch
