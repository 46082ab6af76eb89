"""A film of a format of our own, and a program that reads it: what the tests of programs run.

A toy film is a line ``TOY width height seconds``; at second t its left half is red and its right half has a
blue of 2 t + 40. The program notes each run in a file beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

__all__ = ["Toys", "toy"]

_PROGRAM = """
import sys
from pathlib import Path
here = Path(__file__).parent
words = sys.argv[1:]
if words == ["--version"]:
    print((here / "version").read_text())
    sys.exit()
values = dict(word.split("=", 1) for word in words)
with open(here / "runs", "a") as file:
    print(" ".join(word for word in words if not word.startswith("in=")), file=file)
data = open(values["in"], "rb").read() if "in" in values else sys.stdin.buffer.read()
_, width, height, seconds = data.split()[:4]
width, height, seconds = int(width), int(height), float(seconds)
if int(values.get("width", 0)):
    width, height = int(values["width"]), int(values["height"])
start, fps = float(values.get("time", 0)), float(values.get("fps", 1))
frames = int(values.get("frames", 1))
page = int(values.get("page", 1))
if page == 2:
    width, height = height, width
if page > 2:
    print("there is no page", page, "in /secret/place", file=sys.stderr)
    sys.exit(3)
if b"crash" in data:
    import os
    sys.stdout.buffer.write(b"P6 half")
    sys.stdout.flush()
    os.kill(os.getpid(), 11)
for number in range(frames):
    time = start + number / fps
    if time > seconds and "exact" not in values:
        break
    row = b"\\xdc\\x1e\\x1e" * (width // 2)
    row += bytes((0, 0, min(255, int(time) * 2 + 40))) * (width - width // 2)
    sys.stdout.buffer.write(b"P6\\n%d %d\\n255\\n" % (width, height) + row * height)
"""
_ENCODER = """
import sys
from pathlib import Path
with open(Path(__file__).parent / "runs", "a") as file:
    print("encode", *sys.argv[1:], file=file)
data = sys.stdin.buffer.read()
assert data[:2] in (b"P6", b"P5"), data[:10]
sys.stdout.buffer.write(b"\\xff\\xd8\\xff\\xe0 toy " + sys.argv[1].encode() + b" %d" % len(data))
"""
_WHOLE = """
import sys
words = " ".join(sys.argv[2:]).encode()
sys.stdout.buffer.write(b"\\xff\\xd8\\xff\\xe0 whole " + words + open(sys.argv[1], "rb").read()[:20])
"""


class Toys:
    """The program in *folder*, and the tables of a config that run it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        for name, text in (("toy.py", _PROGRAM), ("encoder.py", _ENCODER), ("whole.py", _WHOLE)):
            (folder / name).write_text(text)
        self.set_version("toy 1.0")

    def set_version(self, text: str) -> None:
        """The line that the program says of itself from now on."""
        (self.folder / "version").write_text(text)

    def runs(self) -> list[str]:
        """The words of each run until now."""
        file = self.folder / "runs"
        return file.read_text().splitlines() if file.exists() else []

    def command(self, *words: str, script: str = "toy.py") -> list[str]:
        return [sys.executable, "-I", str(self.folder / script), *words]

    def table(self, *words: str, **keys: Any) -> dict[str, Any]:
        """A table that decodes toy films with these placeholders as words: ``time`` is ``time={time}``."""
        command = self.command("in={in}", *(f"{word}={{{word}}}" for word in words))
        return {
            "command": command,
            "probe": self.command("--version"),
            "sources": [".toy"],
            "magic": ["TOY@0"],
            "sandbox": "none",
            **keys,
        }

    def extra(self, *words: str, **keys: Any) -> dict[str, Any]:
        """A table for no sources of its own."""
        return self.table(*words, **{"sources": [], "magic": [], **keys})

    def tables(self) -> dict[str, Any]:
        """A film with all that it may have."""
        return {
            "film": self.table(
                "time",
                fallback="film_exact",
                variants={
                    "exact": "film_exact",
                    "auto": "film_auto",
                    "preview": "film_preview",
                    "sprite": "film_preview",
                },
            ),
            "film_exact": self.extra("time") | {"command": self.command("in={in}", "time={time}", "exact=1")},
            "film_auto": self.extra() | {"command": self.command("in={in}", "time=7")},
            "film_preview": self.extra("time", "frames", "fps"),
        }


def toy(width: int = 400, height: int = 300, seconds: float = 60, more: str = "") -> str:
    """The text of a toy film."""
    return f"TOY {width} {height} {seconds} {more}\n"
