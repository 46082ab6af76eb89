"""Clients that vanish within a body: nothing is left of it, and the same picture sent whole is taken."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.serving import eventually

from .client import exchange, form, form_head, head, in_chunks, proof, vanish
from .drawn import jpeg
from .report import Report
from .site import SERVERS, Site

__all__ = ["truncation"]

_AT_ONCE = 8
_MOMENT_S = 10.0

# What is sent of a picture at a path, and then no more. The cut is somewhere in its bytes.
Way = Callable[[str, bytes, random.Random], bytes]


def _by_length(path: str, data: bytes, dice: random.Random) -> bytes:
    return head("PUT", f"/upload/{path}", Content_Length=len(data)) + data[: dice.randrange(len(data))]


def _chunks(path: str, data: bytes, dice: random.Random) -> tuple[bytes, list[bytes]]:
    cuts = [dice.randrange(1, len(data)) for _ in range(dice.randrange(2, 20))]
    headers = head("PUT", f"/upload/{path}", Transfer_Encoding="chunked", Content_Digest=proof(data))
    return headers, in_chunks(data, cuts)


def _in_chunk(path: str, data: bytes, dice: random.Random) -> bytes:
    start, chunks = _chunks(path, data, dice)
    place = dice.randrange(len(chunks))
    return start + b"".join(chunks[:place]) + chunks[place][: dice.randrange(len(chunks[place]) - 2)]


def _between_chunks(path: str, data: bytes, dice: random.Random) -> bytes:
    start, chunks = _chunks(path, data, dice)
    return start + b"".join(chunks[: dice.randrange(len(chunks))])


def _in_part(path: str, data: bytes, dice: random.Random) -> bytes:
    body = form((path, data))
    start = body.index(data)
    return form_head(len(body)) + body[: start + dice.randrange(len(data))]


def _in_part_of_chunks(path: str, data: bytes, dice: random.Random) -> bytes:
    """No server says that this has ended too early."""
    body = form((path, data))
    sent = body[: body.index(data) + dice.randrange(1, len(data))]
    start = form_head(0, Transfer_Encoding="chunked").replace(b"Content-Length: 0\r\n", b"")
    return start + b"".join(in_chunks(sent, [len(sent) // 2]))


WAYS: dict[str, Way] = {
    "length": _by_length,
    "in-chunk": _in_chunk,
    "between": _between_chunks,
    "form": _in_part,
    "form-chunks": _in_part_of_chunks,
}


def truncation(folder: Path, number: int, seed: int, report: Report) -> None:
    """*number* tries of each way to cut a body, and of both ways to go, with each server."""
    for kind in SERVERS:
        _with_server(kind, Site(folder / kind), number, random.Random(seed), report)


def _with_server(kind: str, site: Site, number: int, dice: random.Random, report: Report) -> None:
    tries = [
        (way, by_reset, f"{way}-{'rst' if by_reset else 'fin'}-{each}.jpg", random.Random(dice.random()))
        for way in WAYS
        for by_reset in (False, True)
        for each in range(number)
    ]
    with site.serving(kind) as server, ThreadPoolExecutor(_AT_ONCE) as threads:
        address = (server.host, server.port)

        def picture(path: str) -> bytes:
            return jpeg(path, len(path) ** 3)

        def cut(each: tuple[str, bool, str, random.Random]) -> int:
            way, by_reset, path, dice = each
            return vanish(address, WAYS[way](path, picture(path), dice), by_reset=by_reset)

        def put(path: str) -> int:
            data = picture(path)
            return exchange(address, [head("PUT", f"/upload/{path}", Content_Length=len(data)), data])[0]

        statuses = list(threads.map(cut, tries))
        answers = Counter(
            (way, status) for (way, by_reset, *_), status in zip(tries, statuses, strict=True) if not by_reset
        )
        report.say(f"{kind}: {len(tries)} cuts; answers to those that wait for one: {_table(answers)}")
        report.expect(not [each for each in statuses if 0 < each < 400], f"{kind}: a cut body was taken")
        is_empty = eventually(lambda: not site.left(), _MOMENT_S)
        report.expect(is_empty, f"{kind}: left in .uploads/tmp: {len(site.left())}")
        report.same(f"{kind}: pictures after cuts", sorted(site.stored()), [])
        report.same(f"{kind}: rows after cuts", site.rows(server), {})
        whole = Counter(threads.map(put, (path for _, _, path, _ in tries)))
        report.same(f"{kind}: sent whole afterwards", dict(whole), {201: len(tries)})
        report.same(f"{kind}: pictures in the end", len(site.rows(server)), len(tries))
        said = server.said()
    report.expect("Traceback" not in said, f"{kind}: {said[-3000:]}")


def _table(answers: Counter[tuple[str, int]]) -> str:
    return ", ".join(f"{way} {status or 'none'}: {count}" for (way, status), count in sorted(answers.items()))
