"""Waitress: one process, pure Python; set up for pictures, with a stop that drops nobody."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server

from ..config import Config
from .common import CONNECTIONS, DRAIN_S, IDLE_S, make_app, url

__all__ = ["serve"]

_log = logging.getLogger(__name__)


def serve(config: Config, workers: int, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then answer what was asked, and return; see ``serving``.

    No answer has more bytes than a source may have: so much may wait for a client that reads slowly, in a
    temporary file, before its thread waits too (clients that never read would else take all threads).
    """
    app = make_app(config)
    # It warns for each request that meets no idle thread: lines and lines when there is most to do.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    sockets: dict[int, Any] = {}
    try:
        server = create_server(
            app,
            map=sockets,
            host=config.server.host,
            port=config.server.port,
            threads=config.server.threads,
            connection_limit=CONNECTIONS,
            asyncore_use_poll=True,  # select() ends at 1024 sockets
            max_request_header_size=64 * 1024,
            max_request_body_size=64 * 1024,  # a purge, and nothing else, takes a body
            channel_timeout=IDLE_S,
            outbuf_high_watermark=config.limits.max_source_bytes + 2**20,
            ident=None,
            # Only clients.py reads these headers, and counts them where the config trusts the proxy. Without
            # them whoever comes through a proxy on this machine would look like a local program.
            clear_untrusted_proxy_headers=False,
        )
    except ValueError as error:  # for a host that it can't find
        raise OSError(0, "Name or service not known") from error
    is_stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal is_stopping
        is_stopping = True
        waker.pull_trigger()

    waker = next(item for item in sockets.values() if hasattr(item, "pull_trigger"))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    is_several = hasattr(server, "effective_listen")
    port = server.effective_listen[0][1] if is_several else server.effective_port
    on_ready(url(config.server.host, port))
    while not is_stopping:
        wasyncore.loop(timeout=30, use_poll=True, map=sockets, count=1)
    _log.info("stopping: answering what was asked")
    _drain(sockets)
    server.task_dispatcher.shutdown(cancel_pending=True, timeout=1)
    for number in (signal.SIGTERM, signal.SIGINT):  # some supervisors ask twice: the answer stays exit 0
        signal.signal(number, signal.SIG_IGN)


def _drain(sockets: dict[int, Any]) -> None:
    """Take no new connections, finish the requests under way, close."""
    wasyncore.loop(timeout=0, use_poll=True, map=sockets, count=3)  # what has arrived already is taken
    for item in list(sockets.values()):
        if item.accepting:
            wasyncore.dispatcher.close(item)  # the server's own close would take the trigger from its threads
    deadline = time.monotonic() + DRAIN_S
    while time.monotonic() < deadline:
        channels = [item for item in sockets.values() if isinstance(item, HTTPChannel)]
        for channel in channels:
            if not (channel.requests or channel.total_outbufs_len):
                channel.will_close = True  # the loop closes it
        if not channels:
            break
        wasyncore.loop(timeout=0.05, use_poll=True, map=sockets, count=1)
