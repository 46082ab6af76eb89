"""A real server with more to render than it can: hits go on, what is too much is told at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest
from PIL import Image
from support.asking import problems
from support.drawing import quarters
from support.serving import (
    ROOT,
    STARTS,
    Reply,
    Server,
    children_of,
    eventually,
    is_right,
    left_in_tmp,
    serving,
    workers_of,
    write_config,
)

from imagefactory.storage.disk import DiskStore

HIT = "/picture/tom.jpg?scalex=100"
# A second to render, a tenth of it before the source is decoded.
SLOW = "/picture/large.jpg?scalex=3000&encoding=webp&quality="
HUGE = "/picture/large.jpg?scalex=8192&enlarge=1&encoding=webp"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("overload") / "pictures"
    folder.mkdir()
    quarters().save(folder / "tom.jpg", quality=95)
    Image.effect_noise((4000, 3000), 60).save(folder / "large.jpg", quality=80)
    return folder


@contextmanager
def started(
    tmp_path: Path, pictures: Path, name: str = "waitress", **render: int
) -> Iterator[tuple[Server, Path]]:
    """A server of that name with one render worker, which has answered HIT before; and its cache."""
    options, program = STARTS[name]
    cache = tmp_path / "cache"
    config = write_config(tmp_path, pictures, cache, render={"processes": 1, "timeout_s": 120, **render})
    with serving(config, options, cwd=ROOT, program=program) as server:
        for _ in range(3):
            assert is_right(server.get(HIT))
        yield server, cache


def has_zombies(server: Server) -> bool:
    """Whether a child has ended and nobody took its exit status: for a moment that is so at each end."""
    return any(state.startswith("Z") for _, state, _ in children_of(server))


@pytest.mark.parametrize("name", STARTS)
def test_hits_and_health_are_answered_while_pictures_are_rendered(
    tmp_path: Path, pictures: Path, name: str
) -> None:
    """Also under gevent, where anything that blocks blocks all."""
    with started(tmp_path, pictures, name) as (server, _):
        replies: list[Reply] = []
        threads = [
            threading.Thread(target=lambda q=quality: replies.append(server.get(f"{SLOW}{q}")))
            for quality in (80, 81)
        ]
        for thread in threads:
            thread.start()
        assert eventually(lambda: left_in_tmp(tmp_path / "cache"))
        with server.client() as client:
            answered = 0
            while all(thread.is_alive() for thread in threads) and answered < 200:
                reply = client.get(HIT if answered % 5 else "/healthz")
                assert reply.status == 200
                answered += 1
        for thread in threads:
            thread.join()
        assert [reply.cache for reply in replies] == ["miss", "miss"]
        assert answered == 200, "they came while both were rendered"


def test_what_is_too_much_is_told_at_once_and_the_rest_is_done(tmp_path: Path, pictures: Path) -> None:
    with started(tmp_path, pictures, queue=4) as (server, cache):
        with ThreadPoolExecutor(24) as pool:
            replies = list(pool.map(lambda q: server.get(f"{SLOW}{q}&rotate=90"), range(30, 54)))
            statuses = Counter(reply.status for reply in replies)
            assert set(statuses) == {200, 503}, statuses
            assert statuses[200] >= 5
            # Half of them: one of 24 threads may get its turn late on a busy machine.
            refused = median(reply.seconds for reply in replies if reply.status == 503)
            assert refused < median(reply.seconds for reply in replies if reply.status == 200)
        for reply in replies:
            if reply.status == 503:
                assert int(reply.headers["retry-after"]) >= 1
                assert b'"busy"' in reply.body
            else:
                assert is_right(reply)
        again = server.get(f"{SLOW}99")
        assert (again.status, again.cache) == (200, "miss"), "normal again at once"
        assert left_in_tmp(cache) == []
    assert problems(DiskStore(cache, 2**40)) == []


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("number", "timeout_s", "status", "code"),
    [
        (signal.SIGSEGV, 30, 422, b'"undecodable"'),
        (signal.SIGKILL, 30, 503, b'"unavailable"'),
        (signal.SIGSTOP, 3, 503, b'"timed_out"'),
    ],
)
def test_a_variant_that_ends_its_workers_is_refused_and_nothing_else_is(
    tmp_path: Path, pictures: Path, number: int, timeout_s: int, status: int, code: bytes
) -> None:
    with started(tmp_path, pictures, timeout_s=timeout_s) as (server, cache):
        found: list[Reply] = []
        thread = threading.Thread(target=lambda: found.append(server.get(HUGE)))
        thread.start()
        hurt: set[int] = set()
        while thread.is_alive():
            for pid in workers_of(server):
                # Decoded it has 48 MB, and 200 more are for the result.
                if pid not in hurt and resident_bytes(pid) > 130e6:
                    hurt.add(pid)
                    os.kill(pid, number)
            assert server.get(HIT).status == 200
        assert (found[0].status, code in found[0].body) == (status, True), found
        assert server.get(HUGE).status == status, "it is remembered: nobody hurts a worker any more"
        assert server.get("/picture/large.jpg?scalex=50").cache == "miss", "not held against its source"
        assert len(workers_of(server)) == 1
        assert eventually(lambda: not has_zombies(server))
        assert server.health() == "ok"
        assert left_in_tmp(cache) == []


def resident_bytes(pid: int) -> int:
    """The memory that a process has now; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def test_workers_killed_all_the_time_cost_no_visitor_anything(tmp_path: Path, pictures: Path) -> None:
    """Idle or busy, and again as soon as three visitors have got theirs: nobody meets two kills."""
    with started(tmp_path, pictures) as (server, cache):
        is_done = threading.Event()
        kills = answered = 0

        def kill() -> None:
            nonlocal kills
            due = 0
            while not is_done.wait(0.3):
                if answered < due:
                    continue
                due = answered + 3
                for pid in workers_of(server):
                    os.kill(pid, signal.SIGKILL)
                    kills += 1

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            with server.client() as client:
                for width in range(20, 220):
                    reply = client.get(f"/picture/tom.jpg?scalex={width}")
                    assert is_right(reply), reply
                    answered += 1
                    time.sleep(0.02)
        finally:
            is_done.set()
            killer.join()
        assert kills >= 4
        assert eventually(lambda: len(workers_of(server)) == 1 and not has_zombies(server))
        assert left_in_tmp(cache) == []
    assert problems(DiskStore(cache, 2**40)) == []
