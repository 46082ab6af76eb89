"""What failed, remembered by its cause: a crowd does not have a broken source decoded again and again.

    the decoder says no                         by the source's digest: all sizes and encodings, for an hour
    it says no to a late frame                  all variants that move
    it takes too much processor time            as if the decoder said no
    it takes too much wall time or memory,      this variant, for seconds
    or its process was killed or crashed

Wall time proves nothing: the machine may have been paused, or busy with something else.
"""

from __future__ import annotations

import time
from math import ceil
from typing import Generic, TypeVar

from ..errors import RequestError, Unavailable
from ..model.variant import Key

__all__ = ["Failures", "Recent"]

T = TypeVar("T")


class Recent(Generic[T]):
    """Values by text, each forgotten after its time; at most *limit* of them, the oldest go first."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._values: dict[str, tuple[float, T]] = {}

    def get(self, key: str) -> tuple[T, float] | None:
        """The value put under *key*, and for how many seconds it is still remembered."""
        found = self._values.get(key)
        if found is None:
            return None
        left_s = found[0] - time.monotonic()
        if left_s <= 0:
            self._values.pop(key, None)
            return None
        return found[1], left_s

    def put(self, key: str, value: T, seconds: float) -> None:
        """Remember *value* for so many *seconds*."""
        self._values.pop(key, None)
        self._values[key] = (time.monotonic() + seconds, value)
        for old in list(self._values)[: -self._limit] if len(self._values) > self._limit else ():
            self._values.pop(old, None)


class Failures:
    """What did not work, for as long as another try is not worth it (``lasts_s``)."""

    def __init__(self) -> None:
        self._errors: Recent[RequestError] = Recent()

    def note(self, key: Key, error: RequestError) -> None:
        """Remember the *error* that making *key* came to, by what it blames."""
        causes = {"source": key.digest, "frames": _frames(key), "variant": key.text()}
        self._note(causes[error.blames], error)

    def recall(self, key: Key, *, is_moving: bool) -> None:
        """Raise what making *key* would come to, as far as that is known; *is_moving*: with all frames. A
        ``retry_after_s`` is the time until it is tried again."""
        self._recall(key.digest)
        if is_moving:
            self._recall(_frames(key))
        self._recall(key.text())

    def note_header(self, digest: str, error: RequestError) -> None:
        """Remember that the header of the source with *digest* could not be read."""
        self._note(_header(digest), error)

    def recall_header(self, digest: str) -> None:
        """Raise what ``note_header`` was told."""
        self._recall(_header(digest))

    def _note(self, cause: str, error: RequestError) -> None:
        if error.lasts_s:
            if isinstance(error, Unavailable):
                error.retry_after_s = ceil(error.lasts_s)
            self._errors.put(cause, error.again(), error.lasts_s)

    def _recall(self, cause: str) -> None:
        found = self._errors.get(cause)
        if found is not None:
            error = found[0].again()
            if isinstance(error, Unavailable):
                error.retry_after_s = ceil(found[1])
            raise error


def _frames(key: Key) -> str:
    return f"{key.digest} frames"


def _header(digest: str) -> str:
    return f"{digest} header"
