"""Crowds in front of several server processes that share one cache: one render per variant, whoever dies."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path

import pytest
from PIL import Image
from support.asking import problems
from support.serving import Reply, Server, eventually, is_right, left_in_tmp, serving, write_config

from imagefactory.storage.disk import DiskStore

# Seconds to render, from 12 million pixels: long enough to be caught half way.
SLOW = "/picture/large.jpg?scalex=2400&encoding=avif"
Start = Callable[[int], list[Server]]


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG of 12 million pixels; a real photograph where IMAGEFACTORY_PHOTOS has one."""
    photo = Path(os.environ.get("IMAGEFACTORY_PHOTOS", ""), "phone-12mp.jpg")
    if photo.is_file():
        return photo
    drawn = tmp_path_factory.mktemp("large") / "drawn.jpg"
    noise = Image.effect_noise((400, 300), 80).resize((4000, 3000))
    turned = [
        noise.transpose(way) for way in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM)
    ]
    Image.merge("RGB", (noise, *turned)).save(drawn, quality=90)
    return drawn


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def start(tmp_path: Path, cache: Path, large: Path) -> Iterator[Start]:
    """Starts servers that share a cache; they are stopped at the end, and the cache has no problems then."""
    pictures = tmp_path / "large"
    pictures.mkdir()
    shutil.copyfile(large, pictures / "large.jpg")
    config = write_config(tmp_path, pictures, cache, render={"timeout_s": 120})  # also on a busy machine
    running: list[Server] = []

    def start_more(count: int) -> list[Server]:
        running.extend(stack.enter_context(serving(config)) for _ in range(count))
        return running[-count:]

    with ExitStack() as stack:
        yield start_more
        for server in running:
            server.tell_to_stop()
    assert problems(DiskStore(cache, 2**40)) == []


def ask_at_once(calls: Sequence[tuple[Server, str]]) -> list[Reply]:
    """The replies to all *calls*, made at the same moment by as many clients."""
    barrier = threading.Barrier(len(calls))

    def ask(call: tuple[Server, str]) -> Reply:
        server, target = call
        with server.client() as client:
            client.get("/-/connected")
            barrier.wait()
            return client.get(target)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(ask, calls))


def test_a_crowd_over_four_processes_costs_one_render(start: Start) -> None:
    servers = start(4)
    target = "/picture/large.jpg?scalex=1000&encoding=webp"
    replies = ask_at_once([(servers[number % 4], target) for number in range(100)])
    assert {reply.status for reply in replies} == {200}
    assert all(is_right(reply) for reply in replies)
    assert len({reply.body for reply in replies}) == 1
    results = Counter(reply.cache for reply in replies)
    assert results["miss"] == 1, results
    assert set(results) <= {"miss", "coalesced", "hit"}, results


def test_ten_variants_over_four_processes_are_rendered_once_each(start: Start) -> None:
    servers = start(4)
    targets = [f"/picture/large.jpg?scalex={width}" for width in range(200, 300, 10)]
    calls = [(server, target) for target in targets for server in servers]
    replies = ask_at_once(calls)
    assert all(is_right(reply) for reply in replies)
    misses = Counter(
        target for (_, target), reply in zip(calls, replies, strict=True) if reply.cache == "miss"
    )
    assert misses == dict.fromkeys(targets, 1)


def test_a_variant_that_is_held_up_delays_no_other(start: Start, cache: Path) -> None:
    """One process is frozen while it renders, with its claim; nine other variants are made meanwhile. Who
    wants the tenth waits for it, and gets what that process makes after all."""
    frozen, *others = start(4)
    others[0].get("/picture/large.jpg")  # the source is known
    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(frozen.get, SLOW)
        assert eventually(lambda: left_in_tmp(cache))
        frozen.signal(signal.SIGSTOP)
        try:
            waiting = pool.submit(others[0].get, SLOW)
            targets = [f"/picture/large.jpg?scalex={width}" for width in range(200, 290, 10)]
            replies = ask_at_once([(others[number % 3], target) for number, target in enumerate(targets)])
            assert [reply.cache for reply in replies] == ["miss"] * 9
            assert all(is_right(reply) for reply in replies)
            assert not held.done()
            assert not waiting.done()
        finally:
            frozen.signal(signal.SIGCONT)
        assert (held.result().cache, waiting.result().cache) == ("miss", "coalesced")
        assert is_right(held.result())
        assert held.result().body == waiting.result().body


def test_when_the_leader_is_killed_one_follower_renders_for_all(start: Start, cache: Path) -> None:
    leader, *others = start(4)
    others[0].get("/picture/large.jpg")
    with ThreadPoolExecutor(32) as pool:
        cut = [pool.submit(leader.get, SLOW)]
        assert eventually(lambda: left_in_tmp(cache))
        cut += [pool.submit(leader.get, SLOW) for _ in range(4)]
        followers = [pool.submit(server.get, SLOW) for server in others for _ in range(8)]
        time.sleep(0.3)
        assert not any(future.done() for future in [*cut, *followers])
        abandoned = left_in_tmp(cache)
        leader.kill()
        assert len(abandoned) == 1
        replies = [future.result() for future in followers]
        for future in cut:
            assert isinstance(future.exception(), OSError | HTTPException)
    assert all(is_right(reply) for reply in replies)
    results = Counter(reply.cache for reply in replies)
    assert (results["miss"], results["coalesced"] + results["hit"]) == (1, 23)
    for server in others:  # nobody holds the claim any more
        again = server.get(SLOW)
        assert (again.cache, again.body) == ("hit", replies[0].body)
    assert left_in_tmp(cache) == abandoned
    (newcomer,) = start(1)
    assert newcomer.get(SLOW).cache == "hit"
    assert left_in_tmp(cache) == []
    assert not any(" ERROR " in server.said() or "Traceback" in server.said() for server in others)
