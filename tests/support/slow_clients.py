"""Clients that hold connections without using them: five kinds, as many as you like, in one thread.

    with unread_body("127.0.0.1", 8080, 500, "/picture/large.jpg") as crowd:
        ...  # what do other visitors get now?
        print(crowd.outcome())

    PYTHONPATH=tests python -m support.slow_clients unread_range 127.0.0.1:8080 --count 70 --seconds 60 \
        --target /picture/large.jpg

The second form prints a line each ten seconds and one at the end; run it beside what you measure, so that the
two do not share an interpreter.
"""

from __future__ import annotations

import argparse
import errno
import os
import resource
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

__all__ = [
    "KINDS",
    "Crowd",
    "Outcome",
    "idle",
    "trickled_body",
    "trickled_header",
    "unread_body",
    "unread_range",
]

_LOOK_EVERY_S = 0.25
# Small, or a body of some megabytes would vanish in the kernel's buffers, and nobody would wait for anything.
_RECEIVE_BYTES = 4096
_CONNECTING = {errno.EINPROGRESS, errno.EALREADY, errno.EAGAIN, errno.ENOTCONN}
_ESTABLISHED = "01"  # of /proc/net/tcp


@dataclass(frozen=True)
class Outcome:
    """What became of *asked* connections until now.

    *refused* were never open. *closed* are those that the server ended, as far as a client sees that (it does
    not while bytes lie unread before the end), the last after *longest_s* seconds; *statuses* are the answers
    that began. *held* are those that the server's process has open, by the kernel's table; -1 where there is
    none, or where the server is on another machine.
    """

    asked: int
    connected: int
    refused: int
    closed: int
    held: int
    longest_s: float
    statuses: dict[int, int] = field(default_factory=dict)

    def __str__(self) -> str:
        said = ", ".join(f"{status}: {number}" for status, number in sorted(self.statuses.items()))
        return (
            f"{self.asked} asked, {self.connected} connected, {self.refused} refused, {self.closed} closed"
            f" (the last after {self.longest_s:.1f} s), {self.held} held by the server; answers {{{said}}}"
        )


class _Connection:
    """One connection: *first* is sent at once, then a byte of *rest* each *every_s* seconds."""

    def __init__(self, host: str, port: int, first: bytes, rest: bytes, every_s: float) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        self.began = time.monotonic()
        self.closed_s: float | None = None
        self.was_connected = False
        self.status = 0
        self._first, self._rest, self._every_s = first, rest, every_s
        self._next = 0.0
        self._place = 0
        code = self.socket.connect_ex((host, port))
        if code not in (0, errno.EINPROGRESS):
            self._close()

    def port(self) -> int:
        """Its number on our side."""
        return int(self.socket.getsockname()[1]) if self.is_open else 0

    @property
    def is_open(self) -> bool:
        return self.closed_s is None

    def look(self) -> None:
        """Send what is due, and see whether there is an answer, or an end."""
        if not self.is_open:
            return
        try:
            self._send()
            # Never taken from the buffer: enough for "HTTP/1.1 200".
            head = self.socket.recv(12, socket.MSG_PEEK)
            if not head:
                self._close()
            elif len(head) == 12 and head[9:].isdigit():
                self.status = int(head[9:])
        except OSError as error:
            if error.errno not in _CONNECTING:
                self._close()

    def _send(self) -> None:
        if not self.was_connected:
            if code := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            self.socket.getpeername()  # ENOTCONN until it is
            self.was_connected = True
        while self._first:
            self._first = self._first[self.socket.send(self._first) :]
        now = time.monotonic()
        if self._place < len(self._rest) and now >= self._next:
            self._next = now + self._every_s
            self._place += self.socket.send(self._rest[self._place : self._place + 1])

    def _close(self) -> None:
        self.closed_s = time.monotonic() - self.began
        self.socket.close()

    def leave(self) -> None:
        """Close it from our side."""
        if self.is_open:
            self.socket.close()


