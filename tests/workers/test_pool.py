"""The render pool, with real workers that are really killed, stopped, starved and left alone."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support.asking import ask
from support.drawing import quarters, scene
from support.jobs import job
from support.open_files import open_below
from support.serving import eventually

from imagefactory import factory
from imagefactory.config import Config
from imagefactory.errors import (
    Blamed,
    OutOfMemory,
    RequestError,
    SourceChanged,
    TimedOut,
    TooLarge,
    Unavailable,
    Undecodable,
)
from imagefactory.factory import Parts
from imagefactory.model.job import Job
from imagefactory.model.recipe import Recipe
from imagefactory.model.source import Stamp
from imagefactory.workers import messages
from imagefactory.workers import pool as pool_module
from imagefactory.workers.pool import Pool
from imagefactory.workers.rendering import InThread

LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
# Under load an interpreter may need its time; nothing here waits so long unless it is broken.
LONG_S = 30.0


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "tom.jpg"
    quarters().save(path, quality=95)
    return path


@pytest.fixture
def make() -> Iterator[Callable[..., Pool]]:
    """Makes pools, which are closed at the end."""
    pools: list[Pool] = []

    def make_one(processes: int = 2, timeout_s: float = LONG_S, memory_bytes: int = 0) -> Pool:
        pools.append(Pool(processes, timeout_s, memory_bytes))
        return pools[-1]

    yield make_one
    for pool in pools:
        pids = pool.pids()
        pool.close()
        assert not [pid for pid in pids if exists(pid)], "close leaves no process, and no zombie"


def exists(pid: int) -> bool:
    """Whether there is such a process, be it a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def slow(source: Path, side: int = 8192) -> Job:
    """A job that takes seconds, after its source is decoded."""
    recipe = Recipe(width=side, height=side, fit="stretch", enlarge=True, quality=80)
    return job(source, recipe=recipe, effort={"method": 6})


def begin(pool: Pool, a_job: Job) -> tuple[threading.Thread, list[object]]:
    """Ask for *a_job* in a thread; its result, or its error, is the only item of the list at the end."""
    found: list[object] = []

    def ask() -> None:
        try:
            found.append(pool.render(a_job))
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, found


def busy(pool: Pool) -> list[int]:
    """The workers that have used processor time for a render: the pids of those that were asked last."""
    return [worker.pid for worker in pool._workers if worker.is_asked]


# --- the same as in the calling thread --------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["jpeg", "png", "webp", "avif", "gif"])
def test_a_worker_makes_the_same_bytes(
    make: Callable[..., Pool], picture: Path, tmp_path: Path, encoding: str
) -> None:
    pool, target = make(), tmp_path / "target"
    target.touch()
    expected = InThread().render(job(picture, encoding=encoding))
    in_memory = pool.render(job(picture, encoding=encoding))
    in_file = pool.render(job(picture, target, encoding=encoding))
    assert in_memory.body == expected.body == target.read_bytes()
    assert in_file.body is None
    assert (in_file.width, in_file.height) == (40, 30)
    assert set(in_file.seconds) == {"decode", "resize", "encode"}


