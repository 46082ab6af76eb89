"""A real server on a real socket for the tests that need one: ``imagefactory serve`` as a process.

    config = write_config(tmp_path, pictures, cache, render={"timeout_s": 10})
    with serving(config) as server, server.client() as client:
        reply = client.get("/picture/cats/tom.jpg?scalex=100")
        assert is_right(reply)

A server that was not stopped by the test is stopped at the end of the block, and has to exit with 0.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType

__all__ = [
    "Client",
    "Reply",
    "Server",
    "eventually",
    "is_able_to_trace",
    "is_right",
    "left_in_tmp",
    "serving",
    "write_config",
]

_START_S = 120.0
_STOP_S = 60.0
_numbers = count(1)


@dataclass(frozen=True)
class Reply:
    """An answer as it came over the wire; names of *headers* in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float = 0.0

    @property
    def cache(self) -> str:
        """X-Cache: hit, miss, coalesced or bypass; empty for what is no picture."""
        return self.headers.get("x-cache", "")


def is_right(reply: Reply) -> bool:
    """Whether *reply* is a 200 whose ETag and length are those of its body."""
    return (
        reply.status == 200
        and reply.headers.get("etag") == f'"{hashlib.sha256(reply.body).hexdigest()[:32]}"'
        and reply.headers.get("content-length") == str(len(reply.body))
    )


class Client:
    """A client that keeps its connection, for one thread at a time."""

    def __init__(self, host: str, port: int, timeout_s: float = 150.0) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=timeout_s)

    def get(self, target: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Reply:
        """The answer to *method* *target*; ``If_None_Match="..."`` sends that header.

        Raises OSError or HTTPException when the connection breaks before the answer is complete.
        """
        began = time.monotonic()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            self._connection.request(method, target, body, named)
            response = self._connection.getresponse()
            body = response.read()
        except BaseException:
            self._connection.close()
            raise
        seconds = time.monotonic() - began
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, body, seconds)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Server:
    """A server process for the configuration *config*. What it says on stderr is in the file *log*.

    *program* is run instead of ``imagefactory serve``; it finds the config by IMAGEFACTORY_CONFIG.
    """

    def __init__(
        self,
        config: Path,
        options: Sequence[str] = (),
        wrapper: Sequence[str] = (),
        cwd: Path | None = None,
        program: Sequence[str] = (),
    ) -> None:
        self.log = config.with_name(f"server-{next(_numbers)}.log")
        self.was_ended = False
        self._was_told = False
        own = [sys.executable, "-m", "imagefactory", "--config", str(config), "serve", "--port", "0"]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEFACTORY_")}
        if program:
            environ["IMAGEFACTORY_CONFIG"] = str(config)
            environ["PYTHONPATH"] = str(Path(__file__).parents[1])  # it may be a module of support
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*wrapper, *(program or own), *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, cwd=cwd,
            )  # fmt: skip
        try:
            self.host, self.port = self._address()
        except BaseException:
            self.kill()
            raise

    def _address(self) -> tuple[str, int]:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            said = re.search(r" at:? http://([\d.]+):(\d+)[ /]", self.said())
            if said:
                with Client(said[1], int(said[2])) as client:
                    client.get("/-/is-it-there")
                return said[1], int(said[2])
            if self.process.poll() is not None:
                raise RuntimeError(f"the server exited with {self.process.returncode}: {self.said()}")
            time.sleep(0.01)
        raise RuntimeError(f"the server says no address: {self.said()}")

    def said(self) -> str:
        """All that it wrote to stderr."""
        return self.log.read_text(errors="replace")

    def client(self, timeout_s: float = 150.0) -> Client:
        """A new client of this server."""
        return Client(self.host, self.port, timeout_s)

    def get(self, target: str, **headers: str) -> Reply:
        """The answer to GET *target* on a connection of its own."""
        with self.client() as client:
            return client.get(target, **headers)

    def health(self) -> str:
        """What /healthz says: ok or degraded."""
        reply = self.get("/healthz")
        assert reply.status == 200, reply
        return str(json.loads(reply.body)["status"])

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def tell_to_stop(self) -> None:
        """Send SIGTERM, once."""
        if not self._was_told:
            self._was_told = True
            self.process.terminate()

    def stop(self) -> int:
        """Send SIGTERM and wait; its exit code."""
        self.was_ended = True
        self.tell_to_stop()
        return self.process.wait(_STOP_S)

    def kill(self) -> None:
        """SIGKILL: it ends at once, wherever it is."""
        self.was_ended = True
        self.process.kill()
        self.process.wait(_STOP_S)


@contextmanager
def serving(
    config: Path,
    options: Sequence[str] = (),
    wrapper: Sequence[str] = (),
    cwd: Path | None = None,
    program: Sequence[str] = (),
) -> Iterator[Server]:
    """A server for *config* while the block runs; *wrapper* is put before its command line."""
    server = Server(config, options, wrapper, cwd, program)
    try:
        yield server
        if not server.was_ended:
            code = server.stop()
            assert code == 0, f"exit code {code}: {server.said()}"
    finally:
        if server.is_running:
            server.kill()


def write_config(
    folder: Path, pictures: Path, cache: Path, /, **sections: Mapping[str, str | int | float | bool]
) -> Path:
    """A new config.toml in *folder* for these paths, with *sections* such as ``render={"timeout_s": 10}``."""
    lines = []
    for section, values in {"paths": {"pictures": str(pictures), "cache": str(cache)}, **sections}.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    path = folder / f"config-{next(_numbers)}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def children_of(server: Server) -> list[tuple[int, str, str]]:
    """The pid, state and command line of all children of *server* and of its server processes."""
    listing = subprocess.run(
        ["ps", "-ww", "-eo", "pid,ppid,stat,args"], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 3) for line in listing.stdout.splitlines()[1:]]
    parents = {str(server.process.pid)}
    parents |= {pid for pid, parent, *_ in rows if parent in parents}
    return [(int(pid), state, args) for pid, parent, state, args in rows if parent in parents]


def workers_of(server: Server) -> list[int]:
    """The pids of the render workers of *server*."""
    return [pid for pid, _, args in children_of(server) if "imagefactory.workers.worker" in args]


def eventually(is_true: object, seconds: float = 30.0, pause_s: float = 0.01) -> bool:
    """Whether the callable *is_true* becomes true within *seconds*."""
    assert callable(is_true)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_true():
            return True
        time.sleep(pause_s)
    return bool(is_true())


def left_in_tmp(cache: Path) -> list[Path]:
    """The files in the folder where objects are written."""
    folder = cache / "tmp"
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def is_able_to_trace() -> bool:
    """Whether there is an strace that works here."""
    strace = shutil.which("strace")
    return (
        bool(strace) and subprocess.run([str(strace), "-o", "/dev/null", "true"], check=False).returncode == 0
    )


ROOT = Path(__file__).parents[2]
CONF = ROOT / "deploy" / "gunicorn.conf.py"
GUNICORN = [sys.executable, "-m", "gunicorn", "-c", str(CONF), "--bind", "127.0.0.1:0", "--log-level", "info"]
# A program that forgives faults sooner, see there.
IMPATIENT = [sys.executable, "-m", "support.impatient", "serve", "--port", "0"]
STARTS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "waitress": ((), ()),
    "prefork": (("--workers", "2"), ()),
    "granian": (("--server", "granian", "--workers", "2"), ()),
    "gunicorn": (("--server", "gunicorn", "--workers", "2"), ()),
    "gevent": ((), (*GUNICORN, "-k", "gevent", "wsgi:app")),
    "preloaded": ((), (*GUNICORN, "--preload", "wsgi:app")),
}
