"""Pictures that replace each other while they are asked for, and what is wrong with an answer."""

from __future__ import annotations

import os
import random
import shutil
from io import BytesIO
from pathlib import Path

from PIL import Image

from imagefactory.model.formats import PICTURE_SUFFIXES

__all__ = ["Pictures"]

VERSIONS = 8
LEVELS = (40, 128, 215)
TOLERANCE = 40


class Pictures:
    """A folder of drawn pictures, each with versions of one colour that replace each other; and pictures of
    yours, which are only touched."""

    def __init__(self, folder: Path, yours: Path | None, dice: random.Random) -> None:
        self.folder = folder
        self._dice = dice
        self._versions: dict[str, list[tuple[tuple[int, ...], bytes]]] = {}
        # The colours that a picture has had. All before the number in *_settled* are over and done with.
        self._colours: dict[str, list[tuple[int, ...]]] = {}
        self._settled: dict[str, int] = {}
        folder.mkdir()
        for name in ("a.jpg", "b.jpg", "c.png", "d.webp", "e.jpg", "f.png"):
            size = dice.randint(300, 800), dice.randint(300, 800)
            self._versions[name] = [_draw(name, size, dice) for _ in range(VERSIONS)]
            self._colours[name] = []
            self.replace(name)
        for path in sorted(yours.rglob("*")) if yours else []:
            if path.suffix[1:].lower() in PICTURE_SUFFIXES and path.is_file():
                shutil.copyfile(path, folder / path.name)
        self.names = sorted(path.name for path in folder.iterdir())

    def replace(self, name: str) -> None:
        """Put another version in the place of *name*, by rename."""
        colour, data = self._dice.choice(self._versions[name])
        fresh = self.folder.with_name("fresh")
        fresh.write_bytes(data)
        self._colours[name].append(colour)
        fresh.rename(self.folder / name)
        self._settled[name] = len(self._colours[name]) - 1

    def disturb(self) -> None:
        """Replace a picture, or touch one."""
        name = self._dice.choice(self.names)
        if name in self._versions and self._dice.random() < 0.7:
            self.replace(name)
        else:
            os.utime(self.folder / name)

    def moment(self, name: str) -> int:
        """Now, in the life of *name*: for ``shows``."""
        return self._settled.get(name, 0)

    def problem(self, name: str, since: int, width: int, body: bytes) -> str:
        """What is wrong with *body*, which was asked for as *name* at the moment *since*, in this *width*:
        "wrong", "stale" where *name* looked so before, or empty."""
        with Image.open(BytesIO(body)) as image:
            found = image.convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
            is_wide = image.width == width
        if name not in self._versions:
            return ""
        assert isinstance(found, tuple)
        moments = [
            number
            for number, colour in enumerate(self._colours[name])
            if all(abs(a - b) <= TOLERANCE for a, b in zip(found, colour, strict=True))
        ]
        if not is_wide or not moments:
            return "wrong"
        return "" if moments[-1] >= since else "stale"


def _draw(name: str, size: tuple[int, int], dice: random.Random) -> tuple[tuple[int, ...], bytes]:
    colour = tuple(dice.choice(LEVELS) for _ in range(3))
    noise = Image.effect_noise((size[0] // 4, size[1] // 4), 40).resize(size).convert("RGB")
    image = Image.blend(Image.new("RGB", size, colour), noise, 0.1)
    file = BytesIO()
    image.save(file, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rpartition(".")[2]], quality=85)
    return colour, file.getvalue()
