"""A purge with all that belongs to it: the removing, the hooks that are told, and the result as JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...config import Config
from ...errors import StorageError, Unavailable
from ...storage.protocols import Notices, SourceRows, Sources
from . import notify
from .removing import Purged, Remover, remove
from .selection import Selection

__all__ = ["Outcome", "Purger"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was *purged*, or would be, and whether the hooks were *told*: None if there is nothing to tell."""

    purged: Purged
    is_dry_run: bool
    told: notify.Told | None = None

    def as_json(self) -> dict[str, Any]:
        """The same for ``imagefactory purge --json`` and for HTTP."""
        values: dict[str, Any] = {
            "pictures": self.purged.pictures,
            "variants": self.purged.variants,
            "bytes": self.purged.bytes,
            "dry_run": self.is_dry_run,
            "unread": list(self.purged.unread),
        }
        if self.told is not None:
            detail = {} if self.told.ok else {"detail": self.told.detail}
            values["hook"] = {"ok": self.told.ok, **detail}
        return values


class Purger:
    """Purges one cache, and tells the hooks of *config*. *prepare* is called before a ``purge``."""

    def __init__(
        self,
        config: Config,
        remover: Remover,
        rows: SourceRows,
        notices: Notices,
        sources: Sources,
        clock: Callable[[], float],
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        self._config = config
        self._remover = remover
        self._rows = rows
        self._notices = notices
        self._sources = sources
        self._clock = clock
        self._prepare = prepare

    def purge(self, selection: Selection, *, is_dry_run: bool = False) -> Outcome:
        """Remove the variants of *selection*, then tell the hooks; a dry run does neither. Raises as
        ``removing.remove``, but Unavailable when the cache can't be changed."""
        self._prepare()
        try:
            purged = self.remove(selection, is_dry_run=is_dry_run)
        except StorageError as error:
            raise Unavailable(f"the cache can't be purged at the moment: {error}") from error
        outcome = self.tell(selection, purged, is_dry_run=is_dry_run)
        if outcome.told is not None and not outcome.told.ok:
            _log.error("a purge was not told: %s", outcome.told.detail)
        return outcome

    def remove(
        self,
        selection: Selection,
        *,
        is_dry_run: bool = False,
        report: Callable[[int], object] = lambda count: None,
    ) -> Purged:
        """Remove the variants of *selection*, or count them; see ``removing.remove``."""
        return remove(
            self._remover,
            self._rows,
            self._notices,
            self._sources,
            selection,
            self._clock(),
            is_dry_run=is_dry_run,
            report=report,
        )

    def tell(self, selection: Selection, purged: Purged, *, is_dry_run: bool) -> Outcome:
        """What came of it, after the hooks were told; a dry run tells none."""
        if is_dry_run:
            return Outcome(purged, is_dry_run)
        prefixes = self._config.http.prefixes
        bodies = notify.notices(purged.paths, purged.digests, selection.prefix, prefixes, selection.is_all)
        return Outcome(purged, is_dry_run, notify.tell(self._config.admin, bodies))
