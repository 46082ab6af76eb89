"""Compare rows and objects, and hash every object.

An object is right when it has the bytes that its row says. Without a repair nothing is written, and looking
does not count as use. A running server changes things meanwhile: what looks wrong is looked at once more,
when nobody makes or evicts it, before it is called a problem.

Memory: the rows and names of some sources at a time, and one line for each source and for each problem.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from ..errors import StorageError
from ..model.variant import Key, Variant
from ..storage.disk import DiskStore
from ..storage.variant_rows import VariantRow
from .hashing import Look, ahead, look
from .rebuild import fill, in_groups, settle, variant_of

__all__ = ["Problem", "Verified", "verify"]

_GROUP = 500
_TASK = 32
_TIMEOUT_S = 600.0
_MAX_NAMED = 1000


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or not as usual.

    *kind* is ``missing`` (a row without its object), ``damaged`` (an object cut, emptied, altered or
    unreadable), ``row`` (a row that can't be believed), ``index`` (what SQLite says of its file), ``count``
    (its sum of bytes), ``orphan`` (an object without a row) or ``stranger`` (a file that is no object).
    *name* is a path below the folder of objects, or says the same in words. *is_repaired* stays false for
    what was only found.
    """

    kind: str
    name: str
    is_repaired: bool = False


@dataclass(frozen=True, slots=True)
class Verified:
    """What a look at the whole cache found: *checked* objects of *bytes* were hashed.

    *missing*, *damaged* and *rows* count the problems of these kinds, *others* those of the index as a whole;
    *orphans* all files without a row, and *strangers* those of them that are no objects: these are no
    problems. With a repair, *repaired* problems are none any more, *adopted* orphans have a row, and
    *removed* ones, which were altered or superseded, are gone. *problems* names the first thousand of all.
    """

    checked: int
    bytes: int
    missing: int
    damaged: int
    rows: int
    others: int
    orphans: int
    strangers: int
    repaired: int
    adopted: int
    removed: int
    problems: list[Problem]

    @property
    def left(self) -> int:
        """How many problems there still are."""
        return self.missing + self.damaged + self.rows + self.others - self.repaired


def verify(
    store: DiskStore,
    threads: int,
    *,
    may_repair: bool = False,
    on_progress: Callable[[int], object] = lambda count: None,
) -> Verified:
    """Look at the whole cache; with *may_repair* make it right.

    Repaired is by removing: an object that is cut or altered goes with its row, and a row without object
    goes; both are rendered again when somebody asks. Orphans get a row if their bytes are those that their
    name says, else they are removed. Files that are no objects are left, they are not ours. A damaged index
    is begun anew. *threads* hash. Raises StorageError, and TimedOut when an eviction, a render or a fill does
    not end in ten minutes.
    """
    verification = _Verification(store, threads, on_progress, may_repair)
    if not may_repair:
        verification.look_at_index()
        return verification.run()
    with store.claims.take("rebuild", _TIMEOUT_S):
        verification.look_at_index()
        token = store.index.completeness.begin_filling()  # all that is there will have its row
        verified = verification.run()
        store.index.completeness.end_filling(token)
        return verified


@dataclass(frozen=True, slots=True)
class _Task:
    """Some objects of a group: their *names*, what lies there once they are hashed, and the variants by name
    that have a row."""

    names: list[str]
    rows: dict[str, Variant]
    looks: list[Look | None] = field(default_factory=list)