def test_a_large_body_comes_whole(make: Callable[..., Pool], tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.effect_noise((1500, 1500), 90).save(path)
    asked = job(path, encoding="png", recipe=Recipe(width=1400, height=1400, fit="stretch"))
    body = make().render(asked).body
    assert body == InThread().render(asked).body
    assert body is not None
    assert len(body) > 2**20


def test_a_probe_tells_the_same(make: Callable[..., Pool], picture: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    pool = make()
    for path in (picture, tmp_path / "notes.txt"):
        assert pool.probe(path) == InThread().probe(path)
    assert pool.probe(tmp_path / "notes.txt") is None


@pytest.mark.parametrize("way", ["in a worker", "in the calling thread"])
def test_what_is_read_is_the_open_file_whatever_lies_at_its_path(
    make: Callable[..., Pool], picture: Path, way: str
) -> None:
    renderer = make(1) if way == "in a worker" else InThread()
    expected = renderer.render(job(picture)).body
    with picture.open("rb") as file:
        picture.rename(picture.with_name("moved.jpg"))
        Image.new("RGB", (10, 20)).save(picture)
        stamp = Stamp.of(os.fstat(file.fileno()))
        for _ in range(2):
            asked = job(picture, stamp=stamp, descriptor=file.fileno())
            assert renderer.render(asked).body == expected
            header = renderer.probe(picture, file.fileno())
            assert header is not None
            assert (header.width, header.height) == (400, 300)
        assert file.fileno() > 0, "it stays open for its owner"
        with pytest.raises(SourceChanged):
            renderer.render(job(picture, descriptor=file.fileno()))


@LINUX
def test_a_worker_keeps_no_source_open(make: Callable[..., Pool], picture: Path) -> None:
    pool = make(1)
    pool.render(job(picture))
    [pid] = pool.pids()
    with picture.open("rb") as file:
        for max_pixels in (10**6, 10):
            with suppress(TooLarge):
                pool.render(job(picture, descriptor=file.fileno(), max_pixels=max_pixels))
            pool.probe(picture, file.fileno())
        assert eventually(lambda: open_below(picture, pid) == [])


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda made, path: replace(made, max_pixels=10), TooLarge),
        (lambda made, path: replace(made, stamp=Stamp(1, 2, 3, 4)), SourceChanged),
        (lambda made, path: path.unlink(), FileNotFoundError),
        (lambda made, path: replace(made, target=path.parent / "none" / "target"), FileNotFoundError),
    ],
)
def test_an_error_is_the_same(
    make: Callable[..., Pool], picture: Path, spoil: Callable[[Job, Path], Job | None], kind: type[Exception]
) -> None:
    asked = job(picture)
    asked = spoil(asked, picture) or asked
    with pytest.raises(kind) as expected:
        InThread().render(asked)
    with pytest.raises(kind) as error:
        make().render(asked)
    assert str(error.value).partition(":")[0] == str(expected.value).partition(":")[0]


