"""Visitors who ask all the time, while something is done to the cache that they are answered from.

    deletions   the whole cache folder, or a part of it, is deleted or moved away
    flips       bits of the index change, in the database and in its write-ahead log
    clocks      the time of day jumps, by a second or by years, there and back
    exchanges   a folder of pictures and a link to the outside change places (``support.exchanging``)

After each of the first three a new variant is stored again, without a restart, and the cache is sound.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from support.exchanging import exchange
from support.faults import Faults, why_not
from support.filling import run
from support.serving import IMPATIENT, Client, Server, eventually, serving, write_config

from .pictures import Pictures
from .tally import Tally

__all__ = ["Visitor", "clocks", "deletions", "exchanges", "flips"]

_CLIENTS = 8
ENCODINGS = ("jpeg", "png", "webp", "avif")
_JUMPS_S = (-10 * 365 * 86_400, -86_400, -3600, -3, -1, 0, 0, 1, 3, 3600, 86_400, 10 * 365 * 86_400)
_RECOVERY_S = 30.0


class Visitor:
    """Asks for variants of *pictures*, some known, some new. *may_be_cut*: the server is being killed."""

    def __init__(
        self, pictures: Pictures, tally: Tally, may_be_cut: Callable[[], bool] = lambda: False
    ) -> None:
        self._pictures = pictures
        self._tally = tally
        self._may_be_cut = may_be_cut

    def ask(self, client: Client, name: str, width: int, encoding: str) -> str:
        """Ask for one variant: what X-Cache says of the answer, or empty when there is no right one."""
        since = self._pictures.moment(name)
        target = f"/picture/{quote(name)}?scalex={width}&encoding={encoding}"
        reply = self._tally.ask(
            client,
            target,
            lambda body: self._pictures.problem(name, since, width, body),
            may_be_cut=self._may_be_cut,
        )
        return reply.cache if reply else ""

    def thread(self, server: Server, dice: random.Random, is_over: threading.Event) -> threading.Thread:
        """A thread that asks for one variant after the other, until *is_over*."""

        def visit() -> None:
            with server.client(timeout_s=30) as client:
                while not is_over.is_set():
                    self.ask(
                        client,
                        dice.choice(self._pictures.names),
                        dice.choice((40, 80, 120)) if dice.random() < 0.5 else dice.randint(20, 300),
                        dice.choice(ENCODINGS),
                    )

        return threading.Thread(target=visit)


class _Load:
    """A server under load, to which *step* is done *number* times."""

    def __init__(self, folder: Path, yours: Path | None, seed: int, tally: Tally) -> None:
        self.dice = random.Random(seed)
        self.cache = folder / "cache"
        self.tally = tally
        self._pictures = Pictures(folder / "pictures", yours, self.dice)
        self._config = write_config(folder, self._pictures.folder, self.cache)

    def run(
        self,
        step: Callable[[], object],
        number: int,
        wrapper: Sequence[str] = (),
        may_be_cut: Callable[[], bool] = lambda: False,
    ) -> None:
        """Do it, with some answers between two steps; then see whether all is well again."""
        is_over = threading.Event()
        visitor = Visitor(self._pictures, self.tally, may_be_cut)
        with serving(self._config, wrapper=wrapper, program=IMPATIENT) as server:
            visitors = [
                visitor.thread(server, random.Random(self.dice.random()), is_over) for _ in range(_CLIENTS)
            ]
            for thread in visitors:
                thread.start()
            for _ in range(number):
                time.sleep(self.dice.uniform(0.01, 0.2))
                step()
                self._pictures.disturb()
            is_over.set()
            for thread in visitors:
                thread.join()
            if not eventually(lambda: self._is_storing(server), _RECOVERY_S, 0.2):
                self.tally.fault("error", f"nothing is stored any more: {server.said()[-2000:]}")
        self.tally.listen(server.said())
        self._look()

    def _is_storing(self, server: Server) -> bool:
        """Whether a new variant is stored, and found."""
        visitor, width = Visitor(self._pictures, self.tally), self.dice.randint(20, 300)
        with server.client() as client:
            results = [visitor.ask(client, "a.jpg", width, "png") for _ in range(3)]
        return results[1:] == ["hit", "hit"]

    def _look(self) -> None:
        """What is left wrong in the cache (a row whose object was deleted, say) is made right by a repair."""
        run(self._config, "verify", "--repair")
        again = run(self._config, "verify")
        if again.returncode != 0:
            self.tally.fault("error", f"verify after its repair: {again.stdout}{again.stderr}")


def deletions(folder: Path, yours: Path | None, seed: int, number: int, tally: Tally) -> None:
    """Delete the cache folder, or a part of it, *number* times."""
    load = _Load(folder, yours, seed, tally)
    aside = folder / "aside"

    def delete() -> None:
        part = load.dice.choice((".", ".", "tmp", "tmp", "index", "objects", "locks"))
        gone = load.cache / part
        with suppress(OSError):  # it is being written at this moment, or is not there
            if load.dice.random() < 0.8:
                gone.rename(aside)  # all of it in one moment, between two steps of a render
            else:
                shutil.rmtree(gone)
        shutil.rmtree(aside, ignore_errors=True)
        tally.note("deletions")

    load.run(delete, number)


def flips(folder: Path, yours: Path | None, seed: int, number: int, tally: Tally) -> None:
    """Flip up to twenty bits of the index, *number* times."""
    load = _Load(folder, yours, seed, tally)

    def flip() -> None:
        for _ in range(load.dice.randint(1, 20)):
            path = load.cache / "index" / load.dice.choice(("cache.db", "cache.db", "cache.db-wal"))
            with suppress(OSError), path.open("r+b") as file:
                size = file.seek(0, 2)
                if size:
                    place = load.dice.randrange(size)
                    file.seek(place)
                    byte = file.read(1)
                    file.seek(place)
                    file.write(bytes([byte[0] ^ 1 << load.dice.randrange(8)]))
                    tally.note("bits flipped")

    load.run(flip, number)


def clocks(folder: Path, yours: Path | None, seed: int, number: int, tally: Tally) -> None:
    """Move the server's clock *number* times."""
    if why_not():
        raise NotImplementedError(why_not())
    load = _Load(folder, yours, seed, tally)
    faults = Faults(load.cache, folder / "control")

    def move() -> None:
        faults.move_clock(load.dice.choice(_JUMPS_S))
        tally.note("jumps")

    # To waitress a jump of two minutes is two minutes without a word: it closes kept connections, at times
    # one on which a request comes at this moment.
    load.run(move, number, faults.wrapper(), may_be_cut=lambda: True)


def exchanges(folder: Path, yours: Path | None, seed: int, number: int, tally: Tally) -> None:
    """Exchange a folder and a link *number* times. What is behind the link is nothing: 404."""
    found = exchange(folder, number, seed)
    tally.note("exchanges", found.exchanges)
    for kind, count in found.answers.items():
        status = int(kind.rpartition(" ")[2])
        tally.count("asked", count)
        if status == 200:
            tally.note("pictures", count)
        else:
            tally.refuse(status, count)
    for text in found.faults:
        tally.fault("wrong", text)
