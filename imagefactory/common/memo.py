"""A bounded memory of answers: the values used of late stay, and a look-up takes no lock."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Memo", "Slot"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Slot(Generic[V]):
    """A *value* and its *bytes*; *is_used* since it was looked at last."""

    __slots__ = ("bytes", "is_used", "value")

    def __init__(self, value: V, bytes_: int) -> None:
        self.value = value
        self.bytes = bytes_
        self.is_used = False


class Memo(Generic[K, V]):
    """Values by key, whose *bytes* (as told by who puts them) together are at most *max_bytes*.

    When it is full the oldest go first, except those that were used since they were last looked at (the
    CLOCK algorithm): a flood of values that nobody asks for twice drives out none that somebody does.

    *slots* is for a look-up where even a call is too much: read a slot, and set its ``is_used``.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        # The one to be looked at next comes first. In a plain dict a look for the first passes by all that
        # were taken away before it: one put took 2.3 s where 85,000 values had all been used.
        self.slots: OrderedDict[K, Slot[V]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.slots)

    def keys(self) -> list[K]:
        """The keys of all values that are there now."""
        with self._lock:
            return list(self.slots)

    def get(self, key: K) -> V | None:
        """The value put under *key*, if it is still there."""
        slot = self.slots.get(key)
        if slot is None:
            return None
        slot.is_used = True
        return slot.value

    def put(self, key: K, value: V, bytes_: int) -> bool:
        """Remember *value*, which takes *bytes_*; whether there is room for such a one at all."""
        with self._lock:
            self._drop(key)
            if bytes_ > self.max_bytes:
                return False
            while self.bytes + bytes_ > self.max_bytes:
                oldest, slot = next(iter(self.slots.items()))
                if slot.is_used:
                    slot.is_used = False
                    self.slots.move_to_end(oldest)
                else:
                    self._drop(oldest)
            self.slots[key] = Slot(value, bytes_)
            self.bytes += bytes_
            return True

    def drop(self, key: K) -> None:
        """Forget what was put under *key*."""
        with self._lock:
            self._drop(key)

    def _drop(self, key: K) -> None:
        slot = self.slots.pop(key, None)
        if slot is not None:
            self.bytes -= slot.bytes
