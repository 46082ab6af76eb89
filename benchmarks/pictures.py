"""The pictures that are asked for, and how like the true one an answer is."""

from __future__ import annotations

import io
import os
import shutil
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

__all__ = ["Pictures", "check", "gather", "ssim", "wait_until_settled"]

# kind: (the photograph, the sample that is used without a folder of photographs)
_KINDS = {
    "photo": ("harbour-6mp.jpg", "harbour.jpg"),
    "large": ("phone-12mp.jpg", "landscapes/misty ridges.jpg"),
    "alpha": ("paper-alpha.png", "studies/botanical.png"),
}
_SAMPLES = Path(__file__).parent.parent / "pictures"
_COPIES = 16
_RACY_S = 2.1  # a source younger than this is hashed at every look-up


@dataclass(frozen=True)
class Pictures:
    """The *folder* that all contenders read, with photo.jpg, large.jpg, alpha.png, and large.png: the large
    one once more as PNG. *said* describes them.

    photo-0.jpg to photo-15.jpg, and so of alpha.png, have equal pixels and different bytes. Asked for by
    turns, no contender gains by remembering the last source, as ours does.
    """

    folder: Path
    said: str

    @staticmethod
    def copies(name: str) -> list[str]:
        """The names of the copies of *name*."""
        stem, _, suffix = name.partition(".")
        return [f"{stem}-{number}.{suffix}" for number in range(_COPIES)]

    def height(self, name: str, width: int) -> int:
        """The height of *name* at *width*: nothing is cut off, which thumbor is slow at."""
        with Image.open(self.folder / name) as picture:
            return round(width * picture.height / picture.width)


def gather(folder: Path) -> Pictures:
    """Copies of the photographs in the folder that PHOTOS names, else of the samples, in the new *folder*."""
    folder.mkdir()
    photos = os.environ.get("PHOTOS", "")
    said = []
    for kind, (photo, sample) in _KINDS.items():
        source = Path(photos, photo)
        if not photos or not source.is_file():
            source = _SAMPLES / sample
        target = folder / f"{kind}{source.suffix}"
        shutil.copyfile(source, target)
        with Image.open(target) as picture:
            said.append(f"{source.name} {picture.width}x{picture.height} {picture.mode}")
    with Image.open(folder / "large.jpg") as picture:
        picture.convert("RGB").save(folder / "large.png", compress_level=4)
    for name in ("photo.jpg", "alpha.png"):
        data = (folder / name).read_bytes()
        for number, copy in enumerate(Pictures.copies(name)):
            (folder / copy).write_bytes(_marked(data, number))
    wait_until_settled()
    return Pictures(folder, ", ".join(said))


def _marked(data: bytes, number: int) -> bytes:
    """The JPEG or PNG *data* with a comment, which changes its digest and none of its pixels."""
    text = b"copy %04d" % number
    if data.startswith(b"\xff\xd8"):
        return data[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2) + text + data[2:]
    chunk = b"tEXtComment\0" + text
    made = (len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
    return data[:33] + made + data[33:]  # behind the signature and IHDR


def wait_until_settled() -> None:
    """Wait until files written before are old enough for their stamps to be trusted."""
    time.sleep(_RACY_S)


def check(body: bytes, encoding: str, size: tuple[int, int]) -> None:
    """Raise RuntimeError unless *body* is a whole picture in *encoding* of this *size*."""
    with Image.open(io.BytesIO(body)) as picture:
        picture.load()
        if picture.format != encoding.upper() or picture.size != size:
            raise RuntimeError(f"asked for {encoding} {size}, got {picture.format} {picture.size}")


def ssim(body: bytes, source: Path) -> float:
    """The structural similarity of the picture *body* to *source*, fully decoded and resized by Lanczos to
    cover the same size; 1 is equal."""
    import numpy
    from skimage.metrics import structural_similarity

    with Image.open(io.BytesIO(body)) as picture, Image.open(source) as true:
        wanted = ImageOps.fit(true.convert("RGB"), picture.size, Image.Resampling.LANCZOS)
        found = numpy.asarray(picture.convert("RGB"))
    return float(structural_similarity(found, numpy.asarray(wanted), channel_axis=2))
