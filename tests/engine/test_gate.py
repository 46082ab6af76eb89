"""The queue before the renders, and what is remembered of those that failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from support.asking import Counting, ask
from support.drawing import at_rest, quarters, written
from support.serving import eventually

from imagefactory.engine import gate
from imagefactory.engine.failures import Recent
from imagefactory.engine.gate import Gate
from imagefactory.errors import Blamed, Busy, RequestError, TimedOut, TooLarge, Undecodable
from imagefactory.factory import Parts
from imagefactory.model.job import Job
from imagefactory.model.source import Header

Assemble = Callable[..., Parts]


class Line:
    """Visitors of a gate with one slot, which is held until ``begin``; *order* is that of their renders."""

    def __init__(self) -> None:
        self.gate = Gate(1, 100, 1000)
        self.order: list[str] = []
        self.threads: list[threading.Thread] = []
        self._go = threading.Event()
        self.add("a0")

    def add(self, name: str) -> None:
        """One more, of the group that the name's first letter says, behind those that wait already."""

        def visit() -> None:
            with self.gate.render(10, name[0]):
                self.order.append(name)
                self._go.wait()

        waiting = self.gate.waiting
        self.threads.append(threading.Thread(target=visit))
        self.threads[-1].start()
        assert eventually(lambda: self.order and self.gate.waiting == waiting + (len(self.threads) > 1))

    def begin(self) -> str:
        """Let them in; the order in which they came."""
        self._go.set()
        for thread in self.threads:
            thread.join()
        assert (self.gate.running, self.gate.waiting) == (0, 0)
        return " ".join(self.order)


def test_one_source_goes_on_and_then_who_came_first() -> None:
    line = Line()
    for name in ("b1", "a1", "c1", "a2", "b2", "a3"):
        line.add(name)
    assert line.begin() == "a0 a1 a2 a3 b1 b2 c1"


def test_who_has_waited_long_goes_before_more_of_one_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_BATCH_S", 0.0)
    line = Line()
    for name in ("b1", "a1", "c1", "a2"):
        line.add(name)
    assert line.begin() == "a0 b1 a1 c1 a2"


def test_who_gives_up_leaves_the_line_and_no_slot_is_lost() -> None:
    gate = Gate(1, 10, 10)
    with gate.render(1):
        with pytest.raises(TimedOut), gate.render(0.02):
            pytest.fail("there is no slot")
        assert gate.waiting == 0
    with gate.render(0):
        pass


def test_a_full_queue_is_told_at_once() -> None:
    gate, go = Gate(1, 1, 10), threading.Event()

    def wait() -> None:
        with gate.render(10):
            go.wait(10)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(wait)
        assert eventually(lambda: gate.running == 1)
        pool.submit(wait)
        assert eventually(lambda: gate.waiting == 1)
        began = time.monotonic()
        with pytest.raises(Busy), gate.render(10):
            pytest.fail("the queue is full")
        assert time.monotonic() - began < 5  # in the queue it would be 10
        go.set()
    assert gate.running == 0


def test_slots_are_neither_lost_nor_made_by_a_crowd_that_gives_up() -> None:
    gate, inside, most = Gate(3, 100, 1000), 0, 0
    lock = threading.Lock()

    def visit(number: int) -> None:
        nonlocal inside, most
        try:
            with gate.render(0.001 * (number % 7), f"{number % 3}"):
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.001)
                with lock:
                    inside -= 1
        except TimedOut:
            pass

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(visit, range(1500)))
    assert most == 3
    assert (gate.running, gate.waiting) == (0, 0)


def test_values_are_forgotten_each_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    recent: Recent[str] = Recent()
    recent.put("long", "value", 60)
    recent.put("short", "value", 5)
    assert (recent.get("short"), recent.get("long")) == (("value", 5), ("value", 60))
    now_s += 5
    assert (recent.get("short"), recent.get("long")) == (None, ("value", 55))


def test_the_oldest_values_make_room() -> None:
    recent: Recent[int] = Recent(3)
    for number in (1, 2, 3, 1, 4):
        recent.put(str(number), number, 60)
    assert [number for number in range(1, 5) if recent.get(str(number))] == [1, 3, 4]


# --- what a failure means for the next request ------------------------------------------------------------


def fail_with(renderer: Counting, error: RequestError, blames: Blamed) -> None:
    error.blames = blames
    error.lasts_s = 50

    def refuse(job: Job) -> None:
        raise error.again()

    renderer.before = refuse


def is_refused(parts: Parts, path: str = "cats/tom.jpg", **parameters: object) -> bool:
    try:
        ask(parts, path, **parameters)
    except RequestError:
        return True
    return False


@pytest.mark.parametrize("error", [Undecodable("it is cut off"), TooLarge("pixels", 2, 1)])
def test_what_the_decoder_says_of_a_source_holds_for_all_its_variants(
    assemble: Assemble, pictures: Path, renderer: Counting, error: RequestError
) -> None:
    at_rest(pictures / "cats/tom.jpg")
    parts = assemble()
    fail_with(renderer, error, "source")
    for encoding in ("jpeg", "webp", "png"):
        for width in (50, 60):
            with pytest.raises(type(error)):
                ask(parts, scalex=width, encoding=encoding)
    assert renderer.renders == 1


