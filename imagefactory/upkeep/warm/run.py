"""Render ahead what visitors will ask for: the work behind ``imagefactory warm``.

    look      500 pictures at a time: one stat each, their rows and the keys of their variants in a few
              statements. What is there is counted; no source and no object is opened.
    lanes     take the pictures of which something is missing, one each: the largest size first, the
              encodings of a size after each other, so that a render process decodes once, and resizes once
              for each size.

A lane is a generator that renders one variant at a time. Two threads share it: one variant is written to
the disk while the next one is rendered. At the end lanes that have nothing left help the others. All is made
by ``Generator.answer``, as for a visitor: the same keys, the same claims against other processes, the same
bounds. So it may end at any moment, and the next run goes on.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from queue import Full as QueueFull
from queue import Queue
from typing import TypeVar

from ...engine.generator import Answer, Generator
from ...errors import NotFound, RequestError, SourceChanged, StorageError, TimedOut, Unavailable
from ...model.formats import PICTURE_SUFFIXES, Header
from ...model.job import Stamp
from ...model.variant import Source
from ...storage.store import DiskStore
from ...urls.query import Request
from ..evict import evict

__all__ = ["Budget", "Failed", "Order", "Warmed", "Wish", "is_picture", "warm"]

_T = TypeVar("_T")
_AT_ONCE = 500  # pictures in one look: as many as the index asks for in one statement
_AHEAD = 1000  # orders that wait for a lane
_THREADS = 2  # of a lane
_TRIES = 4
_PAUSE_S = 2.1  # after a failure a generator stores nothing for two seconds
_PULSE_S = 0.2
_WRITING_S = 5.0
_GLANCE_S = 0.01
_MAX_PLANS = 10_000
_MAX_PROTECTED = 100_000  # pictures
_MAX_SEEN = 1_000_000  # variants


@dataclass(frozen=True, slots=True)
class Wish:
    """A variant to have ahead: its *request*, and the *query* of a URL that asks for it."""

    request: Request
    query: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted of the picture at *path*. *is_named*: somebody wrote this path, so that it is a failure
    when there is no picture; else it was found in the folder or in a log, and may be gone by now.
    *is_more*: the picture had an order before."""

    path: str
    wishes: Sequence[Wish]
    is_named: bool = False
    is_more: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """Where to stop: at so many *bytes* of variants, after so many *seconds*; None for no bound."""

    bytes: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """A variant that can't be made: the *path* of its source, the *error* code and the *detail* that a
    visitor would get, and the *query* of its URL."""

    path: str
    error: str
    detail: str
    query: str


@dataclass(frozen=True, slots=True)
class Warmed:
    """What came of it. Each variant that was reached is *rendered*, *present* (also where it coincides with
    another one, or somebody else made it meanwhile) or in *failed*; *bytes* are those of the rendered ones.

    *stopped* is empty when all was reached, else ``budget``, ``full`` (and of what was there before nothing
    may go any more) or ``interrupted``.
    """

    pictures: int
    rendered: int
    present: int
    failed: Sequence[Failed]
    bytes: int
    seconds: float
    stopped: str = ""

    @property
    def variants(self) -> int:
        """How many variants were reached."""
        return self.rendered + self.present + len(self.failed)


def is_picture(path: str) -> bool:
    """Whether the file at *path* is meant to be a picture, by its name."""
    return path.rpartition(".")[2].lower() in PICTURE_SUFFIXES


