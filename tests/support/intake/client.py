"""A small client: pictures by PUT over connections that it keeps, until each one is there.

    python -m support.intake.client 127.0.0.1:8080 FOLDER JOURNAL      # goes on where its journal ends
    python -m support.intake.client 127.0.0.1:8080 --endless uploads   # or: renders

An answer counts only where it has the digest that was sent: http.client takes one that was cut in its headers
for a whole one.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.client
import json
import os
import queue
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count, pairwise
from pathlib import Path

from .drawn import jpeg
from .site import TOKEN

__all__ = ["BEARER", "Connection", "exchange", "form", "head", "in_chunks", "in_threads", "proof", "vanish"]

BEARER = f"Bearer {TOKEN}"
BOUNDARY = b"--------------------------d74496d66958873e"
_TIMEOUT_S = 120.0
_PAUSE_S = 0.05


# --- requests as bytes


def head(method: str, target: str, **headers: object) -> bytes:
    """The head of a request with the token; ``Content_Length=5`` sends that header."""
    lines = [f"{method} {target} HTTP/1.1", "Host: intake", f"Authorization: {BEARER}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def proof(data: bytes) -> str:
    """The value of a Content-Digest of *data* (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def in_chunks(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """*data* as chunks that end at *cuts* and at the end, without the last, empty one."""
    ends = sorted({*cuts, len(data)} - {0})
    return [b"%x\r\n%b\r\n" % (end - start, data[start:end]) for start, end in pairwise([0, *ends])]


def part(filename: str, data: bytes) -> bytes:
    """A part of a form, up to the next boundary."""
    disposition = f'Content-Disposition: form-data; name="f"; filename="{filename}"'.encode()
    return b"--%b\r\n%b\r\n\r\n%b\r\n" % (BOUNDARY, disposition, data)


def form(*files: tuple[str, bytes]) -> bytes:
    """The body of a form with *files*, each a name and its bytes."""
    return b"".join(part(*each) for each in files) + b"--%b--\r\n" % BOUNDARY


def form_head(length: int, **headers: object) -> bytes:
    """The head of a request with such a body."""
    kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    return head("POST", "/upload", Content_Type=kind, Content_Length=length, **headers)


# --- connections of a client that behaves badly


def exchange(address: tuple[str, int], pieces: Iterable[bytes]) -> tuple[int, dict[str, str], bytes]:
    """The status, headers and body that come for *pieces*, of which the last ones may be refused; 0 where
    nothing comes."""
    with socket.create_connection(address, _TIMEOUT_S) as connection:
        with suppress(OSError):  # an early answer: the rest is not wanted
            for each in pieces:
                connection.sendall(each)
        return answer_of(connection)


def answer_of(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """The answer that comes on *connection*; a status of 0 where none does."""
    response, body = http.client.HTTPResponse(connection), b""
    try:
        response.begin()
        body = response.read()
    except (
        OSError,
        http.client.HTTPException,
    ):  # a server that refuses a body early may reset the connection
        if not response.headers:
            return 0, {}, b""
    return response.status, {name.lower(): value for name, value in response.headers.items()}, body


def vanish(address: tuple[str, int], data: bytes, *, by_reset: bool) -> int:
    """Send *data*, which is not all of a request, and go: at once by a reset, or by an end, for which one may
    still get an answer. Its status, or 0."""
    with socket.create_connection(address, _TIMEOUT_S) as connection:
        try:
            connection.sendall(data)
            if by_reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return 0
            connection.shutdown(socket.SHUT_WR)
        except OSError:  # answered already
            pass
        return answer_of(connection)[0]


# --- a client that behaves well


class Connection:
    """A connection to *address*, kept until it breaks; for one thread at a time."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT_S)

    def put(self, path: str, data: bytes) -> tuple[int, str]:
        """The status for a picture, and the digest that the server has; 0 and a reason where no whole answer
        came."""
        headers = {"Authorization": BEARER, "Content-Length": str(len(data))}
        status, body = self._ask("PUT", f"/upload/{path}", data, headers)
        return status, body.get("sha256") or str(body)

    def post(self, *files: tuple[str, bytes]) -> tuple[int, list[dict[str, object]]]:
        """The status for a form of *files*, and the results of each."""
        kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
        headers = {"Authorization": BEARER, "Content-Type": kind}
        status, body = self._ask("POST", "/upload", form(*files), headers)
        return status, body.get("files", [])

    def get(self, target: str) -> tuple[int, str]:
        """The status for *target*, and its X-Cache."""
        try:
            self._connection.request("GET", target)
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, ""
        return response.status, response.getheader("X-Cache", "")

    def _ask(self, method: str, target: str, data: bytes, headers: dict[str, str]) -> tuple[int, dict]:  # type: ignore[type-arg]
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # there may be an answer all the same
                self._connection.request(method, target, data, headers)
            response = self._connection.getresponse()
            found = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            return 0, {"error": repr(error)}
        if response.status >= 400:  # the rest of the body may be in the way of the next request
            self._connection.close()
        return response.status, found

    def close(self) -> None:
        self._connection.close()


def in_threads(number: int, work: Callable[[int], object]) -> None:
    """Have *number* threads do *work*, each with its number; raises what one of them raises."""
    with ThreadPoolExecutor(number) as threads:
        list(threads.map(work, range(number)))


def put_all(
    address: tuple[str, int],
    files: Iterable[tuple[str, bytes | Path]],
    threads: int,
    on_stored: Callable[[str, str, int], object] = lambda path, digest, status: None,
) -> None:
    """Put *files*, a path and the bytes of each, until each is there; *on_stored* gets its path, digest and
    status."""
    todo: queue.SimpleQueue[tuple[str, bytes | Path]] = queue.SimpleQueue()
    for each in files:
        todo.put(each)

    def run(number: int) -> None:
        connection = Connection(address)
        with suppress(queue.Empty):
            while True:
                path, source = todo.get_nowait()
                data = source.read_bytes() if isinstance(source, Path) else source
                digest = hashlib.sha256(data).hexdigest()
                while True:
                    status, found = connection.put(path, data)
                    if status in (200, 201) and found == digest:
                        break
                    if status in (400, 412, 413, 415, 422):
                        raise AssertionError(f"{path}: {status} {found}")
                    time.sleep(_PAUSE_S)
                on_stored(path, digest, status)
        connection.close()

    in_threads(threads, run)


class Journal:
    """A file with a line for each picture that is there; a line that was cut by a kill does not count."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> list[tuple[str, str, int]]:
        """The path, the digest and the status of each."""
        lines = self._file.read_text().split("\n")[:-1] if self._file.exists() else []
        found = (line.split(" ") for line in lines)
        return [(path, digest, int(status)) for path, digest, status in found]

    def note(self, path: str, digest: str, status: int) -> None:
        """Add a line, in one write."""
        number = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(number, f"{path} {digest} {status}\n".encode())
        finally:
            os.close(number)


def _files(folder: Path, journal: Journal) -> Iterator[tuple[str, Path]]:
    done = {path for path, *_ in journal.read()}
    for file in sorted(folder.rglob("*.jpg")):
        path = str(file.relative_to(folder))
        if path not in done:
            yield path, file


def _endless(address: tuple[str, int], load: str, thread: int) -> None:
    connection = Connection(address)
    for number in count():
        if load == "uploads":
            path = f"{os.getpid()}/{thread}/{number}.jpg"
            connection.put(path, jpeg(path, 20_000))
        else:
            status, _ = connection.get(f"/picture/large.jpg?scalex={number % 700 + 1}&blur={thread + 1}")
            assert status in (200, 503), status


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m support.intake.client")
    parser.add_argument("address")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("journal", type=Path, nargs="?")
    parser.add_argument("--endless", choices=("uploads", "renders"))
    parser.add_argument("--threads", type=int, default=16)
    options = parser.parse_args()
    host, _, port = options.address.rpartition(":")
    address = (host, int(port))
    if options.endless:
        in_threads(options.threads, partial(_endless, address, options.endless))
    journal = Journal(options.journal)
    put_all(address, _files(options.folder, journal), options.threads, journal.note)


if __name__ == "__main__":
    main()
