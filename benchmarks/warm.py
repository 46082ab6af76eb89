"""``python -m benchmarks.warm [FOLDER [N]]``: what warming costs.

- A warm of the pictures in FOLDER (the samples) over the ladder as JPEG, WebP and AVIF, against the encoders
  alone on the finished pictures, in as many processes; by turns. And a second run, which renders nothing.
- A run over N (100,000) sources that are warm, against one stat of each.
- p99 of a server's hits beside a warm, against the same beside busy processes at nice 10.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from urllib.parse import quote

from PIL import Image

from imagefactory import render
from imagefactory.common.cores import cores
from imagefactory.model.job import Job as RenderJob
from imagefactory.render import encoders, saving
from imagefactory.upkeep.warm.orders import is_picture
from imagefactory.workers import pool

from . import servers
from .calibrate import LOSSY
from .client import Job, ask
from .pictures import wait_until_settled
from .servers import Stage

__all__ = ["main"]

_SAMPLES = Path(__file__).parent.parent / "pictures"
_LADDER = ("--ladder", *(word for name in LOSSY for word in ("--encoding", name)))
_ROUNDS = 3
_HITS_S = 6.0


def main(folder: Path = _SAMPLES, count: int = 100_000) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory(prefix="imagefactory-warm-") as name, Stage() as stage:
        _against_encoding(Path(name), folder)
        _beside_hits(stage, Path(name), folder)
        _already_warm(Path(name) / "many", count)


# --- against encoding alone -------------------------------------------------------------------------------


def _against_encoding(base: Path, folder: Path) -> None:
    ratios = []
    for number in range(_ROUNDS):
        config = _config(base / str(number), folder)
        first = _warm(config, *_LADDER)
        again = _warm(config, *_LADDER)
        alone = _encoding_seconds(config)
        ratios.append(alone / first["seconds"])
        print(
            f"{first['pictures']} pictures, {first['rendered']} renders in {first['seconds']:.1f} s, "
            f"encoding alone {alone:.1f} s: {ratios[-1]:.2f} of its speed; "
            f"second run: {again['rendered']} rendered in {again['seconds']:.2f} s",
            flush=True,
        )
    print(f"median: {median(ratios):.2f}", flush=True)


def _config(folder: Path, pictures: Path) -> Path:
    folder.mkdir(parents=True)
    return servers.write_config(folder, pictures, folder / "cache")


def _warm(config: Path, *options: str) -> dict[str, float]:
    done = subprocess.run(_command(config, *options), capture_output=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _command(config: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "imagefactory", "--config", str(config), "warm", "--json", *options]


def _encoding_seconds(config: Path) -> float:
    """What the encoders take for all variants, in one process per core, perfectly shared out."""
    variants = _variants(config)
    os.environ.update(pool.MALLOC)  # as our render workers have it; read when a process starts
    shares = [variants[start :: cores()] for start in range(cores())]
    with ProcessPoolExecutor(cores(), get_context("spawn")) as processes:
        return sum(processes.map(_encode_all, [config] * len(shares), shares)) / cores()


def _variants(config: Path) -> list[tuple[str, int, str]]:
    """Path, width and encoding of each variant, those that coincide once."""
    parts = servers.parts(config)
    found = {}
    for path in parts.sources.walk():
        source = parts.source(path)
        for width in parts.config.limits.ladder if source.header else ():
            for name in LOSSY:
                request = parts.resolver.request([("scalex", str(width)), ("encoding", name)])
                found.setdefault(parts.resolver.wanted(source, request, "").key, (path, width, name))
    return list(found.values())


def _encode_all(config: Path, variants: Sequence[tuple[str, int, str]]) -> float:
    """The seconds that encoding takes of what it takes to make *variants*."""
    os.nice(19)  # as the render processes of a warm
    parts, seconds = servers.parts(config), 0.0
    for path, width, name in variants:
        source = parts.source(path)
        request = parts.resolver.request([("scalex", str(width)), ("encoding", name)])
        wanted = parts.resolver.wanted(source, request, "")
        with parts.sources.fetch(path, source.stamp) as local:
            job = parts.maker._job(source, local, wanted, None)
            if source.header is not None and source.header.frames > 1:
                seconds += render.render(job).seconds["encode"]
            else:
                seconds += _encode(job)
    return seconds


def _encode(job: RenderJob) -> float:
    finished = Image.open(BytesIO(render.render(replace(job, encoding="png")).body or b""))
    finished.load()
    if job.encoding == "jpeg" or not finished.has_transparency_data:
        finished = finished.convert("RGB")
    settings = encoders.Settings(job.encoding, job.recipe.quality, job.effort)
    began = time.perf_counter()
    saving.encoded(encoders.still(finished, settings))
    return time.perf_counter() - began


# --- beside hits ------------------------------------------------------------------------------------------


def _beside_hits(stage: Stage, base: Path, folder: Path) -> None:
    config = _config(base / "hits", folder)
    _warm(config, "--size", "100")
    server = servers.ours(stage, "waitress", config)
    walked = servers.parts(config).sources.walk()
    paths = [f"/picture/{quote(path)}?size=100" for path in walked if is_picture(path)]
    answers = ask(Job(server.ports, paths, connections=1, least=len(paths)))
    if answers.statuses[200] < len(paths):
        raise RuntimeError(f"not all are pictures: {dict(answers.statuses)}")
    ratios = []
    for number in range(_ROUNDS):
        found = {}
        for what in ("nothing", "busy", "warm"):
            others = []
            if what == "busy":
                busy = "import os\nos.nice(10)\nwhile True: pass"
                others = [subprocess.Popen([sys.executable, "-c", busy]) for _ in range(cores())]
            elif what == "warm":
                sizes = [word for side in range(300, 340) for word in ("--size", str(side + 40 * number))]
                command = _command(config, *sizes, *_LADDER[1:])
                others = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]
            time.sleep(2)
            found[what] = _p99(server.ports, paths)
            if any(each.poll() is not None for each in others):
                raise RuntimeError(f"{what} ended too soon")
            for each in others:
                each.terminate()
                each.wait()
        ratios.append(found["warm"] / found["busy"])
        said = ", ".join(f"{what} {seconds * 1000:.2f} ms" for what, seconds in found.items())
        print(f"p99 of hits beside {said}: {ratios[-1]:.2f} of that beside busy processes", flush=True)
    print(f"median: {median(ratios):.2f}", flush=True)
    stage.stop(server)


def _p99(ports: Sequence[int], targets: Sequence[str]) -> float:
    answers = ask(Job(ports, targets, seconds=_HITS_S, pause_s=0.01, is_rotating=True))
    return answers.latency(0.99)


# --- what is warm already ---------------------------------------------------------------------------------


def _already_warm(folder: Path, count: int) -> None:
    pictures = folder / "pictures"
    config = _config(folder, pictures)
    buffer = BytesIO()
    Image.new("RGB", (16, 12)).save(buffer, "JPEG")
    for number in range(count):
        path = pictures / f"folder {number // 1000}" / f"picture {number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue() + b"%d" % number)
    wait_until_settled()
    began = time.perf_counter()
    first = _warm(config, "--size", "8")
    print(f"{first['rendered']:,} tiny pictures rendered in {time.perf_counter() - began:.0f} s", flush=True)
    paths = [str(path) for path in pictures.rglob("*.jpg")]
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        for path in paths:
            os.stat(path)  # noqa: PTH116  # a Path costs as much again
        alone = time.perf_counter() - began
        process = subprocess.Popen(_command(config, "--size", "8"), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        found = json.loads(process.stdout.read())
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        print(
            f"{count:,} warm sources: {found['seconds'] / count * 1e6:.1f} us each, "
            f"{found['seconds'] / alone:.1f} stats; {found['rendered']} rendered, "
            f"{usage.ru_maxrss / 1000:.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main(*[Path(text) for text in sys.argv[1:2]], *map(int, sys.argv[2:3]))