def test_what_it_says_of_late_frames_holds_for_what_moves(
    assemble: Assemble, pictures: Path, renderer: Counting
) -> None:
    frames = [quarters(60, 40).rotate(90 * turn) for turn in range(4)]
    frames[0].save(pictures / "whole.png", save_all=True, append_images=frames[1:])
    data = (pictures / "whole.png").read_bytes()
    at_rest(written(pictures, "cut.png", data[: len(data) * 9 // 10]))
    parts = assemble()
    for width in (30, 20):
        for encoding in ("webp", "gif", "png"):
            assert is_refused(parts, "cut.png", scalex=width, encoding=encoding)
        assert not is_refused(parts, "cut.png", scalex=width, encoding="jpeg")
        assert not is_refused(parts, "cut.png", scalex=width, encoding="webp", anim=0)
    assert renderer.renders == 5  # the first one that moves, and those that do not


@pytest.mark.parametrize("error", [Undecodable("too much processor time"), TimedOut("too long")])
def test_a_variant_that_fails_leaves_the_others_of_its_source_alone(
    assemble: Assemble, pictures: Path, renderer: Counting, error: RequestError
) -> None:
    """Else anybody could have a picture refused to all, by asking for it in a size that takes too long."""
    at_rest(pictures / "cats/tom.jpg")
    parts = assemble()
    fail_with(renderer, error, "variant")
    for _ in range(3):
        assert is_refused(parts, scalex=50)
    assert renderer.renders == 1
    renderer.before = lambda job: None
    assert ask(parts, scalex=60).result == "miss"
    assert is_refused(parts, scalex=50)


def test_retry_after_is_when_it_is_tried_again(
    site: Callable[..., FlaskClient], renderer: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = site()
    fail_with(renderer, TimedOut("too long"), "variant")
    now_s = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    for now_s[0], seconds in ((1000, "50"), (1000.5, "50"), (1020, "30"), (1049.5, "1")):
        answer = client.get("/picture/flag.png?w=50")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, seconds)
    renderer.before = lambda job: None
    now_s[0] = 1050
    assert client.get("/picture/flag.png?w=50").status_code == 200


def test_what_a_decoder_says_is_remembered_for_long(
    assemble: Assemble, pictures: Path, renderer: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (pictures / "cats/tom.jpg").read_bytes()
    at_rest(written(pictures, "cut.jpg", whole[: len(whole) // 2]))
    parts = assemble()
    with pytest.raises(Undecodable):
        ask(parts, "cut.jpg", scalex=50)
    later = time.monotonic() + 1000
    monkeypatch.setattr(time, "monotonic", lambda: later)
    with pytest.raises(Undecodable):
        ask(parts, "cut.jpg", scalex=60, encoding="webp")
    assert renderer.renders == 1


def test_a_source_whose_header_takes_too_long_is_not_tried_again(
    assemble: Assemble, renderer: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes = []

    def probe(path: Path, descriptor: int | None = None) -> Header | None:
        probes.append(path)
        error = TimedOut("too long")
        error.lasts_s = 100
        raise error

    monkeypatch.setattr(renderer, "probe", probe)
    parts = assemble()
    for width in (50, 60):
        with pytest.raises(TimedOut):
            ask(parts, scalex=width)
    assert len(probes) == 1


def test_those_who_wait_for_a_header_do_not_take_all_threads(
    assemble: Assemble, renderer: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    slow = renderer.probe
    monkeypatch.setattr(renderer, "probe", lambda *source: (go.wait(10), slow(*source))[1])
    parts = assemble(server={"threads": 12})  # of which 8 are for hits, and two not for followers
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(ask, parts, scalex=50) for _ in range(20)]
        assert eventually(lambda: sum(each.done() for each in waiting) == 17)
        assert all(isinstance(each.exception(), Busy) for each in waiting if each.done())
        go.set()
    assert sum(each.exception() is None for each in waiting) == 3


@pytest.mark.slow
def test_that_one_had_to_wait_is_not_remembered(assemble: Assemble, renderer: Counting) -> None:
    parts, go = assemble(render={"processes": 1, "timeout_s": 1}), threading.Event()
    renderer.before = lambda job: go.wait(10) if job.recipe.width == 40 else None
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, parts, scalex=40)
        assert eventually(lambda: renderer.renders)
        with pytest.raises(TimedOut):
            ask(parts, scalex=50)
        go.set()
        assert first.result().result == "miss"
    assert ask(parts, scalex=50).result == "miss"


def test_the_phases_of_a_miss_are_told_in_their_order(assemble: Assemble) -> None:
    assert list(ask(assemble(), scalex=50).seconds) == ["wait", "decode", "resize", "encode", "store"]
