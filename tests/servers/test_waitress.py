"""Waitress's connections: hits where they are read, crowds without threads, an end for slow clients."""

from __future__ import annotations

import errno
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.clock import Clock
from support.serving import eventually
from waitress import wasyncore

from imagefactory.engine.flights import Underway, Waiter
from imagefactory.servers import waitress_channel
from imagefactory.servers.common import sure_hits
from imagefactory.servers.waitress import _adjustments
from imagefactory.servers.waitress_channel import Connections
from imagefactory.web.fastpath import NotSure, SureHits
from imagefactory.web.http.responses import FilePart
from imagefactory.web.picture import WAITER

HIT = "/picture/cats/tom.jpg?scalex=100"
App = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Running:
    """A server in a thread of this process; *connections* are its own."""

    def __init__(self, app: App, config: Any, limit: int, sure: Any = None, probed: Any = None) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = self._socket.getsockname()
        self._is_over = threading.Event()
        self._is_up = threading.Event()
        self._parts = app, config, limit, sure, probed
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._is_up.wait(10)

    def _run(self) -> None:
        app, config, limit, sure, probed = self._parts
        self.connections = Connections(limit)
        (server,) = self.connections.listen(app, _adjustments(config, sockets=[self._socket]), sure, probed)
        self._is_up.set()
        while not self._is_over.is_set():
            wasyncore.loop(timeout=0.02, use_poll=True, map=self.connections.sockets, count=1)
            self.connections.look_after()
        server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self.connections.sockets)

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(10)

    def connect(self) -> socket.socket:
        connection = socket.create_connection(self.address, timeout=10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return connection

    def ask(self, target: str = "/", headers: str = "", method: str = "GET") -> bytes:
        """The whole answer, on a connection of its own."""
        with self.connect() as connection:
            request = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"
            connection.sendall(request.encode())
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    data = bytearray()
    while chunk := connection.recv(65536):
        data += chunk
    return bytes(data)


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side ends it within ten seconds."""
    try:
        read_all(connection)
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


@pytest.fixture
def start(configure: Callable[..., Any]) -> Iterator[Callable[..., Running]]:
    """start(app, limit=100, threads=4)"""
    with ExitStack() as stack:

        def begin(
            app: App, limit: int = 100, threads: int = 4, sure: Any = None, probed: Any = None
        ) -> Running:
            running = Running(app, configure(server={"threads": threads}), limit, sure, probed)
            stack.callback(running.stop)
            return running

        yield begin


def text(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


# --- sure hits --------------------------------------------------------------------------------------------


@pytest.fixture
def site(app: Flask, clock: Clock, start: Callable[..., Running]) -> Running:
    """A server of the test's pictures with one thread; HIT is in the memory of its fast path."""
    clock.ahead_s = 10
    running = start(app, 100, 1, *sure_hits(app))
    for _ in range(3):
        assert b" 200 OK" in running.ask(HIT)
    return running


@contextmanager
def all_threads_busy(site: Running, monkeypatch: pytest.MonkeyPatch, app: Flask) -> Iterator[Future[bytes]]:
    """The one thread renders; what else it would have to do waits for the end of this."""
    go, is_at_it = threading.Event(), threading.Event()
    parts = app.extensions["imagefactory"].parts
    render = parts.generator._maker._renderer.render

    def slow(job: Any) -> Any:
        is_at_it.set()
        go.wait(10)
        return render(job)

    monkeypatch.setattr(parts.generator._maker._renderer, "render", slow)
    with ThreadPoolExecutor(1) as pool:
        miss = pool.submit(site.ask, "/picture/cats/tom.jpg?scalex=77")
        assert is_at_it.wait(10)
        yield miss
        go.set()
        assert b" 200 OK" in miss.result()


def test_sure_hits_need_no_thread(site: Running, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = site.ask(HIT)
    etag = next(line for line in whole.split(b"\r\n") if line.startswith(b"Etag: "))[6:].decode()
    with all_threads_busy(site, monkeypatch, app) as miss:
        for _ in range(5):
            assert site.ask(HIT).partition(b"\r\n\r\n")[2] == whole.partition(b"\r\n\r\n")[2]
        assert b" 304 NOT MODIFIED" in site.ask(HIT, f"If-None-Match: {etag}\r\n")
        assert site.ask(HIT, "Range: bytes=2-5\r\n").endswith(whole.partition(b"\r\n\r\n")[2][2:6])
        head = site.ask(HIT, method="HEAD")
        assert b" 200 OK" in head
        assert head.endswith(b"\r\n\r\n")
        assert not miss.done()


def test_what_is_no_sure_hit_is_not_answered_where_it_is_read(site: Running, app: Flask) -> None:
    (sure, _) = sure_hits(app)
    assert isinstance(sure, SureHits)
    for target in ("/picture/cats/tom.jpg", "/picture/cats/tom.jpg?scalex=78", "/healthz", "/", "/nothing"):
        path, _, query = target.partition("?")
        with pytest.raises(NotSure):
            sure({"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query}, None)  # type: ignore[arg-type]
    with pytest.raises(NotSure):
        sure({"REQUEST_METHOD": "DELETE", "PATH_INFO": HIT[:21], "QUERY_STRING": HIT[22:]}, None)  # type: ignore[arg-type]


def test_the_answers_of_both_threads_are_the_same(site: Running, app: Flask) -> None:
    def lines(answer: bytes) -> list[bytes]:
        head, _, body = answer.partition(b"\r\n\r\n")
        return [*(line for line in head.split(b"\r\n") if not line.startswith(b"Date:")), body]

    for method in ("GET", "HEAD"):
        for headers in ("", "Range: bytes=0-9\r\n", "Range: bytes=999999-\r\n", 'If-Match: "x"\r\n'):
            here = site.ask(HIT, headers, method)
            site.connections.is_stalled = True
            there = site.ask(HIT, headers, method)
            site.connections.is_stalled = False
            assert lines(here) == lines(there)


def test_several_requests_in_one_packet_are_answered_in_their_order(site: Running) -> None:
    with site.connect() as connection:
        ask = f"GET {HIT} HTTP/1.1\r\nHost: x\r\n\r\n"
        miss = "GET /picture/cats/tom.jpg?scalex=79 HTTP/1.1\r\nHost: x\r\n\r\n"
        last = f"GET {HIT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        connection.sendall((ask + ask + miss + last).encode())
        answers = read_all(connection)
    assert answers.count(b"HTTP/1.1 200 OK") == 4
    results = [line for line in answers.split(b"\r\n") if line.startswith(b"X-Cache")]
    assert results == [b"X-Cache: hit", b"X-Cache: hit", b"X-Cache: miss", b"X-Cache: hit"]


@pytest.mark.parametrize("is_sure", [True, False])
def test_the_answers_to_one_packet_do_not_pile_up(start: Callable[..., Running], is_sure: bool) -> None:
    body = b"x" * 200_000

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] != "/":
            return text(environ, start_response)
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    running = start(app, sure=app if is_sure else None)
    with socket.create_connection(running.address, timeout=10) as connection:
        ask = "GET / HTTP/1.1\r\nHost: x\r\n"
        connection.sendall((f"{ask}\r\n" * 99 + f"{ask}Connection: close\r\n\r\n").encode())
        assert eventually(lambda: any(0 < len(each.requests) < 95 for each in running.connections.channels()))
        assert running.ask("/other").endswith(b"ok")
        assert sum(each.pending_bytes() for each in running.connections.channels()) < 2 * len(body)
        assert read_all(connection).count(b"HTTP/1.1 200 OK") == 100


def test_who_expects_to_be_told_to_continue_behind_a_hit_is_told(start: Callable[..., Running]) -> None:
    def sure(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            raise NotSure
        return text(environ, start_response)

    running = start(text, sure=sure)
    with running.connect() as connection:
        connection.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        answers = b""
        while b"100 Continue" not in answers:
            answers += connection.recv(1000)
        connection.sendall(b"hi")
        while answers.count(b"ok") < 2:
            answers += connection.recv(1000)


def test_what_was_sent_is_not_kept(start: Callable[..., Running]) -> None:
    body = b"x" * 100_000

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    running = start(app)
    with running.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b""
        while not data.endswith(body):
            data += connection.recv(65536)
        (channel,) = running.connections.channels()
        assert eventually(lambda: channel.is_idle())
        assert [each.buf for each in channel.outbufs] == [None]


def test_urgent_data_does_not_keep_the_server_busy(start: Callable[..., Running]) -> None:
    running = start(text)
    with running.connect() as connection:
        connection.send(b"!", socket.MSG_OOB)
        assert is_closed(connection)


def test_hits_of_both_threads_are_counted(site: Running, app: Flask) -> None:
    counters = app.extensions["imagefactory"].parts.counters
    app.extensions["imagefactory"].parts.keeper.flush()
    for _ in range(7):
        site.ask(HIT)
    counts: dict[str, float] = {}

    def are_counted() -> bool:
        for name, amount in counters.take()[1].items():
            counts[name] = counts.get(name, 0) + amount
        return sum(amount for name, amount in counts.items() if name.startswith("requests hit")) == 7

    assert eventually(are_counted)


def test_a_disk_that_stalls_has_hits_answered_by_threads_until_it_is_quick(
    site: Running, app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waitress_channel, "_PROBE_S", 0.01)
    sources = app.extensions["imagefactory"].parts.sources
    look, threads = sources.is_current, set()

    def slow(*values: Any) -> Any:
        threads.add(threading.get_ident())
        time.sleep(0.1)
        return look(*values)

    monkeypatch.setattr(sources, "is_current", slow)
    assert b" 200 OK" in site.ask(HIT)  # the price
    assert site.connections.is_stalled
    io_thread = site.connections.thread
    threads.clear()
    assert b" 200 OK" in site.ask(HIT)
    assert threads
    assert io_thread not in threads
    monkeypatch.setattr(sources, "is_current", look)
    assert eventually(lambda: not site.connections.is_stalled)
    assert caplog.text.count("hits go to the threads") == 1


def test_a_probe_that_can_not_start_leaves_no_stall(
    site: Running, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, start = app.extensions["imagefactory"].parts.sources, threading.Thread.start
    is_current = sources.is_current

    def refused(thread: threading.Thread) -> None:
        if thread.name == "imagefactory-probe":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    monkeypatch.setattr(sources, "is_current", lambda *values: (time.sleep(0.1), is_current(*values))[1])
    assert b" 200 OK" in site.ask(HIT)
    assert not site.connections.is_stalled, "else all would go to the threads for ever"


def test_a_disk_that_fails_after_a_while_has_stalled(
    site: Running, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = app.extensions["imagefactory"].parts.sources
    is_current = sources.is_current

    def failing(*values: Any) -> bool:
        time.sleep(0.1)
        return False

    monkeypatch.setattr(sources, "is_current", failing)
    assert b" 200 OK" in site.ask(HIT)
    assert site.connections.is_stalled
    monkeypatch.setattr(sources, "is_current", is_current)
    monkeypatch.setattr(waitress_channel, "_PROBE_S", 0.01)
    assert eventually(lambda: not site.connections.is_stalled)


# --- crowds -----------------------------------------------------------------------------------------------


def test_who_waits_for_another_one_s_picture_holds_no_thread(start: Callable[..., Running]) -> None:
    made: Future[bytes] = Future()
    asked, answered = [], []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        waiter = environ[WAITER]
        assert isinstance(waiter, Waiter)
        asked.append(waiter)
        if environ["PATH_INFO"] == "/crowd" and not made.done():
            waiter.future = made
            raise Underway(made)
        answered.append(waiter)
        return text(environ, start_response)

    running = start(app, threads=1)
    with ThreadPoolExecutor(20) as pool:
        crowd = [pool.submit(running.ask, "/crowd") for _ in range(20)]
        assert eventually(lambda: len(asked) == 20)
        assert running.ask("/other").endswith(b"ok"), "the one thread is free"
        assert not any(each.done() for each in crowd)
        made.set_result(b"")
        assert all(each.result().endswith(b"ok") for each in crowd)
    assert {id(waiter) for waiter in answered} >= {id(waiter) for waiter in asked[:20]}, "the same one again"


def test_the_client_of_a_crowd_that_leaves_hurts_nobody(start: Callable[..., Running]) -> None:
    made: Future[bytes] = Future()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/crowd" and not made.done():
            raise Underway(made)
        return text(environ, start_response)

    running = start(app, threads=1)
    connection = running.connect()
    connection.sendall(b"GET /crowd HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.1)
    connection.close()
    made.set_exception(RuntimeError("it failed"))
    assert running.ask().endswith(b"ok")
    assert eventually(lambda: not running.connections.channels())


# --- slow clients -----------------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of a fraction of a second."""
    monkeypatch.setattr(waitress_channel, "HEADER_S", 0.3)
    monkeypatch.setattr(waitress_channel, "REQUEST_S", 0.6)
    monkeypatch.setattr(waitress_channel, "WRITE_S", 0.3)
    monkeypatch.setattr(waitress_channel, "IDLE_S", 0.5)


def trickle(connection: socket.socket, data: bytes) -> bool:
    """Send *data* byte by byte for at most ten seconds; whether the server had enough of it."""
    try:
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)
    except OSError:
        return True
    return False


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    "begin",
    [b"", b"POST /-/purge HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"],
    ids=["header", "body"],
)
def test_who_sends_a_request_byte_by_byte_is_cut_off(start: Callable[..., Running], begin: bytes) -> None:
    running = start(text)
    with running.connect() as connection:
        connection.sendall(begin)
        assert trickle(connection, b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 450)
    assert running.ask().endswith(b"ok")


@pytest.mark.usefixtures("short")
def test_an_idle_connection_is_closed(start: Callable[..., Running]) -> None:
    running = start(text)
    with running.connect() as connection:
        assert is_closed(connection)
    with running.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert is_closed(connection)


def files(tmp_path: Path) -> App:
    """An app that sends 30 MB from a file, or a part of it with a Range."""
    large = tmp_path / "large"
    large.write_bytes(b"0123456789abcdef" * (30 * 2**16))

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        file = large.open("rb")
        size = large.stat().st_size
        start, stop = (100, size - 100) if "HTTP_RANGE" in environ else (0, size)
        start_response("200 OK", [("Content-Length", str(stop - start))])
        return environ["wsgi.file_wrapper"](FilePart(file, start, stop))

    return app


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("headers", ["", "Range: bytes=100-\r\n"])
def test_who_does_not_read_costs_no_copy_and_is_cut_off(
    start: Callable[..., Running], tmp_path: Path, headers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", lambda *_: pytest.fail("a copy on the disk"))
    running = start(files(tmp_path), threads=1)
    connections = [running.connect() for _ in range(10)]
    for connection in connections:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    assert eventually(
        lambda: sum(channel.total_outbufs_len > 2**20 for channel in running.connections.channels()) == 10
    )
    assert sum(channel.pending_bytes() for channel in running.connections.channels()) < 10_000
    assert eventually(lambda: not running.connections.channels(), seconds=10)
    for connection in connections:
        connection.close()


@pytest.mark.usefixtures("short")
def test_who_reads_slowly_but_enough_gets_all(
    start: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waitress_channel, "WRITE_S", 0.5)
    running = start(files(tmp_path))
    with socket.create_connection(running.address, timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nRange: bytes=1-\r\nConnection: close\r\n\r\n")
        data, began = bytearray(), time.monotonic()
        while time.monotonic() < began + 2:
            data += connection.recv(65536)
            time.sleep(0.01)
        data += read_all(connection)
    body = bytes(data).partition(b"\r\n\r\n")[2]
    assert body == (b"0123456789abcdef" * (30 * 2**16))[100:-100]


@pytest.mark.usefixtures("short")
def test_who_asks_for_much_and_reads_nothing_is_cut_off(start: Callable[..., Running]) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "200000")])
        return [b"x" * 200_000]

    running = start(app)
    with socket.create_connection(running.address, timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 150)
        assert eventually(lambda: running.connections.channels())
        assert eventually(lambda: not running.connections.channels())


@pytest.mark.skipif(sys.platform != "linux", reason="no other kernel tells how much it holds")
@pytest.mark.usefixtures("short")
def test_who_reads_enough_is_not_cut_off_for_what_the_kernel_holds(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    running = start(files(tmp_path))
    with socket.create_connection(running.address, timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(60):
            connection.recv(8192)
            time.sleep(0.02)
        assert len(running.connections.channels()) == 1


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has that")
def test_a_client_whose_connection_the_kernel_ends_is_no_error(
    start: Callable[..., Running], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    running = start(files(tmp_path))
    with running.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert eventually(lambda: running.connections.channels())
        (channel,) = running.connections.channels()
        channel.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
        assert eventually(lambda: not running.connections.channels())
    assert "Traceback" not in caplog.text


def test_answers_that_nobody_reads_do_not_fill_the_memory(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waitress_channel, "PENDING_BYTES", 20 * 2**20)
    body = b"x" * (8 * 2**20)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    running = start(app)
    connections = [running.connect() for _ in range(6)]
    for connection in connections:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

    def is_within_bounds() -> bool:
        total = sum(channel.pending_bytes() for channel in running.connections.channels())
        return "fill the memory" in caplog.text and 0 < total <= 20 * 2**20

    assert eventually(is_within_bounds)
    for connection in connections:
        connection.close()


# --- places -----------------------------------------------------------------------------------------------


def test_where_all_places_are_taken_the_longest_idle_one_makes_room(
    start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    running = start(text, limit=12)
    idle = [running.connect() for _ in range(20)]
    assert running.ask().endswith(b"ok")
    assert is_closed(idle[0])
    assert len(running.connections.sockets) <= 12
    idle[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert read_all(idle[-1]).endswith(b"ok"), "who came last has his place"
    assert caplog.text.count("the longest idle ones are closed") == 1
    for connection in idle:
        connection.close()


def test_where_descriptors_run_out_the_server_goes_on(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = start(text, limit=1000)
    accept = waitress_channel.Server.accept
    failures = iter([24] * 3)

    def failing(self: Any) -> Any:
        for number in failures:
            raise OSError(number, "Too many open files")
        return accept(self)

    monkeypatch.setattr(waitress_channel.Server, "accept", failing)
    assert running.ask().endswith(b"ok")
    assert caplog.text.count("no connection can be taken: Too many open files") == 1


def test_one_that_the_kernel_gave_up_is_closed_without_a_traceback(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = start(text)

    def gone(*_: object) -> int:
        raise OSError(errno.ETIMEDOUT, "Connection timed out")

    with running.connect() as connection:
        assert eventually(lambda: running.connections.channels())
        monkeypatch.setattr("waitress.wasyncore.dispatcher.send", gone)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert is_closed(connection)
    assert eventually(lambda: not running.connections.channels())
    assert "Traceback" not in caplog.text and "error" not in caplog.text.lower()


def test_a_server_of_few_places_gets_no_more_when_descriptors_run_out(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start(text, limit=12)
    running.connections.cannot_accept(OSError(24, "Too many open files"))
    idle = [running.connect() for _ in range(20)]
    assert eventually(lambda: len(running.connections.channels()) == 10)
    assert running.ask().endswith(b"ok")
    assert len(running.connections.sockets) <= 12
    for connection in idle:
        connection.close()


def test_who_takes_the_place_of_another_one_does_not_get_what_was_meant_for_that(
    start: Callable[..., Running],
) -> None:
    go, is_held = threading.Event(), threading.Event()

    def sure(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/hold":
            is_held.set()
            go.wait(10)
        return text(environ, start_response)

    running = start(text, limit=4, sure=sure)
    with running.connect() as oldest, running.connect() as holding:
        assert eventually(lambda: len(running.connections.channels()) == 2)
        holding.sendall(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
        assert is_held.wait(10)
        oldest.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with running.connect() as last:  # poll() tells of both at once
            go.set()
            assert holding.recv(1000).endswith(b"ok")
            assert is_closed(oldest)
            time.sleep(0.1)
            last.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert last.recv(1000).endswith(b"ok")