def warm(
    lanes: Sequence[Generator],
    store: DiskStore,
    orders: Iterable[Order],
    budget: Budget,
    stop: threading.Event,
    tell: Callable[[int, int], None],
    clock: Callable[[], float],
    *,
    is_dry: bool = False,
) -> Warmed:
    """Have all that *orders* want, made by *lanes*, which share *store*.

    When *stop* is set, what is being made is finished, and that was it. *tell* hears now and then, in the
    calling thread, how many variants were reached and how many bytes were written. *clock* gives seconds.
    With *is_dry* nothing is rendered, and *rendered* says what would be; rows of sources are written all the
    same, so *store* is to be a copy then.

    Raises StorageError when the cache can't be used.
    """
    run = _Run(lanes, store, budget, stop, clock, is_dry)

    def pause() -> None:
        tell(run.reached, run.bytes)
        run.write_down()

    try:
        for some in _batches(orders):
            for order in run.look(some):
                while not run.is_over and not run.hand_on(order):
                    pause()
            pause()
            if run.is_over:
                break
        while not run.is_finished():
            pause()
    except BaseException:  # a second Ctrl-C: the lanes shall not go on by themselves
        run.end("interrupted")
        raise
    finally:
        run.write_down(is_last=True)
    tell(run.reached, run.bytes)
    return run.result()


def _batches(orders: Iterable[Order]) -> Iterator[list[Order]]:
    """*orders* in lists."""
    iterator = iter(orders)
    while some := list(islice(iterator, _AT_ONCE)):
        yield some


