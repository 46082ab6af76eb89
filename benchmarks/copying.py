"""What it costs to bring a program's output to a client: ours beside the ways that are written about.

    make copying            # about two minutes; SEED=1

First the copying alone: a program writes 20 kB, 1 MB and 100 MB, and they go over a socket to a process that
reads them. CPU is that of the process that serves, without the program's own; hashing and fsync are apart, as
no other way has them. Then whole answers: ``/1.jpg?size=300x200`` through ImageMagick, of a naive Flask view
and of this server, both under waitress.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import http.client
import os
import random
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

__all__ = ["main"]

_SIZES = {"20 kB": 20_000, "1 MB": 1_000_000, "100 MB": 100_000_000}
_TIMES = {"20 kB": 60, "1 MB": 30, "100 MB": 9}
_CHUNK = 64 * 1024
_NAIVE = """
import os, subprocess, sys, tempfile
from flask import Flask, Response, request
from waitress import serve

app = Flask(__name__)
pictures = sys.argv[1]

@app.get("/<name>")
def picture(name):
    width, height = request.args["size"].split("x")
    with tempfile.NamedTemporaryFile(suffix=".jpg") as out:
        source = os.path.join(pictures, name)
        subprocess.run(["convert", "-limit", "thread", "1", "-limit", "disk", "0", "jpeg:" + source,
                        "-auto-orient", "-thumbnail", width + "x" + height + ">", "-quality", "80", out.name],
                       check=True)
        return Response(open(out.name, "rb").read(), mimetype="image/jpeg")

serve(app, host="127.0.0.1", port=int(sys.argv[2]), threads=8)
"""


# --- copying


def _program(size: int) -> list[str]:
    return ["head", "-c", str(size), "/dev/zero"]


def naive(size: int, out: socket.socket, folder: str) -> None:
    """Program to temporary file, all of it into memory, to the socket."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        subprocess.run(_program(size), stdout=file, check=True)
        file.seek(0)
        out.sendall(Path(file.name).read_bytes())


def loop(size: int, out: socket.socket, folder: str) -> None:
    """A pipe, read and written by 64 KiB."""
    with subprocess.Popen(_program(size), stdout=subprocess.PIPE) as program:
        assert program.stdout
        while data := program.stdout.read1(_CHUNK):  # type: ignore[attr-defined]
            out.sendall(data)


def readinto(size: int, out: socket.socket, folder: str) -> None:
    """The same with one buffer, and a memoryview of it."""
    buffer = memoryview(bytearray(_CHUNK))
    with subprocess.Popen(_program(size), stdout=subprocess.PIPE, bufsize=0) as program:
        assert program.stdout
        while count := program.stdout.readinto(buffer):  # type: ignore[attr-defined]
            out.sendall(buffer[:count])


def iterable(size: int, out: socket.socket, folder: str) -> None:
    """``proc.stdout`` as a WSGI iterable: lines, where there are some; here by the default block."""
    with subprocess.Popen(_program(size), stdout=subprocess.PIPE) as program:
        assert program.stdout
        for data in iter(lambda: program.stdout.read(8192), b""):
            out.sendall(data)


def spliced(size: int, out: socket.socket, folder: str) -> None:
    """splice from the pipe to the socket, by ctypes; a server has to hand out its socket for that."""
    libc = ctypes.CDLL(None, use_errno=True)
    with subprocess.Popen(_program(size), stdout=subprocess.PIPE) as program:
        assert program.stdout
        while libc.splice(program.stdout.fileno(), None, out.fileno(), None, 2**20, 0) > 0:
            pass


def spliced_into_file(size: int, out: socket.socket, folder: str) -> None:
    """splice from the pipe into the cache's file, which could bound its size on the way; then sendfile."""
    with (
        tempfile.TemporaryFile(dir=folder) as file,
        subprocess.Popen(_program(size), stdout=subprocess.PIPE) as program,
    ):
        assert program.stdout
        while os.splice(program.stdout.fileno(), file.fileno(), 2**20):
            pass
        _send(file.fileno(), size, out)


def ours(size: int, out: socket.socket, folder: str) -> None:
    """The program's output is the cache's file; then sendfile, or what the server has."""
    with tempfile.TemporaryFile(dir=folder) as file:
        subprocess.run(_program(size), stdout=file, check=True)
        _send(file.fileno(), size, out)


def _send(file: int, size: int, out: socket.socket) -> None:
    at = 0
    while sent := os.sendfile(out.fileno(), file, at, size - at):
        at += sent


def ours_by_reading(size: int, out: socket.socket, folder: str) -> None:
    """The same where the server has no sendfile (waitress): 64 KiB are read and sent."""
    with tempfile.TemporaryFile(dir=folder) as file:
        subprocess.run(_program(size), stdout=file, check=True)
        file.seek(0)
        while data := file.read(_CHUNK):
            out.sendall(data)


_WAYS: dict[str, Callable[[int, socket.socket, str], None]] = {
    "naive: file, memory, socket": naive,
    "pipe, 64 KiB at a time": loop,
    "pipe, readinto, memoryview": readinto,
    "proc.stdout as iterable": iterable,
    "pipe, splice to the socket": spliced,
    "pipe, splice to file, sendfile": spliced_into_file,
    "ours: file, sendfile": ours,
    "ours: file, 64 KiB at a time": ours_by_reading,
}


