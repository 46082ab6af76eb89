"""Fills the cache of a server as a stranger would, and watches the disk, the server and its other visitors.

    PYTHONPATH=tests python -m support.attack --results 100000 --budget "64 MB"

Clients ask for different results (``fit=cover``) of one source of 3000 pixels, as fast as they are answered.
Meanwhile another visitor asks for a set of good URLs, and every tenth of a second the objects are summed up.

Exit 1 if an answer is wrong (anything but a right 200, or a 503 with Retry-After), if the objects ever have
more bytes than the budget and what the render workers hold in flight, if fewer than 95 % of the good URLs
are hits, if the source ever has more variants than it may, or if the cache is not sound at the end.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from http.client import HTTPException
from pathlib import Path

from PIL import Image

from imagefactory.common.units import parse_bytes
from imagefactory.storage.disk import DiskStore
from support.asking import problems
from support.drawing import scene
from support.serving import Client, Server, is_right, serving, write_config

CLIENTS = 6
LOOK_EVERY_S = 0.1
GOOD_EVERY_S = 0.02
IN_FLIGHT = CLIENTS  # that may be stored while the sum is taken, each as large as the largest so far
SIZES = 600
SIDE = 3000


class Attack:
    """One attack of *results* requests; what it found is in its attributes afterwards."""

    def __init__(
        self,
        folder: Path,
        results: int,
        budget: int,
        limit: int,
        server: tuple[str, ...] = (),
        good: int = 10,
    ) -> None:
        self.cache = folder / "cache"
        self.budget = budget
        self.limit = limit
        self.counts: Counter[str] = Counter()
        self.good: Counter[str] = Counter()
        self.peak = self.largest = self.most = self.looks = 0
        self.faults: list[str] = []
        self._results = results
        self._next = 0
        self._lock = threading.Lock()
        self._is_over = False
        pictures = folder / "pictures"
        pictures.mkdir()
        noise = Image.effect_noise((SIDE // 4, SIDE // 4), 60).resize((SIDE, SIDE))
        Image.blend(scene(SIDE, SIDE), noise.convert("RGB"), 0.3).save(pictures / "large.jpg", quality=85)
        for number in range(good):
            scene(400 + number, 300).save(pictures / f"good-{number}.jpg")
        self.good_urls = [
            f"/picture/good-{number}.jpg?scalex={width}" for number in range(good) for width in (80, 160, 240)
        ] + [f"/picture/large.jpg?scalex={width}" for width in (200, 400, 800)]
        config = write_config(
            folder, pictures, self.cache,
            cache={"max_bytes": budget, "min_free": 0},
            limits={"variants_per_source": limit},
        )  # fmt: skip
        self._config, self._server = config, server

    def run(self) -> None:
        """Attack until all is asked; raises nothing, see ``faults``."""
        with serving(self._config, self._server) as server:
            with server.client() as client:
                for url in self.good_urls:
                    client.get(url)
            watchers = [
                threading.Thread(target=self._watch),
                threading.Thread(target=self._visit, args=(server,)),
            ]
            attackers = [threading.Thread(target=self._ask, args=(server, seed)) for seed in range(CLIENTS)]
            for thread in [*watchers, *attackers]:
                thread.start()
            for thread in attackers:
                thread.join()
            self._is_over = True
            for thread in watchers:
                thread.join()
        self.faults += problems(DiskStore(self.cache, 2**60))
        hits = self.good["hit"] / max(1, sum(self.good.values()))
        if hits < 0.95:
            self.faults.append(f"only {hits:.1%} of the good URLs were hits: {dict(self.good)}")
        if self.peak > self.budget + IN_FLIGHT * self.largest:
            self.faults.append(f"{self.peak} bytes lay there, the budget is {self.budget}")
        if self.most > self.limit + IN_FLIGHT:
            self.faults.append(f"{self.most} variants of one source, {self.limit} are the limit")

    def _ask(self, server: Server, seed: int) -> None:
        dice = random.Random(seed)
        with server.client() as client:
            while True:
                with self._lock:
                    number, self._next = self._next, self._next + 1
                if number >= self._results:
                    return
                # All different: 7919 has no factor in common with the number of sizes.
                place = number * 7919 % SIZES**2
                size = f"{40 + place % SIZES}x{40 + place // SIZES}"
                url = f"/picture/large.jpg?size={size}&fit=cover&quality={dice.randrange(40, 90)}"
                self._check(client, url, self.counts)

    def _visit(self, server: Server) -> None:
        with server.client() as client:
            number = 0
            while not self._is_over:
                self._check(client, self.good_urls[number % len(self.good_urls)], self.good)
                number += 1
                time.sleep(GOOD_EVERY_S)

    def _check(self, client: Client, url: str, counts: Counter[str]) -> None:
        try:
            reply = client.get(url)
        except (OSError, HTTPException) as error:
            self.faults.append(f"{url}: {error!r}")
            return
        is_busy = reply.status == 503 and "retry-after" in reply.headers
        if not is_busy and not is_right(reply):
            self.faults.append(f"{url}: {reply.status}, {len(reply.body)} bytes, {dict(reply.headers)}")
        with self._lock:
            counts[reply.cache or str(reply.status)] += 1
            self.largest = max(self.largest, len(reply.body))

    def _watch(self) -> None:
        while not self._is_over:
            total = 0
            for folder in (self.cache / "objects").glob("*/*"):
                count = 0
                for path in folder.iterdir():
                    try:
                        total += path.stat().st_size
                    except FileNotFoundError:
                        continue
                    count += 1
                self.most = max(self.most, count)
            self.peak = max(self.peak, total)
            self.looks += 1
            time.sleep(LOOK_EVERY_S)


def main() -> int:
    """Run as the arguments say; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=int, default=100_000, metavar="N")
    parser.add_argument("--budget", default="64 MB", metavar="BYTES")
    parser.add_argument("--limit", type=int, default=500, metavar="N", help="variants_per_source")
    parser.add_argument("--server", default="waitress")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="imagefactory-attack-") as folder:
        server = ("--server", options.server)
        attack = Attack(Path(folder), options.results, parse_bytes(options.budget), options.limit, server)
        attack.run()
    for fault in attack.faults[:20]:
        print(fault)
    print(f"results asked: {sum(attack.counts.values())} ({dict(attack.counts)})")
    print(f"good URLs: {attack.good['hit'] / max(1, sum(attack.good.values())):.2%} hits of {attack.good}")
    print(f"objects: {attack.peak} bytes of {attack.budget} at most in {attack.looks} looks")
    print(f"the largest object: {attack.largest} bytes; variants of the source: {attack.most} at most")
    print(f"faults: {len(attack.faults)}, in {time.monotonic() - began:.0f} s")
    return 1 if attack.faults else 0


if __name__ == "__main__":
    sys.exit(main())
