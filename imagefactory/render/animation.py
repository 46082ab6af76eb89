"""Frames on their way into an encoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image

__all__ = ["Animation", "Reel"]


@dataclass(frozen=True, slots=True)
class Animation:
    """An animation of *length* frames, all of one size and mode.

    *durations_ms* may grow while *frames* is read. *plays* is how often it plays, 0 for ever.
    """

    frames: Iterable[Image.Image]
    length: int
    durations_ms: list[int]
    plays: int


class Reel(Image.Image):
    """A picture whose frames are made when an encoder asks for them, one in memory at a time.

    It runs forward once: Pillow rewinds after the last frame, which is ignored.
    """

    def __init__(self, animation: Animation) -> None:
        super().__init__()
        self.n_frames = animation.length
        self.is_animated = animation.length > 1
        self._frames: Iterator[Image.Image] = iter(animation.frames)
        self._position = -1
        self.seek(0)

    def seek(self, frame: int) -> None:
        """Show the next frame; EOFError after the last one."""
        if frame >= self.n_frames:
            raise EOFError
        if frame == self._position + 1:
            image = next(self._frames)
            self.im = image.im
            self._mode, self._size = image.mode, image.size
            self._position = frame

    def tell(self) -> int:
        """The position of the frame that is shown."""
        return self._position

    def encoded(self, container: str, **options: Any) -> memoryview:
        """All frames, in a *container* by Pillow's name for it. Raises ValueError the second time."""
        if self.tell() > 0:
            raise ValueError("the frames are used up")
        buffer = BytesIO()
        self.save(buffer, container, save_all=True, **options)
        return buffer.getbuffer()
