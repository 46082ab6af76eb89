"""gunicorn -c deploy/gunicorn.conf.py wsgi:app, in the folder with wsgi.py and config.toml.

What ``imagefactory serve --server gunicorn`` does, for who wants gunicorn's own command line (reload by HUP,
a unix socket, gevent). Options on that command line go before this file.
"""

import os
from pathlib import Path

from imagefactory.common.cores import cores
from imagefactory.config import load
from imagefactory.servers.common import take_turns, with_share
from imagefactory.servers.gunicorn import bound_reads, hear

_config = load(None, os.environ)

bind = f"{_config.server.host}:{_config.server.port}"
# Set the number here or in WEB_CONCURRENCY, not by -w: the render processes are shared out below.
workers = int(os.environ.get("WEB_CONCURRENCY", cores()))
raw_env = [f"IMAGEFACTORY_RENDER__PROCESSES={with_share(_config, workers).render.processes}"]

# gthread sends files by sendfile and keeps connections. With -k gevent a slow client costs no thread.
worker_class = "gthread"
# A hit needs a thread too: at most threads - 8 requests wait for renders.
threads = _config.server.threads
worker_connections = 1000
# Longer than a proxy in front keeps its connections (nginx.conf: 50 s).
keepalive = 60
timeout = 60
graceful_timeout = 30

limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190
forwarded_allow_ips = ""  # whose X-Forwarded-* headers count: nobody's, nothing here depends on them

control_socket_disable = True
loglevel = "warning"
# Heartbeats go to a file: on a disk that is slow they would stop, and so would the worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


def post_worker_init(worker: object) -> None:
    """Let hits in between the work of misses, take bodies in pieces, and Ctrl-C finish what was asked."""
    take_turns()
    bound_reads()
    hear(worker)
