"""The leases that the workers of a process hold: renewed while their jobs run."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..catalog.jobs import JobRow, JobRows
from ..errors import ImageFactoryError

__all__ = ["Leases"]

_log = logging.getLogger(__name__)
_PART = 3  # of a lease, between two renewals: one may fail


class Leases:
    """The leases in *rows* of one process, *lease_s* seconds each. Errors of the catalog are left to those
    who lease: a lease that can't be renewed now is renewed the next time."""

    def __init__(self, rows: JobRows, lease_s: float) -> None:
        self._rows = rows
        self._lease_s = lease_s
        self._owners: dict[str, str] = {}
        self._lost: set[str] = set()

    @property
    def is_empty(self) -> bool:
        """Whether no job is under way."""
        return not self._owners

    @contextmanager
    def held(self, job: JobRow, owner: str) -> Iterator[None]:
        """Have the lease of *job*, which *owner* got, renewed during the block."""
        self._lost.discard(job.token)
        self._owners[job.token] = owner
        try:
            yield
        finally:
            self._owners.pop(job.token, None)

    def is_lost(self, job: JobRow) -> bool:
        """Whether another worker may have *job* by now, which is or was held here."""
        return job.token in self._lost

    def renew(self) -> None:
        """Renew all that are held."""
        for token, owner in list(self._owners.items()):
            with suppress(ImageFactoryError):
                if not self._rows.renew([token], owner, self._lease_s):
                    self._lose(token)

    def hand_back(self) -> None:
        """Give back all that are held: others shall have these jobs now, and not when the leases end."""
        for token, owner in list(self._owners.items()):
            with suppress(ImageFactoryError):
                self._rows.release(token, owner)
            self._lose(token)

    def start(self, stopping: threading.Event) -> None:
        """Begin to renew in a thread, until *stopping* is set or nobody uses these leases any more."""
        arguments = (weakref.ref(self), stopping, self._lease_s / _PART)
        threading.Thread(target=_keep, args=arguments, name="imagefactory-leases", daemon=True).start()

    def _lose(self, token: str) -> None:
        if token in self._owners:
            self._lost.add(token)


def _keep(reference: weakref.ref[Leases], stopping: threading.Event, pause_s: float) -> None:
    while not stopping.wait(pause_s):
        leases = reference()
        if leases is None:
            return
        try:
            leases.renew()
        except Exception:  # the thread must live on
            _log.exception("the leases of background work can't be renewed")
        del leases
