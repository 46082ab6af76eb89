"""Kills the server with SIGKILL at random moments under load.

Each cycle starts the server on the cache that the last one left behind, lets four clients ask for variants
(some known, some new) while pictures are replaced and touched under it, and kills it within half a second.
Answers cut by a kill are counted, and are no fault; nor are objects without a row. Files left in tmp by the
last server, and rows without a sound object, are.
"""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

from imagefactory.storage.disk import DiskStore
from support.asking import problems
from support.filling import close_index
from support.serving import Server, left_in_tmp, write_config

from .loads import Visitor
from .pictures import Pictures
from .tally import Tally

__all__ = ["kills"]

CLIENTS = 4
LONGEST_LIFE_S = 0.5
LOOK_EVERY = 10  # kills; between them it is the server alone that opens what was left behind


def kills(folder: Path, yours: Path | None, seed: int, number: int, tally: Tally) -> None:
    """Kill it *number* times."""
    torture = _Kills(folder, yours, seed, tally)
    for count in range(1, number + 1):
        torture.cycle()
        if count % 50 == 0:
            print(f"  {count} kills, {time.monotonic() - tally.began:.0f} s", flush=True)
    torture.finish()


class _Kills:
    def __init__(self, folder: Path, yours: Path | None, seed: int, tally: Tally) -> None:
        self.dice = random.Random(seed)
        self.cache = folder / "cache"
        self.pictures = Pictures(folder / "pictures", yours, self.dice)
        self.config = write_config(folder, self.pictures.folder, self.cache)
        self.tally = tally
        self._is_killed = threading.Event()

    def start(self) -> Server:
        """A server that has answered one request: whatever was left in tmp before it is gone."""
        before = set(left_in_tmp(self.cache))
        server = Server(self.config)
        with server.client() as client:
            Visitor(self.pictures, self.tally).ask(client, "a.jpg", 100, "jpeg")
        for path in before & set(left_in_tmp(self.cache)):
            self.tally.fault("error", f"a temporary file was not swept: {path.name}")
        return server

    def cycle(self) -> None:
        """One life of the server, and its end."""
        self._is_killed.clear()
        server = self.start()
        life_s = self.dice.uniform(0, LONGEST_LIFE_S)
        visitors = [
            Visitor(self.pictures, self.tally, may_be_cut=self._is_killed.is_set)
            .thread(server, random.Random(self.dice.random()), self._is_killed)
            for _ in range(CLIENTS)
        ]  # fmt: skip
        end = time.monotonic() + life_s
        for visitor in visitors:
            visitor.start()
        while (left_s := end - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.03))
            self.pictures.disturb()
        if not server.is_running:
            self.tally.fault("error", f"the server died by itself: {server.said()[-2000:]}")
        self._is_killed.set()
        server.kill()
        for visitor in visitors:
            visitor.join()
        self.tally.listen(server.said())
        self.tally.note("kills")
        if self.tally.notes["kills"] % LOOK_EVERY == 0:
            self.look(is_stopped=False)

    def look(self, *, is_stopped: bool) -> None:
        """Look at the whole cache. Files in tmp are a fault when the last server stopped in peace."""
        store = DiskStore(self.cache, 2**40)
        for text in problems(store):
            is_left = text.startswith("left behind")
            if not text.startswith("no row") and (is_stopped or not is_left):
                self.tally.fault("error", text)
        close_index(store)

    def finish(self) -> None:
        """A last life, which ends in peace; then a look at what all of them left."""
        self._is_killed.clear()
        server = self.start()
        code = server.stop()
        if code != 0:
            self.tally.fault("error", f"exit code {code}: {server.said()}")
        self.look(is_stopped=True)
