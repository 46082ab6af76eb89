"""Draws films with ffmpeg, and runs the ready tables as the engine does: by hand, without a sandbox."""

from __future__ import annotations

import io
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

import imagefactory
from imagefactory.render.programs.finding import found

READY = Path(imagefactory.__file__).parent / "cli" / "ready"
# The one of the extra and the one of the system, where they are there.
# That of the system, and last that of the extra, where it is another one.
FFMPEGS = list(dict.fromkeys(["/usr/bin/ffmpeg", *found("ffmpeg")[:1]]))
FFMPEGS = [path for path in FFMPEGS if Path(path).exists()]
COLOURS = [
    "#b00000",
    "#00a000",
    "#0000c0",
    "#c0c000",
    "#00b0b0",
    "#b000b0",
    "#f0f0f0",
    "#808080",
    "#d07000",
    "#004080",
]


def tables(name: str) -> dict[str, Any]:
    """The programs of the ready table *name*."""
    programs: dict[str, Any] = tomllib.loads((READY / f"{name}.toml").read_text())["programs"]
    return programs


def command(table: Mapping[str, Any], values: Mapping[str, object], start: Sequence[str] = ()) -> list[str]:
    """The command of *table* with *values* for its placeholders, else its own defaults; 0 for a size."""
    known = {"width": 0, "height": 0, **table.get("parameters", {}), **values}
    words = [*(start or found(table["command"][0])), *table["command"][1:]]
    for name, value in known.items():
        words = [word.replace(f"{{{name}}}", str(value)) for word in words]
    return words


def run(
    table: Mapping[str, Any],
    source: Path | bytes,
    start: Sequence[str] = (),
    **values: object,
) -> subprocess.CompletedProcess[bytes]:
    """What *table*'s program prints for *source*, which it gets as a descriptor of a file without a name: as
    its standard input, or as a path in ``/proc``."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        words = command(table, {"in": f"/proc/self/fd/{file.fileno()}", **values}, start)
        stdin = file if table.get("input") == "pipe" else subprocess.DEVNULL
        environment = {"PATH": "/usr/bin:/bin", **table.get("environment", {})}
        return subprocess.run(
            words, stdin=stdin, capture_output=True, pass_fds=[file.fileno()], timeout=60, env=environment
        )


def frames(data: bytes) -> list[Image.Image]:
    """The PPMs (8 bit) in *data*, one after the other."""
    found, at = [], 0
    while at < len(data):
        kind, size, most, _ = data[at : at + 40].split(b"\n", 3)
        width, height = map(int, size.split())
        assert (kind, most) == (b"P6", b"255")
        start = at + len(kind) + len(size) + len(most) + 3
        at = start + width * height * 3
        assert at <= len(data)
        found.append(Image.frombytes("RGB", (width, height), data[start:at]))
    return found


def film(
    path: Path, pictures: Iterable[Image.Image], *options: str, fps: int = 10, before: Sequence[str] = ()
) -> Path:
    """A film of *pictures*, of one size, at *path*; H.264 unless *options* say otherwise."""
    every = list(pictures)
    width, height = every[0].size
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
    draw(
        *before,
        *source,
        *(options or ("-pix_fmt", "yuv420p")),
        str(path),
        data=b"".join(each.tobytes() for each in every),
    )
    return path


def draw(*words: str, data: bytes = b"") -> None:
    """Run an ffmpeg with these *words*: the newest, as that of Debian 12 can't turn a film."""
    start = [FFMPEGS[-1], "-v", "error", "-y", *words]
    subprocess.run(start, input=data, check=True, capture_output=True, timeout=60)


def colour_of_each_second(
    seconds: int = 10, fps: int = 10, size: tuple[int, int] = (128, 96)
) -> list[Image.Image]:
    """The frames of a film whose colour says which second it is."""
    return [Image.new("RGB", size, COLOURS[n // fps % len(COLOURS)]) for n in range(seconds * fps)]


def second(image: Image.Image) -> int:
    """Which second of such a film *image* shows."""
    pixel = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
    wanted = [Image.new("RGB", (1, 1), colour).getpixel((0, 0)) for colour in COLOURS]
    apart = [sum((a - b) ** 2 for a, b in zip(pixel, each, strict=True)) for each in wanted]  # type: ignore[arg-type]
    return apart.index(min(apart))


def opened(data: bytes) -> Image.Image:
    """*data* as a picture."""
    return Image.open(io.BytesIO(data))
