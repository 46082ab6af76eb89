"""What a server does while its programs misbehave: 200 runs that hang, flood, crash, fork and lie.

    make hostile                      # 200 runs, about two minutes
    make hostile N=1000 SEED=3

Each source asks one program for one kind of misbehaviour, in an order that SEED decides. Meanwhile one client
asks for one hit, again and again, and before that while ordinary pictures are rendered as busily. Printed are
the answers by kind, the p99 of the hits, and what is left when it is over: processes, files, descriptors.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import secrets
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .drawing import at_rest, quarters
from .serving import Server, eventually, left_in_tmp, serving, write_config

__all__ = ["KINDS", "descendants", "hostile_site", "left_over", "main", "misbehave", "strays"]

_HIT = "/picture/tom.jpg?scalex=200"
_AT_ONCE = 4
# By the second word in the source: what it does. NAP is a number of seconds that no other process sleeps. All
# end by themselves within a minute, also where nothing ends them. A shell is there in every sandbox.
_PROGRAM = r"""#!/bin/sh
read -r _ kind _ <"$1"
case $kind in
sleeper) sleep NAP ;;
grandchildren) for _ in 1 2 3; do setsid sleep NAP & done; sleep NAP ;;
daemon) (setsid sleep NAP </dev/null >/dev/null 2>&1 &); printf 'P6\n1 1\n255\nabc' ;;
flood) printf 'P6\n'; head -c 100000000 /dev/zero ;;
chatter) head -c 20000000 /dev/zero >&2; exit 1 ;;
memory) timeout 30 tail /dev/zero ;;
segv) printf 'P6\n4 4\n255\nhalf'; kill -SEGV $$ ;;
liar) printf 'GIF89a and more of it' ;;
nothing) ;;
spinner) while :; do :; done ;;
bomb) n=0; while [ $n -lt 200 ]; do sleep NAP & n=$((n + 1)); done; sleep NAP ;;
stopped) kill -STOP $$ ;;
esac
"""
KINDS = (
    "sleeper",
    "grandchildren",
    "daemon",
    "flood",
    "chatter",
    "memory",
    "segv",
    "liar",
    "nothing",
    "spinner",
)
KINDS += ("bomb", "stopped")


def hostile_site(folder: Path, sandbox: str = "auto", timeout_s: int = 1) -> Path:
    """The config of a site in *folder* whose programs misbehave as their sources say; with ``tom.jpg``."""
    pictures = folder / "pictures"
    pictures.mkdir()
    quarters().save(pictures / "tom.jpg")
    program = folder / "evil"
    program.write_text(_PROGRAM.replace("NAP", f"59.{secrets.randbelow(10**9):09}"))
    program.chmod(0o755)
    table = {
        "command": [str(program), "{in}"],
        "sources": [".evil"],
        "magic": ["EVIL@0"],
        "timeout_s": timeout_s,
        "memory_bytes": "400 MB",
        "output_bytes": "2 MB",
        "sandbox": sandbox,
    }
    return write_config(
        folder,
        pictures,
        folder / "cache",
        **{"programs.evil": table, "limits": {"max_source_bytes": "10 MB"}},
    )


def misbehave(server: Server, folder: Path, kinds: Iterable[str]) -> Counter[tuple[str, int]]:
    """Ask *server* for a new source of each of *kinds*, a few at a time; the statuses by kind."""
    pictures = folder / "pictures"

    def ask(item: tuple[int, str]) -> tuple[str, int]:
        number, kind = item
        name = f"{kind}-{number}.evil"
        (pictures / name).write_text(f"EVIL {kind} {number}\n")
        at_rest(pictures / name)
        return kind, server.get(f"/picture/{name}?scalex=50").status

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return Counter(threads.map(ask, enumerate(kinds)))


def descendants(pid: int) -> list[int]:
    """The ids of all processes below *pid*."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def left_over(server: Server, folder: Path) -> dict[str, int]:
    """How many processes of programs, files, and descriptors there are now."""
    ours = [pid for pid in descendants(server.process.pid) if b"imagefactory" in _words(pid)]
    return {
        "processes": len(set(descendants(server.process.pid)) - {*ours}) + len(strays(folder)),
        "files": len(left_in_tmp(folder / "cache")),
        "descriptors": sum(len(_numbers(pid)) for pid in (server.process.pid, *ours)),
    }


def strays(folder: Path) -> list[int]:
    """The ids of processes that programs of the site in *folder* have started, wherever they are."""
    program = folder / "evil"
    nap = re.search(r"sleep (59\.[0-9]+)", program.read_text())
    marks = {str(program).encode(), nap[1].encode() if nap else b""}
    pids = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return [pid for pid in pids if marks & set(_words(pid).split(b"\0"))]


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _numbers(pid: int) -> list[str]:
    try:
        return [each.name for each in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []


def _hits(server: Server, work: Callable[[], object]) -> list[float]:
    """The seconds of each hit that one client got while *work* was done."""
    seconds: list[float] = []
    is_over = threading.Event()

    def ask() -> None:
        with server.client() as client:
            while not is_over.is_set():
                reply = client.get(_HIT)
                assert reply.status == 200
                seconds.append(reply.seconds)
                time.sleep(0.002)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        work()
    finally:
        is_over.set()
        thread.join()
    return seconds


def _p99_ms(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) * 99 // 100] * 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="make hostile", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sandbox", default="auto", choices=("auto", "none"))
    arguments = parser.parse_args()
    kinds = [KINDS[number % len(KINDS)] for number in range(arguments.number)]
    random.Random(arguments.seed).shuffle(kinds)
    with tempfile.TemporaryDirectory(prefix="imagefactory-hostile-") as name:
        folder = Path(name)
        with serving(hostile_site(folder, arguments.sandbox)) as server:
            server.get(_HIT)
            misbehave(server, folder, ["nothing"])
            ended = threading.Event()

            def render() -> None:
                number = 0
                while not ended.is_set():
                    number += 1
                    server.get(f"/picture/tom.jpg?scalex={number % 390 + 1}&blur={number % 7 + 1}")

            def busily() -> None:
                threads = [threading.Thread(target=render) for _ in range(_AT_ONCE)]
                for thread in threads:
                    thread.start()
                time.sleep(15)
                ended.set()
                for thread in threads:
                    thread.join()

            idle = _hits(server, lambda: time.sleep(5))
            busy = _hits(server, busily)
            before = left_over(server, folder)  # every thread has opened the index by now
            statuses: Counter[tuple[str, int]] = Counter()
            began = time.monotonic()
            hostile = _hits(server, lambda: statuses.update(misbehave(server, folder, kinds)))
            seconds = time.monotonic() - began
            eventually(lambda: left_over(server, folder)["processes"] == 0, 10)
            after = left_over(server, folder)
        for kind in KINDS:
            print(f"{kind:14}", {status: n for (each, status), n in sorted(statuses.items()) if each == kind})
        print(f"{arguments.number} runs in {seconds:.0f} s")
        times = [_p99_ms(each) for each in (idle, busy, hostile)]
        print("p99 of hits, ms: alone {:.1f}, beside renders {:.1f}, beside these {:.1f}".format(*times))
        print("before", json.dumps(before), "after", json.dumps(after))


if __name__ == "__main__":
    main()
