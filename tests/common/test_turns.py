"""Threads that serve take turns, and give theirs away while they wait."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.serving import eventually

from imagefactory.common import turns
from imagefactory.common.turns import resting, working


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PATIENCE_S", 20)


def test_as_many_work_at_a_time_as_there_are_places_and_who_waits_gives_his_away() -> None:
    go, inside, at_work = threading.Event(), [], []

    def work(number: int) -> None:
        with working():
            inside.append(number)
            with resting():
                go.wait(10)
            at_work.append(number)
            assert turns._own.has_place

    with ThreadPoolExecutor(10) as pool:
        done = [pool.submit(work, number) for number in range(10)]
        assert eventually(lambda: len(inside) == 10), "those who rest hold up nobody"
        assert at_work == []
        go.set()
        for each in done:
            each.result()
    assert turns._places._value == turns._PLACES  # type: ignore[attr-defined]


def test_a_place_that_hangs_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PATIENCE_S", 0.05)
    go, hanging = threading.Event(), []

    def hang() -> None:
        with working():
            hanging.append(1)
            go.wait(10)

    with ThreadPoolExecutor(10) as pool:
        done = [pool.submit(hang) for _ in range(10)]
        assert eventually(lambda: len(hanging) == 10)
        go.set()
        for each in done:
            each.result()
    assert turns._places._value == turns._PLACES  # type: ignore[attr-defined]


def test_a_thread_that_serves_nothing_rests_without_a_place() -> None:
    with resting():
        assert turns._places._value == turns._PLACES  # type: ignore[attr-defined]
