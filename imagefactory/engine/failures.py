"""What failed a moment ago, remembered: a crowd does not have a broken source decoded again and again."""

from __future__ import annotations

import time
from typing import Generic, TypeVar

from ..errors import RequestError

__all__ = ["Failures", "Recent"]

T = TypeVar("T")


class Recent(Generic[T]):
    """Values by text, forgotten after *seconds* where nothing else is said; at most *limit* of them."""

    def __init__(self, seconds: float, limit: int = 10_000) -> None:
        self._seconds = seconds
        self._limit = limit
        self._values: dict[str, tuple[float, T]] = {}

    def get(self, key: str) -> T | None:
        """The value put under *key* a short while ago."""
        deadline, value = self._values.get(key, (0.0, None))
        if value is not None and time.monotonic() >= deadline:
            self._values.pop(key, None)
            return None
        return value

    def put(self, key: str, value: T, seconds: float | None = None) -> None:
        """Remember *value*."""
        now = time.monotonic()
        if len(self._values) >= self._limit:
            self._values.clear()
        for old, (deadline, _) in list(self._values.items()):  # the oldest come first
            if now < deadline:
                break
            self._values.pop(old, None)
        self._values.pop(key, None)
        self._values[key] = (now + (self._seconds if seconds is None else seconds), value)


class Failures:
    """What did not work, by its cause, for as long as another try is not worth it (``lasts_s``)."""

    def __init__(self) -> None:
        self._errors: Recent[RequestError] = Recent(RequestError.lasts_s)

    def note(self, cause: str, error: RequestError) -> None:
        """Remember *error*, if that is worth it."""
        if error.lasts_s:
            self._errors.put(cause, error.again(), error.lasts_s)

    def recall(self, *causes: str) -> None:
        """Raise what the first of *causes* came to that failed a moment ago."""
        for cause in causes:
            error = self._errors.get(cause)
            if error is not None:
                raise error.again()
