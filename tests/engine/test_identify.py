"""What a first look at a file costs: what is hashed, how often, and how much of it at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from support.asking import Counting, ask
from support.clock import Clock
from support.drawing import encoded, quarters
from support.serving import eventually

from imagefactory import factory
from imagefactory.engine.answer import Answer
from imagefactory.errors import Busy, NotFound, RequestError, StorageError, Undecodable
from imagefactory.factory import Parts
from imagefactory.model.source import Stamp
from imagefactory.storage import source_rows

Assemble = Callable[..., Parts]
LARGE = 3_000_000  # bytes, beyond what is hashed without a turn


@pytest.fixture(autouse=True)
def settled(clock: Clock) -> None:
    """Files that were written just now are trusted."""
    clock.ahead_s = 10


@contextmanager
def noted(parts: Parts, wait: Callable[[str], object] = lambda path: None) -> Iterator[list[str]]:
    """The paths that are hashed inside of the block, each after *wait*."""
    paths: list[str] = []
    digest = parts.sources.digest

    def note(path: str) -> tuple[str, Stamp]:
        paths.append(path)
        wait(path)
        return digest(path)

    parts.sources.digest = note  # type: ignore[method-assign]
    yield paths
    parts.sources.digest = digest  # type: ignore[method-assign]


def broken(pictures: Path, name: str, size: int = LARGE) -> None:
    """A file of *size* bytes that starts as a JPEG and is none."""
    (pictures / name).write_bytes(b"\xff\xd8\xff" + name.encode().ljust(100, b"\0"))
    with (pictures / name).open("r+b") as file:
        file.truncate(size)


def is_refused(parts: Parts, path: str, kind: type[RequestError]) -> bool:
    with pytest.raises(RequestError) as caught:
        ask(parts, path, scalex=10)
    return isinstance(caught.value, kind)


# --- files that are no pictures ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head", [b"%PDF-1.7", b"", b"\0\0\0\x18ftypisom\0\0\2\0isommp42", b"RIFF\0\0\0\0WAVE"]
)
def test_what_does_not_start_as_a_picture_is_not_hashed(
    assemble: Assemble, pictures: Path, renderer: Counting, head: bytes
) -> None:
    (pictures / "film").write_bytes(head.ljust(LARGE, b"x"))
    (pictures / "film.jpg").write_bytes(head.ljust(LARGE, b"x"))
    parts = assemble()
    with noted(parts) as hashed:
        for _ in range(3):
            assert is_refused(parts, "film", NotFound)
            assert is_refused(parts, "film.jpg", Undecodable)
    assert hashed == []
    assert renderer.probes == 0
    (pictures / "film").write_bytes(encoded(quarters(), "PNG"))
    assert ask(parts, "film", scalex=10).result == "miss"


@pytest.mark.parametrize("mode", ["disk", "memory"])
def test_a_broken_picture_is_hashed_once_until_it_changes(
    assemble: Assemble, pictures: Path, renderer: Counting, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    broken(pictures, "broken.jpg")
    parts, began_s = assemble(cache={"mode": mode}), time.monotonic()
    with noted(parts) as hashed:
        for now_s in (began_s, began_s + 86400.0, began_s + 864000.0):
            monkeypatch.setattr(time, "monotonic", partial(float, now_s))
            assert is_refused(parts, "broken.jpg", Undecodable)
        assert (len(hashed), renderer.probes) == (1, 1)
        (pictures / "broken.jpg").write_bytes(encoded(quarters(), "JPEG"))
        assert ask(parts, "broken.jpg", scalex=10).result == "miss"


def test_a_broken_picture_is_not_hashed_again_after_a_restart(
    assemble: Assemble, pictures: Path, renderer: Counting
) -> None:
    broken(pictures, "broken.jpg")
    details = set()
    for _ in range(2):
        with pytest.raises(Undecodable) as caught:
            ask(assemble(), "broken.jpg", scalex=10)
        details.add(str(caught.value))
    assert renderer.probes == len(details) == 1


def test_other_decoders_may_read_what_these_could_not(
    assemble: Assemble, pictures: Path, renderer: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(pictures, "broken.jpg")
    assert is_refused(assemble(), "broken.jpg", Undecodable)
    monkeypatch.setattr(source_rows, "decoders", lambda: "pillow 99")
    for _ in range(2):
        assert is_refused(assemble(), "broken.jpg", Undecodable)
    assert renderer.probes == 2


def test_a_broken_picture_is_remembered_without_an_index(
    assemble: Assemble, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise StorageError("index", "it is gone")

    broken(pictures, "broken.jpg")
    parts = assemble()
    monkeypatch.setattr(source_rows.DiskSourceRows, "get", fail)
    monkeypatch.setattr(source_rows.DiskSourceRows, "put", fail)
    with noted(parts) as hashed:
        for _ in range(3):
            assert is_refused(parts, "broken.jpg", Undecodable)
    assert len(hashed) == 1


# --- clocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["cats/tom.jpg", "broken.jpg"])
def test_a_clock_behind_the_files_has_them_hashed_once(
    assemble: Assemble, pictures: Path, clock: Clock, path: str
) -> None:
    broken(pictures, "broken.jpg")
    clock.ahead_s = -86_400
    parts = assemble()
    with noted(parts) as hashed:
        for _ in range(5):
            with suppress(Undecodable):
                ask(parts, path, scalex=10)
    assert len(hashed) == 1


def test_a_clock_that_is_set_again_and_again_costs_no_render(
    assemble: Assemble, renderer: Counting, clock: Clock
) -> None:
    parts = assemble()
    with noted(parts) as hashed:
        for clock.ahead_s in (0, 3600, -3600, 0.5, -86_400, 60, 0, 10):
            ask(parts, scalex=10)
            ask(parts, scalex=10)
    assert renderer.renders == 1
    assert len(hashed) <= 4  # while the stamp is young by the clock


# --- large files at once -----------------------------------------------------------------------------------


class Crowd:
    """Visitors of *parts* who ask for large files, of which no hashing ends before ``go``."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.asked: list[Future[Answer]] = []
        self._go = threading.Event()
        self._pool = ThreadPoolExecutor(40)

    def ask(self, path: str) -> None:
        """One more."""
        self.asked.append(self._pool.submit(ask, self.parts, path, scalex=10))

    def wait(self, path: str) -> None:
        """What a hashing does before it begins."""
        if path.startswith("large"):
            self._go.wait(20)

    def sent_away(self) -> int:
        """How many were told at once that there is no place."""
        return sum(each.done() and isinstance(each.exception(), Busy) for each in self.asked)

    def go(self) -> list[BaseException | None]:
        """Let all hashings go on; what became of those who were not sent away."""
        self._go.set()
        return [each.exception() for each in self.asked if not isinstance(each.exception(), Busy)]


