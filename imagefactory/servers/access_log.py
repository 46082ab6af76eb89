"""The access log: a WSGI middleware that has one JSON object per request written, one in each line.

It lies around everything else. A request only appends a tuple to a queue; a thread of the process takes
them out every half second, formats and writes. So a disk that is slow or full delays no answer: lines are
dropped, and counted, and a line ``{"time": ..., "dropped": N}`` says so once it works again.
A process that is killed loses its last half second. ``imagefactory warm --from-log`` reads what is written.

    {"time":"2026-01-31T12:00:00.123Z","client":"192.0.2.1","method":"GET","path":"/picture/cat.jpg",
     "query":"scalex=320","status":200,"bytes":12345,"seconds":0.000123,"cache":"hit","encoding":"webp",
     "referer":"","user_agent":"curl/8.0"}

is one line. ``time`` is when the request came; ``seconds`` ends when the app has given its answer to the
server, not when the client has read it; ``bytes`` is how long a body was meant to be sent. Requests that the
server refuses by itself (what is no HTTP) are not in it.

A request takes 1.4 us more with it (the 11 headers of a hit, timeit, CPython 3.11), and its line 5.3 us of
the thread.

Why not logging's QueueListener and WatchedFileHandler: a logger with a QueueHandler takes 11 us a request, 6
with `prepare` left out. On our queue a QueueListener costs a request 1.4 us as well, but its thread 10.5 us a
line, for a stat and a write each. All tests passed with it, in 341 lines instead of 354: the bound, the
forks, torn lines, the count of dropped ones and the end of a process are ours either way.
"""

from __future__ import annotations

import copy
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from ..engine.flights import Underway
from ..errors import ConfigError
from ..web.fastpath import NotSure
from ..web.http.clients import Proxies

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["AccessLog", "check_target"]

_log = logging.getLogger(__name__)

_PAUSE_S = 0.5
# Lines that wait at most: half a second of 65,000 requests/s, twice what a process answers.
_WAITING = 32_768
# Strangers fill these, and they wait in memory: nothing here is longer.
_MAX_TARGET = 2048
_MAX_HEADER = 512
_MAX_METHOD = 32
# Bytes of one write. Those of several processes are not mixed: in files never, in pipes up to PIPE_BUF.
_PIECE = 2**20
_PIPE_PIECE = 4096
_EXIT_S = 2.0
_STDOUT = 1
_SECRETS = ("s", "token")

# When it came, in seconds since 1970, and how many it took; REMOTE_ADDR, X-Forwarded-For, method, PATH_INFO,
# query, status, headers of the answer, Referer, User-Agent.
_Row = tuple[float, float, str, str, str, str, str, str, Sequence[tuple[str, str]], str, str]


def check_target(target: str) -> None:
    """Raises ConfigError when the log can't be written there, ``-`` being standard output; makes the file."""
    try:
        if target != "-":
            os.close(_open(target))
        elif sys.__stdout__ is None:  # closed: number 1 is the next file that is opened, maybe the index
            raise OSError(0, "there is no standard output")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError("server.access_log", f"{target!r} can't be written: {reason}") from error


