"""The client of the benchmark, as a process of its own: a job as JSON on stdin, the answers on stdout.

Called by the sections through ``ask``. Two ways of asking:

- closed: each of *connections* asks the next target when its answer is complete (and *pause_s* went by), for
  *seconds* or until the targets end; at least *least* are asked.
- open: *rate* requests a second are begun whatever the answers do; a busy connection gets a neighbour. The
  time counts from when a request was due, so that a stalled server can't hide behind a waiting client.

Every answer is one sample: when it came, how long it took, status, X-Cache, Retry-After, bytes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from typing import Any, NamedTuple

__all__ = ["Answers", "Job", "Sample", "ask", "ask_in_background", "percentile"]

_HOST = "127.0.0.1"
_MOST_CONNECTIONS = 400  # of an open loop
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Job:
    """What to ask the server at *ports*, by turns where it has several. *is_rotating* begins again with the
    targets when they end."""

    ports: Sequence[int]
    targets: Sequence[str]
    connections: int = 4
    seconds: float = 1.0
    rate: float = 0.0
    least: int = 0
    pause_s: float = 0.0
    is_rotating: bool = False


class Sample(NamedTuple):
    """One answer: *done_s* after the start of the job; *status* 0 is a connection that broke."""

    done_s: float
    seconds: float
    status: int
    cache: str
    retry_after: str
    media_type: str
    bytes: int


@dataclass(frozen=True)
class Answers:
    """All that came back within *seconds*; of one answer in the middle the *target* and the *body*."""

    samples: list[Sample]
    seconds: float
    target: str = ""
    body: bytes = b""
    unsent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    caches: Counter[str] = field(default_factory=Counter)

    @property
    def per_second(self) -> float:
        """Good answers a second."""
        return self.statuses[200] / self.seconds if self.seconds else 0.0

    def latency(self, part: float, status: int = 200) -> float:
        """The time within which *part* of the answers with *status* came, in seconds."""
        return percentile([sample.seconds for sample in self.samples if sample.status == status], part)


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest of *values* that *part* of them do not exceed; not a number when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")


def ask(job: Job) -> Answers:
    """Do *job* in a process of its own."""
    return ask_in_background(job)()


def ask_in_background(job: Job) -> Any:
    """Begin *job*; the callable that is returned waits for it and gives the answers."""
    command = [sys.executable, "-m", __spec__.name if __spec__ else "benchmarks.client"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(job)).encode())
    process.stdin.close()

    def wait() -> Answers:
        assert process.stdout is not None
        try:
            said = process.stdout.read()
            if process.wait(_PATIENCE_S):
                raise RuntimeError(f"the client exited with {process.returncode}")
        except BaseException:
            process.kill()
            process.wait()
            raise
        said = json.loads(said)
        samples = [Sample(*row) for row in said.pop("samples")]
        return Answers(
            samples,
            body=base64.b64decode(said.pop("body")),
            statuses=Counter(sample.status for sample in samples),
            caches=Counter(sample.cache for sample in samples if sample.status == 200),
            **said,
        )

    return wait


# --- in the client's process ------------------------------------------------------------------------------


class _Connection:
    """One keep-alive connection; opened again when the server closes it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, target: str) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, headers (names in lower case) and body; status 0 when the connection breaks."""
        try:
            if self._writer is None or self._reader is None or self._reader.at_eof():
                self.close()
                self._reader, self._writer = await asyncio.open_connection(_HOST, self._port)
            self._writer.write(f"GET {target} HTTP/1.1\r\nHost: {_HOST}\r\n\r\n".encode())
            async with asyncio.timeout(_PATIENCE_S):
                return await self._read(self._reader)
        except (OSError, EOFError, ValueError, TimeoutError):
            self.close()
            return 0, {}, b""

    async def _read(self, reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes], bytes]:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        if headers.get(b"transfer-encoding") == b"chunked":
            body = b""
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        else:
            body = await reader.readexactly(int(headers[b"content-length"]))
        if headers.get(b"connection", b"").lower() == b"close":
            self.close()
        return int(first.split()[1]), headers, body

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


class _Run:
    """One job while it is done."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.targets = iter(cycle(job.targets) if job.is_rotating else job.targets)
        self.samples: list[Sample] = []
        self.begun = 0
        self.unsent = 0
        self.kept = ("", b"")
        self.start = time.perf_counter()
        self.ports = cycle(job.ports)

    def connection(self) -> _Connection:
        return _Connection(next(self.ports))

    async def once(self, connection: _Connection, target: str, due: float) -> None:
        status, headers, body = await connection.get(target)
        now = time.perf_counter()
        words = [headers.get(name, b"").decode() for name in (b"x-cache", b"retry-after", b"content-type")]
        self.samples.append(
            Sample(now - self.start, now - due, status, words[0], words[1], words[2], len(body))
        )
        if status == 200 and (not self.kept[1] or self.begun % 7 == 3):
            self.kept = target, body

    async def closed(self) -> None:
        async def worker() -> None:
            connection = self.connection()
            while time.perf_counter() - self.start < self.job.seconds or self.begun < self.job.least:
                target = next(self.targets, None)
                if target is None:
                    break
                self.begun += 1
                await self.once(connection, target, time.perf_counter())
                if self.job.pause_s:
                    await asyncio.sleep(self.job.pause_s)
            connection.close()

        await asyncio.gather(*(worker() for _ in range(self.job.connections)))

    async def open(self) -> None:
        idle: list[_Connection] = []
        tasks: set[asyncio.Task[None]] = set()

        async def one(connection: _Connection, target: str, due: float) -> None:
            await self.once(connection, target, due)
            idle.append(connection)

        for number in range(int(self.job.rate * self.job.seconds)):
            due = self.start + number / self.job.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            target = next(self.targets, None)
            if target is None or (not idle and len(tasks) >= _MOST_CONNECTIONS):
                self.unsent += 1
                continue
            self.begun += 1
            task = asyncio.create_task(one(idle.pop() if idle else self.connection(), target, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        while tasks:
            await asyncio.wait(tasks)
        for connection in idle:
            connection.close()


async def _main() -> None:
    run = _Run(Job(**json.load(sys.stdin)))
    await (run.open() if run.job.rate else run.closed())
    seconds = max((sample.done_s for sample in run.samples), default=0.0)
    target, body = run.kept
    kept = {"target": target, "body": base64.b64encode(body).decode(), "unsent": run.unsent}
    json.dump({"samples": run.samples, "seconds": seconds, **kept}, sys.stdout)


if __name__ == "__main__":
    try:
        asyncio.run(_main())
    except KeyboardInterrupt:
        sys.exit(130)
