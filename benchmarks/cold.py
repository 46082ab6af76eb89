"""Cold renders over HTTP by 4 connections: every URL its own result, every answer of ours a miss."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import servers
from .bench import Bench
from .calibrate import WIDTH, calibrate
from .client import Job, ask
from .pictures import check
from .rounds import Row, compare, interleave
from .servers import Server

__all__ = ["fresh_targets", "run", "start_all"]

_CONNECTIONS = 4
_NO_EXTRA = "imagefactory without extra"
_KINDS = {"jpeg": "photo.jpg", "webp": "photo.jpg", "avif": "photo.jpg", "png": "alpha.png"}
_TARGETS = {"jpeg": 1.3, "webp": 1.5, "avif": 5.0, "png": 1.0}


def _asked(bench: Bench, name: str) -> list[tuple[str, tuple[int, int]]]:
    """(source, size) near 512 px, 4,096 of them and none twice: copies of *name* by turns."""
    widths = list(range(WIDTH - 128, WIDTH + 128))
    random.Random(0).shuffle(widths)
    sizes = [(width, bench.pictures.height(name, width)) for width in widths]
    return [(copy, size) for size in sizes for copy in bench.pictures.copies(name)]


def fresh_targets(bench: Bench) -> Iterator[str]:
    """80,000 URLs of ours for WebP near 512 px, none twice."""
    asked = _asked(bench, "photo.jpg")
    for quality in range(60, 80):
        for path, size in asked:
            yield servers.target("imagefactory", path, *size, "webp", quality)


def start_all(bench: Bench) -> dict[str, Server]:
    """Ours with an empty cache, and all rivals that are there, by the first word of their names."""
    folder = bench.stage.new_folder("cold")
    (folder / "static").mkdir()
    ours = servers.ours(bench.stage, "waitress", servers.write_config(folder, bench.pictures.folder))
    running = {"imagefactory": ours}
    starts: dict[str, Callable[[], Server]] = {
        "ipx": lambda: servers.ipx(bench.stage, bench.pictures.folder),
        "thumbor": lambda: bench.stage.twins(lambda: servers.thumbor(bench.stage, bench.pictures.folder, 1)),
        "nginx": lambda: bench.stage.twins(
            lambda: servers.nginx(bench.stage, folder / "static", bench.pictures.folder, 1)
        ),
    }
    for name, start in starts.items():
        server = bench.maybe(start)
        if server is not None and server.name == "nginx":
            bench.skip("nginx image_filter: apt-get install libnginx-mod-http-image-filter")
        elif server is not None:
            running[name] = server
    return running


@dataclass
class Cold:
    """Asks *server* for what it was not *asked* before, (source, size), in the same order for all."""

    server: Server
    quality: int | None
    encoding: str
    seconds: float
    least: int
    asked: list[tuple[str, tuple[int, int]]]

    def __call__(self) -> float:
        """Renders a second. Raises RuntimeError if an answer is none, or not what was asked for."""
        name = self.server.name.partition(",")[0]
        targets = {
            servers.target(name, path, *size, self.encoding, self.quality): size for path, size in self.asked
        }
        job = Job(self.server.ports, list(targets), _CONNECTIONS, self.seconds, least=self.least)
        answers = ask(job)
        self.asked = self.asked[len(answers.samples) :]
        if set(answers.statuses) != {200}:
            raise RuntimeError(f"{self.server.name}, {self.encoding}: {dict(answers.statuses)}")
        if name == "imagefactory" and set(answers.caches) != {"miss"}:
            raise RuntimeError(f"not only misses: {dict(answers.caches)}")
        if any(sample.media_type != f"image/{self.encoding}" for sample in answers.samples):
            raise RuntimeError(f"{self.server.name} sends something else than {self.encoding}")
        check(answers.body, self.encoding, targets[answers.target])
        return answers.per_second


def run(bench: Bench) -> None:
    """Each kind in turn, all contenders interleaved."""
    running = start_all(bench)
    calibrate(
        bench, running["imagefactory"], [server for name, server in running.items() if name != "imagefactory"]
    )
    our_bytes = 0
    for encoding, name, _, _, count, part in bench.details.get("qualities", []):
        our_bytes = count if name == "imagefactory" else our_bytes  # ours is the first of each encoding
        if name == "ipx":
            names = f"cold {encoding}, bytes", "imagefactory", "ipx"
            bench.add(Row(*names, part, part, part, our_bytes, count, "bytes", at_most=1.1))
    second = servers.write_config(bench.stage.new_folder("plain"), bench.pictures.folder)
    running[_NO_EXTRA] = servers.ours(bench.stage, "waitress", second, is_fast=False)
    found = {}
    for encoding, path in _KINDS.items():
        asked = _asked(bench, path)
        contenders = {}
        for name, server in running.items():
            if name == "nginx" and encoding in ("webp", "avif"):
                continue
            quality = None if name.startswith("imagefactory") else bench.qualities.get((name, encoding), 80)
            quality = None if encoding == "png" else quality
            contenders[name] = Cold(
                server, quality, encoding, bench.pick(0.4, 4.0), bench.pick(6, 16), list(asked)
            )
        found[encoding] = interleave(contenders, bench.pick(2, 5))
        _tell(bench, encoding, found[encoding])
    bench.details["cold"] = found
    bench.stage.stop(*running.values())


def _tell(bench: Bench, encoding: str, found: dict[str, list[float]]) -> None:
    ours = "imagefactory"
    for other, part in (("ipx", _TARGETS[encoding]), ("thumbor", 2.5), ("nginx", None)):
        if other in found:
            targets = {"at_least": part} if part else {}
            bench.add(
                compare(
                    f"cold {encoding}", (ours, found[ours]), (other, found[other]), "renders/s", **targets
                )
            )
    if "ipx" in found:
        row = (_NO_EXTRA, found[_NO_EXTRA]), ("ipx", found["ipx"])
        bench.add(compare(f"cold {encoding}", *row, "renders/s", at_least=0.7))