class AccessLog:
    """The middleware around *app*; *target* is a file, or ``-`` for standard output.

    Opens nothing by itself: `check_target` tells beforehand whether it will be able to. The app's iterable
    goes on as it is: a server looks at it for a file to send by sendfile. An app that calls
    ``start_response`` only when iterated over is logged with status 0.
    """

    def __init__(self, app: WSGIApplication, target: str, proxies: Proxies) -> None:
        self.app = app
        self._target = target
        self._proxies = proxies
        self._has_proxies = bool(proxies)
        # By process: threads don't come along in a fork, and what waits is the parent's to write.
        self._writers: dict[int, _Writer] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        came, began = time.time(), time.perf_counter()
        status = "0"
        headers: Sequence[tuple[str, str]] = ()

        def note(line: str, fields: list[tuple[str, str]], *error: Any) -> Any:
            nonlocal status, headers
            status, headers = line, fields
            return start_response(line, fields, *error)

        # Now, for an app may move them on.
        path, query = environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", "")
        try:
            body = self.app(environ, note)
        except (NotSure, Underway):
            raise  # somebody else will answer
        except BaseException:
            self._add(environ, came, time.perf_counter() - began, path, query, "500", ())
            raise
        self._add(environ, came, time.perf_counter() - began, path, query, status, headers)
        return body

    def around(self, app: WSGIApplication) -> AccessLog:
        """The same log around another *app*."""
        other = copy.copy(self)
        other.app = app
        return other

    def _add(
        self,
        environ: WSGIEnvironment,
        came: float,
        seconds: float,
        path: str,
        query: str,
        status: str,
        headers: Sequence[tuple[str, str]],
    ) -> None:
        """Have the request written. No copy of *environ*: it holds sockets and files."""
        try:
            writer = self._writers.get(os.getpid()) or self._begin()
            if len(writer.waiting) >= _WAITING:
                writer.count_missing(1)
                return
            writer.waiting.append(
                (
                    came,
                    seconds,
                    environ.get("REMOTE_ADDR", ""),
                    environ.get("HTTP_X_FORWARDED_FOR", "")[-_MAX_TARGET:] if self._has_proxies else "",
                    environ.get("REQUEST_METHOD", "")[:_MAX_METHOD],
                    path[:_MAX_TARGET],
                    query[:_MAX_TARGET],
                    status,
                    headers,
                    environ.get("HTTP_REFERER", "")[:_MAX_HEADER],
                    environ.get("HTTP_USER_AGENT", "")[:_MAX_HEADER],
                )
            )
        except Exception:  # whatever it is, the visitor has nothing to do with it
            _log.exception("a request is missing in the access log")

    def flush(self) -> None:
        """Write what waits now, or drop it if that can't be done."""
        writer = self._writers.get(os.getpid())
        if writer is not None:
            writer.flush()

    def _begin(self) -> _Writer:
        """The writer of this process; without a lock, which a fork could leave locked."""
        process = os.getpid()
        new = _Writer(self._target, self._proxies)
        writer = self._writers.setdefault(process, new)
        if writer is new:
            for other in [each for each in self._writers if each != process]:
                self._writers.pop(other, None)
            writer.start()
        return writer


class _Writer:
    """The queue of a process, and what empties it.

    *waiting* has no maxlen: a full deque would drop its oldest without a word.
    """

    def __init__(self, target: str, proxies: Proxies) -> None:
        self.waiting: deque[_Row] = deque()
        self._missing = 0  # lines lost that no line tells of yet
        self._is_counting = threading.Lock()
        self._target = target
        self._client = lru_cache(4096)(proxies.client)
        self._piece = _PIPE_PIECE if target == "-" else _PIECE
        self._fd = -1
        self._is_torn = False
        self._is_in_trouble = False
        self._is_writing = threading.Lock()

    def start(self) -> None:
        """Begin to write, in this process: a thread does it, and what waits at the end is written too."""
        # atexit is not enough: a worker of granian is a process of multiprocessing, which passes by it. This
        # is called in both kinds, and not in a fork of this process.
        Finalize(None, self.flush, exitpriority=0)
        try:
            threading.Thread(target=self._run, name="access-log", daemon=True).start()
        except RuntimeError as error:  # no more threads, or the interpreter ends
            _log.error("the access log is not written: %s", error)

    def flush(self) -> None:
        """Write all that waits; gives up when another thread's write hangs."""
        if self._is_writing.acquire(timeout=_EXIT_S):
            try:
                self._empty()
            finally:
                self._is_writing.release()

    def _run(self) -> None:
        while True:
            time.sleep(_PAUSE_S)
            with self._is_writing:
                self._empty()

    def count_missing(self, lines: int) -> None:
        """Count *lines* that are lost, or with a minus that the log tells of."""
        with self._is_counting:
            self._missing += lines

    def _empty(self) -> None:
        """Write what waits, until that fails. Raises nothing."""
        left = len(self.waiting)  # not what comes in between: that would be ever smaller writes
        try:
            while left or self._missing:
                lines, left = self._lines(left)
                self._write(lines)
            if self._is_in_trouble:
                self._is_in_trouble = False
                _log.warning("the access log %s is written again", self._target)
        except OSError as error:
            if not self._is_in_trouble:
                self._is_in_trouble = True
                reason = error.strerror or error
                _log.error("the access log %s can't be written, lines are lost: %s", self._target, reason)

    def _lines(self, left: int) -> tuple[list[bytes], int]:
        """The lines for one write, of the *left* rows to come; and how many are left then."""
        lines: list[bytes] = []
        size = 0
        while left and size < self._piece:
            try:
                line = _line(self.waiting[0], self._client)
            except Exception:  # what no server should hand to an app; the thread has to live on
                _log.exception("a request that can't be written to the access log")
                self.count_missing(1)
                line = b""
            size += len(line)
            if lines and size > self._piece:
                break
            self.waiting.popleft()
            left -= 1
            if line:
                lines.append(line)
        return lines, left

    def _write(self, lines: list[bytes]) -> None:
        """Write *lines*, and before them how many are missing; by one write, as processes share the file.

        Raises OSError when not all could be written: the others are missing then.
        """
        told = self._missing
        if told:
            lines = [b'{"time":"%s","dropped":%d}\n' % (_time(time.time()).encode(), told), *lines]
        data = b"".join(lines)
        written = 0
        try:
            fd = self._file()
            if self._is_torn:  # end the half line that a full disk left behind
                os.write(fd, b"\n")
                self._is_torn = False
            while written < len(data):  # a second time only where the disk gets full, and it will fail
                written += os.write(fd, data[written:])
        finally:
            whole = data.count(b"\n", 0, written)
            lost = len(lines) - whole
            if told:  # the first line tells of these, and is no request itself
                lost -= told if whole else 1
            self.count_missing(lost)
            self._is_torn = self._is_torn or (written > 0 and data[written - 1 : written] != b"\n")

    def _file(self) -> int:
        """The descriptor of the log; opened anew when the file was renamed or deleted, as by logrotate."""
        if self._target == "-":
            return _STDOUT
        if self._fd >= 0:
            try:
                if os.path.samestat(Path(self._target).stat(), os.fstat(self._fd)):
                    return self._fd
            except OSError:
                pass
            os.close(self._fd)
            self._fd = -1
            self._is_torn = False
        self._fd = _open(self._target)
        return self._fd


