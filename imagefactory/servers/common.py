"""What the servers have in common: their limits, their share of the cores, an address to listen on."""

from __future__ import annotations

import logging
import resource
import socket
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..common.cores import cores
from ..config import Config, Server
from ..errors import ConfigError, MissingExtra, RequestError
from ..factory import Parts
from ..web.app import create_app
from ..web.fastpath import FastPath, SureHits
from ..web.http.clients import Proxies
from .access_log import AccessLog

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = [
    "CONNECTIONS",
    "DRAIN_S",
    "IDLE_S",
    "bind",
    "listen",
    "log_to_stderr",
    "make_app",
    "max_connections",
    "raise_descriptors",
    "sure_hits",
    "take_turns",
    "url",
    "with_share",
    "with_timeout",
]

# Connections of one process at a time, most of them idle: each costs a few kB.
CONNECTIONS = 1000
# The same for a server that has a bound of its own on what they may cost.
_MAX_CONNECTIONS = 4000
_OTHER_FILES = 128  # the index, workers, sources that are read, the log
# A client that takes nothing for so long is gone: the kernel then ends the connection.
UNREAD_S = 30
# How long a connection may wait for its next request. A proxy in front must give up earlier than we do, or
# now and then it sends a request into a connection that is being closed: deploy/nginx.conf says 50 s.
IDLE_S = 60
# How long a stop waits for answers under way: as long as a render may take.
DRAIN_S = 30


def with_share(config: Config, workers: int) -> Config:
    """*config* for each of so many server processes: one render process per core in all, not in each."""
    if config.render.processes != 0 or workers == 1:
        return config
    return replace(config, render=replace(config.render, processes=max(1, cores() // workers)))


def listen(settings: Server) -> socket.socket:
    """A socket bound to the host and port of *settings*; a port of 0 becomes a free one. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return bind(family, kind, protocol, address)


def bind(
    family: int, kind: int, protocol: int, address: Any, *, is_ipv6_alone: bool = False
) -> socket.socket:
    """A socket of that kind with that *address*, which may serve IPv6 and no IPv4. Raises OSError."""
    bound = with_timeout(socket.socket(family, kind, protocol))
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_ipv6_alone:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


def with_timeout(bound: socket.socket) -> socket.socket:
    """*bound*, whose connections the kernel ends when their clients take nothing for half a minute: a server
    whose threads send would else lose them one by one. Linux has that, and hands it on to each connection."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S * 1000)
    return bound


def raise_descriptors() -> int:
    """Have as many open files allowed as may be, for this process and its children; how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2**16 if hard == resource.RLIM_INFINITY else min(hard, 2**16)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return 2**16 if soft == resource.RLIM_INFINITY else soft


def max_connections() -> int:
    """How many connections this process may have: each may need a descriptor for a file, too."""
    return max(16, min(_MAX_CONNECTIONS, (raise_descriptors() - _OTHER_FILES) // 2))


def url(host: str, port: int) -> str:
    """The address to open in a browser."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"http://{f'[{shown}]' if ':' in shown and not shown.startswith('[') else shown}:{port}/"


def make_app(config: Config) -> WSGIApplication:
    """The app of this server process, and what else such a process needs. Raises ConfigError."""
    log_to_stderr(config.server.log_level)
    take_turns()
    app = create_app(config)
    parts = app.extensions["imagefactory"].parts
    _open_catalog(parts)
    parts.generator.start()
    parts.keeper.start()  # a cache that is over its budget is brought down before anybody asks
    if not config.server.access_log:
        return app
    return AccessLog(app, config.server.access_log, Proxies(config.server.trusted_proxies))


def _open_catalog(parts: Parts) -> None:
    """Raise ConfigError where the catalog can never be used. One that is away for the moment is no reason to
    show no pictures."""
    if parts.taking is None:
        return
    try:
        parts.taking.database.open()
    except MissingExtra as error:
        raise ConfigError(
            "uploads.token" if parts.config.has_uploads else "catalog.url", str(error)
        ) from error
    except RequestError:
        pass  # it is in the log


def sure_hits(app: WSGIApplication) -> tuple[WSGIApplication, SureHits] | tuple[None, None]:
    """What answers the sure hits of an *app* of ``make_app``, with the log and without; see ``SureHits``."""
    inner = app.app if isinstance(app, AccessLog) else app
    outer = getattr(inner, "wsgi_app", None)
    if not isinstance(outer, FastPath):
        return None, None
    found = SureHits(outer)
    return app.around(found) if isinstance(app, AccessLog) else found, found


def take_turns() -> None:
    """Have the threads of this process hand on the interpreter ten times as often as by default.

    A hit takes microseconds, what a miss does before and after its render milliseconds. With 8 clients that
    have pictures rendered on both cores, hits under waitress went from 5.0 to 2.6 ms (p90), 13 to 7 (p99).
    """
    sys.setswitchinterval(0.0005)


def log_to_stderr(level: str = "info") -> None:
    """Have messages of *level* and above written to stderr; the second time only the level changes."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger().setLevel(level.upper())
