"""Keys that config.toml had once: they are still read, and ignored with one warning.

So no upgrade stops a server over a setting that means nothing any more.
"""

from __future__ import annotations

import logging
from functools import cache

__all__ = ["DELETED", "deleted_from", "warn_once"]

_log = logging.getLogger(__name__)

# The dotted key, and what to do instead.
DELETED = {
    "render.share_decodes": "it saved nothing; remove it",
}


def deleted_from(section: str) -> dict[str, str]:
    """The dotted keys that were deleted from the dotted *section*, by their names in it."""
    ways = {key: key.rpartition(".") for key in DELETED}
    return {name: key for key, (above, _, name) in ways.items() if above == section}


@cache  # once per process: an app may load several configs, and a server loads its own more than once
def warn_once(key: str) -> None:
    """Log that the deleted dotted *key* is ignored."""
    _log.warning("the config key %s is gone, and ignored: %s", key, DELETED[key])
