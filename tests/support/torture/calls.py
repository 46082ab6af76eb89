"""Fails one system call after the other below the cache of a running server.

A scene is something that visitors and operators do: a hit, a miss, a purge, an eviction, a rebuild. How many
calls it makes is counted first, then each of them fails with each error. Whatever fails, an answer is a right
one, or a 503 that says when to come again; when the fault is over, variants are stored again and a purge has
removed what it said, without a restart.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path

from PIL import Image

from support.faults import ERRORS, Faults, why_not
from support.filling import run
from support.serving import IMPATIENT, Client, Reply, Server, eventually, serving, write_config

from .tally import Tally

__all__ = ["SCENES", "Case", "Stage", "calls", "cases", "staging"]

_RECOVERY_S = 20.0
_TOKEN = "a token of the torture"
_BUDGET = 3_000_000
_SMALL, _LARGE = "small.jpg", "large.png"
_MORE = 3  # calls more than were counted: the keeper of a server makes some of its own
_AT_ONCE = 150  # cases that one server lives through


@dataclass(frozen=True)
class Case:
    """The *nth* call of a *scene* fails with *error*, and with *for_good* all after it."""

    scene: str
    error: str
    nth: int
    for_good: bool


class Stage:
    """A server with *faults*, its cache in *cache*, and what is asked of it by *client*."""

    def __init__(self, server: Server, client: Client, cache: Path, faults: Faults, tally: Tally) -> None:
        self.server = server
        self.cache = cache
        self.faults = faults
        self.tally = tally
        self._client = client
        self._numbers = count(1)
        self._known: dict[str, bytes] = {}

    # --- what is asked

    def fresh(self, name: str) -> str:
        """The URL of a variant that nobody has asked for."""
        number = next(self._numbers)
        if name == _LARGE:
            return f"/picture/{name}?rect=0,0,{400 + number % 200},{300 + number // 200}&encoding=png"
        return f"/picture/{name}?scalex={20 + number % 180}&quality={30 + number // 180}"

    def ask(self, target: str, *, is_large: bool = False) -> str:
        """The X-Cache of the answer to *target*, which has the body that it had before; empty for none."""
        key = target.partition("&n=")[0]

        def problem(body: bytes) -> str:
            with Image.open(BytesIO(body)) as image:
                image.load()
            return "" if self._known.setdefault(key, body) == body else "wrong"

        # A large body is sent while it is read: when that fails in the middle, the connection is cut.
        reply = self.tally.ask(self._client, target, problem, lambda: is_large)
        if is_large:  # when it fails at the end of the file, the answer is whole and the connection is closed
            self._client.close()
        return reply.cache if reply else ""

    def again(self, target: str) -> str:
        """The same picture at an URL that the fast path does not know."""
        return f"{target}&n={next(self._numbers)}"

    def purge(self) -> int:
        """Purge both pictures; the status of the answer."""
        body = json.dumps({"paths": [_SMALL, _LARGE]}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {_TOKEN}"}
        reply: Reply = self._client.get("/-/purge", "POST", body, **headers)
        if reply.status not in (200, 503):
            self.tally.fault("error", f"a purge is answered with {reply.status} {reply.body[:200]!r}")
        self.tally.note("purges")
        return reply.status

    def is_storing(self) -> bool:
        """Whether a new variant is stored, and found."""
        target = self.fresh(_SMALL)
        return [self.ask(target) for _ in range(2)] == ["miss", "hit"]

    def recover(self) -> None:
        """Wait until all is well; that it is is what is to be shown."""
        if not eventually(self.is_storing, _RECOVERY_S, 0.03):
            self.tally.fault("error", f"nothing is stored any more: {self.server.said()[-2000:]}")

    # --- scenes: what is done before, and what is done while calls fail; then a look at what came of it

    def hit(self) -> Iterator[None]:
        small, large = f"/picture/{_SMALL}?scalex=100", f"/picture/{_LARGE}?scalex=500&encoding=png"
        for target in (small, large):
            for _ in range(3):
                self.ask(target)
        for folder, _, names in os.walk(self.cache / "objects"):
            for name in names:
                with suppress(OSError):
                    os.utime(Path(folder, name))  # so that they are hashed again
        yield
        for target in (small, self.again(small), large, self.again(large)):
            self.ask(target, is_large=target.startswith(large))

    def miss(self) -> Iterator[None]:
        small, large = self.fresh(_SMALL), self.fresh(_LARGE)
        yield
        self.ask(small)
        self.ask(large, is_large=True)
        yield
        self.ask(small)
        self.ask(large)

    def purge_(self) -> Iterator[None]:
        targets = [self.fresh(_SMALL) for _ in range(2)] + [self.fresh(_LARGE)]
        for target in targets:
            self.ask(target)
        yield
        status = self.purge()
        self.ask(targets[0])
        yield
        if status != 200 and not eventually(lambda: self.purge() == 200, _RECOVERY_S, 0.1):
            self.tally.fault("error", f"no purge succeeds any more: {self.server.said()[-2000:]}")
        for target in targets[1:]:
            if self.ask(target) == "hit":
                self.tally.fault("stale", f"{target} was purged, and is a hit")

    def eviction(self) -> Iterator[None]:
        for _ in range(30):
            if self._stored() > _BUDGET * 0.8:
                break
            self.ask(self.fresh(_LARGE))
        yield
        for _ in range(3):
            self.ask(self.fresh(_LARGE), is_large=True)
        time.sleep(0.1)  # for the keeper
        yield
        if not eventually(lambda: self._stored() <= _BUDGET, _RECOVERY_S, 0.1):
            self.tally.fault("error", f"{self._stored()} bytes lie there, {_BUDGET} are the budget")

    def rebuild(self) -> Iterator[None]:
        small = f"/picture/{_SMALL}?scalex=100"
        self.ask(small)
        shutil.rmtree(self.cache / "index", ignore_errors=True)
        yield
        for _ in range(2):
            self.ask(self.again(small))
            time.sleep(0.1)  # for the keeper

    def _stored(self) -> int:
        total = 0
        for folder, _, names in os.walk(self.cache / "objects"):
            for name in names:
                with suppress(OSError):
                    total += Path(folder, name).stat().st_size
        return total

    # --- one case

    def play(self, case: Case) -> int:
        """Play the scene of *case* while its call fails; how many calls were counted."""
        steps = SCENES[case.scene](self)
        next(steps)
        self.faults.arm(case.error, case.nth, for_good=case.for_good)
        try:
            next(steps, None)
        finally:
            self.faults.disarm()
        counted = self.faults.count
        self.tally.note("faults", self.faults.injected)
        self.recover()
        next(steps, None)
        return counted


SCENES: dict[str, Callable[[Stage], Iterator[None]]] = {
    "hit": Stage.hit,
    "miss": Stage.miss,
    "purge": Stage.purge_,
    "eviction": Stage.eviction,
    "rebuild": Stage.rebuild,
}


@contextmanager
def staging(folder: Path, tally: Tally) -> Iterator[Stage]:
    """A server on the cache in *folder*, stopped and listened to at the end."""
    pictures, cache = folder / "pictures", folder / "cache"
    if not pictures.exists():
        pictures.mkdir()
        noise = Image.effect_noise((600, 450), 90)
        noise.convert("RGB").resize((400, 300)).save(pictures / _SMALL, quality=90)
        noise.convert("RGB").save(pictures / _LARGE)
    config = write_config(
        folder, pictures, cache,
        cache={"max_bytes": _BUDGET, "min_free": 0, "memory_bytes": 1_000_000},
        render={"processes": 1},
        admin={"token": _TOKEN},
    )  # fmt: skip
    faults = Faults(cache, folder / "control")
    with (
        serving(config, wrapper=faults.wrapper(), program=IMPATIENT) as server,
        server.client(timeout_s=60) as client,
    ):
        stage = Stage(server, client, cache, faults, tally)
        stage.recover()
        yield stage
        faults.disarm()
    tally.listen(server.said())
    run(config, "verify", "--repair")
    again = run(config, "verify")
    if again.returncode != 0:
        tally.fault("error", f"verify after its repair: {again.stdout}{again.stderr}")


def cases(stage: Stage) -> list[Case]:
    """All there are, by a count of the calls in each scene."""
    found = []
    for scene in SCENES:
        number = max(stage.play(Case(scene, "EIO", 0, False)) for _ in range(2)) + _MORE
        stage.tally.note(f"calls in {scene}", number - _MORE)
        found += [
            Case(scene, error, nth, for_good)
            for error in ERRORS
            for nth in range(1, number + 1)
            for for_good in (False, True)
        ]
    return found


def calls(folder: Path, yours: Path | None, seed: int, number: int, tally: Tally) -> None:
    """Play *number* cases, drawn from all there are; all of them where *number* is 0."""
    if why_not():
        raise NotImplementedError(why_not())
    left: list[Case] = []
    is_first = True
    while is_first or left:
        with staging(folder, tally) as stage:
            if is_first:
                left = cases(stage)
                random.Random(seed).shuffle(left)
                left = left[: number or len(left)]
                is_first = False
            for case in left[:_AT_ONCE]:
                found = len(tally.found)
                stage.play(case)
                tally.note("cases")
                tally.found[found:] = [f"{case}: {text}" for text in tally.found[found:]]
        left = left[_AT_ONCE:]
        if left:
            print(f"  {len(left)} cases left, {time.monotonic() - tally.began:.0f} s", flush=True)