class _Run:
    """One call of ``warm``: what was reached, and what all lanes heed."""

    def __init__(
        self,
        lanes: Sequence[Generator],
        store: DiskStore,
        budget: Budget,
        stop: threading.Event,
        clock: Callable[[], float],
        is_dry: bool,
    ) -> None:
        self.store = store
        self.stop = stop
        self.is_dry = is_dry
        self.orders: Queue[Order | None] = Queue(_AHEAD)
        self.plans = _Plans(lanes[0])
        self.room = _Room(store, lanes[0].now_s())
        self.bytes = 0
        self._root = str(lanes[0].sources.root)
        self.lanes = [_Lane(self, generator) for generator in lanes]
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._budget = budget
        self._clock = clock
        self._began_s = clock()
        self._written_s = 0.0
        self._changed = threading.Condition()
        self._pictures = self._rendered = self._present = 0
        self._failed: list[Failed] = []
        self._seen: set[int] = set()
        self._running = self._largest = 0
        self._stopped = ""
        self._error: BaseException | None = None

    # --- the calling thread

    def look(self, orders: Sequence[Order]) -> Iterator[Order]:
        """Count what is there, and give the orders of which something is missing or not known."""
        stamps: dict[str, Stamp] = {}
        for order in orders:
            with suppress(OSError, ValueError):
                # A Path costs as much as the stat itself.
                stamps[order.path] = Stamp.of(os.stat(f"{self._root}/{order.path}"))  # noqa: PTH116
        known = {
            path: (digest, header, names)
            for path, digest, header, names in self.store.index.unchanged(stamps)
        }
        odd = [path for path in stamps if path not in known and not is_picture(path)]
        changed = self.store.index.known(odd)
        pictures = present = 0
        for order in orders:
            if order.path in known:
                digest, header, names = known[order.path]
                plan = self.plans.get(header, order.wishes)
                if not plan.refused and plan.needed.issubset(names):
                    self.room.protect(digest, plan.names)
                    pictures += not order.is_more
                    present += plan.total
                    continue
            # A text in the folder is no failure, but what was a picture once is expected to be one.
            if order.is_named or order.path in known or order.path in changed or is_picture(order.path):
                yield order
        self.count(pictures=pictures, present=present)

    def hand_on(self, order: Order) -> bool:
        """Whether a lane will take *order*; if not, they have enough for the moment."""
        if not self._threads:
            for lane in self.lanes:
                for _ in range(_THREADS):
                    thread = threading.Thread(target=lane.work, name="imagefactory-warm", daemon=True)
                    self._threads.append(thread)
                    thread.start()
        try:
            self.orders.put(order, timeout=_PULSE_S)
        except QueueFull:
            return False
        return True

    def is_finished(self) -> bool:
        """Whether the lanes have come to their end; waits a moment for it. No order may follow."""
        if not self._is_closed:
            with suppress(QueueFull):
                self.orders.put(None, timeout=_PULSE_S)
                self._is_closed = True
        for thread in self._threads:
            thread.join(_PULSE_S)
            if thread.is_alive():
                return False
        return True

    def write_down(self, *, is_last: bool = False) -> None:
        """Have what the lanes counted written down, every few seconds: their tallies are bounded."""
        if is_last or self.seconds - self._written_s > _WRITING_S:
            self._written_s = self.seconds
            for lane in self.lanes:
                lane.generator.keeper.flush()

    def result(self) -> Warmed:
        """The sums. Raises what ended a lane."""
        if self._error is not None:
            raise self._error
        return Warmed(
            self._pictures,
            self._rendered,
            self._present,
            self._failed,
            self.bytes,
            self.seconds,
            self._stopped,
        )

    # --- all threads

    @property
    def reached(self) -> int:
        """How many variants were reached so far."""
        return self._rendered + self._present + len(self._failed)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be begun."""
        if self.stop.is_set():
            self.end("interrupted")
        return bool(self._stopped)

    def end(self, reason: str) -> None:
        """Have nothing more begun; the first *reason* counts."""
        with self._changed:
            self._stopped = self._stopped or reason
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Something nobody can go on with."""
        self._error = self._error or error
        self.end("failed")

    def count(self, *, pictures: int = 0, rendered: int = 0, present: int = 0) -> None:
        """Add to the sums."""
        with self._changed:
            self._pictures += pictures
            self._rendered += rendered
            self._present += present

    def refuse(self, path: str, wish: Wish, error: RequestError) -> None:
        """Note that *wish* can't be made of the source at *path*."""
        with self._changed:
            self._failed.append(Failed(path, error.code, str(error), wish.query))

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Around the making of one variant; tells whether it may begin.

        What is under way counts against the bytes as the largest one so far: so only the last one may go over
        the budget, by as much as it is larger than those before.
        """
        may_begin = self._begin()
        try:
            yield may_begin
        finally:
            if may_begin:
                with self._changed:
                    self._running -= 1
                    self._changed.notify_all()

    def _begin(self) -> bool:
        limit = self._budget.bytes
        with self._changed:
            while not self.is_over:
                if self._budget.seconds is not None and self.seconds >= self._budget.seconds:
                    self.end("budget")
                elif limit is None or self._fits(limit):
                    break
                elif self._running:
                    self._changed.wait(_PULSE_S)
                else:
                    self.end("budget")
            else:
                return False
            self._running += 1
            return True

    def _fits(self, limit: int) -> bool:
        """Whether one more fits into *limit* bytes. As long as no size is known one is made at a time."""
        if not self._largest:
            return not self._running
        return self.bytes + (self._running + 1) * self._largest <= limit

    def expected(self) -> int:
        """The bytes that what is under way may come to."""
        return self._running * self._largest

    def note_seen(self, keys: Iterable[str]) -> int:
        """How many of *keys* were not asked before, in a dry run: copies of a picture are rendered once."""
        with self._changed:
            new = {hash(key) for key in keys} - self._seen
            if len(self._seen) < _MAX_SEEN:
                self._seen |= new
            return len(new)

    def note_size(self, size: int) -> None:
        """A variant has *size* bytes."""
        with self._changed:
            self._largest = max(self._largest, size)

    def note_rendered(self, size: int) -> None:
        """A variant of *size* bytes was made."""
        with self._changed:
            self._rendered += 1
            self.bytes += size

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self._clock() - self._began_s


@dataclass(frozen=True, slots=True)
class _Plan:
    """What wishes mean for sources with one header: the *wishes* to make, in that order, each once, and their
    *names* (*needed* has the same), which are the keys without the digest. *total* counts them with those
    that coincide, and with those that mean the original; *refused* are impossible."""

    names: Sequence[str]
    needed: frozenset[str]
    wishes: Sequence[Wish]
    total: int
    refused: Sequence[tuple[Wish, RequestError]]


class _Plans:
    """Plans by header and wishes: pictures of one camera share their size, and a plan takes 20 us a wish."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._plans: dict[tuple[Header, int], tuple[Sequence[Wish], _Plan]] = {}

    def get(self, header: Header, wishes: Sequence[Wish]) -> _Plan:
        """The plan of *wishes* for a source with *header*."""
        # Not by the wishes themselves: to hash those of a ladder takes 100 us. They are kept beside the
        # plan, so that nobody else gets their id.
        found = self._plans.get((header, id(wishes)))
        if found is None:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            found = self._plans[header, id(wishes)] = wishes, self._make(header, wishes)
        return found[1]

    def _make(self, header: Header, wishes: Sequence[Wish]) -> _Plan:
        source = Source("", Stamp(0, 0, 0, 0), "0" * 64, header)
        found: dict[str, tuple[tuple[int, str, str], Wish]] = {}
        refused = []
        for wish in wishes:
            if wish.request.is_plain:
                continue
            try:
                wanted = self._generator.rules.wanted(source, wish.request, "")
            except RequestError as error:
                refused.append((wish, error))
                continue
            recipe, encoding = wanted.recipe, wanted.key.encoding
            place = (-recipe.width * recipe.height, replace(recipe, quality=None).text(), encoding)
            found.setdefault(f"{recipe.text()} {encoding}", (place, wish))
        names = sorted(found, key=lambda name: found[name][0])
        return _Plan(
            names, frozenset(names), [found[name][1] for name in names], len(wishes) - len(refused), refused
        )


