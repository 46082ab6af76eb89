"""Granian: an HTTP server in Rust that calls the app in threads, several processes on one address.

The fastest of the three for hits that come from memory; it has no sendfile for WSGI.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from ..config import Config, as_toml, from_mapping
from ..errors import ConfigError
from .common import CONNECTIONS, DRAIN_S, IDLE_S, listen, make_app, url, with_timeout

__all__ = ["serve"]

_POLL_S = 0.02
_WATCH_S = 1.0
_LEAD_S = 0.1  # so that the parent knows first: it takes a worker that ends before that for crashed


def serve(config: Config, workers: int, on_ready: Callable[[str], None]) -> None:
    """Serve in *workers* processes; see ``serving``. An app that can't be made ends it with exit code 1."""
    try:
        from granian import Granian
        from granian.constants import HTTPModes, Interfaces
        from granian.http import HTTP1Settings
        from granian.log import LogLevels
    except ImportError as error:
        problem = "granian is not installed; pip install 'flask-imagefactory[granian]'"
        raise ConfigError("--server", problem) from error

    held = listen(config.server)
    address, port = held.getsockname()[:2]
    if sys.platform == "linux":
        # Each worker opens a socket of its own with SO_REUSEPORT, which hides that a port is taken, and
        # makes a port of 0 another one for each. So the port is bound here first, and kept: the option is
        # set after the bind, which still failed if somebody else was there.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    else:
        held.close()
    server = Granian(
        "imagefactory",  # the app is made by target_loader
        address=address,
        port=port,
        interface=Interfaces.WSGI,
        workers=workers,
        # A hit needs a thread too, and threads - 8 requests may wait for renders. A thread is only started
        # when so many requests wait at the same time, and ends when idle.
        blocking_threads=config.server.threads,
        blocking_threads_idle_timeout=30,
        # Not requests but connections, idle ones too: one more than this waits until another one closes.
        backpressure=CONNECTIONS,
        http=HTTPModes.http1,  # the other modes look for HTTP/2 in each new connection
        # The timeout for a header also ends idle connections.
        http1_settings=HTTP1Settings(header_read_timeout=IDLE_S * 1000, max_buffer_size=64 * 1024),
        websockets=False,
        log_level=LogLevels.error,  # warnings are advice on the number of threads
        log_dictconfig={"handlers": {}, "loggers": {"_granian": {"propagate": True}}},
        respawn_failed_workers=True,
        workers_kill_timeout=DRAIN_S,
    )
    tell = partial(_tell, on_ready, address, port, url(config.server.host, port))
    server.on_startup(threading.Thread(target=tell, daemon=True).start)
    # As text: workers may be started by spawn, and a Config has mappings that can't be pickled.
    loader = partial(_load, as_toml(config, secrets=True))
    try:
        server.serve(target_loader=loader, wrap_loader=False)
    except SystemExit:
        if not server.interrupt_signal:  # a worker that was told to end as well, and was quick, is no failure
            raise


def _load(config: str) -> Any:
    """The app of a worker process that begins, from the text of its config."""
    _stop_once()
    threading.Thread(target=_end_unread, daemon=True).start()
    # A child of multiprocessing ends without what atexit was given.
    Finalize(None, atexit._run_exitfuncs, exitpriority=0)
    return make_app(from_mapping(tomllib.loads(config), Path("/")))


def _stop_once() -> None:
    """Let this worker hear of its end once.

    A worker of granian 2.8.7 hangs for ever at a second signal, and gets one: Ctrl-C goes to all processes
    of a terminal, systemd's SIGTERM to all of a service, and the parent sends its own. It also misses a
    signal that comes before its handler is there, and serves on when its parent was killed. So all threads
    but one block the signals; that one waits for them, and looks after the parent.
    """
    signals = {signal.SIGTERM, signal.SIGINT}
    parent = os.getppid()
    inherited = signal.getsignal(signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        if sys.platform == "darwin":  # it has no sigtimedwait
            signal.sigwait(signals)
        else:
            while signal.sigtimedwait(signals, _WATCH_S) is None and os.getppid() == parent:
                pass
        time.sleep(_LEAD_S)
        while (handler := signal.getsignal(signal.SIGTERM)) is inherited:
            time.sleep(_POLL_S)
        if callable(handler):
            handler(signal.SIGTERM, None)

    threading.Thread(target=wait, daemon=True).start()


def _end_unread() -> None:
    """Have the kernel end connections whose clients read nothing: granian's threads wait for them for ever.

    It opens its listening socket itself, at about this time, and hands it to nobody.
    """
    descriptors = Path("/proc/self/fd")
    while hasattr(socket, "TCP_USER_TIMEOUT") and descriptors.is_dir():
        for path in descriptors.iterdir():
            with suppress(OSError):
                if path.is_socket():
                    with socket.socket(fileno=os.dup(int(path.name))) as each:
                        if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                            with_timeout(each)
                            return
        time.sleep(_POLL_S)


def _tell(on_ready: Callable[[str], None], address: str, port: int, shown: str) -> None:
    """Call *on_ready* as soon as somebody listens."""
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError:
            time.sleep(_POLL_S)
            continue
        on_ready(shown)
        return
