"""Exchanges a folder of pictures and a link to the outside while a server is asked for both.

    PYTHONPATH=tests python -m support.exchanging --count 10000 --seed 1

The folder and the link, both in ``pictures/``, change places in one step (renameat2): at no moment one of
them is missing. Clients ask for originals, for variants (most of them new) and for what the playground says
of a picture. All pictures inside are wider than high, all outside are higher than wide.

Exit 1 if an answer is about a picture outside, if one is neither right nor a 404 nor a 503 with Retry-After,
or if the index or an object knows a picture outside at the end.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from imagefactory.storage.disk import DiskStore
from support.asking import problems
from support.drawing import quarters
from support.serving import Client, Reply, Server, is_right, serving, write_config

__all__ = ["Exchange", "exchange", "exchanged"]

CLIENTS = 3
NAMES = ("a.jpg", "b.png", "deep/c.jpg")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_libc = ctypes.CDLL(None, use_errno=True)


def exchanged(one: Path, other: Path) -> None:
    """Have *one* and *other* change places (renameat2); skips the test where the system can't do that."""
    if not hasattr(_libc, "renameat2"):
        pytest.skip("this system has no renameat2")
    names = os.fsencode(one), os.fsencode(other)
    if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(one))


@dataclass
class Exchange:
    """What came of it: how many *exchanges*, the *answers* by kind, and what was wrong."""

    exchanges: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def exchange(
    folder: Path,
    count: int = 10_000,
    seed: int = 0,
    server: Sequence[str] = (),
    seconds: float | None = None,
) -> Exchange:
    """Exchange *count* times, or for as many *seconds*, below the empty *folder*, under load."""
    pictures, outside, cache = folder / "pictures", folder / "outside", folder / "cache"
    album, link = pictures / "album", pictures / "link"
    for number, name in enumerate(NAMES):
        for root, size in ((album, (160, 120)), (outside, (120, 160))):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            quarters(size[0] + number, size[1] + number).save(root / name)
    link.symlink_to(outside)
    (pictures / "by-link.jpg").symlink_to("album/a.jpg")
    secrets = {hashlib.sha256((outside / name).read_bytes()).hexdigest() for name in NAMES}
    found, is_over, dice = Exchange(), threading.Event(), random.Random(seed)
    deadline = time.monotonic() + (3600 if seconds is None else seconds)
    with serving(write_config(folder, pictures, cache), server) as running:
        clients = [
            threading.Thread(target=_ask, args=(running, seed + number, found, is_over))
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        while (seconds is not None or found.exchanges < count) and time.monotonic() < deadline:
            exchanged(album, link)
            found.exchanges += 1
            time.sleep(dice.choice((0, 0, 0.0001, 0.001, 0.003)))
        is_over.set()
        for client in clients:
            client.join()
    store = DiskStore(cache, 2**40)
    found.faults += [
        f"a row about the outside: {source.path}"
        for source in store.index.sources.walk()
        if source.digest in secrets or (source.header and source.header.width < source.header.height)
    ]
    found.faults += [f"an object: {path}" for path in store.objects.walk() if path.parent.name in secrets]
    found.faults += problems(store)
    return found


def _ask(server: Server, seed: int, found: Exchange, is_over: threading.Event) -> None:
    dice = random.Random(seed)
    with server.client() as client:
        while not is_over.is_set():
            _ask_once(client, dice, found)


def _ask_once(client: Client, dice: random.Random, found: Exchange) -> None:
    path = dice.choice([f"{place}/{name}" for place in ("album", "link") for name in NAMES] + ["by-link.jpg"])
    kind = dice.choice(("original", "about", "variant", "variant", "variant"))
    urls = {
        "original": f"/picture/{path}",
        "about": f"/?about={path}",
        "variant": f"/picture/{path}?scalex={dice.randrange(8, 100)}&q={dice.randrange(50, 90)}",
    }
    try:
        reply = client.get(urls[kind])
    except (OSError, HTTPException) as error:
        found.faults.append(f"{urls[kind]}: {error!r}")
        return
    found.answers[f"{kind} {reply.status}"] += 1
    problem = _problem(reply, kind)
    if problem:
        found.faults.append(f"{urls[kind]}: {problem}")


def _problem(reply: Reply, kind: str) -> str:
    """What is wrong with *reply*, if anything is."""
    if reply.status == 404 or (reply.status == 503 and "retry-after" in reply.headers):
        return ""
    if reply.status != 200 or (kind != "about" and not is_right(reply)):
        return f"{reply.status} {dict(reply.headers)}"
    if kind == "about":
        said = json.loads(reply.body)
        width, height = said["width"], said["height"]
    else:
        with Image.open(BytesIO(reply.body)) as image:
            width, height = image.size
    return "" if width >= height else "this is a picture outside"


def main() -> int:
    """Run as the arguments say; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000, metavar="N")
    parser.add_argument("--seconds", type=float, metavar="T", help="as long as that, instead of a count")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--server", default="waitress")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="imagefactory-exchange-") as folder:
        server = ("--server", options.server)
        found = exchange(Path(folder), options.count, options.seed, server, options.seconds)
    for fault in found.faults[:20]:
        print(fault)
    answers = ", ".join(f"{kind}: {number}" for kind, number in sorted(found.answers.items()))
    print(f"exchanges: {found.exchanges}, answers: {sum(found.answers.values())} ({answers})")
    print(f"faults: {len(found.faults)}, in {time.monotonic() - began:.0f} s")
    return 1 if found.faults or not any(kind.endswith(" 200") for kind in found.answers) else 0


if __name__ == "__main__":
    sys.exit(main())