class _Lane:
    """Makes the variants of one picture after the other, by a generator of its own."""

    def __init__(self, run: _Run, generator: Generator) -> None:
        self._run = run
        self.generator = generator
        self._lock = threading.Lock()
        self._todo: deque[tuple[Order, Wish]] = deque()
        self._is_looking = False  # for an order, or at one

    def work(self) -> None:
        """Work until there is nothing to do; for each thread of the lane."""
        try:
            while (task := self._next()) is not None:
                with self._run.turn() as may_begin:
                    if may_begin:
                        self._do(*task)
        except BaseException as error:  # told by the calling thread
            self._run.fail(error)

    def _next(self) -> tuple[Order, Wish] | None:
        orders = self._run.orders
        with self._lock:
            while not self._todo and not self._run.is_over:
                self._is_looking = True
                order = orders.get()
                if order is None:
                    orders.put(None)  # for the other threads
                    self._is_looking = False
                    break
                self._todo.extend((order, wish) for wish in self._missing(order))
                self._is_looking = False
            with suppress(IndexError):  # another lane may have taken the last one
                return self._todo.popleft()
        return self._help()

    def _help(self) -> tuple[Order, Wish] | None:
        """When no order is left: the smallest variant of the lane that has the most to do. Its source is
        decoded once more for that, but no processor idles while the last pictures are made."""
        lanes = self._run.lanes
        while not self._run.is_over:
            with suppress(IndexError):
                return max(lanes, key=lambda lane: len(lane._todo))._todo.pop()
            if not any(lane._is_looking for lane in lanes):
                return None
            self._run.stop.wait(_GLANCE_S)
        return None

    def _missing(self, order: Order) -> Sequence[Wish]:
        """What is to be rendered of *order*; all else is counted."""
        run = self._run
        try:
            source = self._patiently(lambda: self.generator.source(order.path))
            if source.header is None:
                self.generator.rules.wanted(source, order.wishes[0].request, "")  # says what is wrong
        except RequestError as error:
            self._refuse(order, order.wishes, error)
            run.count(pictures=not order.is_more and (order.is_named or not isinstance(error, NotFound)))
            return []
        if source.header is None:
            return []
        plan = run.plans.get(source.header, order.wishes)
        keys = run.store.index.keys_of([source.digest])[source.digest]
        is_there = [f"{source.digest} {name}" in keys for name in plan.names]
        missing = [wish for wish, is_present in zip(plan.wishes, is_there, strict=True) if not is_present]
        for wish, reason in plan.refused:
            run.refuse(order.path, wish, reason)
        run.count(pictures=not order.is_more, present=plan.total - len(missing))
        names = [name for name, is_present in zip(plan.names, is_there, strict=True) if is_present]
        run.room.protect(source.digest, names)
        if not run.is_dry:
            if not missing and not source.placeholder:
                with suppress(RequestError, SourceChanged):  # no variant fails for it
                    self._patiently(lambda: self.generator.make_placeholder(source))
            return missing
        fresh = run.note_seen(f"{source.digest} {name}" for name in plan.names if name not in names)
        run.count(rendered=fresh, present=len(missing) - fresh)
        return []

    def _do(self, order: Order, wish: Wish) -> None:
        """Make one variant, and count it."""
        try:
            answer = self._make(order.path, wish)
        except RequestError as error:
            if not (isinstance(error, Unavailable) and self._run.is_over):
                self._refuse(order, [wish], error)
            return
        if answer is not None and answer.result == "miss":
            self._run.note_rendered(answer.bytes)
        elif answer is not None:
            self._run.count(present=1)

    def _make(self, path: str, wish: Wish) -> Answer | None:
        """The variant, stored; None where that is not to be any more."""
        generator, run = self.generator, self._run
        for _ in range(_TRIES):
            with run.room.entered(run.expected):
                answer = self._patiently(lambda: generator.answer(path, wish.request))
                run.note_size(answer.bytes)
            if answer.result != "bypass":
                return answer
            if not answer.is_stable:
                raise Unavailable("the picture is being written at the moment")
            if "budget" in generator.troubles.current and not run.room.make(answer.bytes):
                run.end("full")
            if run.is_over or run.stop.wait(_PAUSE_S):
                return None
        raise StorageError(
            "objects", "; ".join(generator.troubles.current.values()) or "nothing can be stored"
        )

    def _patiently(self, work: Callable[[], _T]) -> _T:
        """What *work* gives, tried again when it is a matter of waiting."""
        for _ in range(_TRIES - 1):
            try:
                return work()
            except Unavailable:
                if self._run.stop.wait(1.0):
                    raise
        return work()

    def _refuse(self, order: Order, wishes: Sequence[Wish], error: RequestError) -> None:
        if order.is_named or not isinstance(error, NotFound):
            for wish in wishes:
                self._run.refuse(order.path, wish, error)