@pytest.mark.parametrize("name", ["probe", "render"])
def test_a_broken_source_is_undecodable_and_the_worker_stays(
    make: Callable[..., Pool], picture: Path, name: str
) -> None:
    data = picture.read_bytes()
    picture.write_bytes(data[: len(data) // 2] if name == "render" else data[:12])
    pool = make(1)
    with pytest.raises(Undecodable, match="broken or cut off") as error:
        pool.probe(picture) if name == "probe" else pool.render(job(picture))
    assert error.value.blames == "source"
    [pid] = pool.pids()
    quarters().save(picture)
    assert pool.render(job(picture)).body
    assert pool.pids() == [pid]


# --- checks -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_to_check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture whose check takes a second or more: noise, in many scans."""
    path = tmp_path_factory.mktemp("long") / "noise.jpg"
    Image.frombytes("L", (4000, 4000), os.urandom(4000 * 4000)).save(path, progressive=True, quality=90)
    return path


def begin_check(pool: Pool, path: Path) -> tuple[threading.Thread, list[object]]:
    """As ``begin``, for the check of the picture at *path*."""
    found: list[object] = []

    def ask() -> None:
        try:
            found.append(pool.check(path, 50_000_000))
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, found


def test_a_check_tells_the_same(make: Callable[..., Pool], picture: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    pool = make(1)
    for path in (picture, tmp_path / "notes.txt"):
        assert pool.check(path, 400 * 300) == InThread().check(path, 400 * 300) == InThread().probe(path)
    for renderer in (pool, InThread()):
        with pytest.raises(TooLarge):
            renderer.check(picture, 400 * 300 - 1)
        with pytest.raises(FileNotFoundError):
            renderer.check(tmp_path / "none.jpg", 400 * 300)
    with picture.open("rb") as file:
        picture.rename(picture.with_name("moved.jpg"))
        assert pool.check(picture, 400 * 300, file.fileno()) == pool.probe(picture, file.fileno())


def test_a_picture_that_lacks_pixels_is_refused_and_the_worker_stays(
    make: Callable[..., Pool], picture: Path
) -> None:
    data, pool = picture.read_bytes(), make(1)
    assert pool.check(picture, 50_000_000)
    pids = pool.pids()
    picture.write_bytes(data[:-2])
    assert pool.check(picture, 50_000_000), "only its end marker is missing"
    for broken in (data[:-3], data[: len(data) // 2], data[: len(data) // 2] + b"\xff\xd9"):
        picture.write_bytes(broken)
        with pytest.raises(Undecodable, match="broken or cut off"):
            pool.check(picture, 50_000_000)
    assert pool.pids() == pids


def test_a_worker_killed_on_a_check_is_replaced_and_the_check_done(
    make: Callable[..., Pool], long_to_check: Path
) -> None:
    pool = make(1)
    thread, found = begin_check(pool, long_to_check)
    assert eventually(lambda: any(worker.was_begun for worker in pool._workers), LONG_S)
    [killed] = busy(pool)
    os.kill(killed, signal.SIGKILL)
    thread.join()
    assert found == [pool.probe(long_to_check)]
    assert not exists(killed)
    assert len(pool.pids()) == 1


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGSEGV, Undecodable), (signal.SIGKILL, Unavailable)])
def test_a_check_that_ends_two_workers_is_refused_for_seconds(
    make: Callable[..., Pool], picture: Path, long_to_check: Path, number: int, kind: type[RequestError]
) -> None:
    pool = make(1)
    thread, found = begin_check(pool, long_to_check)
    killed = set()
    while thread.is_alive():
        for worker in list(pool._workers):
            if worker.was_begun and worker.is_asked and worker.pid not in killed:
                killed.add(worker.pid)
                os.kill(worker.pid, number)
        time.sleep(0.005)
    [error] = found
    assert type(error) is kind
    assert error.lasts_s == 10
    assert len(killed) == 2
    assert pool.check(picture, 50_000_000)


def test_a_check_that_hangs_is_killed_in_time(
    make: Callable[..., Pool], picture: Path, long_to_check: Path
) -> None:
    pool = make(1, timeout_s=1.5)
    assert pool.check(picture, 50_000_000)
    thread, found = begin_check(pool, long_to_check)
    assert eventually(lambda: busy(pool), LONG_S)
    os.kill(busy(pool)[0], signal.SIGSTOP)
    thread.join(LONG_S)
    [error] = found
    assert isinstance(error, TimedOut), error
    assert "1.5 seconds" in str(error)
    assert pool.check(picture, 50_000_000)


@LINUX
def test_a_check_that_eats_memory_meets_the_bound(
    make: Callable[..., Pool], picture: Path, tmp_path: Path
) -> None:
    path = tmp_path / "large.png"
    Image.new("RGB", (7000, 7000)).save(path, compress_level=1)
    pool = make(1, memory_bytes=250_000_000)
    assert pool.check(picture, 50_000_000)
    pids = pool.pids()
    with pytest.raises(OutOfMemory):
        pool.check(path, 50_000_000)
    assert pool.check(picture, 50_000_000)
    assert pool.pids() == pids, "a MemoryError costs no worker"


# --- workers that fail ------------------------------------------------------------------------------------


def test_a_worker_killed_on_a_job_is_replaced_and_the_job_done(
    make: Callable[..., Pool], picture: Path
) -> None:
    pool = make()
    thread, found = begin(pool, slow(picture, 3000))
    assert eventually(lambda: busy(pool), LONG_S)
    [killed] = busy(pool)
    os.kill(killed, signal.SIGKILL)
    assert pool.render(job(picture)).body, "others go on meanwhile"
    thread.join()
    assert found[0].width == 3000, found  # type: ignore[attr-defined]
    assert not exists(killed)
    assert len(pool.pids()) == 2


@pytest.mark.parametrize(
    ("number", "kind", "problem"),
    [
        (signal.SIGSEGV, Undecodable, "crashed, twice"),
        (signal.SIGABRT, Undecodable, "crashed, twice"),
        (signal.SIGKILL, Unavailable, "was ended, twice"),  # no decoder does that to itself
        (signal.SIGALRM, TimedOut, "more than 30 seconds"),  # its own, when it was stopped with its server
    ],
)
def test_a_variant_that_ends_two_workers_is_refused_for_seconds(
    make: Callable[..., Pool], picture: Path, number: int, kind: type[RequestError], problem: str
) -> None:
    pool = make(1)
    thread, found = begin(pool, slow(picture))
    killed = set()
    while thread.is_alive():
        for worker in list(pool._workers):
            if worker.was_decoded and worker.is_asked and worker.pid not in killed:
                killed.add(worker.pid)
                os.kill(worker.pid, number)
        time.sleep(0.005)
    [error] = found
    assert type(error) is kind
    assert problem in str(error)
    assert (error.blames, error.lasts_s) == ("variant", 10)
    assert len(killed) == (1 if number == signal.SIGALRM else 2)
    assert pool.render(job(picture)).body


def test_a_worker_that_hangs_is_killed_in_time(make: Callable[..., Pool], picture: Path) -> None:
    pool = make(2, timeout_s=1.5)
    assert pool.render(job(picture)).body
    [first] = [worker.pid for worker in pool._workers if worker.source]
    thread, found = begin(pool, slow(picture))
    assert eventually(lambda: busy(pool), LONG_S)
    os.kill(busy(pool)[0], signal.SIGSTOP)  # a decoder that waits for something that never comes
    began = time.monotonic()
    while thread.is_alive() and time.monotonic() < began + 25:
        assert pool.render(job(picture)).body, "others go on meanwhile"
    thread.join()
    [error] = found
    assert isinstance(error, TimedOut), error
    assert "1.5 seconds" in str(error)
    assert (error.blames, error.lasts_s) == ("variant", 10)
    assert time.monotonic() - began < 25
    assert not exists(first)
    assert len(pool.pids()) == 2


def test_a_worker_that_is_stopped_condemns_no_picture(
    make: Callable[..., Pool], configure: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a paused machine. The variant is tried again when Retry-After says so, all others at once."""
    monkeypatch.setattr(pool_module, "_UNPROVEN_S", 2.0)
    pool = make(1, timeout_s=1.0)
    parts = factory.assemble(configure(), pool)
    assert ask(parts, scalex=30).result == "miss"
    [pid] = pool.pids()
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(TimedOut) as stopped:
        ask(parts, scalex=40)
    assert ask(parts, scalex=50).result == "miss"
    assert ask(parts, scalex=40, encoding="webp").result == "miss"
    assert stopped.value.retry_after_s == 2
    assert eventually(lambda: is_made(parts), 20)


def is_made(parts: Parts) -> bool:
    with suppress(TimedOut):
        return ask(parts, scalex=40).result == "miss"
    return False


def test_too_much_processor_time_is_the_jobs_own_fault(make: Callable[..., Pool], picture: Path) -> None:
    pool = make(1, timeout_s=LONG_S)
    pool.start()
    [worker] = pool._workers
    worker.kill()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imagefactory.workers.pool._cpu_s", lambda timeout_s: 1)
        with pytest.raises(Undecodable, match="too much processor time") as error:
            pool.render(replace(slow(picture), encoding="avif", effort={"speed": 0}))
    assert (error.value.blames, error.value.lasts_s) == ("variant", 3600)
    assert pool.render(job(picture)).body


@LINUX
def test_a_job_that_eats_memory_meets_the_bound(make: Callable[..., Pool], picture: Path) -> None:
    pool = make(1, memory_bytes=400_000_000)
    [*_] = [pool.render(job(picture))]
    [pid] = pool.pids()
    with pytest.raises(Undecodable, match=r"memory|crashed") as error:
        pool.render(slow(picture))
    assert error.value.blames == "variant"
    assert error.value.lasts_s <= 10
    assert pool.render(job(picture)).body
    assert pool.pids() == [pid], "a MemoryError costs no worker"


def test_a_worker_that_dies_idle_is_replaced_before_it_is_missed(
    make: Callable[..., Pool], picture: Path
) -> None:
    pool = make()
    pool.render(job(picture))
    old = pool.pids()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: len(pool.pids()) == 2 and not set(old) & set(pool.pids()), LONG_S)
    assert not any(exists(pid) for pid in old)
    assert pool.render(job(picture)).body


def test_all_idle_workers_dead_at_once_cost_nobody_an_error(make: Callable[..., Pool], picture: Path) -> None:
    pool = make()
    for _ in range(5):
        assert pool.render(job(picture)).body
        for pid in pool.pids():
            os.kill(pid, signal.SIGKILL)


@LINUX
@pytest.mark.parametrize("way", ["killed", "hanging", "out of memory"])
def test_many_failures_in_a_row(make: Callable[..., Pool], picture: Path, way: str) -> None:
    """IMAGEFACTORY_FAILURES=100 for as many of each; other requests go on all the time."""
    count = int(os.environ.get("IMAGEFACTORY_FAILURES", "3"))
    pool = make(2, timeout_s=1.0, memory_bytes=400_000_000 if way == "out of memory" else 0)
    large = picture.with_name("large.jpg")
    scene(1000, 800).save(large)
    pool.render(job(picture))
    files, dead = len(list(Path("/proc/self/fd").iterdir())), zombies()

    def hit() -> list[int]:
        return [w.pid for w in list(pool._workers) if w.source == str(large) and w.was_decoded and w.is_asked]

    is_done, errors = threading.Event(), []

    def visit() -> None:
        while not is_done.is_set():
            try:
                assert pool.render(job(picture)).body
            except Exception as error:
                errors.append(error)

    visitor = threading.Thread(target=visit)
    visitor.start()
    for _ in range(count):
        # Killed: the second try ends by itself. The others are meant to fail.
        thread, found = begin(pool, slow(large, 1500 if way == "killed" else 8192))
        if way != "out of memory":
            assert eventually(hit, LONG_S)
            for pid in hit():
                os.kill(pid, signal.SIGKILL if way == "killed" else signal.SIGSTOP)
        thread.join()
        assert found
    is_done.set()
    visitor.join()
    errors = [error for error in errors if not isinstance(error, TimedOut)]  # it was the one that was stopped
    assert errors == []
    assert len(pool.pids()) == 2
    assert pool.render(job(picture)).body
    assert set(zombies()) <= set(dead)
    assert len(list(Path("/proc/self/fd").iterdir())) <= files + 2


def zombies() -> list[str]:
    """The children of this process that have ended and that nobody asked about."""
    stats = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            stats.append((path.parent.name, path.read_text().rpartition(")")[2].split()))
    return [pid for pid, fields in stats if fields[0] == "Z" and fields[1] == str(os.getpid())]


# --- starting ---------------------------------------------------------------------------------------------


def test_nothing_is_started_before_the_first_picture(make: Callable[..., Pool], picture: Path) -> None:
    pool = make()
    assert pool.pids() == []
    assert pool.is_working()
    pool.probe(picture)
    assert len(pool.pids()) == 2


def test_started_ahead_it_is_ready(make: Callable[..., Pool]) -> None:
    pool = make()
    pool.start()
    assert eventually(lambda: all(worker.is_ready for worker in pool._workers) and pool.pids(), LONG_S)


@pytest.mark.parametrize("way", ["no interpreter", "it ends at once", "it says nonsense"])
def test_workers_that_cannot_be_started_are_told_and_tried_again(
    make: Callable[..., Pool], picture: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    pool = make()
    with monkeypatch.context() as patch:
        if way == "no interpreter":
            patch.setattr("imagefactory.workers.pool._python", lambda: "/nowhere/python")
        elif way == "it ends at once":
            patch.setattr("imagefactory.workers.pool._CODE", "raise SystemExit(3)")
        else:
            patch.setattr(
                "imagefactory.workers.pool._CODE", "import os,time; os.write(0, b'x' * 64); time.sleep(60)"
            )
        for _ in range(3):  # the second one is told without another try
            with pytest.raises(Unavailable, match="can't be rendered"):
                pool.render(job(picture))
        assert not pool.is_working()
    assert eventually(pool.is_working, LONG_S), "it is tried again without a request"
    assert pool.render(job(picture)).body


@LINUX
def test_a_worker_gives_way_to_its_server(make: Callable[..., Pool], picture: Path) -> None:
    pool = make(1, memory_bytes=3_000_000_000)
    pool.render(job(picture))
    [pid] = pool.pids()
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert " ".join(limits.partition("Max address space")[2].split()[:1]) == "3000000000"
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) >= 500
    assert os.getpgid(pid) != os.getpgid(0), "Ctrl-C at a terminal does not reach it"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    assert pool.render(job(picture)).body
    assert pool.pids() == [pid]


@LINUX
def test_a_worker_keeps_its_memory_for_the_next_job_and_an_idle_one_gives_it_back(
    make: Callable[..., Pool], tmp_path: Path
) -> None:
    path = tmp_path / "large.png"
    scene(4000, 3000).save(path, compress_level=1)
    pool = make(1)
    pool.probe(path)
    [pid] = pool.pids()
    before = resident_bytes(pid)
    for _ in range(2):
        assert pool.render(job(path)).body
    if platform.libc_ver()[0] == "glibc":
        assert resident_bytes(pid) > before + 40e6
    assert eventually(lambda: resident_bytes(pid) < before + 40e6, LONG_S)
    assert pool.render(job(path)).body
    assert pool.pids() == [pid]


def resident_bytes(pid: int) -> int:
    """The memory that a process has now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_worker_gets_what_it_had_before(make: Callable[..., Pool], tmp_path: Path) -> None:
    pool = make(2)
    paths = [tmp_path / f"{name}.png" for name in "ab"]
    for path in paths:
        scene().save(path)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda path: pool.render(job(path)), paths))
    where = {worker.source: worker.pid for worker in pool._workers}
    if len(where) == 2:  # else one worker was quick enough for both
        for path in (*paths, *reversed(paths), *paths):
            pool.render(job(path, recipe=Recipe(width=20, height=15, fit="stretch")))
            assert {worker.source: worker.pid for worker in pool._workers} == where


def test_no_more_work_than_workers(make: Callable[..., Pool], picture: Path) -> None:
    pool = make(2)
    pool.render(job(picture))
    most = 0
    with ThreadPoolExecutor(8) as threads:
        done = [threads.submit(pool.render, job(picture)) for _ in range(60)]
        while not all(each.done() for each in done):
            most = max(most, len(pool._workers))
            time.sleep(0.001)
    assert all(each.result().body for each in done)
    assert most == 2


# --- forks, and the end -----------------------------------------------------------------------------------

SCRIPT = """
import json, os, sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}]
from support.jobs import job
from imagefactory.workers.pool import Pool
pool = Pool(2, 30)
body = pool.render(job(Path({picture!r}))).body
parents = pool.pids()
if sys.argv[1] == "fork":
    child = os.fork()
    if not child:
        again = pool.render(job(Path({picture!r}))).body
        print(json.dumps([again == body, pool.pids()]), flush=True)
        time.sleep(60)
print(json.dumps([True, parents]), flush=True)
time.sleep(60)
"""


def said(process: subprocess.Popen[str]) -> tuple[bool, list[int]]:
    assert process.stdout is not None
    is_right, pids = json.loads(process.stdout.readline())
    return is_right, pids


def start(picture: Path, how: str) -> subprocess.Popen[str]:
    code = SCRIPT.format(tests=str(Path(__file__).parents[1]), picture=str(picture))
    return subprocess.Popen([sys.executable, "-c", code, how], stdout=subprocess.PIPE, text=True)


def test_workers_end_when_their_server_is_killed(picture: Path) -> None:
    with start(picture, "alone") as process:
        _, pids = said(process)
        assert len(pids) == 2
        process.kill()
    assert eventually(lambda: not any(exists(pid) for pid in pids), LONG_S)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_workers_of_its_own_and_keeps_none_of_its_parents(picture: Path) -> None:
    """As under a prefork server that was preloaded, and has rendered before it forked."""
    with start(picture, "fork") as process:
        both = [said(process), said(process)]
        assert [is_right for is_right, _ in both] == [True, True]
        (_, parents), (_, childs) = sorted(both, key=lambda each: parent_of(each[1][0]) != process.pid)
        assert len({*parents, *childs}) == 4
        process.kill()
    # The child lives on, and must not keep the sockets of its parent's workers open.
    assert eventually(lambda: not any(exists(pid) for pid in parents), LONG_S)
    assert all(exists(pid) for pid in childs)
    os.kill(parent_of(childs[0]), signal.SIGKILL)
    assert eventually(lambda: not any(exists(pid) for pid in childs), LONG_S)


def parent_of(pid: int) -> int:
    found = subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(found.stdout)


# --- the wire ---------------------------------------------------------------------------------------------


def test_an_open_file_goes_with_a_task_and_is_closed_after_it(picture: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, picture.open("rb") as file:
        messages.send(ours, {"a": 1}, descriptor=file.fileno())
        messages.send(ours, {"b": 2})
        with messages.receive_task(theirs) as (task, descriptor):
            assert task == {"a": 1}
            assert descriptor is not None
            assert os.fstat(descriptor).st_ino == picture.stat().st_ino
            assert not os.get_inheritable(descriptor)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        with messages.receive_task(theirs) as found:
            assert found == ({"b": 2}, None)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(EOFError), messages.receive_task(theirs):
            pass


@LINUX
def test_an_open_file_from_a_worker_is_not_taken(picture: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, picture.open("rb") as file:
        messages.send(theirs, {"is": "ready"}, descriptor=file.fileno())
        assert messages.receive(ours)[0] == {"is": "ready"}
        assert open_below(picture) == [str(picture)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\4null",
        b"\0\0\0\2[]",
        b'\0\0\0\x0c{"body":"x"}',
        b'\0\0\0\x0b{"body":-1}',
        b'\0\0\0\x14{"body":99999999999}',
        b"\0\0\0\3\xff\xfe{",
        b"\0\0\0\x09{'a': 1}x",
    ],
)
def test_what_is_no_message_is_an_error_and_nothing_else(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises((OSError, EOFError)):
            messages.receive(ours)


def test_a_job_is_the_same_on_the_other_side(picture: Path, tmp_path: Path) -> None:
    asked = job(
        picture, tmp_path / "täglich\udcff", recipe=Recipe(width=3, height=4, gravity="smart", trim=2.5)
    )
    message = json.loads(json.dumps(messages.job_message(asked)))
    assert messages.job_from(message) == asked


NONSENSE = [
    {},
    {"is": "rendered"},
    {"is": "rendered", "width": "x", "height": 1, "seconds": {}, "has_body": False},
    {"is": "rendered", "width": 1, "height": 1, "seconds": [1], "has_body": False},
    {"is": "error"},
    {"is": "error", "name": "TooLarge", "arguments": []},
    {"is": "error", "name": "OSError", "arguments": 5},
    {"is": 7, "header": {"width": 1}},
]


@pytest.mark.parametrize("number", range(len(NONSENSE)))
def test_a_worker_that_answers_nonsense_does_no_harm(
    make: Callable[..., Pool], picture: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    said = json.dumps(NONSENSE[number])
    code = "import socket,time; from imagefactory.workers import messages; c = socket.socket(fileno=0)\n"
    code += "messages.send(c, {'is': 'ready'}); messages.receive(c)\n"
    code += f"messages.send(c, {said.replace('false', 'False')})\n"
    monkeypatch.setattr("imagefactory.workers.pool._CODE", code + "time.sleep(60)")
    with pytest.raises(Undecodable, match="no answer that makes sense|failed on it"):
        make(1).render(job(picture))


@pytest.mark.parametrize("name", ["Exception", "KeyboardInterrupt", "os.system", ""])
def test_an_error_of_another_name_is_never_made(name: str) -> None:
    error = messages.error_from({"name": name, "arguments": ["x"]})
    assert isinstance(error, Undecodable)


@pytest.mark.parametrize("blames", ["source", "frames", "variant"])
@pytest.mark.parametrize("error", [Undecodable("it is cut off"), TooLarge("pixels", 2, 1), OutOfMemory()])
def test_an_error_keeps_what_it_blames(error: RequestError, blames: Blamed) -> None:
    error.blames = blames
    again = messages.error_from(json.loads(json.dumps(messages.error_message(error))))
    assert isinstance(again, type(error))
    assert (str(again), again.blames, again.lasts_s) == (str(error), blames, error.lasts_s)


@LINUX
def test_a_pool_that_is_forgotten_leaves_no_zombie(picture: Path) -> None:
    """Its workers end by themselves, and another pool takes their exit status."""
    forgotten, other = Pool(2, LONG_S), Pool(1, LONG_S)
    forgotten.render(job(picture))
    pids = forgotten.pids()
    del forgotten
    other.start()
    assert eventually(lambda: not any(exists(pid) for pid in pids), LONG_S)
    other.close()


def test_a_worker_that_another_pool_has_taken_leave_of_is_no_error() -> None:
    """Two pools look through the same list of orphans at the same time."""

    class Orphan:
        def has_ended(self) -> bool:
            orphans.remove(self)  # as the other pool does, in between
            return True

    orphans: list[object] = pool_module._orphans  # type: ignore[assignment]
    orphans.append(Orphan())
    pool = Pool(1, LONG_S)
    pool.start()
    pool.close()
    assert not any(isinstance(each, Orphan) for each in orphans)
