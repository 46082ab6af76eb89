"""All URLs of one srcset at once: a source is decoded once by each of two workers, in a real server.

The workers are stopped, and have something else to do first, until all URLs wait for them: how far apart 24
requests come in is the machine's affair.
"""

from __future__ import annotations

import io
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from support.drawing import scene
from support.serving import Reply, Server, eventually, is_right, serving, workers_of, write_config

# A large JPEG of 2100 is decoded at 1/1, 1/2, 1/4 or 1/8 for these.
WIDTHS = (1200, 900, 720, 600, 450, 300, 200, 150)
ENCODINGS = ("jpeg", "webp", "avif")
PROCESSES = 2
# Loaded by each interpreter that starts: in a worker, each frame that Pillow decodes becomes a line.
COUNTING = """
import os, sys
if any("imagefactory.workers.worker" in argument for argument in sys.orig_argv):
    from PIL import ImageFile
    load = ImageFile.ImageFile.load
    def counted(self):
        if self.tile:
            with open(os.environ["DECODES"], "a") as file:
                file.write(f"{os.getpid()} {self.format}\\n")
        return load(self)
    ImageFile.ImageFile.load = counted
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures as JPEG and as PNG, too old to be changed again in the same tick of the clock."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("a.jpg", "a.png", "other.gif"):
        scene(1200, 900).save(folder / name)
    scene(2100, 1575).save(folder / "large.jpg")
    last_ns = max(path.stat().st_ctime_ns for path in folder.iterdir())
    time.sleep(max(0.0, 2.1 - (time.time_ns() - last_ns) / 1e9))
    return folder


@pytest.fixture
def decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The decodes so far, as ``"pid format"``, without those of the GIF."""
    hook, log = tmp_path / "hook", tmp_path / "decodes"
    hook.mkdir()
    log.touch()
    (hook / "sitecustomize.py").write_text(COUNTING)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(hook), os.environ.get("PYTHONPATH")))))
    monkeypatch.setenv("DECODES", str(log))
    return lambda: [line for line in log.read_text().splitlines() if not line.endswith(" GIF")]


@contextmanager
def started(config: Path, pictures: Path) -> Iterator[Server]:
    """A server for *config* that has its workers, and knows the headers of all *pictures*."""
    with serving(config) as server:
        for path in pictures.iterdir():
            assert is_right(server.get(f"/picture/{path.name}"))
        yield server


@pytest.fixture
def server(tmp_path: Path, pictures: Path, decodes: Callable[[], list[str]]) -> Iterator[Server]:
    render = {"processes": PROCESSES}
    with started(write_config(tmp_path, pictures, tmp_path / "cache", render=render), pictures) as server:
        yield server


def srcset(name: str) -> list[str]:
    """24 targets in some order."""
    targets = [f"/picture/{name}?scalex={width}&encoding={each}" for width in WIDTHS for each in ENCODINGS]
    random.Random(0).shuffle(targets)
    return targets


def renders(server: Server, state: str) -> int:
    """How many renders are *state*: "running", or "waiting" for their turn."""
    found = re.search(rf"^imagefactory_renders_{state} (\d+)", server.get("/metrics").body.decode(), re.M)
    assert found is not None
    return int(found[1])


def ask(server: Server, targets: Sequence[str], at_once: Callable[[], object] = lambda: None) -> list[Reply]:
    """The replies to *targets*, each of a client of its own; *at_once* is called when all wait for the first
    to be rendered."""
    stopped = workers_of(server)
    assert len(stopped) == PROCESSES
    with ThreadPoolExecutor(len(targets) + PROCESSES) as pool:
        try:
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            for encoding in ENCODINGS[:PROCESSES]:
                pool.submit(server.get, f"/picture/other.gif?scalex=64&encoding={encoding}")
            assert eventually(lambda: renders(server, "running") == PROCESSES, 20)
            replies = [pool.submit(server.get, target) for target in targets]
            assert eventually(lambda: renders(server, "waiting") == len(targets), 20)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        at_once()
        return [reply.result() for reply in replies]


def check(targets: Sequence[str], replies: Sequence[Reply]) -> None:
    """Each is what was asked for, and was rendered for it."""
    for target, reply in zip(targets, replies, strict=True):
        assert is_right(reply)
        assert reply.cache == "miss"
        picture = Image.open(io.BytesIO(reply.body))
        assert f"scalex={picture.width}&encoding={(picture.format or '').lower()}" in target
        assert picture.height == round(picture.width * 3 / 4 + 0.001)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_srcset_is_decoded_once_by_each_worker(
    server: Server, decodes: Callable[[], list[str]], name: str
) -> None:
    targets = srcset(name)
    check(targets, ask(server, targets))
    by_worker = Counter(decodes())
    assert 1 <= len(by_worker) <= PROCESSES
    assert set(by_worker.values()) == {1}, by_worker


def test_a_source_in_between_costs_no_more_than_its_own_decodes(
    server: Server, decodes: Callable[[], list[str]]
) -> None:
    """Two sources share the workers, and a worker remembers one: who changes over decodes once more. That is
    bounded by the renders of the other source, and not by the crowd."""
    targets = srcset("a.jpg")
    other = "/picture/a.png?scalex=100&encoding=jpeg"
    check([*targets, other], ask(server, [*targets, other]))
    counts = Counter(line.split()[1] for line in decodes())
    assert counts["PNG"] == 1
    assert counts["JPEG"] <= 3, counts


def test_a_worker_that_dies_costs_one_decode_more(server: Server, decodes: Callable[[], list[str]]) -> None:
    targets = srcset("a.jpg")
    killed: list[int] = []

    def kill() -> None:
        while not (lines := decodes()):
            time.sleep(0.001)
        killed.append(int(lines[0].split()[0]))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    check(targets, ask(server, targets, killer.start))
    killer.join()
    by_worker = Counter(int(line.split()[0]) for line in decodes())
    assert killed[0] in by_worker
    assert set(by_worker.values()) == {1}, by_worker
    assert len(by_worker) <= 3


def test_the_bytes_do_not_depend_on_what_is_asked_for_together(
    server: Server, tmp_path: Path, pictures: Path
) -> None:
    """Also of a large JPEG, which is decoded at a scale for each size."""
    targets = srcset("large.jpg")[:12]
    together = ask(server, targets)
    check(targets, together)
    config = write_config(tmp_path, pictures, tmp_path / "other", render={"processes": 1})
    with serving(config) as other:
        assert [reply.body for reply in together] == [other.get(target).body for target in targets]
