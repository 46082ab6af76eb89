"""Waitress: pure Python, and the default; set up for pictures, with a stop that drops nobody."""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments

from ..config import Config
from ..web.http.admission import body_limit
from .common import DRAIN_S, bind, make_app, max_connections, sure_hits, url
from .prefork import run
from .waitress_channel import Connections

__all__ = ["serve"]

_log = logging.getLogger(__name__)
_LOOK_S = 1.0


def serve(config: Config, workers: int, on_ready: Callable[[str], None]) -> None:
    """Serve in *workers* processes until SIGTERM or SIGINT, then answer what was asked, and return; see
    ``serving``."""
    # It warns for each request that meets no idle thread: lines and lines when there is most to do.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    bound = _bind(config)
    address = url(config.server.host, bound[0].getsockname()[1])
    if workers == 1:
        _serve(config, bound, lambda: on_ready(address), lambda: True)
    else:
        run(workers, partial(_serve, config, bound), lambda: on_ready(address))


def _adjustments(config: Config, **where: Any) -> Adjustments:
    """Waitress's settings for pictures."""
    found = Adjustments(
        **where,
        threads=config.server.threads,
        asyncore_use_poll=True,  # select() ends at 1024 sockets
        max_request_header_size=64 * 1024,
        max_request_body_size=2**62,  # each request has its own bound: ``Parser``
        # What is no file waits in memory for a slow client, never in a copy on the disk, and never with its
        # thread: Connections bounds how long, and how much in all.
        outbuf_overflow=2**40,
        outbuf_high_watermark=2**40,
        ident=None,
        # Only clients.py reads these headers, and counts them where the config trusts the proxy. Without
        # them whoever comes through a proxy on this machine would look like a local program.
        clear_untrusted_proxy_headers=False,
    )
    found.body_limit = partial(body_limit, config)
    return found


def _bind(config: Config) -> list[socket.socket]:
    """A socket for each address of the host. Raises OSError."""
    try:
        infos = _adjustments(config, host=config.server.host, port=config.server.port).listen
    except ValueError as error:  # for a host that it can't find
        raise OSError(0, "Name or service not known") from error
    bound: list[socket.socket] = []
    try:
        for family, *others in infos:
            bound.append(bind(family, *others, is_ipv6_alone=family == socket.AF_INET6))
    except OSError:
        for each in bound:
            each.close()
        raise
    return bound


def _serve(
    config: Config, bound: list[socket.socket], on_ready: Callable[[], object], is_wanted: Callable[[], bool]
) -> None:
    """Serve on the sockets *bound*, as long as it *is_wanted*."""
    app = make_app(config)
    connections = Connections(max_connections())
    sockets = connections.sockets
    adjustments = _adjustments(config, sockets=bound)
    server = connections.listen(app, adjustments, *sure_hits(app))[0]
    is_stopping = False

    def stop(*_: object) -> None:
        nonlocal is_stopping
        is_stopping = True
        server.pull_trigger()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    on_ready()
    look_s = time.monotonic()
    while not is_stopping:
        _wait(sockets, _LOOK_S)
        if time.monotonic() >= look_s:
            look_s = time.monotonic() + _LOOK_S
            connections.look_after()
            if not is_wanted():
                break
    _log.info("stopping: answering what was asked")
    _drain(connections)
    server.task_dispatcher.shutdown(cancel_pending=True, timeout=1)
    for number in (signal.SIGTERM, signal.SIGINT):  # some supervisors ask twice: the answer stays exit 0
        signal.signal(number, signal.SIG_IGN)


def _wait(sockets: dict[int, Any], timeout_s: float) -> None:
    """Wait for what happens to *sockets*, and do what is to be done about it."""
    wasyncore.loop(timeout=timeout_s, use_poll=True, map=sockets, count=1)


def _drain(connections: Connections) -> None:
    """Take no new connections, finish the requests under way, close."""
    for _ in range(3):
        _wait(connections.sockets, 0)  # what has arrived already is taken
    for item in list(connections.sockets.values()):
        if item.accepting:
            wasyncore.dispatcher.close(item)  # the server's own close would take the trigger from its threads
    deadline = time.monotonic() + DRAIN_S
    while time.monotonic() < deadline:
        channels = connections.channels()
        for channel in channels:
            if not (channel.requests or channel.total_outbufs_len):
                channel.will_close = True  # the loop closes it
        if not channels:
            break
        _wait(connections.sockets, 0.05)