class Crowd:
    """*count* connections to *host*:*port*, kept by a thread of their own from now until ``leave``."""

    def __init__(
        self, host: str, port: int, count: int, first: bytes, rest: bytes = b"", every_s: float = 1.0
    ) -> None:
        self._host, self._server_port = socket.gethostbyname(host), port
        self._connections: list[_Connection] = []
        self._is_over = threading.Event()
        self._make: Callable[[], _Connection] = lambda: _Connection(self._host, port, first, rest, every_s)
        self._count = count
        self._pause_s = min(_LOOK_EVERY_S, every_s)
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for number in range(self._count):
                self._connections.append(self._make())
                if number % 50 == 49:  # no flood of SYNs: what is to be seen comes after the accept
                    self._look()
        except OSError as error:  # descriptors of ours
            self._error = error
        while not self._is_over.wait(self._pause_s):
            self._look()

    def _look(self) -> None:
        for connection in self._connections:
            connection.look()

    def outcome(self) -> Outcome:
        """What became of them until now. Raises OSError if this process could not open them all."""
        if self._error is not None:
            raise self._error
        connections = self._connections[:]
        ended = [c for c in connections if not c.is_open and c.was_connected]
        return Outcome(
            self._count,
            sum(c.was_connected for c in connections),
            sum(not c.is_open and not c.was_connected for c in connections),
            len(ended),
            self._held(connections),
            max((c.closed_s or 0 for c in ended), default=0.0),
            dict(Counter(c.status for c in connections if c.status)),
        )

    def _held(self, connections: list[_Connection]) -> int:
        ports = set()
        for connection in connections:
            with suppress(OSError):  # closed at this moment
                ports.add(connection.port())
        table = Path("/proc/net/tcp")
        if not table.exists() or not self._host.startswith("127."):
            return -1
        held = 0
        for row in table.read_text().splitlines()[1:]:
            _, local, remote, state, *_ = row.split()
            if state == _ESTABLISHED and int(local.rpartition(":")[2], 16) == self._server_port:
                held += int(remote.rpartition(":")[2], 16) in ports
        return held

    def leave(self) -> None:
        """Close all that is open."""
        self._is_over.set()
        self._thread.join()
        for connection in self._connections:
            connection.leave()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


def trickled_header(
    host: str, port: int, count: int, target: str = "/", *, every_s: float = 1.0, byte_count: int = 10_000
) -> Crowd:
    """Send a request line, then a header of *byte_count* bytes, one each *every_s* seconds."""
    return Crowd(host, port, count, _begin("GET", target) + b"X-Slow: ", b"x" * byte_count, every_s)


def trickled_body(
    host: str, port: int, count: int, target: str = "/", *, every_s: float = 1.0, byte_count: int = 10_000
) -> Crowd:
    """POST a body of *byte_count* bytes, one each *every_s* seconds."""
    head = _begin("POST", target) + b"Content-Length: %d\r\n\r\n" % byte_count
    return Crowd(host, port, count, head, b"x" * byte_count, every_s)


def unread_body(host: str, port: int, count: int, target: str = "/") -> Crowd:
    """GET *target*, and read nothing of the answer."""
    return Crowd(host, port, count, _begin("GET", target) + b"\r\n")


def unread_range(
    host: str, port: int, count: int, target: str = "/", *, byte_range: str = "bytes=1-"
) -> Crowd:
    """GET the *byte_range* of *target*, and read nothing of the answer."""
    return Crowd(host, port, count, _begin("GET", target) + b"Range: %s\r\n\r\n" % byte_range.encode())


def idle(host: str, port: int, count: int, target: str = "/") -> Crowd:
    """Connect, and say nothing; *target* is of no use, and there to have one form of all five."""
    return Crowd(host, port, count, b"")


def _begin(method: str, target: str) -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: slow\r\n".encode()


KINDS: dict[str, Callable[[str, int, int, str], Crowd]] = {
    "trickled_header": trickled_header,
    "unread_body": unread_body,
    "trickled_body": trickled_body,
    "idle": idle,
    "unread_range": unread_range,
}


def main() -> int:
    """Run as the arguments say; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--count", type=int, default=100, metavar="N")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="T")
    parser.add_argument("--target", default="/")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    host, _, port = options.address.rpartition(":")
    began = time.monotonic()
    with KINDS[options.kind](host, int(port), options.count, options.target) as crowd:
        while (left_s := began + options.seconds - time.monotonic()) > 0:
            time.sleep(min(left_s, 10))
            print(f"{options.kind}, {time.monotonic() - began:.0f} s: {crowd.outcome()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
