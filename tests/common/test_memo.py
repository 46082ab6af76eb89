"""The bounded memory of the memory store and of the fast path."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from imagefactory.common.memo import Memo


def there(memo: Memo[int, str]) -> list[int]:
    """The keys that are remembered, looked at without marking them as used."""
    return sorted(memo.slots)


def test_the_oldest_that_nobody_used_goes_first() -> None:
    memo: Memo[int, str] = Memo(30)
    for number in range(3):
        memo.put(number, "value", 10)
    assert memo.get(0) == "value"
    memo.put(3, "value", 10)
    assert there(memo) == [0, 2, 3]


def test_a_flood_of_values_that_nobody_asks_for_again_drives_out_none_in_use() -> None:
    memo: Memo[int, str] = Memo(100)
    for number in range(5):
        memo.put(number, "value", 10)
    for number in range(100, 1000):
        for used in range(5):
            assert memo.get(used), (used, number)
        memo.put(number, "value", 10)


@pytest.mark.parametrize(("bytes_", "is_kept"), [(0, True), (30, True), (31, False)])
def test_what_is_larger_than_the_bound_is_not_kept(bytes_: int, is_kept: bool) -> None:
    memo: Memo[str, str] = Memo(30)
    memo.put("old", "value", 10)
    assert memo.put("new", "value", bytes_) is is_kept
    assert (memo.get("new") == "value") is is_kept
    assert memo.bytes <= 30


def test_a_value_that_is_replaced_counts_once_and_one_too_large_takes_the_old_one_with_it() -> None:
    memo: Memo[str, str] = Memo(30)
    memo.put("key", "old", 10)
    memo.put("key", "new", 20)
    assert (memo.get("key"), memo.bytes, len(memo)) == ("new", 20, 1)
    assert not memo.put("key", "huge", 31)
    assert (memo.get("key"), memo.bytes, len(memo)) == (None, 0, 0)


def test_what_was_dropped_leaves_no_trace() -> None:
    memo: Memo[int, str] = Memo(1000)
    for number in range(100):
        memo.put(number, "value", 10)
        memo.drop(number)
        memo.drop(number)
    assert (len(memo), memo.bytes) == (0, 0)


@pytest.mark.slow
def test_it_stays_bounded_and_its_count_right_under_a_crowd() -> None:
    memo: Memo[int, bytes] = Memo(2000)
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for number in range(50):
                memo.get(number)
                assert memo.bytes <= 2000

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: memo.put(n % 50, bytes(90 + n % 50), 90 + n % 50), range(2000)))
        list(pool.map(lambda n: memo.drop(n % 7), range(200)))
    done.set()
    for reader in readers:
        reader.join()
    assert memo.bytes == sum(90 + number for number in there(memo)) > 0  # type: ignore[arg-type]
