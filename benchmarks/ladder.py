"""A ladder: 8 widths x 3 encodings of one large source, against encoding alone and ipx asked one by one."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from urllib.parse import parse_qsl

from PIL import Image

from imagefactory import render as rendering
from imagefactory.model.job import Job as RenderJob
from imagefactory.render import encoders, saving
from imagefactory.workers import pool

from . import cold, servers
from .bench import Bench
from .calibrate import LOSSY, calibrate
from .client import Job, ask
from .rounds import compare, interleave
from .servers import Server

__all__ = ["run"]

WIDTHS = (1920, 1600, 1280, 960, 640, 480, 320, 160)  # in no order that matters


def run(bench: Bench) -> None:
    """Seconds for 24 variants: ours of the JPEG and of the PNG, their encoding alone, ipx of the JPEG.

    A quick run leaves out the widths above 960, of which ipx makes an AVIF in five seconds.
    """
    _keep_memory()
    widths = bench.pick(WIDTHS[3:], WIDTHS)
    config = servers.write_config(bench.stage.new_folder("ladder"), bench.pictures.folder)
    parts = servers.parts(config)

    def job(path: str, width: int, encoding: str) -> RenderJob:
        source = parts.source(path)
        query = f"scalex={width}&encoding={encoding}"
        wanted = parts.resolver.wanted(source, parts.resolver.request(parse_qsl(query)), "")
        limits, settings = parts.config.limits, getattr(parts.config.encodings, encoding, None)
        effort = {n: getattr(settings, n) for n in ("method", "speed") if hasattr(settings, n)}
        place = parts.sources.locate(path)
        return RenderJob(
            place, source.stamp, wanted.recipe, encoding, None, limits.max_pixels, limits.max_side, effort
        )

    jobs = {
        path: [job(path, width, name) for width in widths for name in LOSSY]
        for path in ("large.jpg", "large.png")
    }
    finished = {width: _finished(job("large.jpg", width, "png")) for width in widths}
    contenders = {
        "imagefactory, JPEG": lambda: _seconds(lambda: _render_all(jobs["large.jpg"])),
        "imagefactory, PNG": lambda: _seconds(lambda: _render_all(jobs["large.png"])),
        "encoding alone": lambda: _seconds(lambda: _encode_all(jobs["large.jpg"], finished)),
    }
    ipx = _ipx(bench)
    if ipx is not None:
        contenders["ipx, one by one"] = lambda: _seconds(lambda: _ask_all(bench, ipx, widths))
    found = interleave(contenders, bench.pick(1, 5))
    if ipx is not None:
        bench.stage.stop(ipx)
    speeds = {name: [1 / seconds for seconds in values] for name, values in found.items()}
    for ours, other, at_least in (
        ("imagefactory, JPEG", "encoding alone", 0.85),
        ("imagefactory, JPEG", "ipx, one by one", 3.0),
        ("imagefactory, PNG", "encoding alone", 0.55),
    ):
        if other in speeds:
            row = (ours, speeds[ours]), (other, speeds[other])
            bench.add(compare("ladder", *row, "ladders/s", at_least=at_least))
    bench.details["ladder_seconds"] = found


def _keep_memory() -> None:
    """What glibc is told in the environment of our render workers, told to this process."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for name, number in (("MMAP_THRESHOLD", -3), ("TRIM_THRESHOLD", -1), ("TOP_PAD", -2)):  # malloc.h
            mallopt(number, int(pool.MALLOC[f"MALLOC_{name}_"]))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _render_all(jobs: list[RenderJob]) -> None:
    memory = rendering.Memory()
    for job in jobs:
        if not rendering.render(job, memory).body:
            raise RuntimeError(f"no {job.encoding}")


def _finished(job: RenderJob) -> Image.Image:
    """The pixels that *job* gives, without loss."""
    picture = Image.open(BytesIO(rendering.render(job).body or b""))
    picture.load()
    return picture.convert("RGB")


def _encode_all(jobs: list[RenderJob], finished: dict[int, Image.Image]) -> None:
    for job in jobs:
        settings = encoders.Settings(job.encoding, job.recipe.quality, job.effort)
        saving.encoded(encoders.still(finished[job.recipe.width], settings))


def _ipx(bench: Bench) -> Server | None:
    """ipx, its qualities calibrated."""
    if "qualities" in bench.details:
        return bench.maybe(lambda: servers.ipx(bench.stage, bench.pictures.folder))
    running = cold.start_all(bench)
    ipx = running.get("ipx")
    calibrate(bench, running["imagefactory"], [ipx] if ipx else [])
    bench.stage.stop(*(server for server in running.values() if server is not ipx))
    return ipx


def _ask_all(bench: Bench, ipx: Server, widths: Sequence[int]) -> None:
    targets = [
        f"/f_{name},w_{width},q_{bench.qualities.get(('ipx', name), 80)}/large.jpg"
        for width in widths
        for name in LOSSY
    ]
    answers = ask(Job(ipx.ports, targets, connections=1, seconds=600))
    if answers.statuses[200] != len(targets):
        raise RuntimeError(f"ipx: {dict(answers.statuses)}")
