"""What hits do while somebody attacks: each server alone and behind the shipped nginx.conf, as a table.

    make hold                                   # all, 15 s each
    make hold ONLY=waitress,nginx+gunicorn SECONDS=60 ATTACKS=searches,headers

One client asks for one hit, again and again, before, during and after each attack; its attackers are another
process. A row says how long the slowest hundredth took (p99, ms), how many seconds after the attack the first
second was as quick as before, and what the server's processes held more than before then: descriptors, MB of
memory, MB of files that have no name.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from PIL import Image

from .drawing import quarters
from .nginx import nginx
from .serving import STARTS, Client, Server, children_of, serving, write_config

__all__ = ["main"]

_HIT = "/picture/tom.jpg?scalex=200"
_MANY = 100_000  # names for the playground's search
_GIVE_UP_S = 15.0
_QUIET_S = 3.0
_BACK_S = 40.0
_SLOWEST = 5  # times as before


@dataclass(frozen=True)
class Attack:
    """*count* connections that do *kind* with *target*: one of ``slow_clients``, or "ask" for it all the
    time, or "ask once". ``{}`` in a target is the number of the client."""

    kind: str
    count: int
    target: str


ATTACKS = {
    "searches": Attack("ask", 70, "/?q=zzzz"),
    "headers": Attack("trickled_header", 1000, "/"),
    "bodies": Attack("trickled_body", 500, "/-/purge"),
    "idle": Attack("idle", 1000, "/"),
    "unread-3": Attack("unread_body", 540, "/picture/3.jpg"),
    "unread-30": Attack("unread_body", 150, "/picture/30.jpg"),
    "range-90": Attack("unread_range", 150, "/picture/90.jpg"),
    "no-pictures": Attack("ask", 80, "/picture/none/{}.jpg?scalex=100"),
    "crowd": Attack("ask once", 60, "/picture/large.jpg?scalex=3500&encoding=avif&quality=70"),
}


@dataclass(frozen=True)
class Held:
    """What the processes of a server have now."""

    descriptors: int
    memory_mb: float
    nameless_mb: float


def held(server: Server) -> Held:
    """What the server and its children hold."""
    pids = [server.process.pid, *(pid for pid, _, _ in children_of(server))]
    descriptors, pages, nameless = 0, 0, 0
    for pid in pids:
        with suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            for name in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    descriptors += 1
                    if str(name.readlink()).endswith("(deleted)"):
                        nameless += name.stat().st_size
    return Held(descriptors, pages * os.sysconf("SC_PAGE_SIZE") / 1e6, nameless / 1e6)


class Visitor:
    """Asks for the hit all the time, each tenth time on a new connection."""

    def __init__(self, port: int) -> None:
        self.seconds: list[tuple[float, float]] = []  # when, and how long; no answer counts as 15 s
        self._port = port
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                with Client("127.0.0.1", self._port, _GIVE_UP_S) as client:
                    for _ in range(10):
                        began = time.monotonic()
                        reply = client.get(_HIT)
                        seconds = reply.seconds if reply.status == 200 else _GIVE_UP_S
                        self.seconds.append((began, seconds))
                        time.sleep(0.005)
            except (OSError, HTTPException):
                self.seconds.append((began, _GIVE_UP_S))
                time.sleep(0.05)

    def stop(self) -> None:
        """Ask no more, when what is under way has ended."""
        self._is_over.set()
        self._thread.join(_GIVE_UP_S + 1)

    def p99_s(self, start: float, stop: float) -> float:
        """Of the answers that were asked for between the two."""
        found = sorted(seconds for began, seconds in list(self.seconds) if start <= began < stop)
        return found[min(len(found) - 1, int(len(found) * 0.99))] if found else _GIVE_UP_S


def measure(server: Server, port: int, attack: Attack, seconds: float) -> list[str]:
    """The cells of a row: p99 before and during, their ratio, seconds until normal, what was held then."""
    for _ in range(10):
        with Client("127.0.0.1", port) as client:
            client.get(_HIT)
    visitor = Visitor(port)
    time.sleep(_QUIET_S)
    first = held(server)
    began = time.monotonic()
    before = visitor.p99_s(0, began)
    attackers = subprocess.Popen(_command(attack, port, seconds), stdout=subprocess.DEVNULL)
    most = first
    while attackers.poll() is None:
        time.sleep(1)
        now = held(server)
        most = Held(*map(max, zip(_values(most), _values(now), strict=True)))
    ended = time.monotonic()
    back: float | None = None
    while back is None and time.monotonic() < ended + _BACK_S:
        time.sleep(1)
        now_s = time.monotonic()
        if visitor.p99_s(now_s - 1, now_s - 0.05) <= max(_SLOWEST * before, 0.05):
            back = now_s - ended - 1
    time.sleep(2)
    last = held(server)
    visitor.stop()
    during = visitor.p99_s(began, ended)  # now, as one that hung may have ended just before
    grown = [
        f"{high - low:.0f} / {after - low:.0f}"
        for low, high, after in zip(_values(first), _values(most), _values(last), strict=True)
    ]
    told = f"{back:.0f}" if back is not None else f"over {_BACK_S:.0f}"
    return [f"{before * 1000:.1f}", f"{during * 1000:.1f}", f"{during / before:.1f}", told, *grown]


def _values(found: Held) -> tuple[float, float, float]:
    return found.descriptors, found.memory_mb, found.nameless_mb


def _command(attack: Attack, port: int, seconds: float) -> list[str]:
    own = [sys.executable, "-m"]
    shared = ["--count", str(attack.count), "--seconds", str(seconds), "--target", attack.target]
    if attack.kind.startswith("ask"):
        once = ["--once"] if attack.kind == "ask once" else []
        return [*own, "support.hold", "--ask", str(port), *shared, *once]
    return [*own, "support.slow_clients", attack.kind, f"127.0.0.1:{port}", *shared]


def ask(port: int, count: int, seconds: float, target: str, is_once: bool) -> None:
    """*count* clients that ask for *target*, once or until the time is over."""
    deadline = time.monotonic() + seconds

    def run(number: int) -> None:
        while time.monotonic() < deadline:
            try:
                with Client("127.0.0.1", port, max(0.1, deadline - time.monotonic())) as client:
                    while time.monotonic() < deadline:
                        client.get(target.format(number))
                        if is_once:
                            return
            except (OSError, HTTPException):
                time.sleep(0.1)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline + 1 - time.monotonic()))


# --- the place --------------------------------------------------------------------------------------------


def draw(pictures: Path) -> None:
    """The hit, the slow one, originals of 3, 30 and 90 MB, 80 files of 95 MB that are no pictures, and
    100,000 names in a thousand folders."""
    pictures.mkdir()
    quarters().save(pictures / "tom.jpg", quality=95)
    Image.effect_noise((4000, 3000), 60).save(pictures / "large.jpg", quality=80)
    for size in (3, 30, 90):
        quarters().save(pictures / f"{size}.jpg")
        os.truncate(pictures / f"{size}.jpg", size * 10**6)
    (pictures / "none").mkdir()
    for number in range(80):
        with (pictures / f"none/{number}.jpg").open("wb") as file:
            file.write(b"%d" % number)
            file.truncate(95 * 10**6)
    for outer in range(_MANY // 100):
        folder = pictures / f"many/{outer}"
        folder.mkdir(parents=True)
        for inner in range(100):
            (folder / f"picture {inner}.jpg").touch()


@contextmanager
def started(name: str, folder: Path, pictures: Path) -> Iterator[tuple[Server, int]]:
    """The server of that name, and the port to ask; "nginx+gunicorn" is gunicorn behind nginx."""
    server_name = name.removeprefix("nginx+")
    is_behind = name != server_name
    cache = folder / f"cache-{name}"
    config = write_config(folder, pictures, cache, http={"accel": "x-accel-redirect" if is_behind else "off"})
    with ExitStack() as stack:
        server = stack.enter_context(serving(config, STARTS[server_name][0]))
        if not is_behind:
            yield server, server.port
            return
        front = stack.enter_context(nginx("nginx.conf", folder / "front", server.port, cache))
        yield server, front.port


def main() -> int:
    """Measure what the arguments say; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ask", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--target", default="", help=argparse.SUPPRESS)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument(
        "--only", default="waitress,granian,gunicorn,nginx+waitress,nginx+granian,nginx+gunicorn"
    )
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    options = parser.parse_args()
    if options.ask:
        ask(options.ask, options.count, options.seconds, options.target, options.once)
        return 0
    with tempfile.TemporaryDirectory(prefix="imagefactory-hold-") as name:
        folder = Path(name)
        draw(folder / "pictures")
        print(
            "| server | attack | p99 before | during | times | back after | descriptors | MB | MB of files |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        for server_name in options.only.split(","):
            for attack in options.attacks.split(","):
                with tempfile.TemporaryDirectory(dir=folder) as place, suppress_exit_code():
                    with started(server_name, Path(place), folder / "pictures") as (server, port):
                        cells = measure(server, port, ATTACKS[attack], options.seconds)
                    print(f"| {server_name} | {attack} | {' | '.join(cells)} |", flush=True)
    return 0


@contextmanager
def suppress_exit_code() -> Iterator[None]:
    """A server that had to be killed at the end is a row, not an end of the table."""
    try:
        yield
    except (AssertionError, subprocess.TimeoutExpired) as error:
        print(f"  {type(error).__name__}: {str(error)[:300]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
