"""Equal quality before equal speed: for each rival and encoding the setting whose result is as like the true
picture (SSIM) as ours is."""

from __future__ import annotations

import http.client
from collections.abc import Callable

from . import servers
from .bench import Bench
from .pictures import check, ssim
from .servers import Server

__all__ = ["calibrate", "nearest"]

WIDTH = 512
LOSSY = ("jpeg", "webp", "avif")
# Who can come no nearer than this to our SSIM, because his resizing loses more, is asked for this quality:
# at his highest he would send three times our bytes.
_UNREACHED = 0.005
_ORDINARY = {"jpeg": 80, "webp": 80, "avif": 65}


def nearest(measure: Callable[[int], float], wanted: float, low: int = 30, high: int = 98) -> int:
    """The number from *low* to *high* for which *measure*, which grows, gives what is nearest to *wanted*."""
    seen: dict[int, float] = {}
    while low <= high:
        middle = (low + high) // 2
        seen[middle] = measure(middle)
        if seen[middle] < wanted:
            low = middle + 1
        else:
            high = middle - 1
    return min(seen, key=lambda number: abs(seen[number] - wanted))


def _picture(bench: Bench, server: Server, encoding: str, quality: int | None, path: str) -> bytes:
    """What *server* makes of *path* at 512 px. Raises RuntimeError if that is not what was asked for."""
    size = WIDTH, bench.pictures.height(path, WIDTH)
    target = servers.target(server.name.partition(",")[0], path, *size, encoding, quality)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", target)
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    if reply.status != 200:
        raise RuntimeError(f"{server.name} makes no {encoding}: {reply.status} {body[:200]!r}")
    check(body, encoding, size)
    return body


def calibrate(bench: Bench, ours: Server, rivals: list[Server]) -> None:
    """Fill ``bench.qualities`` by rival and encoding, and say SSIM and bytes of all. Done once in a run."""
    if "qualities" in bench.details:
        return
    try:
        import skimage  # noqa: F401
    except ImportError:
        bench.skip("calibration, every rival at its quality 80: pip install scikit-image")
        return
    rows = bench.details["qualities"] = []
    source = bench.pictures.folder / "photo.jpg"

    def measure(server: Server, encoding: str, quality: int | None) -> tuple[float, int]:
        body = _picture(bench, server, encoding, quality, "photo.jpg")
        return ssim(body, source), len(body)

    for encoding in LOSSY:
        our_ssim, our_bytes = measure(ours, encoding, None)
        rows.append([encoding, "imagefactory", None, our_ssim, our_bytes, 1.0])
        for rival in rivals:
            name = rival.name.partition(",")[0]
            if name == "nginx" and encoding != "jpeg":
                continue  # it writes the encoding of the source
            found: dict[int, tuple[float, int]] = {}

            def score(
                quality: int, server: Server = rival, into: dict = found, encoding: str = encoding
            ) -> float:
                into[quality] = measure(server, encoding, quality)
                return into[quality][0]

            quality = nearest(score, our_ssim)
            if found[quality][0] < our_ssim - _UNREACHED:
                quality = _ORDINARY[encoding]
                score(quality)
            bench.qualities[name, encoding] = quality
            their_ssim, their_bytes = found[quality]
            rows.append([encoding, name, quality, their_ssim, their_bytes, our_bytes / their_bytes])
    size = len(_picture(bench, ours, "png", None, "alpha.png"))
    rows.append(["png", "imagefactory", None, 1.0, size, 1.0])
    for rival in rivals:
        name = rival.name.partition(",")[0]
        theirs = len(_picture(bench, rival, "png", None, "alpha.png"))
        rows.append(["png", name, None, 1.0, theirs, size / theirs])
    for encoding, name, quality, likeness, count, part in rows:
        said = f"quality {quality}" if quality else "its default"
        bench.say(
            f"  {encoding:5} {name:13} {said:12} SSIM {likeness:.4f} {count:7,} bytes, ours / it {part:.2f}"
        )
