"""Serving an app on a socket: waitress, set up for pictures, with a stop that drops nobody."""

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

from .config import Server

__all__ = ["serve"]

_log = logging.getLogger(__name__)
_DRAIN_S = 30.0


def serve(app: Any, settings: Server, largest_bytes: int, on_ready: Callable[[str], None]) -> None:
    """Serve the WSGI *app* until SIGTERM or SIGINT, then answer what was asked, and return.

    No answer has more than *largest_bytes*: so much may wait for a client that reads slowly, in a temporary
    file, before its thread waits too (clients that never read would else take all threads). *on_ready* is
    called with the URL once the socket listens. Raises OSError when the address is taken, ValueError when
    the host is not known.
    """
    sockets: dict[int, Any] = {}
    server = create_server(
        app,
        map=sockets,
        host=settings.host,
        port=settings.port,
        threads=settings.threads,
        connection_limit=1000,
        asyncore_use_poll=True,  # select() ends at 1024 sockets
        max_request_body_size=64 * 1024,  # no address here takes a body
        channel_timeout=60,
        outbuf_high_watermark=largest_bytes + 2**20,
        ident=None,
        clear_untrusted_proxy_headers=True,
    )
    is_stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal is_stopping
        is_stopping = True
        waker.pull_trigger()

    waker = next(item for item in sockets.values() if hasattr(item, "pull_trigger"))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    on_ready(_url(settings.host, server))
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
    deadline = time.monotonic() + _DRAIN_S
    while time.monotonic() < deadline:
        channels = [item for item in sockets.values() if isinstance(item, HTTPChannel)]
        for channel in channels:
            if not (channel.requests or channel.total_outbufs_len):
                channel.will_close = True  # the loop closes it
        if not channels:
            break
        wasyncore.loop(timeout=0.05, use_poll=True, map=sockets, count=1)


def _url(host: str, server: Any) -> str:
    """The address to open in a browser."""
    port = server.effective_listen[0][1] if hasattr(server, "effective_listen") else server.effective_port
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"http://{f'[{shown}]' if ':' in shown and not shown.startswith('[') else shown}:{port}/"
