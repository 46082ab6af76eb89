"""Waitress's connections, made to hold: hits answered where they are read, crowds that wait without a thread,
and an end for clients that send or read too slowly.

Waitress reads and sends in one I/O thread, and runs the app in threads of a pool. On two cores most of a
hit's time there goes into handing it over: threads that fight for the interpreter's lock. So a sure hit,
which takes microseconds, is answered in the I/O thread. One stat may hang there once, of a disk that hangs:
from then on all goes to the threads until the disk is quick again.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import sys
import termios
import threading
import time
from typing import Any

from waitress.adjustments import Adjustments
from waitress.buffers import OverflowableBuffer, ReadOnlyFileBasedBuffer
from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher, WSGITask

from ..common.turns import working
from ..engine.flights import Underway
from ..web.fastpath import NotSure, SureHits
from ..web.picture import WAITER
from .common import IDLE_S
from .waitress_parser import Parser

__all__ = ["Connections", "Server"]

_log = logging.getLogger(__name__)

# For the whole header of a request, and for the whole request; an upload may take longer, as long as its body
# comes at this pace on the whole.
HEADER_S = 10.0
REQUEST_S = 30.0
READ_BYTES_S = 10_000
# So much is read by a client in so many seconds, or it is cut off.
WRITE_S = 30.0
WRITE_BYTES = 30_000
# Answers that wait in memory for their clients, all together. Files wait in no memory.
PENDING_BYTES = 256 * 2**20
# A disk that takes so long for one look holds up everybody; it is asked again after as long a pause.
STALL_S = 0.05
_PROBE_S = 0.5
_QUIET_S = 60.0  # one line in the log about the same trouble
# How the kernel says that a client is gone, beside those that waitress knows: TCP_USER_TIMEOUT, and routers.
_GONE = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH})
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class _Task(WSGITask):  # type: ignore[misc]  # waitress has no types
    """A request in a thread of the pool."""

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        environ[WAITER] = self.request.waiter
        return environ


class _SureTask(WSGITask):  # type: ignore[misc]
    """A request in the I/O thread. Raises NotSure when it belongs into another one."""

    def execute(self) -> None:
        environ = self.get_environment()
        server = self.channel.server
        began = time.perf_counter()
        try:
            body = server.sure_hits(environ, self._start_response)
        finally:  # also where the disk says at last that there is nothing
            if time.perf_counter() - began > STALL_S:
                server.connections.has_stalled(environ)
        # In one piece: header and body leave in one packet where they fit.
        self.channel.write_soon(b"".join((self.build_response_header(), *body)))
        self.wrote_header = True

    def _start_response(self, status: str, headers: list[tuple[str, str]], *_: object) -> Any:
        self.complete = True
        self.status = status
        self.response_headers = headers
        return self.write


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection. *since* is when what it does now began, in monotonic seconds; *sent* bytes of its
    answers were handed to the kernel, and *taken* ones had been taken by the client then."""

    task_class = _Task
    parser_class = Parser
    requests: list[Any]
    current_outbuf_count: int
    total_outbufs_len: int

    def __init__(self, server: Server, *args: Any, **options: Any) -> None:
        self.since = time.monotonic()
        self.sent = self.taken = 0
        self.is_new = False  # there is a request that nobody has in hand
        super().__init__(server, *args, **options)

    def handle_read(self) -> None:
        if self.request is None:
            self.since = time.monotonic()
        super().handle_read()
        self._go_on()

    def handle_write(self) -> None:
        super().handle_write()
        self._go_on()

    def writable(self) -> bool:
        return bool(super().writable() or self.is_new)

    def handle_expt(self) -> None:
        """Urgent data, which HTTP has none of: poll() would tell of it again at once, and for ever."""
        self.handle_close()

    def _go_on(self) -> None:
        """Have the next request answered. Where an answer waits for its client, so do the requests behind it:
        one packet asks for hundreds."""
        while self.is_new and self.connected and not self.total_outbufs_len:
            self.is_new = False
            if not self._serve_here():
                self.server.task_dispatcher.add_task(self)

    def _serve_here(self) -> bool:
        """Answer the first request in this, the I/O thread; whether that was possible."""
        request = self.requests[0]
        if request.error or self.server.sure_hits is None or self.server.connections.is_stalled:
            return False
        task = _SureTask(self, request)
        try:
            task.service()
        except NotSure:
            return False
        except ClientDisconnected:
            task.close_on_finish = True
        except Exception:
            _log.exception("the I/O thread made a mistake")
            if not task.wrote_header:
                return False
            task.close_on_finish = True
        with self.requests_lock:
            if task.close_on_finish:
                self.close_when_flushed = True
                for each in self.requests:
                    each.close()
                self.requests = []
                return True
            request.close()
            self.requests.pop(0)
            if self.current_outbuf_count > 0:  # as in service(): the next answer gets a buffer of its own
                self.current_outbuf_count = self.adj.outbuf_high_watermark
            self.is_new = self.connected and bool(self.requests)
            following = self.request
            if not self.requests and following and following.headers_finished and following.expect_continue:
                self.send_continue()  # as in service(): the answer before had to go first
        return True

    def service(self) -> None:
        """Answer the first request, in a thread of the pool. Where another one makes that picture already,
        the thread is free again until it is made."""
        try:
            with working():
                super().service()
        except Underway as underway:
            underway.future.add_done_callback(lambda _: self.server.task_dispatcher.add_task(self))

    def _flush_some(self, do_close: bool = True) -> bool:
        flushed: bool = super()._flush_some(do_close)
        if self.current_outbuf_count and not self.total_outbufs_len and self.connected:
            # The buffer keeps what it has sent, and an idle connection would keep the buffer.
            self.outbufs[-1].close()
            self.outbufs[-1] = OverflowableBuffer(self.adj.outbuf_overflow)
            self.current_outbuf_count = 0
        return flushed

    def send(self, data: bytes, do_close: bool = True) -> int:
        try:
            sent: int = super().send(data, do_close)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self.will_close, sent = True, 0
        self.sent += sent
        return sent

    def recv(self, buffer_size: int) -> bytes:
        try:
            return bytes(super().recv(buffer_size))
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self.handle_close()
            return b""

    # --- for the one who looks after the connections

    def is_too_slow(self, now: float) -> bool:
        """Whether the client has had its time. To be asked every second."""
        taken = self.sent - self._in_kernel()
        if self.total_outbufs_len or self.is_new:
            if now - self.since < WRITE_S:
                return False
            is_slow = taken - self.taken < WRITE_BYTES
            self.since, self.taken = now, taken
            return is_slow
        if self.requests:
            self.since, self.taken = now, taken
            return False
        if self.request is not None:
            if not self.request.headers_finished:
                return now - self.since > HEADER_S
            return bool(now - self.since > REQUEST_S + self.request.body_bytes_received / READ_BYTES_S)
        self.taken = taken
        return now - self.since > IDLE_S

    def _in_kernel(self) -> int:
        """How many bytes wait there for the client. It has room for megabytes, and takes more when a third of
        it is free: a slow client would not seem to read at all for minutes."""
        if sys.platform != "linux":
            return 0
        return int.from_bytes(fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    def is_idle(self) -> bool:
        """Whether nothing of it is under way but what the client does or leaves undone."""
        return not self.requests

    def pending_bytes(self) -> int:
        """How much memory its answers take; what is sent from a file takes none."""
        return sum(len(each) for each in list(self.outbufs) if not isinstance(each, ReadOnlyFileBasedBuffer))


class Server(TcpWSGIServer):  # type: ignore[misc]
    """One listening socket. *sure_hits* answers in the I/O thread, *application* in the threads."""

    channel_class = Channel

    def __init__(self, connections: Connections, sure_hits: Any, *args: Any, **options: Any) -> None:
        self.connections = connections
        self.sure_hits = sure_hits
        super().__init__(*args, **options)

    def add_task(self, channel: Channel) -> None:
        # Its lock is held: when it has read, or is woken by the thread that has served the one before.
        channel.is_new = True

    def readable(self) -> bool:
        return self.accepting and self.connections.has_room()

    def handle_accept(self) -> None:
        try:
            accepted = self.accept()
            if accepted is None:
                return
            connection, address = accepted
            self.set_socket_options(connection)
        except OSError as error:
            self.connections.cannot_accept(error)
            return
        # Not before: its number would be given to the new one, and with it what poll() has to tell of it.
        self.connections.make_room()
        self.channel_class(self, connection, self.fix_addr(address), self.adj, map=self._map)


class Connections:
    """All connections of this process, at most *limit*, by their *sockets*: wasyncore's map. When all places
    are taken, who has been idle for longest makes room."""

    def __init__(self, limit: int) -> None:
        self.sockets: dict[int, Any] = {}
        self.thread = threading.get_ident()
        self.is_stalled = False
        self._probed: SureHits | None = None
        self._limit = limit
        self._paused_until = 0.0
        self._told: dict[str, float] = {}

    def listen(self, app: Any, adj: Adjustments, sure_hits: Any, probed: SureHits | None) -> list[Server]:
        """Begin to listen on the sockets of *adj*; *probed* says how long the disk takes."""
        self._probed = probed
        dispatcher = ThreadedTaskDispatcher()
        dispatcher.set_thread_count(adj.threads)
        options = {"map": self.sockets, "dispatcher": dispatcher, "adj": adj, "bind_socket": False}
        return [
            Server(self, sure_hits, app, **options, _sock=each, sockinfo=(each.family, each.type, each.proto))
            for each in adj.sockets
        ]

    def channels(self) -> list[Channel]:
        """The connections that are open."""
        return [each for each in self.sockets.values() if isinstance(each, Channel)]

    # --- room for more

    def has_room(self) -> bool:
        """Whether one more could be taken, perhaps in the place of an idle one."""
        now = time.monotonic()
        if now < self._paused_until:
            return False
        if len(self.sockets) < self._limit or any(each.is_idle() for each in self.channels()):
            return True
        self._paused_until = now + 0.1  # all of them wait for an answer
        return False

    def make_room(self) -> None:
        """Close the longest idle connection where there is no room for one more."""
        if len(self.sockets) < self._limit:
            return
        idle = [each for each in self.channels() if each.is_idle()]
        if not idle:
            return
        self._tell("full", "%d connections: the longest idle ones are closed for new ones", self._limit)
        min(idle, key=lambda each: (each.total_outbufs_len > 0, each.since)).handle_close()

    def cannot_accept(self, error: OSError) -> None:
        """Note that a connection could not be taken, and let things calm down."""
        if error.errno in _NO_DESCRIPTORS:
            self._paused_until = time.monotonic() + 0.5
            self._limit = min(self._limit, max(16, len(self.sockets) - 16))
            self._tell(
                "accept", "no connection can be taken: %s; now at most %d", error.strerror, self._limit
            )

    def _tell(self, trouble: str, text: str, *values: object) -> None:
        now = time.monotonic()
        if now - self._told.get(trouble, -_QUIET_S) >= _QUIET_S:
            self._told[trouble] = now
            _log.warning(text, *values)

    # --- a look at each, once a second

    def look_after(self) -> None:
        """Close the connections of clients that are too slow, or whose answers fill the memory."""
        now = time.monotonic()
        pending = {}
        for channel in self.channels():
            if channel.is_too_slow(now):
                channel.handle_close()
            elif channel.total_outbufs_len:
                pending[channel] = channel.pending_bytes()
        total = sum(pending.values())
        for channel in sorted(pending, key=lambda each: each.since):
            if total <= PENDING_BYTES:
                break
            total -= pending[channel]
            self._tell("memory", "answers that nobody reads fill the memory: their connections are closed")
            channel.handle_close()

    # --- the disk

    def has_stalled(self, environ: dict[str, Any]) -> None:
        """Have all answered by threads until what *environ* needs of the disk is there at once again."""
        probed = self._probed
        if self.is_stalled or probed is None:
            return

        def probe() -> None:
            time.sleep(_PROBE_S)
            while probed.pause_s(environ) > STALL_S:
                time.sleep(_PROBE_S)
            self.is_stalled = False

        self.is_stalled = True
        self._tell("stall", "the disk took over %.0f ms for a look: hits go to the threads", STALL_S * 1000)
        try:
            threading.Thread(target=probe, name="imagefactory-probe", daemon=True).start()
        except RuntimeError:  # no more threads: the next stall tries again
            self.is_stalled = False
