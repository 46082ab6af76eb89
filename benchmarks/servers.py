"""Every contender: how it is started, with which settings, and which URL asks it for a picture.

A ``Stage`` owns a temporary folder and all processes; at its end, however that comes, the processes are ended
with their children and the folder is removed. docs/benchmarks.md repeats the settings: change them together.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from imagefactory import config as configs
from imagefactory.factory import Parts, assemble

__all__ = [
    "Absent",
    "Server",
    "Stage",
    "ipx",
    "nginx",
    "ours",
    "parts",
    "raw",
    "target",
    "thumbor",
    "write_config",
]

_ROOT = Path(__file__).parent.parent
_START_S = 30.0
_STOP_S = 8.0
_MEMORY = Path("/dev/shm")
PROCESSES = 2

# The raw app gets what `imagefactory serve` gives to ours.
_THREADS = "64"
_RAW = {
    "waitress": ["benchmarks.raw"],
    "granian": [
        "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--workers", str(PROCESSES),
        "--http", "1", "--no-ws", "--blocking-threads", _THREADS, "--blocking-threads-idle-timeout", "30",
        "--backpressure", "1000",
        "--log-level", "error", "benchmarks.raw:app", "--port",
    ],
    "gunicorn": [
        "gunicorn", "--worker-class", "gthread", "--workers", str(PROCESSES), "--threads", _THREADS,
        "--worker-connections", "1000", "--keep-alive", "60", "--log-level", "error",
        "benchmarks.raw:app", "--bind",
    ],
}  # fmt: skip


class Absent(Exception):
    """A contender that is not installed; the text says how to install it."""


@dataclass
class Server:
    """A running contender; *twin* is a second process of it, where it has no good way to share a port."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    twin: Server | None = None

    @property
    def ports(self) -> list[int]:
        """Where it listens."""
        return [self.port, *(self.twin.ports if self.twin else [])]

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        """End it and its children: told first, killed after a few seconds."""
        self.tell_to_stop()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_STOP_S)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # the group may outlive its leader
        self.process.wait(_STOP_S)

    def tell_to_stop(self) -> None:
        """Begin to end it."""
        if self.is_running:
            self.process.terminate()


class Stage:
    """A temporary folder and the processes that were started in it, for the time of a with-block."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="imagefactory-bench-"))
        self._folders = [self.folder]
        self.servers: list[Server] = []
        self._number = 0

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second Ctrl-C must not leave anything behind.
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        self.stop(*self.servers)
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)

    def new_folder(self, name: str) -> Path:
        """A new folder whose name begins with *name*."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    def new_memory_folder(self, name: str, size: int) -> Path:
        """A new folder in memory if *size* bytes have room there, else on the disk."""
        if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < 2 * size:
            return self.new_folder(name)
        self._folders.append(Path(tempfile.mkdtemp(prefix="imagefactory-bench-", dir=_MEMORY)))
        return self._folders[-1]

    def start(
        self, name: str, command: Sequence[str | Path], port: int, env: Mapping[str, str] | None = None
    ) -> Server:
        """The contender *name*, once it listens on *port*. Raises RuntimeError with what it said."""
        self._number += 1
        log = self.folder / f"{self._number}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=_ROOT,
                env={**_environment(), **(env or {})}, start_new_session=True,
            )  # fmt: skip
        server = Server(name, port, process, log)
        self.servers.append(server)
        deadline = time.monotonic() + _START_S
        while server.is_running and time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return server
            time.sleep(0.02)
        server.stop()
        raise RuntimeError(f"{name} did not start: {log.read_text(errors='replace')[-2000:]}")

    def stop(self, *servers: Server) -> None:
        """End *servers* before the stage ends."""
        ending = [server for first in servers for server in (first, first.twin) if server is not None]
        for server in ending:
            server.tell_to_stop()
        for server in ending:
            server.stop()
        self.servers = [server for server in self.servers if server not in ending]

    def twins(self, start: Callable[[], Server]) -> Server:
        """One contender of two processes that *start* starts, each with a port: the client takes turns, as a
        perfect balancer would. On one port all of a few connections may end up with one process."""
        first = start()
        first.twin = start()
        return first


