"""The processor time of a film's poster: the key frame before a time, beside the very frame.

    make posters            # about a minute; needs ffmpeg

A clip of one minute, 1920x1080 at 25 a second with a key frame every ten seconds, is drawn by ffmpeg; then
the ready tables of ``imagefactory programs --write video`` are run on it as in the server, in turn, at times
that SEED chooses: anywhere, and at the end of a group of pictures, where the exact frame is the dearest.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import tempfile
import tomllib
from pathlib import Path

from imagefactory.config import from_mapping
from imagefactory.engine.programs import Programs
from imagefactory.model.program import ProgramJob
from imagefactory.model.source import Stamp
from imagefactory.render.making import make
from imagefactory.render.programs import finding, sandbox
from imagefactory.urls.program_parameters import read_asked

__all__ = ["main"]

_READY = Path(__file__).parents[1] / "imagefactory/cli/ready/video.toml"
_CLIP = "testsrc2=size=1920x1080:rate=25:duration=60"
_ENCODER = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "28", "-g", "250", "-pix_fmt", "yuv420p"]
_TIMES = 12


def draw(file: Path) -> None:
    """The clip, in *file*."""

    start = finding.found("ffmpeg")
    if not start:
        raise SystemExit("this needs ffmpeg, or pip install imageio-ffmpeg")
    subprocess.run([*start, "-v", "error", "-f", "lavfi", "-i", _CLIP, *_ENCODER, str(file)], check=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="make posters", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    tables = tomllib.loads(_READY.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="imagefactory-posters-") as name:
        clip = Path(name, "clip.mp4")
        draw(clip)
        programs = Programs(from_mapping(tables, Path(name)).programs)
        print(programs.program("video").version, "/ sandbox:", sandbox.describe())

        def cpu_s(table: str, seconds: float) -> float:
            order = programs.ordered(programs.plain_run(table, read_asked([("t", f"{seconds:.3f}")])), (0, 0))
            job = ProgramJob(clip, Stamp.of(clip.stat()), order.program, order.values, "ppm", None)
            return make(job).seconds["cpu"]

        chance = random.Random(seed)
        for where, times in (
            ("anywhere", [chance.uniform(0, 59.9) for _ in range(_TIMES)]),
            ("at the end of a group", [10 * chance.randrange(1, 6) - 0.05 for _ in range(_TIMES)]),
        ):
            keys = [cpu_s("video", each) for each in times]
            exact = [cpu_s("video_exact", each) for each in times]
            ratio = statistics.median(exact) / statistics.median(keys)
            print(
                f"{where}: key frame {statistics.median(keys):.3f} s (at most {max(keys):.3f}), "
                f"exact {statistics.median(exact):.3f} s (at most {max(exact):.3f}), {ratio:.1f} times"
            )


if __name__ == "__main__":
    main()
