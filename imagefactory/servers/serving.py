"""The servers that ``imagefactory serve`` can start, one file each.

Each answers on one address until SIGTERM or SIGINT, then finishes what was asked, and exits with 0.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from ..common.cores import cores
from ..config import Config
from .access_log import check_target
from .common import log_to_stderr, raise_descriptors, with_share

__all__ = ["SERVERS", "serve"]

# Each has its module, which is imported when it is chosen: two of them need an extra.
SERVERS = ("waitress", "granian", "gunicorn")


def serve(server: str, config: Config, workers: int | None, on_ready: Callable[[str], None]) -> None:
    """Serve the stand-alone app with *server*, one of SERVERS, until it is told to stop.

    *workers* are processes; None means as many as cores, and one for waitress. *on_ready* is called with
    the URL once the socket listens. Raises ConfigError for a server that is not installed and for an access
    log that can't be written, OSError when the address is taken or the host is not known.
    """
    if workers is None:
        workers = 1 if server == "waitress" else cores()
    raise_descriptors()
    module = importlib.import_module(f".{server}", __package__)
    log_to_stderr(config.server.log_level)
    if config.server.access_log:
        check_target(config.server.access_log)
    module.serve(with_share(config, workers), workers, on_ready)
