"""What the commands that work with the catalog have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..config import Config
from ..errors import CatalogUnavailable, ConfigError, MissingExtra, RequestError
from ..factory import Parts, Taking
from .common import Failure

__all__ = ["catalog_errors", "need_catalog", "taking_of"]

_NO_CATALOG = """there is no catalog in the config; write

[catalog]
url = "sqlite:////var/lib/imagefactory/catalog.db"

or a token in [uploads], which brings one beside the pictures"""


def need_catalog(config: Config) -> None:
    """Raise Failure where *config* has no catalog."""
    if not config.has_catalog:
        raise Failure(_NO_CATALOG, 2)


def taking_of(parts: Parts) -> Taking:
    """What takes pictures in, and works on them. Raises Failure where there is no catalog."""
    if parts.taking is None:
        raise Failure(_NO_CATALOG, 2)
    return parts.taking


@contextmanager
def catalog_errors() -> Iterator[None]:
    """Turn what goes wrong with the catalog into Failure."""
    try:
        yield
    except (ConfigError, MissingExtra) as error:
        raise Failure(str(error), 2) from error
    except RequestError as error:
        reason = error.reason if isinstance(error, CatalogUnavailable) else ""
        raise Failure(f"{error}{f' ({reason})' if reason else ''}", 1) from error
