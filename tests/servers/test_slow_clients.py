"""The slow clients, against a socket that only listens: what they send, what they leave, what they count."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from support.serving import eventually
from support.slow_clients import KINDS, idle, trickled_body, trickled_header, unread_body


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        yield server


@pytest.mark.parametrize("kind", KINDS)
def test_a_crowd_stays_until_it_leaves(listener: socket.socket, kind: str) -> None:
    host, port = listener.getsockname()
    with ExitStack() as stack, KINDS[kind](host, port, 60, "/x") as crowd:
        accepted = [stack.enter_context(listener.accept()[0]) for _ in range(60)]
        assert eventually(lambda: crowd.outcome().connected == 60)
        assert eventually(lambda: crowd.outcome().held == _held(60))
        outcome = crowd.outcome()
        assert (outcome.refused, outcome.closed, outcome.statuses) == (0, 0, {})
        accepted[0].close()
        assert eventually(lambda: crowd.outcome().closed == 1)
        assert eventually(lambda: crowd.outcome().held == _held(59))
        crowd.leave()
        for connection in accepted[1:]:
            connection.settimeout(10)
            with suppress(ConnectionResetError):  # what it had not read itself
                while connection.recv(1000):  # until it has left
                    pass


def _held(number: int) -> int:
    return number if sys.platform == "linux" else -1


def test_what_trickles_does_not_come_at_once(listener: socket.socket) -> None:
    host, port = listener.getsockname()
    for begin, start in (
        (trickled_header, b"GET /x HTTP/1.1\r\nHost: slow\r\nX-Slow: "),
        (trickled_body, b"POST /x HTTP/1.1\r\nHost: slow\r\nContent-Length: 8\r\n\r\n"),
    ):
        with begin(host, port, 1, "/x", every_s=0.01, byte_count=8), listener.accept()[0] as connection:
            connection.settimeout(10)
            pieces = [b""]
            while len(b"".join(pieces)) < len(start) + 8:
                pieces.append(connection.recv(1000))
            assert b"".join(pieces) == start + b"xxxxxxxx"
            assert len(pieces) > 4


def test_an_answer_is_counted_and_not_read(listener: socket.socket) -> None:
    """Its sender is soon stuck, as all that the client takes is what the kernel keeps."""
    host, port = listener.getsockname()
    with unread_body(host, port, 1, "/x") as crowd, listener.accept()[0] as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1_000_000))
        assert eventually(lambda: crowd.outcome().statuses == {200: 1})


def test_the_refused_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
    with idle(host, port, 3) as crowd:
        assert eventually(lambda: crowd.outcome().refused == 3)
        assert "0 connected, 3 refused" in str(crowd.outcome())
