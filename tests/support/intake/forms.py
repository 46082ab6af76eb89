"""Forms that are made to cost: of line ends, of what nearly is a boundary, of many parts and long heads."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from pathlib import Path

from .client import BOUNDARY, exchange, form_head
from .drawn import MB
from .report import Report
from .site import Site, Usage

__all__ = ["parser"]

_SERVER = "granian"
_PIECE = 1_000_000
_MOST_TIMES = 2.0
_END = b"\r\n--%b--\r\n" % BOUNDARY


def _part(disposition: bytes = b'form-data; name="f"; filename="a.jpg"', more: bytes = b"") -> bytes:
    return b"--%b\r\nContent-Disposition: %b\r\n%b\r\n" % (BOUNDARY, disposition, more)


def _of(unit: bytes) -> Callable[[int], Iterator[bytes]]:
    """A file that is *unit* again and again."""

    def pieces(size: int) -> Iterator[bytes]:
        piece = (unit * (_PIECE // len(unit) + 1))[:_PIECE]
        yield _part()
        yield from repeat(piece, size // _PIECE)
        yield _END

    return pieces


def _random(size: int) -> Iterator[bytes]:
    yield _part()
    yield from repeat(random.Random(1).randbytes(_PIECE), size // _PIECE)
    yield _END


def _preamble(size: int) -> Iterator[bytes]:
    yield from repeat(b"\r\n" * (_PIECE // 2), size // _PIECE)
    yield from _random(_PIECE)


# What fills a file, and its status.
FLOODS: dict[str, Callable[[int], Iterator[bytes]]] = {
    "CR": _of(b"\r"),
    "LF": _of(b"\n"),
    "CR LF": _of(b"\r\n"),
    "CR LF - -": _of(b"\r\n--"),
    "all of a boundary but its end": _of(b"\r\n--" + BOUNDARY[:-1]),
    "all of a boundary but its start": _of(b"\n--" + BOUNDARY),
    "prefixes of a boundary": _of(b"".join(b"\r\n--" + BOUNDARY[:n] for n in range(1, len(BOUNDARY)))),
    "hyphens": _of(b"-"),
}
_ODD = (
    b"",
    b"form-data",
    b"form-data; filename=",
    b'form-data; name="f"; filename="' + b"a" * 10_000 + b'.jpg"',
    b'form-data; name="f"; filename="' + b"\\" * 8_001 + b'"',
    b'form-data; name="f"; filename="' + b'\\"' * 4_000 + b'"',
    b"form-data; name=f; filename*=UTF-8''%ff%fe.jpg",
    b"form-data; filename*=x'y'" + b"%41" * 2_000,
    b"form-data; filename*0=a; filename*1=.jpg; filename*" + b"9" * 3_000 + b"=x",
    b'form-data; name="f"; filename="a.jpg"' + b"; a=b" * 2_000,
    b'form-data; filename="../../../etc/passwd"',
    b'form-data; filename="a\0b.jpg"',
    b"form-data; filename=\xff\xfe\x80.jpg",
    b";" * 8_000,
    b"=" * 8_000,
    b'"' * 8_001,
)
# Forms of their own length: their bytes.
SHORT: dict[str, bytes] = {
    "10,000 empty parts": _part() * 10_000 + _END[2:],
    "10,000 parts without a name": (_part(b'form-data; name="f"; filename=""') + b"\r\n") * 10_000 + _END[2:],
    "10,000 fields": (_part(b'form-data; name="f"') + b"x\r\n") * 10_000 + _END[2:],
    "1 MB of headers": _part(more=b"".join(b"X-%d: %s\r\n" % (n, b"y" * 80) for n in range(11_000))) + _END,
    "one header of 1 MB": _part(more=b"X: " + b"y" * MB + b"\r\n") + _END,
    "one header of 10,000 lines": _part(more=b"X: y\r\n" + b" z\r\n" * 10_000) + _END,
    "a boundary without an end": _part() + b"x" * MB,
    "no boundary": b"x" * MB,
    **{f"Content-Disposition: {odd[:40]!r}": _part(odd) + b"x" * 1000 + _END for odd in _ODD},
}


def _whole(body: bytes, size: int) -> Iterator[bytes]:
    yield body


def parser(folder: Path, number: int, seed: int, report: Report) -> None:
    """Files of *number* MB, 8 at least, each against random bytes of the same length."""
    site = Site(folder, uploads={"max_bytes": 10**9, "max_request_bytes": 2 * 10**9}, tasks={"workers": 0})
    size = max(8, number) * MB
    with site.serving(_SERVER, workers=1) as server:
        address = (server.host, server.port)

        def cost(pieces: Callable[[int], Iterator[bytes]], size: int, times: int = 1) -> float:
            """The processor time of the server for such a form."""
            usage = Usage(server)
            for _ in range(times):
                length = sum(map(len, pieces(size)))
                status, _, body = exchange(address, (form_head(length), *pieces(size)))
                report.expect(400 <= status < 500, f"{name}: {status} {body[:300]!r}")
            return usage.cpu_s() / times

        name = "random bytes"
        cost(_random, MB)
        usual = cost(_random, size)
        report.figure(f"{size // MB} MB of random bytes, ms", usual * 1000)
        for name, pieces in FLOODS.items():
            report.figure(f"{name}, in times of random bytes", cost(pieces, size) / usual, most=_MOST_TIMES)
        name = "preamble"
        report.figure(
            "before the first part, in times of random bytes", cost(_preamble, size) / usual, most=_MOST_TIMES
        )
        for name, body in SHORT.items():
            spent = cost(partial(_whole, body), 0, times=5)
            report.figure(f"{name} ({len(body):,} bytes), ms", spent * 1000)
            report.same(f"{name}: left", site.left(), set())
        report.same("pictures", (sorted(site.stored()), site.rows(server)), ([], {}))
        said = server.said()
    report.expect("Traceback" not in said, said[-3000:])