def _environment() -> dict[str, str]:
    """Ours, without settings that would change what is measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith("IMAGEFACTORY_")}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# --- imagefactory, and the raw app in the same servers ----------------------------------------------------


def write_config(folder: Path, pictures: Path, cache: Path | None = None) -> Path:
    """A config.toml with these paths and every default. The cache is in *folder* unless it is given."""
    file = folder / "config.toml"
    paths = {"pictures": str(pictures), "cache": str(cache or folder / "cache")}
    file.write_text("[paths]\n" + "".join(f"{name} = {json.dumps(path)}\n" for name, path in paths.items()))
    return file


def parts(config: Path) -> Parts:
    """The parts of the file *config* in this process, for keys and versions; it starts no processes."""
    return assemble(configs.load(config, {"IMAGEFACTORY_RENDER__PROCESSES": "-1"}))


def ours(stage: Stage, server: str, config: Path, *, is_fast: bool = True) -> Server:
    """``imagefactory serve`` by *server*: waitress as one process, the others as two. Raises Absent."""
    _need(server)
    port = free_port()
    command = [sys.executable, "-m", "imagefactory", "--config", str(config), "serve", "--port", str(port)]
    command += [] if server == "waitress" else ["--server", server, "--workers", str(PROCESSES)]
    env = {} if is_fast else {"PYTHONPATH": str(_hide_extra(stage))}
    return stage.start(f"imagefactory, {server}", command, port, env)


def _hide_extra(stage: Stage) -> Path:
    """A folder for PYTHONPATH where the extra ``fast`` is as good as not installed."""
    folder = stage.new_folder("hidden")
    for name in ("cykooz_resizer", "deflate"):
        (folder / f"{name}.py").write_text("raise ImportError('hidden by the benchmark')\n")
    return folder


def raw(stage: Stage, server: str, bodies: Path) -> Server:
    """An app that answers from memory (see ``raw``), by *server* with the settings of ours. Raises Absent."""
    _need(server)
    port = free_port()
    address = f"127.0.0.1:{port}" if server == "gunicorn" else str(port)
    command = [sys.executable, "-m", *_RAW[server], address]
    return stage.start(f"raw app, {server}", command, port, {"RAW_BODIES": str(bodies)})


def _need(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise Absent(f"{module}: pip install {module}")


# --- the others ---------------------------------------------------------------------------------------------


def nginx(stage: Stage, static: Path, pictures: Path, processes: int = PROCESSES) -> Server:
    """nginx with so many workers: /static/ sends files, /resize/ is image_filter where that is installed.

    ``server.name`` ends with "image_filter" if it is. Raises Absent.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise Absent("nginx: apt-get install nginx libnginx-mod-http-image-filter")
    built = subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stderr
    modules = re.search(r"--modules-path=(\S+)", built)
    module = Path(modules[1] if modules else "", "ngx_http_image_filter_module.so")
    folder, port = stage.new_folder("nginx"), free_port()
    resize = f"""location /resize/ {{
            alias {pictures}/;
            image_filter crop $arg_w $arg_h;
            image_filter_jpeg_quality $arg_q;
            image_filter_buffer 64M;
        }}"""
    temps = "".join(f"{name}_temp_path {folder}/{name};" for name in
                    ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))  # fmt: skip
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(f"""
{f"load_module {module};" if module.is_file() else ""}
{user}
worker_processes {processes};
daemon off;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 2048; }}
http {{
    types {{ image/jpeg jpg; image/png png; image/webp webp; image/avif avif; }}
    {temps}
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port};
        location /static/ {{ alias {static}/; }}
        location /cached/ {{
            alias {static}/;
            open_file_cache max=10000 inactive=60s;
            open_file_cache_valid 60s;
        }}
        {resize if module.is_file() else ""}
    }}
}}
""")
    name = "nginx, image_filter" if module.is_file() else "nginx"
    return stage.start(name, [program, "-p", folder, "-c", config], port)


def thumbor(stage: Stage, pictures: Path, processes: int = PROCESSES, *, is_storing: bool = False) -> Server:
    """thumbor with so many processes; *is_storing* keeps results in files. Raises Absent."""
    program = os.environ.get("BENCH_THUMBOR") or shutil.which("thumbor")
    if not program or not Path(program).is_file():
        raise Absent(
            "thumbor: pip install thumbor into an environment of its own, BENCH_THUMBOR=its bin/thumbor"
        )
    folder, port = stage.new_folder("thumbor"), free_port()
    settings: dict[str, object] = {
        "LOADER": "thumbor.loaders.file_loader",
        "FILE_LOADER_ROOT_PATH": str(pictures),
        "STORAGE": "thumbor.storages.no_storage",
        "ALLOW_UNSAFE_URL": True,
        "PROGRESSIVE_JPEG": False,
        "AVIF_SPEED": 8,
        "PNG_COMPRESSION_LEVEL": 4,
    }
    if is_storing:
        settings |= {
            "RESULT_STORAGE": "thumbor.result_storages.file_storage",
            "RESULT_STORAGE_FILE_STORAGE_ROOT_PATH": str(folder / "results"),
            "RESULT_STORAGE_STORES_UNSAFE": True,
            "RESULT_STORAGE_EXPIRATION_SECONDS": 0,
        }
    config = folder / "thumbor.conf"
    config.write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    command = [program, "--ip", "127.0.0.1", "--port", str(port), "--conf", config, "--log-level", "error",
               "--processes", str(processes)]  # fmt: skip
    return stage.start("thumbor", command, port)


def ipx(stage: Stage, pictures: Path) -> Server:
    """ipx (sharp, libvips) with its node listener in a cluster of two processes. Raises Absent."""
    folder = os.environ.get("BENCH_IPX", "")
    if not folder or not Path(folder, "node_modules", "ipx").is_dir():
        raise Absent("ipx: npm install ipx sharp in a folder, BENCH_IPX=that folder")
    program = shutil.which("node")
    if program is None:
        raise Absent("ipx: needs node: apt-get install nodejs")
    port = free_port()
    script = Path(__file__).with_name("ipx.mjs")
    command = [program, script, folder, pictures, str(port), str(PROCESSES)]
    return stage.start("ipx", command, port)


def target(
    contender: str, path: str, width: int, height: int, encoding: str, quality: int | None = None
) -> str:
    """The URL that asks *contender* (the first word of its name) for *path* covering width x height."""
    rows = {
        "imagefactory": f"/picture/{path}?scalex={width}&scaley={height}&fit=cover&encoding={encoding}",
        "ipx": f"/f_{encoding},s_{width}x{height},fit_cover",
        "thumbor": f"/unsafe/{width}x{height}/filters:format({encoding})",
        "nginx": f"/resize/{path}?w={width}&h={height}&q={quality or 80}",
    }
    named = {"imagefactory": "&quality={}", "ipx": ",q_{}", "thumbor": ":quality({})"}
    url = rows[contender]
    if quality is not None and contender in named:
        url += named[contender].format(quality)
    return url if contender in ("imagefactory", "nginx") else f"{url}/{path}"