@pytest.fixture
def parts(assemble: Assemble, monkeypatch: pytest.MonkeyPatch) -> Parts:
    monkeypatch.setattr(factory, "cores", lambda: 4)
    return assemble(server={"threads": 24})  # 16 may wait; a quarter of these for a turn to hash


def test_large_files_are_hashed_by_half_of_the_cores_and_leave_threads_to_others(
    parts: Parts, pictures: Path
) -> None:
    assert ask(parts, scalex=10).result == "miss"
    for number in range(20):
        broken(pictures, f"large{number}.jpg")
    crowd = Crowd(parts)
    with noted(parts, crowd.wait) as hashed:
        for number in range(20):
            crowd.ask(f"large{number}.jpg")
        assert eventually(lambda: crowd.sent_away() == 14)  # two are hashed, four wait
        assert len(hashed) == 2
        assert ask(parts, scalex=10).result == "hit"
        assert ask(parts, "flag.png", scalex=10).result == "miss"  # small: at once
        left = crowd.go()
    assert len(left) == 6
    assert all(isinstance(error, Undecodable) for error in left)


def test_who_waits_for_one_large_file_leaves_threads_to_others(parts: Parts, pictures: Path) -> None:
    data = encoded(quarters(), "JPEG")
    (pictures / "large.jpg").write_bytes(data.ljust(LARGE, b"\0"))
    crowd = Crowd(parts)
    with noted(parts, crowd.wait) as hashed:
        for _ in range(30):
            crowd.ask("large.jpg")
        assert eventually(lambda: crowd.sent_away() == 18)  # as many as may follow one render
        assert crowd.go() == [None] * 12
    assert hashed == ["large.jpg"]


def test_a_large_original_that_changed_is_hashed_in_its_turn_and_read_piece_by_piece(
    parts: Parts, pictures: Path, clock: Clock
) -> None:
    clock.ahead_s = 0  # so its stamp is not trusted
    data = encoded(quarters(), "JPEG").ljust(LARGE, b"\0")
    (pictures / "large.jpg").write_bytes(data)
    answer = parts.generator.answer("large.jpg", parts.resolver.request([]))
    with ExitStack() as turns:
        for _ in range(2):
            turns.enter_context(parts.finder._hashing.turn(LARGE))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(parts.generator.open, answer)
            assert eventually(lambda: parts.finder._hashing._gate.waiting == 1)
            turns.close()
            body = waiting.result()
    assert body is not None
    assert body.data is None
    assert body.read() == data
