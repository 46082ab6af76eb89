"""A purge with all that belongs to it: the removing, the hooks that are told, and the result as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...config import Config
from ...engine.generator import Generator
from ...errors import StorageError, Unavailable
from . import notify
from .removing import Purged, purge
from .selection import Selection

__all__ = ["Outcome", "purge_and_tell", "tell_hooks"]


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


def purge_and_tell(generator: Generator, selection: Selection, *, is_dry_run: bool) -> Outcome:
    """Purge in a process that serves, and tell the hooks.

    Raises BadParameter, and Unavailable when the cache can't be changed.
    """
    generator.start()
    generator.keeper.flush()  # the last use of each variant, as far as this process knows
    try:
        purged = purge(
            generator.store, generator.sources, selection, generator.now_s(), is_dry_run=is_dry_run
        )
    except StorageError as error:
        raise Unavailable(f"the cache can't be purged at the moment: {error}") from error
    return tell_hooks(generator.config, selection, purged, is_dry_run=is_dry_run)


def tell_hooks(config: Config, selection: Selection, purged: Purged, *, is_dry_run: bool) -> Outcome:
    """What came of a purge, after the hooks of *config* were told; a dry run tells none."""
    if is_dry_run:
        return Outcome(purged, is_dry_run)
    bodies = notify.notices(
        purged.paths, purged.digests, selection.prefix, config.http.prefixes, selection.is_all
    )
    return Outcome(purged, is_dry_run, notify.tell(config.admin, bodies))