class _Verification:
    """One verification under way."""

    def __init__(
        self, store: DiskStore, threads: int, on_progress: Callable[[int], object], may_repair: bool
    ) -> None:
        self._store = store
        self._threads = threads
        self._on_progress = on_progress
        self._may_repair = may_repair
        self._has_index = False
        self._counts: Counter[str] = Counter()
        self._problems: list[Problem] = []
        self._seen: set[str] = set()
        self._missing: list[Key] = []

    def run(self) -> Verified:
        """The steps, in their order."""
        for task in ahead(self.hash, self.tasks(), self._threads):
            self.judge(task)
            self._on_progress(len(task.names))
        self.look_for_missing()
        self.count_bytes()
        counts = self._counts
        return Verified(
            checked=counts["checked"],
            bytes=counts["bytes"],
            missing=counts["missing"],
            damaged=counts["damaged"],
            rows=counts["row"],
            others=counts["index"] + counts["count"],
            orphans=counts["orphan"] + counts["stranger"],
            strangers=counts["stranger"],
            repaired=counts["repaired"],
            adopted=counts["adopted"],
            removed=counts["removed"],
            problems=self._problems,
        )

    # --- the index as a whole

    def look_at_index(self) -> None:
        """Whether there is one, and SQLite finds it in order."""
        index = self._store.index
        if not self._may_repair and not _has_bytes(index.database.path / "cache.db"):
            return  # never begun, or lost: a server makes it anew, and till then all are orphans
        index.database.may_replace, complaint = False, ""
        try:
            complaint = index.database.complaint()
        except StorageError as error:
            if not index.database.is_corrupt:
                raise
            complaint = str(error)
        finally:
            index.database.may_replace = self._may_repair
        self._has_index = not complaint or self._may_repair
        if complaint:
            if self._may_repair:
                index.database.begin_anew()
                self._store.notices.renew()
                filled = fill(self._store, self._threads)
                self._counts["orphan"] += filled.added + filled.removed
                self._counts["adopted"] += filled.added
                self._counts["removed"] += filled.removed
            self._note("index", complaint)

    def count_bytes(self) -> None:
        """Whether the sum of the bytes is right."""
        drift = self._store.index.database.drift() if self._has_index else 0
        if drift:
            if self._may_repair:
                self._store.index.database.recount()
            self._note("count", f"the index counts {abs(drift)} bytes too {'many' if drift > 0 else 'few'}")

    # --- objects

    def tasks(self) -> Iterator[_Task]:
        """What is to be hashed, some objects at a time. Rows without a file are noted on the way."""
        for names in in_groups(self._store.objects.by_folder(), _GROUP):
            digests = {name[3:67] for name in names if name.isascii()}
            rows = self._rows(sorted(digests))
            self._suspect(rows, set(names))
            self._seen |= digests
            rest = iter(names)
            while some := list(islice(rest, _TASK)):
                yield _Task(some, rows)

    def hash(self, task: _Task) -> _Task:
        """*task* with what lies there. In a thread."""
        root = self._store.objects.root
        return _Task(task.names, task.rows, [look(f"{root}/{name}") for name in task.names])

    def judge(self, task: _Task) -> None:
        """Note what is wrong with the objects of *task*, in the order of their names."""
        for name, seen in zip(task.names, task.looks, strict=True):
            if seen is None:
                continue  # removed since it was listed; if its row is not, it is missing
            self._counts["checked"] += 1
            self._counts["bytes"] += seen.bytes
            row = task.rows.get(name)
            if row is None or (seen.digest, seen.bytes) != (row.body, row.bytes):
                self._judge_again(name)

    def _judge_again(self, name: str) -> None:
        """Look at what lies at *name* when nobody makes it."""
        objects = self._store.objects
        named = objects.named(name)
        if named is None:
            self._note("stranger", name)
            return
        key, body = named
        with self._claimed(key.text()):
            row = self._row(key)
            seen = look(f"{objects.root}/{name}")
        if seen is None:
            return
        if row is None or not row.body.startswith(body):
            self._deal_with_orphan(name, key, body, seen)
        elif (seen.digest, seen.bytes) != (row.body, row.bytes):
            if self._may_repair:
                settle(self._store, key)
            self._note("damaged", name)

    def _deal_with_orphan(self, name: str, key: Key, body: str, seen: Look) -> None:
        if self._may_repair:
            kept = settle(self._store, key).kept
            is_adopted = kept is not None and kept.body.startswith(body)
            self._counts["adopted" if is_adopted else "removed"] += 1
        what = "" if variant_of(key, body, seen) else ", altered"
        self._note("orphan", name + what)

    # --- rows

    def _rows(self, digests: list[str]) -> dict[str, Variant]:
        """The good rows of some sources, by the names of their objects; the others are problems."""
        good = {}
        if self._has_index:
            for row in self._store.index.variants.of_all(digests):
                if row.variant is not None and _is_good(row):
                    good[self._store.objects.name(row.variant.key, row.variant.body)] = row.variant
                else:
                    self._deal_with_row(row)
        return good

    def _deal_with_row(self, row: VariantRow) -> None:
        if row.key is None:
            name = f"row {row.number}, its key is damaged"
        else:
            name = row.key.text()
            again = [new for new in self._store.index.variants.of(row.key.digest) if new.number == row.number]
            if all(_is_good(new) for new in again):
                return  # written anew, or removed, at this moment
        if self._may_repair:
            self._store.index.variants.remove_rows([row])
            if row.key is not None:
                settle(self._store, row.key)
        self._note("row", name)

    def _suspect(self, rows: dict[str, Variant], names: set[str]) -> None:
        self._missing += [variant.key for name, variant in rows.items() if name not in names]

    def look_for_missing(self) -> None:
        """Name the rows that have no object: first those of sources without a folder are looked for, then
        all are looked at again, while nobody evicts."""
        if not self._has_index:
            return
        rest = (digest for digest in self._store.index.variants.digests() if digest not in self._seen)
        while some := list(islice(rest, _GROUP)):
            self._suspect(self._rows(some), set())
        if not self._missing:
            return
        with self._claimed("evict"):
            for key in self._missing:
                with self._claimed(key.text()):
                    row = self._row(key)
                    if row is None or look(self._path(row)) is not None:
                        continue
                if self._may_repair:
                    settle(self._store, key)
                self._note("missing", self._store.objects.name(key, row.body))

    # --- small things

    def _claimed(self, key: str) -> ExitStack:
        """*key* is held for the time of the block, if claims can be taken here: not on a disk that nobody can
        write to."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self._store.claims.take(key, _TIMEOUT_S))
            except StorageError:
                if self._may_repair:
                    raise
            return stack.pop_all()

    def _row(self, key: Key) -> Variant | None:
        return self._store.index.variants.get(key) if self._has_index else None

    def _path(self, variant: Variant) -> str:
        return f"{self._store.objects.root}/{self._store.objects.name(variant.key, variant.body)}"

    def _note(self, kind: str, name: str) -> None:
        """Count and keep one finding; what can be repaired has been by now."""
        is_repaired = self._may_repair and kind != "stranger"
        self._counts[kind] += 1
        self._counts["repaired"] += is_repaired and kind != "orphan"
        if len(self._problems) < _MAX_NAMED:
            # A file that is not ours may have any name, and it goes to a terminal.
            name = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)
            self._problems.append(Problem(kind, name, is_repaired))


def _is_good(row: VariantRow) -> bool:
    """Whether *row* can be believed, and counts for the bytes that it says."""
    return row.variant is not None and row.variant.bytes == row.bytes


def _has_bytes(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
