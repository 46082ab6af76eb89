"""Gunicorn: forked processes with threads that send files by sendfile.

``gunicorn -c deploy/gunicorn.conf.py wsgi:app`` is the same by gunicorn's own command line; a test compares.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config import Config
from ..errors import ConfigError
from .common import CONNECTIONS, DRAIN_S, IDLE_S, listen, make_app, url

__all__ = ["bound_reads", "hear", "serve", "settings"]

_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def settings(threads: int, workers: int) -> dict[str, object]:
    """Gunicorn's settings for pictures, with *threads* in each of *workers* processes."""
    return {
        "workers": workers,
        "worker_class": "gthread",  # sync can't keep connections; gevent can't send a file by sendfile
        "threads": threads,
        "worker_connections": CONNECTIONS,
        "keepalive": IDLE_S,
        "timeout": 60,
        "graceful_timeout": DRAIN_S,
        "limit_request_line": 8190,
        "limit_request_fields": 100,
        "limit_request_field_size": 8190,
        "forwarded_allow_ips": "",
        "control_socket_disable": True,
        "loglevel": "warning",
        # Heartbeats go to a file: on a disk that is slow they would stop, and so would the worker.
        "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,  # noqa: S108
    }


def hear(worker: Any) -> None:
    """Let a worker that has begun get its signals, also those that came before; each stops it as SIGTERM.

    Ctrl-C means SIGINT and, from the parent, SIGQUIT. Gunicorn's handler of both takes a lock of the thread
    pool: where it interrupts the submitting of a request, or itself, its own thread has that lock already,
    waits for itself, and is killed after 30 s. The handler of SIGTERM takes none.
    """
    for number in _STOPS:
        signal.signal(number, worker.handle_exit)
        signal.siginterrupt(number, False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)


def bound_reads() -> None:
    """Have bodies read 64 kB at a time, as uploads ask for them. Gunicorn 27 reads a megabyte, and copies the
    rest of it at each read: 50 uploads at once took 153 MB of memory, and take 46."""
    from gunicorn.http.unreader import SocketUnreader

    if hasattr(SocketUnreader, "max_body_chunk"):
        SocketUnreader.max_body_chunk = 64 * 1024


def serve(config: Config, workers: int, on_ready: Callable[[str], None]) -> None:
    """Serve in *workers* processes; see ``serving``. Ends the program: with 0, or 3 without an app."""
    try:
        from gunicorn.app.base import BaseApplication
        from gunicorn.arbiter import Arbiter
    except ImportError as error:
        problem = "gunicorn is not installed; pip install 'flask-imagefactory[gunicorn]'"
        raise ConfigError("--server", problem) from error

    bound = listen(config.server)
    port = bound.getsockname()[1]

    def tell(arbiter: Any) -> None:
        on_ready(url(config.server.host, port))

    own = {"bind": f"fd://{bound.detach()}", "when_ready": tell, "post_worker_init": hear}

    class Parent(Arbiter):  # type: ignore[misc]  # gunicorn has no types
        def spawn_worker(self) -> Any:
            # A signal between the fork and the worker's own handlers would be lost, and a stop take 30 s.
            signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
            try:
                return super().spawn_worker()
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)

    class Application(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in {**settings(config.server.threads, workers), **own}.items():
                if name in self.cfg.settings:  # releases before 25 have no control socket
                    self.cfg.set(name, value)

        def load(self) -> Any:
            bound_reads()
            return make_app(config)

    Parent(Application()).run()
