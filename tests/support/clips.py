"""Films and documents for the tests of pages: programs that take a moment, and clips that browsers play.

A stub is the header of an MP4 without a film in it. Its program draws frames whose blue is the time, and
pages of which the second one is upright.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.drawing import at_rest

__all__ = ["Stubs", "add_programs", "clip", "ffmpeg_tables"]

_PROGRAM = """
import sys
values = dict(word.split("=", 1) for word in sys.argv[1:])
width, height = (80, 50) if values["kind"] == "page" else (160, 90)
if values.get("page") == "2":
    width, height = height, width
if int(values.get("width", 0)):
    width, height = int(values["width"]), int(values["height"])
for number in range(int(values.get("frames", 1))):
    seconds = float(values.get("time", 0)) + number / float(values.get("fps", 1))
    row = bytes((0, 80, min(255, round(seconds * 8)))) * width
    sys.stdout.buffer.write(b"P6\\n%d %d\\n255\\n" % (width, height) + row * height)
"""
_SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="80" height="50">
<style>rect { fill: #00c000 }</style>
<rect id="r" width="80" height="50" fill="red" style="stroke: #0000c0; stroke-width: 20"/>
<script>document.getElementById("r").style.fill = "black"</script></svg>"""


class Stubs:
    """Films, drawings and documents in the folder *pictures*, read by a program in *folder*."""

    def __init__(self, folder: Path, pictures: Path) -> None:
        folder.mkdir()
        self._script = folder / "stub.py"
        self._script.write_text(_PROGRAM)
        self._pictures = pictures

    def film(self, name: str = "clip.mp4", seconds: float = 10.0, more: bytes = b"") -> None:
        """Write a film that says that it is so long; of 0 seconds it says nothing."""
        length = struct.pack(">5I", 0, 0, 0, 1000, round(seconds * 1000)) + bytes(80)
        found = _box(b"ftyp", b"isom" + bytes(4)) + _box(b"moov", _box(b"mvhd", length))
        self._write(name, found + _box(b"free", more))

    def document(self, name: str = "doc.pdf") -> None:
        self._write(name, b"%PDF-1.7\n")

    def drawing(self, name: str = "drawing.svg") -> None:
        """Write an SVG that is green by a style of its own, and black where its script runs."""
        self._write(name, _SVG)

    def tables(self) -> dict[str, Any]:
        """The programs of a config."""
        film = {"sources": [".mp4"], "magic": ["ftyp@4"]}
        variants = {"sprite": "film_sprite", "exact": "film_exact"}
        return {
            "film": {**self._table("film", "time"), **film, "variants": variants},
            "film_exact": self._table("exact", "time"),
            "film_sprite": self._table("sprite", "frames", "fps"),
            "pages": {**self._table("page", "page", "width", "height"), "sources": [".pdf", ".svg"]},
        }

    def _table(self, kind: str, *words: str) -> dict[str, Any]:
        words = (f"kind={kind}", "in={in}", *(f"{word}={{{word}}}" for word in words))
        return {"command": [sys.executable, "-I", str(self._script), *words], "sandbox": "none"}

    def _write(self, name: str, data: bytes) -> None:
        (self._pictures / name).write_bytes(data)
        at_rest(self._pictures / name)


def _box(kind: bytes, content: bytes) -> bytes:
    """A box of ISO/IEC 14496-12."""
    return struct.pack(">I", 8 + len(content)) + kind + content


def clip(path: Path, seconds: float = 4.0, size: str = "160x90") -> None:
    """Draw a film with ffmpeg; its suffix says the format. Skips the test where ffmpeg is missing."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")
    source = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=10:duration={seconds}"]
    encoder = ["-c:v", "libvpx"] if path.suffix == ".webm" else ["-c:v", "libx264", "-preset", "ultrafast"]
    options = ["-g", "10", "-pix_fmt", "yuv420p"]
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", *source, *encoder, *options, str(path)], check=True, timeout=60
    )
    at_rest(path)


def add_programs(config: Path, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the programs of *tables* into the file *config*."""

    def toml(value: Any) -> str:
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{name} = {toml(each)}" for name, each in value.items()) + "}"
        return json.dumps(value)

    with config.open("a") as file:
        for name, table in tables.items():
            file.write(f"[programs.{name}]\n")
            file.writelines(f"{key} = {toml(value)}\n" for key, value in table.items())


def ffmpeg_tables() -> dict[str, Any]:
    """Programs of a config that read films with ffmpeg: a poster, and a sheet of frames."""

    def table(before: list[str], filters: list[str], **keys: Any) -> dict[str, Any]:
        command = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", *before, "-i", "file:{in}", *filters]
        end = ["-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "-"]
        return {"command": [*command, *end], **keys}

    one = ["-frames:v", "1"]
    films = {"sources": [".mp4", ".webm"], "magic": ["ftyp@4", "1a45dfa3@0"]}
    return {
        "film": table(["-ss", "{time}"], one, **films, variants={"sprite": "film_sprite"}),
        "film_sprite": table([], ["-vf", "fps={fps},tpad=stop=-1:stop_mode=clone", "-frames:v", "{frames}"]),
    }