class _Room:
    """Makes room in *store*: what nobody has used since *began_s*, the unix time when the warming began, may
    go. What was made since may not, nor what was found to be there."""

    def __init__(self, store: DiskStore, began_s: float) -> None:
        self._store = store
        self._began_s = began_s
        self._lock = threading.Lock()
        self._alone = threading.Lock()
        self._may_free = True
        # Found, and not yet noted as used: that is only done when something has to go, as it takes a write of
        # 18 us each. Bounded: those found first lose their protection.
        self._found: deque[tuple[str, Sequence[str]]] = deque(maxlen=_MAX_PROTECTED)

    def protect(self, digest: str, names: Sequence[str]) -> None:
        """Have the variants of one source with these *names* stay."""
        self._found.append((digest, names))

    @contextmanager
    def entered(self, expected: Callable[[], int]) -> Iterator[None]:
        """Around the making of a variant, when all under way may come to *expected* bytes (0: nobody knows).

        Where there is no room for so much, one is made at a time: the store looks at the sum before it
        writes, and several that look at once would all fit.
        """
        if not self._fits(expected()):
            with self._alone:
                if not self._fits(expected()):
                    yield
                    return
        yield

    def _fits(self, wanted: int) -> bool:
        return wanted > 0 and self.make(wanted)

    def make(self, wanted: int) -> bool:
        """Whether there is room for *wanted* bytes, now or after others went. Raises StorageError."""
        with self._lock:
            total, capacity, goal = self._store.room()
            if total + wanted <= capacity:
                return True
            if not self._may_free:
                return False
            self._note_uses()
            goal = max(0, min(goal, capacity - wanted))
            try:
                self._may_free = evict(self._store, goal, unused_since_s=self._began_s).bytes > 0
            except TimedOut as error:
                raise StorageError("budget", str(error)) from error
            total, capacity, _ = self._store.room()
            return total + wanted <= capacity

    def _note_uses(self) -> None:
        while self._found:
            uses: dict[str, int] = {}
            while self._found and len(uses) < _AT_ONCE:
                digest, names = self._found.popleft()
                uses |= {f"{digest} {name}": 0 for name in names}
            self._store.add_up(uses, {}, self._began_s)
