"""Make the variants that are missing, one after the other, by ``Generator.answer`` as for a visitor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ...engine.answer import Answer
from ...engine.generator import Generator
from ...engine.health import Health
from ...engine.identify import Identifier
from ...engine.maker import Maker
from ...engine.resolve import Resolver
from ...errors import BeingWritten, NotFound, RequestError, SourceChanged, StorageError, Unavailable
from ...model.source import Header, Source
from ...storage.index import DiskIndex
from ...storage.protocols import Sources
from ..keeper import Keeper
from .admission import Admission
from .cache_space import CacheSpace
from .orders import Order, Wish
from .plans import Plans
from .progress import Progress
from .scheduling import Schedule, Task, WorkerQueue

__all__ = ["RenderingSite", "Worker"]

_T = TypeVar("_T")
_TRIES = 4
_RETRY_S = 1.0
_PAUSE_S = 2.1  # after a failure a generator stores nothing for two seconds


class RenderingSite(Protocol):
    """What a worker uses of the parts of a site."""

    @property
    def clock(self) -> Callable[[], float]:
        """Gives unix seconds."""

    @property
    def sources(self) -> Sources:
        """The originals."""

    @property
    def resolver(self) -> Resolver:
        """What requests mean."""

    @property
    def identifier(self) -> Identifier:
        """What is known of the sources."""

    @property
    def generator(self) -> Generator:
        """Makes a variant as for a visitor."""

    @property
    def maker(self) -> Maker:
        """Makes a placeholder."""

    @property
    def health(self) -> Health:
        """What is wrong with the cache."""

    @property
    def keeper(self) -> Keeper:
        """Writes down what was counted."""


@dataclass(frozen=True, slots=True)
class Worker:
    """Makes the variants of one picture after the other by its *site*; all but that and its *queue* is
    shared by the workers. With *is_dry* it only counts what is missing.
    """

    site: RenderingSite
    index: DiskIndex
    plans: Plans
    schedule: Schedule
    queue: WorkerQueue
    admission: Admission
    space: CacheSpace
    progress: Progress
    is_dry: bool

    def work(self) -> None:
        """Make what the schedule gives until there is nothing left; for several threads at a time."""
        try:
            while (task := self.schedule.next(self.queue, self._missing)) is not None:
                with self.admission.admitted() as may_begin:
                    if may_begin:
                        self._do(task)
        except BaseException as error:  # raised again by the calling thread
            self.progress.abort(error)

    # --- what is missing

    def _missing(self, order: Order) -> Sequence[Wish]:
        """The wishes of *order* that are to be rendered; all else is counted."""
        found = self._identified(order)
        if found is None:
            return []
        source, header = found
        plan = self.plans.get(header, order.wishes)
        keys = self.index.variants.keys_of([source.digest])[source.digest]
        missing = {
            name: wish
            for name, wish in zip(plan.names, plan.wishes, strict=True)
            if f"{source.digest} {name}" not in keys
        }
        self.space.protect(source.digest, [name for name in plan.names if name not in missing])
        for wish, reason in plan.refused:
            self.progress.add_failed(order.path, wish, reason)
        self.progress.add(pictures=not order.is_more, present=plan.total - len(missing))
        if self.is_dry:
            self.progress.add_planned([f"{source.digest} {name}" for name in missing])
            return []
        if not missing and not source.placeholder:
            with suppress(RequestError, SourceChanged):  # no variant fails for it
                self._retrying(lambda: self.site.maker.make_placeholder(source))
        return list(missing.values())

    def _identified(self, order: Order) -> tuple[Source, Header] | None:
        """The source of *order*; None, and counted, if it is no picture or a broken one."""
        try:
            source = self._retrying(lambda: self.site.identifier.source(order.path))
            if source.header is None:
                self.site.resolver.wanted(source, order.wishes[0].request, "")  # says what is wrong
        except RequestError as error:
            self._refuse(order, order.wishes, error)
            is_expected = order.is_named or not isinstance(error, NotFound)
            self.progress.add(pictures=not order.is_more and is_expected)
            return None
        return None if source.header is None else (source, source.header)

    # --- rendering

    def _do(self, task: Task) -> None:
        """Make one variant, and count it."""
        try:
            answer = self._stored(task)
        except RequestError as error:
            if not (isinstance(error, Unavailable) and self.progress.is_over):
                self._refuse(task.order, [task.wish], error)
            return
        if answer is not None and answer.result == "miss":
            self.progress.add_rendered(answer.bytes)
        elif answer is not None:
            self.progress.add(present=1)

    def _stored(self, task: Task) -> Answer | None:
        """The variant, stored; None if the warming ended before."""
        health, progress, answer_to = self.site.health, self.progress, self.site.generator.answer
        for _ in range(_TRIES):
            with self.space.reserved(self.admission.expected_bytes):
                answer = self._retrying(lambda: answer_to(task.order.path, task.wish.request))
                self.admission.note_size(answer.bytes)
            if answer.result != "bypass":
                return answer
            if not answer.is_stable:
                raise BeingWritten
            if "budget" in health.troubles and not self.space.make_room(answer.bytes):
                progress.end("full")
            if progress.is_over or progress.stop.wait(_PAUSE_S):
                return None
        raise StorageError("objects", "; ".join(health.troubles.values()) or "nothing can be stored")

    def _retrying(self, work: Callable[[], _T]) -> _T:
        """What *work* gives, tried again while the generator is busy."""
        for _ in range(_TRIES - 1):
            try:
                return work()
            except Unavailable:
                if self.progress.stop.wait(_RETRY_S):
                    raise
        return work()

    def _refuse(self, order: Order, wishes: Sequence[Wish], error: RequestError) -> None:
        """Count *wishes* as failed, unless the picture is gone and the operator did not name it."""
        if order.is_named or not isinstance(error, NotFound):
            for wish in wishes:
                self.progress.add_failed(order.path, wish, error)
