"""Kills the server with SIGKILL at random moments under load, and checks every answer and the whole cache.

    PYTHONPATH=tests python -m support.torture --kills 300 --seed 1

Each cycle starts the server on the cache that the last one left behind, lets four clients ask for variants
(some known, some new) while pictures are replaced and touched under it, and kills it within half a second.
The seed fixes what is asked and when it is killed, not how the threads interleave.

Wrong is an answer that came completely and is not 200 with the ETag, the length and the pixels that it should
have; short is one that broke off without a kill. Answers cut by a kill are counted, and are no fault; nor are
objects without a row. Exit 1 if anything is wrong, short, left in tmp, or without its sound object.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from imagefactory.model.formats import PICTURE_SUFFIXES
from imagefactory.storage.disk import DiskStore
from support.asking import problems
from support.filling import close_index
from support.serving import Client, Reply, Server, is_right, left_in_tmp, write_config

CLIENTS = 4
LONGEST_LIFE_S = 0.5
LOOK_EVERY = 10  # kills; between them it is the server alone that opens what was left behind
VERSIONS = 8
LEVELS = (40, 128, 215)
TOLERANCE = 40
ENCODINGS = ("jpeg", "png", "webp", "avif")


class Pictures:
    """A folder of drawn pictures, each with versions of one colour that replace each other; and pictures of
    yours, which are only touched."""

    def __init__(self, folder: Path, yours: Path | None, dice: random.Random) -> None:
        self.folder = folder
        self._dice = dice
        self._versions: dict[str, list[tuple[tuple[int, ...], bytes]]] = {}
        # The colours that a picture has had. All before the number in *_settled* are over and done with.
        self._colours: dict[str, list[tuple[int, ...]]] = {}
        self._settled: dict[str, int] = {}
        folder.mkdir()
        for name in ("a.jpg", "b.jpg", "c.png", "d.webp", "e.jpg", "f.png"):
            size = dice.randint(300, 800), dice.randint(300, 800)
            self._versions[name] = [_draw(name, size, dice) for _ in range(VERSIONS)]
            self._colours[name] = []
            self.replace(name)
        for path in sorted(yours.rglob("*")) if yours else []:
            if path.suffix[1:].lower() in PICTURE_SUFFIXES and path.is_file():
                shutil.copyfile(path, folder / path.name)
        self.names = sorted(path.name for path in folder.iterdir())

    def replace(self, name: str) -> None:
        """Put another version in the place of *name*, by rename."""
        colour, data = self._dice.choice(self._versions[name])
        fresh = self.folder.with_name("fresh")
        fresh.write_bytes(data)
        self._colours[name].append(colour)
        fresh.rename(self.folder / name)
        self._settled[name] = len(self._colours[name]) - 1

    def disturb(self) -> None:
        """Replace a picture, or touch one."""
        name = self._dice.choice(self.names)
        if name in self._versions and self._dice.random() < 0.7:
            self.replace(name)
        else:
            os.utime(self.folder / name)

    def moment(self, name: str) -> int:
        """Now, in the life of *name*: for ``shows``."""
        return self._settled.get(name, 0)

    def shows(self, name: str, since: int, width: int, body: bytes) -> bool:
        """Whether *body* is *width* wide and has a colour that *name* has had *since* that moment."""
        with Image.open(BytesIO(body)) as image:
            small = image.convert("RGB").resize((1, 1), Image.Resampling.BOX)
            found = small.getpixel((0, 0))
            is_wide = image.width == width
        if name not in self._versions:
            return True
        assert isinstance(found, tuple)
        return is_wide and any(
            all(abs(a - b) <= TOLERANCE for a, b in zip(found, colour, strict=True))
            for colour in self._colours[name][since:]
        )


def _draw(name: str, size: tuple[int, int], dice: random.Random) -> tuple[tuple[int, ...], bytes]:
    colour = tuple(dice.choice(LEVELS) for _ in range(3))
    noise = Image.effect_noise((size[0] // 4, size[1] // 4), 40).resize(size).convert("RGB")
    image = Image.blend(Image.new("RGB", size, colour), noise, 0.1)
    file = BytesIO()
    image.save(file, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rpartition(".")[2]], quality=85)
    return colour, file.getvalue()


class Torture:
    """The cycles, and what came of them."""

    def __init__(self, folder: Path, yours: Path | None, seed: int) -> None:
        self.dice = random.Random(seed)
        self.cache = folder / "cache"
        self.pictures = Pictures(folder / "pictures", yours, self.dice)
        self.config = write_config(folder, self.pictures.folder, self.cache)
        self.counts: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.found: list[str] = []
        self._lock = threading.Lock()
        self._is_killed = threading.Event()

    def start(self) -> Server:
        """A server that has answered one request: whatever was left in tmp before it is gone."""
        before = set(left_in_tmp(self.cache))
        server = Server(self.config)
        with server.client() as client:
            self.ask(client, "a.jpg", 100, "jpeg")
        for path in before & set(left_in_tmp(self.cache)):
            self.fault("temp files", f"not swept: {path.name}")
        return server

    def cycle(self) -> None:
        """One life of the server, and its end."""
        self._is_killed.clear()
        server = self.start()
        life_s = self.dice.uniform(0, LONGEST_LIFE_S)
        visitors = [
            threading.Thread(target=self.visit, args=(server, random.Random(self.dice.random())))
            for _ in range(CLIENTS)
        ]
        end = time.monotonic() + life_s
        for visitor in visitors:
            visitor.start()
        while (left_s := end - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.03))
            self.pictures.disturb()
        if not server.is_running:
            self.fault("wrong", f"the server died by itself: {server.said()[-2000:]}")
        self._is_killed.set()
        server.kill()
        for visitor in visitors:
            visitor.join()
        if "Traceback" in server.said() or " ERROR " in server.said():
            self.fault("wrong", f"the server complains: {server.said()[-2000:]}")
        self.counts["log lines of trouble"] += server.said().count("in trouble")
        self.counts["kills"] += 1
        if self.counts["kills"] % LOOK_EVERY == 0:
            self.look(is_stopped=False)

    def visit(self, server: Server, dice: random.Random) -> None:
        """Ask for one variant after the other, until the server is gone."""
        with server.client(timeout_s=20) as client:
            while self.ask(
                client,
                dice.choice(self.pictures.names),
                dice.choice((40, 80, 120)) if dice.random() < 0.5 else dice.randint(20, 300),
                dice.choice(ENCODINGS),
            ):
                pass

    def ask(self, client: Client, name: str, width: int, encoding: str) -> bool:
        """Ask for a variant and check the answer; False when there was no whole answer."""
        since = self.pictures.moment(name)
        target = f"/picture/{quote(name)}?scalex={width}&encoding={encoding}"
        try:
            reply = client.get(target)
        except (OSError, HTTPException) as error:
            if self._is_killed.is_set():
                self.count("cut")
            else:
                self.fault("short", f"{target}: {error!r}")
            return False
        self.check(name, since, width, target, reply)
        return True

    def check(self, name: str, since: int, width: int, target: str, reply: Reply) -> None:
        """Count the complete *reply*, and whether it is wrong."""
        with self._lock:
            self.counts["answers checked"] += 1
            self.results[reply.cache or str(reply.status)] += 1
        if not is_right(reply):
            self.fault("wrong", f"{target}: {reply.status} {dict(reply.headers)} {reply.body[:200]!r}")
        elif not self.pictures.shows(name, since, width, reply.body):
            self.fault("wrong", f"{target}: right bytes of another picture")

    def look(self, *, is_stopped: bool) -> None:
        """Look at the whole cache. Files in tmp are a fault when the last server stopped in peace."""
        store = DiskStore(self.cache, 2**40)
        for text in problems(store):
            if text.startswith("no sound object"):
                self.fault("rows without object", text)
            elif text.startswith("no row"):
                self.count("objects without row")
            elif not text.startswith("left behind"):
                self.fault("wrong byte counts", text)
            elif is_stopped:
                self.fault("temp files", text)
        close_index(store)

    def finish(self) -> None:
        """A last life, which ends in peace; then a look at what all of them left."""
        self._is_killed.clear()
        server = self.start()
        code = server.stop()
        if code != 0:
            self.fault("wrong", f"exit code {code}: {server.said()}")
        self.counts["objects without row"] = 0  # those that are there now, not all that were seen on the way
        self.look(is_stopped=True)

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def fault(self, what: str, text: str) -> None:
        """Count and keep what should not be."""
        with self._lock:
            self.counts[what] += 1
            self.found.append(f"{what}, after {self.counts['kills']} kills: {text}")


FAULTS = ("wrong", "short", "rows without object", "temp files", "wrong byte counts")


def main() -> int:
    """Run as the arguments say; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=300, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--seconds-limit", type=float, metavar="T", help="end early after so many seconds")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="ask for copies of these pictures, too")
    options = parser.parse_args()
    print(f"kills {options.kills}, seed {options.seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="imagefactory-torture-") as folder:
        torture = Torture(Path(folder), options.pictures, options.seed)
        for number in range(1, options.kills + 1):
            torture.cycle()
            if number % 50 == 0:
                print(f"  {number} kills, {time.monotonic() - began:.0f} s", flush=True)
            if options.seconds_limit and time.monotonic() - began > options.seconds_limit:
                break
        torture.finish()
    counts = torture.counts
    for text in torture.found[:20]:
        print(text)
    shown = ("kills", "answers checked", "cut", *FAULTS, "objects without row", "log lines of trouble")
    print(", ".join(f"{name}: {counts[name]}" for name in shown), end="")
    print(f" ({', '.join(f'{name} {number}' for name, number in sorted(torture.results.items()))})", end="")
    print(f" in {time.monotonic() - began:.0f} s")
    return 1 if any(counts[name] for name in FAULTS) or counts["answers checked"] == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
