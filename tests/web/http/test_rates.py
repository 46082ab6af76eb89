"""How often somebody may ask, and what is remembered of whom."""

from __future__ import annotations

import threading

import pytest

from imagefactory.errors import TooMany
from imagefactory.web.http import rate_storage
from imagefactory.web.http.rate_storage import WindowStorage
from imagefactory.web.http.rates import Rates, network_of


def allowed(rates: Rates, times: int, *who: str) -> int:
    found = 0
    for _ in range(times):
        try:
            rates.count(*who)
        except TooMany:
            continue
        found += 1
    return found


def test_each_has_a_count_of_its_own() -> None:
    rates = Rates("5/minute")
    assert allowed(rates, 9, "address", "192.0.2.1") == 5
    assert allowed(rates, 9, "address", "192.0.2.2") == 5
    assert allowed(rates, 9, "token", "") == 5


def test_a_window_moves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(rate_storage.time, "monotonic", lambda: now_s)
    storage = WindowStorage()
    assert [storage.acquire_entry("a", 2, 60) for _ in range(3)] == [True, True, False]
    now_s += 59
    assert storage.acquire_entry("a", 2, 60) is False
    assert storage.get_moving_window("a", 2, 60)[1] == 2
    now_s += 1
    assert storage.acquire_entry("a", 2, 60) is True
    assert storage.get_moving_window("a", 2, 60)[1] == 1


def test_who_asks_no_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(rate_storage.time, "monotonic", lambda: now_s)
    monkeypatch.setattr(rate_storage, "_SWEEP", 10)
    monkeypatch.setattr(rate_storage, "_MOST_KEYS", 50)
    storage = WindowStorage()
    for number in range(200):
        storage.acquire_entry(f"{number}", 1, 60)
    assert len(storage._times) <= 50
    assert storage.acquire_entry("199", 1, 60) is False
    now_s += 61
    for _ in range(10):
        storage.acquire_entry("new", 100, 60)
    assert list(storage._times) == ["new"]


def test_addresses_without_an_end_are_not_swept_out_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep looks at all of them, with the lock."""
    monkeypatch.setattr(rate_storage, "_SWEEP", 10**9)
    monkeypatch.setattr(rate_storage, "_MOST_KEYS", 100)
    sweeps = []

    class Swept(WindowStorage):
        def _sweep(self, since_s: float) -> None:
            sweeps.append(since_s)
            super()._sweep(since_s)

    storage = Swept()
    for number in range(1000):
        assert storage.acquire_entry(f"{number}", 1, 3600)
    assert 50 <= len(storage._times) <= 100
    assert len(sweeps) == 90


def test_no_thread_is_started_for_a_request() -> None:
    before = threading.active_count()
    assert allowed(Rates("100000/hour"), 1000, "address", "192.0.2.1") == 1000
    assert threading.active_count() == before


def test_many_threads_together_get_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    rates, found = Rates("500/minute"), []
    threads = [threading.Thread(target=lambda: found.append(allowed(rates, 100, "a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(found) == 500


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::"),
        ("2001:db8:0:0:ffff::1", "2001:db8::"),
        ("2001:db8:0:1::1", "2001:db8:0:1::"),
        ("unix:", "unix:"),
        ("", ""),
    ],
)
def test_a_client_of_ipv6_has_a_whole_network(address: str, network: str) -> None:
    assert network_of(address) == network