@contextmanager
def _drained() -> Iterator[socket.socket]:
    """A socket whose other end is read by another process."""
    listener = socket.create_server(("127.0.0.1", 0))
    reader = os.fork()
    if reader == 0:
        with socket.create_connection(listener.getsockname()) as end:
            buffer = bytearray(2**20)
            while end.recv_into(buffer):
                pass
        os._exit(0)
    connection, _ = listener.accept()
    listener.close()
    try:
        yield connection
    finally:
        connection.close()
        os.waitpid(reader, 0)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def copying(folder: str, order: random.Random) -> None:
    """Print the CPU of each way for each size, in ms, and as a part of the naive way's."""
    print(f"{'CPU of the server, ms an answer':34}" + "".join(f"{name:>18}" for name in _SIZES))
    medians: dict[tuple[str, str], float] = {}
    for name, size in _SIZES.items():
        spent: dict[str, list[float]] = {way: [] for way in _WAYS}
        for _ in range(_TIMES[name]):
            for way in order.sample(sorted(_WAYS), len(_WAYS)):
                with _drained() as out:
                    before = _cpu_s()
                    _WAYS[way](size, out, folder)
                    spent[way].append(_cpu_s() - before)
        for way, times in spent.items():
            medians[way, name] = statistics.median(times) * 1000
    first = next(iter(_WAYS))
    for way in _WAYS:
        cells = ((medians[way, name], medians[way, name] / medians[first, name]) for name in _SIZES)
        print(f"{way:34}" + "".join(f"{value:10.2f} ({part:4.2f})" for value, part in cells))
    for name, size in _SIZES.items():
        with tempfile.TemporaryFile(dir=folder) as file:
            subprocess.run(_program(size), stdout=file, check=True)
            file.seek(0)
            began = _cpu_s()
            hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
            hashing, start = _cpu_s() - began, time.perf_counter()
            os.fsync(file.fileno())
            syncing = time.perf_counter() - start
            print(f"{name}: sha256 {hashing * 1000:.2f} ms CPU, fsync {syncing * 1000:.1f} ms wall")


# --- whole answers


def answers(folder: Path, seed: int, sandbox: str) -> None:
    """Print the wall time of first and second answers of both servers, in ms."""
    pictures = folder / "pictures"
    pictures.mkdir()
    noise = random.Random(seed)
    for number in range(24):
        image = Image.new("RGB", (90, 60))
        image.putdata([tuple(noise.randrange(256) for _ in range(3)) for _ in range(5400)])
        image.resize((1280, 853)).save(pictures / f"{number}.jpg", quality=90)
    port = _free_port()
    ready = (Path(__file__).parents[1] / "imagefactory/cli/ready/imagemagick_whole.toml").read_text()
    config = folder / "config.toml"
    config.write_text(
        f'[paths]\npictures = "pictures"\ncache = "cache"\n[server]\nport = {port}\n{ready}'
        f'sandbox = "{sandbox}"\n'
    )
    own = [sys.executable, "-m", "imagefactory", "--config", str(config), "serve"]
    other = _free_port()
    servers = [subprocess.Popen(own, stderr=subprocess.DEVNULL)]
    servers.append(subprocess.Popen([sys.executable, "-c", _NAIVE, str(pictures), str(other)]))
    try:
        for each in (port, other):
            _await(each)
        _get(port, "/picture/0.jpg?size=300x200"), _get(other, "/0.jpg?size=300x200")
        before = [_tree_cpu_s(server.pid) for server in servers]
        ours_ms, naive_ms, again_ms = [], [], []
        for number in range(1, 24):
            naive_ms.append(_get(other, f"/{number}.jpg?size=300x200"))
            ours_ms.append(_get(port, f"/picture/{number}.jpg?size=300x200"))
        cpu_ms = [
            1000 * (_tree_cpu_s(server.pid) - start) / 23
            for server, start in zip(servers, before, strict=True)
        ]
        again_ms = [_get(port, f"/picture/{number}.jpg?size=300x200") for number in range(1, 24)]
        first, naive_one, again = (statistics.median(each) for each in (ours_ms, naive_ms, again_ms))
        print(f"whole answers, ms: naive view {naive_one:.1f}, ours {first:.1f}, the second time {again:.2f}")
        print(f"ours / naive {first / naive_one:.2f}; naive / ours the second time {naive_one / again:.0f}")
        print(f"their CPU, of all processes: naive {cpu_ms[1]:.1f}, ours {cpu_ms[0]:.1f} ms")
        print(f"ours / naive {cpu_ms[0] / cpu_ms[1]:.2f}")
    finally:
        for server in servers:
            server.terminate()
            server.wait(30)


def _tree_cpu_s(process: int) -> float:
    """The CPU of *process* and of all that it started, also of what has ended and was waited for."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    children = [
        int(child)
        for each in Path(f"/proc/{process}/task").glob("*/children")
        for child in each.read_text().split()
    ]
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + sum(map(_tree_cpu_s, children))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _await(port: int) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("a server does not start")


def _get(port: int, target: str) -> float:
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", target)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"{target}: {response.status} {data[:200]!r}")
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="make copying", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sandbox", default="auto", choices=("auto", "none"))
    parser.add_argument("--only-answers", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imagefactory-copying-") as folder:
        if not arguments.only_answers:
            copying(folder, random.Random(arguments.seed))
        if shutil.which("convert"):
            answers(Path(folder), arguments.seed, arguments.sandbox)


if __name__ == "__main__":
    main()
