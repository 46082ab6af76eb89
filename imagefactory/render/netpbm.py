"""Pictures as external programs write them, one after the other: PPM, PGM and PAM
(netpbm.sourceforge.net/doc).

Pillow reads one picture of a PPM, and no PAM. Here several in one file are the frames of an animation.
"""

from __future__ import annotations

import re
from typing import IO, cast

from PIL import Image, ImageFile

from ..errors import Undecodable

__all__ = ["NetpbmFile", "is_netpbm"]

_LONGEST_HEADER = 512
_MAX_FRAMES = 1000
_PLAIN = re.compile(rb"P([56])(?:\s+|#[^\n]*\n)+([0-9]{1,6})\s+([0-9]{1,6})\s+([0-9]{1,5})\s")
_PAM = re.compile(rb"P7\n(.*?)ENDHDR\n", re.DOTALL)
_FIELD = re.compile(rb"^(WIDTH|HEIGHT|DEPTH|MAXVAL)\s+([0-9]{1,6})\s*$", re.MULTILINE)
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def is_netpbm(head: bytes) -> bool:
    """Whether a file that starts with *head* is one that this reads."""
    return head[:2] in (b"P5", b"P6", b"P7")


class NetpbmFile(ImageFile.ImageFile):
    """The pictures of *file* as frames, all of the size and kind of the first one; 8 bits a channel."""

    format = "NETPBM"
    format_description = "Netpbm"
    _close_exclusive_fp_after_loading = False

    def _open(self) -> None:
        self.n_frames = 0
        self._frame, self._file = -1, self.fp
        self._offsets: list[int] = []
        file, at = cast(IO[bytes], self.fp), 0
        size, mode = (0, 0), ""
        while self.n_frames < _MAX_FRAMES and (found := _header(file, at)) is not None:
            if self._offsets and found[:2] != (size, mode):
                break
            size, mode, start = found
            self._offsets.append(start)
            self.n_frames += 1
            at = start + size[0] * size[1] * Image.getmodebands(mode)
        if not self._offsets or min(size) < 1:
            raise Undecodable("it has no pixels")
        self._size, self._mode = size, mode
        self.seek(0)

    def seek(self, frame: int) -> None:
        """Turn to the picture with this number."""
        if not 0 <= frame < self.n_frames:
            raise EOFError("no more pictures")
        if frame != self._frame:
            self._frame, self.fp = frame, self._file  # which Pillow lets go of when it has loaded a picture
            self.im = None  # type: ignore[assignment]  # decoded anew
            self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), self._offsets[frame], (self.mode, 0, 1))]

    def tell(self) -> int:
        """The number of the picture."""
        return self._frame


def _header(file: IO[bytes], at: int) -> tuple[tuple[int, int], str, int] | None:
    """Size and mode of the picture that begins at *at*, and where its pixels begin; None where there is
    none."""
    file.seek(at)
    head = file.read(_LONGEST_HEADER)
    if plain := _PLAIN.match(head):
        kind, width, height, most = (int(each) for each in plain.groups())
        depth, end = (1 if kind == 5 else 3), plain.end()
    elif pam := _PAM.match(head):
        fields = {name: int(value) for name, value in _FIELD.findall(pam[1])}
        width, height, depth, most = (
            fields.get(name, 0) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")
        )
        end = pam.end()
    else:
        return None
    if most != 255 or depth not in _MODES:
        raise Undecodable(f"it has {depth} channels with values up to {most}; 1 to 4 up to 255 are read")
    return (width, height), _MODES[depth], at + end
