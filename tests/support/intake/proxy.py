"""A proxy that makes faults on the way to a server: what a network, a load balancer and a restart do."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

__all__ = ["FAULTS", "Proxy"]

_TIMEOUT_S = 60.0
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)
# 503; reset before the server has it, or within its body; reset after the server has stored it; an answer
# that ends in its headers, or in its body.
FAULTS = ("503", "reset-before", "reset-within", "reset-after", "cut-headers", "cut-body")


class Proxy:
    """Listens on *address*, and hands requests with a Content-Length on to the server at *target*(), with
    faults in a *share* of them. *counts* has what it did."""

    def __init__(self, target: Callable[[], tuple[str, int]], share: float, seed: int) -> None:
        self._target = target
        self._share = share
        self._dice = random.Random(seed)
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.address: tuple[str, int] = self._socket.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no further connection."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection = self._socket.accept()[0]
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError, ValueError, EOFError):
            client.settimeout(_TIMEOUT_S)
            while True:
                self._one(client)

    def _one(self, client: socket.socket) -> None:
        """One request, and its answer; ends with an error where the connection is to be closed."""
        request = _message(client)
        with self._lock:
            fault = self._dice.choice(FAULTS) if self._dice.random() < self._share else "none"
            place = self._dice.random()
            self.counts[fault] += 1
        if fault == "503":
            client.sendall(_BUSY)
            raise EOFError
        if fault == "reset-before":
            _reset(client)
        try:
            server = socket.create_connection(self._target(), _TIMEOUT_S)
        except OSError:
            self.counts["no server"] += 1
            raise
        with server:
            if fault == "reset-within":
                server.sendall(request[: int(len(request) * place)])
                _reset(client)
            server.sendall(request)
            answer = _message(server)
        if fault == "reset-after":
            _reset(client)
        head = answer.index(b"\r\n\r\n")
        if fault == "cut-headers":
            client.sendall(answer[: int(head * place)])
            raise EOFError
        if fault == "cut-body":
            client.sendall(answer[: head + 4 + int((len(answer) - head - 4) * place)])
            raise EOFError
        client.sendall(answer)


def _message(connection: socket.socket) -> bytes:
    """A request or an answer, with its body. Raises EOFError where it ends before."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(connection)
    head = data[: data.index(b"\r\n\r\n") + 4]
    lines = head.lower().split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
    while len(data) < len(head) + length:
        data += _received(connection)
    return data


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(2**16)
    if not data:
        raise EOFError
    return data


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise EOFError
