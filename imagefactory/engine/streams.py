"""An answer that is sent while a program still writes it: its file is read as it grows.

The program writes into the temporary file of the cache, as always, and no faster or slower because somebody
reads along. Who reads slowly or leaves holds up nothing.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from ..errors import RequestError, Unavailable
from ..model.formats import HEAD_BYTES, starts_as
from .answer import Answer

__all__ = ["Stream"]

_CHUNK = 64 * 1024
_LOOK_S = 0.02  # how often a file that does not grow is looked at


class Stream:
    """What *make* makes in a thread of its own: it gets the stream, and tells it the file by ``begin``.
    *kind* is the encoding. One reader iterates over it; *on_late_failure* is called where that has got bytes
    of what fails in the end."""

    def __init__(
        self, kind: str, make: Callable[[Stream], Answer], on_late_failure: Callable[[], object]
    ) -> None:
        self._kind = kind
        self._on_late_failure = on_late_failure
        self._number = -1
        self._lock = threading.Lock()
        self._is_closed = False  # nobody reads: from now on no file is taken
        self._is_broken = False
        self._done = threading.Event()
        self._answer: Answer | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, args=(make,), name="imagefactory-stream", daemon=True).start()

    def _run(self, make: Callable[[Stream], Answer]) -> None:
        try:
            self._answer = make(self)
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()

    def begin(self, number: int) -> None:
        """The bytes come into the file with the descriptor *number*, which stays the caller's."""
        with self._lock:
            if self._is_closed:
                return
            if self._number >= 0:  # made a second time: what was sent is not the beginning of that
                self._is_broken = True
            else:
                self._number = os.dup(number)

    def answer(self, timeout_s: float) -> Answer | None:
        """The finished answer if that comes before its first bytes; None when there are right ones to be
        sent. Raises what making it came to."""
        end_s = time.monotonic() + timeout_s
        while not self._done.wait(_LOOK_S):
            if time.monotonic() > end_s:
                self._close()
                raise Unavailable("the answer is not begun yet")
            if self._number >= 0:
                head = os.pread(self._number, HEAD_BYTES, 0)
                if len(head) == HEAD_BYTES and starts_as(self._kind, head):
                    return None
        self._close()
        return self._finished()

    def _finished(self) -> Answer:
        if self._error is not None:
            raise self._error.again() if isinstance(self._error, RequestError) else self._error
        if self._answer is None:
            raise Unavailable("the answer was not made")
        return self._answer

    def __iter__(self) -> Iterator[bytes]:
        """The bytes as they come. Raises what making them came to, and then they are not whole."""
        at = 0
        try:
            while True:
                is_done = self._done.is_set()
                while data := os.pread(self._number, _CHUNK, at):
                    at += len(data)
                    yield data
                if is_done:
                    break
                self._done.wait(_LOOK_S)
            if self._is_broken or self._finished().bytes != at:
                raise Unavailable("it was made a second time")
        except RequestError:
            self._on_late_failure()
            raise
        finally:
            self._close()

    def close(self) -> None:
        """Let go of the file: the reader has left. It is made to its end all the same."""
        self._close()

    def _close(self) -> None:
        with self._lock:
            self._is_closed = True
            number, self._number = self._number, -1
        if number >= 0:
            with suppress(OSError):
                os.close(number)
