"""What was made of one source, for the next jobs that ask for it: its decoded picture, and finished pictures
before they are encoded.

A page asks for one picture in many widths and encodings. With a memory that is one decode, one resize for
each size, and the encodings. It knows pictures and sizes, and nothing of recipes. What it keeps is read-only:
Pillow copies such a picture before it changes it in place.

A variant is the same, byte for byte, whatever was rendered before it. Smaller sizes are never made from
larger sizes.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..model.source import Stamp

__all__ = ["Decoded", "Finished", "Memory", "without_metadata"]

# A decoded photograph of 50 megapixels has 200 MB.
_MAX_BYTES = 256 * 2**20
# A file that was written twice in one tick of the clock has one stamp for two pictures. So nothing is kept of
# a source that changed less than this before it was read: whatever has the stamp now has it for good.
_RACY_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Decoded:
    """The first frame of a source as decoded at 1 / *scale*, with its ``info``; and its credits as EXIF."""

    image: Image.Image
    scale: int
    exif: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """A picture that only needs to be encoded; *exif* goes along."""

    image: Image.Image
    exif: bytes


def without_metadata(image: Image.Image) -> Image.Image:
    """*image* without metadata (encoders write what they find there): a second view of the same pixels, which
    nobody may change any more."""
    view = image._new(image.im)
    view.info = {}
    view.readonly = 1
    return view


class Memory:
    """Up to *max_bytes* of pictures of the source that was named last; those used longest ago go first.

    It holds them between jobs, until ``clear``. Of a source that changed less than two seconds ago it holds
    nothing; *now_ns* is the time of day in nanoseconds, on the clock of the file system. For one thread at a
    time.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._max_bytes = max_bytes
        self._now_ns = now_ns
        self._owner: tuple[Path, Stamp] | None = None
        self._kept: OrderedDict[Hashable, tuple[object, Image.Image]] = OrderedDict()
        self._is_open = False

    def clear(self) -> None:
        """Forget everything."""
        self._owner = None
        self._kept.clear()

    def turn_to(self, source: Path, stamp: Stamp, changed_ns: int) -> None:
        """Forget what was made of any other source, and of this one with any other stamp; *changed_ns* is its
        ctime."""
        if self._owner != (source, stamp):
            self.clear()
            self._owner = source, stamp
        self._is_open = abs(self._now_ns() - changed_ns) >= _RACY_NS

    @property
    def bytes(self) -> int:
        """The bytes of all pictures; pixels that two of them share count once."""
        return sum({id(image.im): _bytes(image) for _, image in self._kept.values()}.values())

    def decoded(self, scale: int) -> Decoded | None:
        """The picture as decoded at 1 / *scale*."""
        found = self._get(("decoded", scale))
        return found if isinstance(found, Decoded) else None

    def keep_decoded(self, decoded: Decoded) -> None:
        """Keep a decoded picture."""
        self._keep(("decoded", decoded.scale), decoded, decoded.image)

    def whole(self, scale: int) -> Image.Image | None:
        """All of the picture decoded at 1 / *scale*, in plain pixels."""
        found = self._get(("whole", scale))
        return found if isinstance(found, Image.Image) else None

    def keep_whole(self, scale: int, image: Image.Image) -> None:
        """Keep the plain pixels of all of a decoded picture."""
        self._keep(("whole", scale), image, image)

    def finished(self, key: Hashable) -> Finished | None:
        """The picture that was finished under *key*."""
        found = self._get(("finished", key))
        return found if isinstance(found, Finished) else None

    def keep_finished(self, key: Hashable, finished: Finished) -> None:
        """Keep a finished picture."""
        self._keep(("finished", key), finished, finished.image)

    def _get(self, key: Hashable) -> object:
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def _keep(self, key: Hashable, value: object, image: Image.Image) -> None:
        if not self._is_open or _bytes(image) > self._max_bytes:
            return
        image.readonly = 1
        self._kept[key] = value, image
        self._kept.move_to_end(key)
        while self.bytes > self._max_bytes:
            self._kept.popitem(last=False)


def _bytes(image: Image.Image) -> int:
    """What the pixels of *image* take: Pillow stores those of more than one band in four bytes."""
    one = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
    return image.width * image.height * one.get(image.mode, 4)