def _open(target: str) -> int:
    """A descriptor that appends to *target*, readable by owner and group. Raises OSError."""
    # Not blocking, as a pipe that nobody reads would keep the server from starting.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    fd = os.open(target, flags, 0o640)
    os.set_blocking(fd, True)
    return fd


def _line(row: _Row, client: Callable[[str, str], str]) -> bytes:
    """The line of *row*: ASCII, whatever a stranger sent. *client* is `Proxies.client`, with a memory.

    The thread takes turns with the requests: with json.dumps, isoformat, and unquoting of each name a line
    took 10 us instead of 5.
    """
    came, seconds, peer, forwarded, method, path, query, said, headers, referer, agent = row
    answer = dict(headers)
    status = int(said[:3]) if said[:3].isdecimal() else 0
    length = answer.get("Content-Length", "")
    has_body = method != "HEAD" and status not in (204, 304) and length.isdecimal()
    kind, _, encoding = answer.get("Content-Type", "").partition(";")[0].partition("/")
    page, mark, its_query = referer.partition("?")
    return (
        f'{{"time":"{_time(came)}"'
        f',"client":{quoted(client(peer, forwarded))}'
        f',"method":{quoted(method)}'
        f',"path":{quoted(path.encode("latin-1", "replace").decode("utf-8", "replace"))}'
        f',"query":{quoted(_masked(query))}'
        f',"status":{status}'
        f',"bytes":{int(length) if has_body else 0}'
        f',"seconds":{seconds:.6f}'
        f',"cache":{quoted(answer.get("X-Cache", ""))}'
        f',"encoding":{quoted(encoding if kind == "image" else "")}'
        f',"referer":{quoted(page + mark + _masked(its_query))}'
        f',"user_agent":{quoted(agent)}}}\n'
    ).encode("ascii")


def _masked(query: str) -> str:
    """*query* with ``***`` for the values of signatures and tokens."""
    if "=" not in query:
        return query
    pairs = query.split("&")
    for number, pair in enumerate(pairs):
        name, _, value = pair.partition("=")
        if "%" in name or "+" in name:
            name = unquote_plus(name).strip()
        if value and name.lower() in _SECRETS:
            pairs[number] = f"{pair.partition('=')[0]}=***"
    return "&".join(pairs)


def _time(seconds: float) -> str:
    whole, thousandths = divmod(int(seconds * 1000), 1000)
    return f"{_second(whole)}.{thousandths:03}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
