"""The boundary to Pillow's decoders: a file -> an opened picture, its header's facts, its loaded pixels.

Whatever a decoder may raise ends here and becomes one of our errors.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import AvifImagePlugin, Image
from PIL.IcoImagePlugin import IcoFile

from ..errors import ImageFactoryError, OutOfMemory, SourceChanged, TooLarge, Undecodable
from ..model.formats import SOURCE_FORMATS
from ..model.job import Job
from . import png_reader
from .boxes import Size
from .colours import GREY
from .containers import gif_frames, jpeg_scans, tiff_strips
from .netpbm import NetpbmFile, is_netpbm
from .source_file import MAX_READS, BytesFile, SourceFile, check_unchanged

__all__ = [
    "claims_to_be_ours",
    "count_frames",
    "credits_of",
    "decoding",
    "first_frame",
    "icon_size",
    "is_icon",
    "load",
    "open_picture",
    "open_within_budget",
    "orientation_of",
    "plays",
    "use_one_thread",
]

_MAX_EXIF = 2**20
# The pixels of a JPEG, each counted once in each scan, may be so many times what a picture may have: 0.9 s of
# decoding with the default. Encoders make 10 scans, some 20.
_SCANS = 32


@contextmanager
def decoding(file: SourceFile, job: Job | None = None) -> Iterator[None]:
    """Turns whatever a decoder raises into one of our errors.

    Decoders raise SyntaxError, ValueError, RuntimeError, EOFError, struct.error and more for bad bytes, so
    this one place catches Exception. What the disk says (EIO, EACCES) is not the picture's fault and passes.
    """
    try:
        yield
    except ImageFactoryError:
        raise
    except Exception as error:
        if job is not None:
            try:
                check_unchanged(file, job.stamp)
            except SourceChanged as changed:
                raise changed from error
        # EINVAL and EOVERFLOW: the bytes led a decoder to seek to where no file goes.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL, errno.EOVERFLOW):
            raise
        limits = {Image.DecompressionBombError: 2, Image.DecompressionBombWarning: 1}
        if type(error) in limits:
            limit = limits[type(error)] * (Image.MAX_IMAGE_PIXELS or 0)
            raise TooLarge("pixels or more", limit + 1, job.max_pixels if job else limit) from error
        if isinstance(error, MemoryError):
            raise OutOfMemory from error
        raise Undecodable("it is broken or cut off") from error


def use_one_thread() -> None:
    """Have AVIFs decoded by one thread; one for each core would be the default, in each of the workers.

    For a process of our own: Pillow can say so only for all that a process opens. The same for what NumPy,
    which comes with JPEG XL, would start beside itself when it is imported.
    """
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def open_picture(file: SourceFile) -> Image.Image:
    """The picture with its header read. Only our formats are tried: others start Ghostscript and worse."""
    if is_icon(file):
        icon = IcoFile(file).frame(0)
        icon.format = "ICO"
        return icon
    if is_netpbm(file.head):
        return NetpbmFile(file)
    formats = [name for name in SOURCE_FORMATS if name not in ("MPO", "ICO", "HEIF")]
    if not _is_bitmap(file.head):  # what else starts with "BM" makes that plugin raise, as if it were broken
        formats.remove("BMP")
    if file.head[4:8] == b"ftyp" and b"avif" not in file.head[8:] and b"avis" not in file.head[8:]:
        formats = _heif()
    handle: BytesFile | SourceFile = file
    if file.head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        # libtiff maps the file of a descriptor: one that is cut meanwhile would kill the process (SIGBUS).
        data = file.read()
        # Pillow makes a tuple of each: 50 s and gigabytes for the 20 million strips of a file of 40 MB.
        if tiff_strips(data) > MAX_READS:
            raise Undecodable("it is cut into too many blocks")
        handle = BytesFile(data)
    picture = Image.open(handle, formats=formats)
    if min(picture.size) < 1:
        raise Undecodable("it has no pixels")
    if picture.format == "PNG" and "exif" not in picture.info and (exif := _late_exif(file)):
        picture.info["exif"] = exif
    if picture.tile and picture.tile[0].args == "LA;16B":  # of a PNG; Pillow makes it RGBA
        picture.info[GREY] = True
    return picture


def _late_exif(file: SourceFile) -> bytes:
    """The eXIf chunk of a PNG from behind its pixels (PNG §5.6 allows it), which Pillow finds by decoding."""
    position = file.tell()
    found, at = b"", 8
    file.seek(at)
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name == b"eXIf":
            found = b"Exif\0\0" + file.read(min(length, _MAX_EXIF))
            break
        at += 12 + length
        file.seek(at)
    file.seek(position)
    return found


_HEIF_LOCK = threading.Lock()


def _heif() -> list[str]:
    """The format HEIF where its extra is installed. Imported when the first such file comes."""
    with _HEIF_LOCK:
        if "HEIF" not in Image.OPEN:
            try:
                import pillow_heif
            except ImportError:  # the extra "heif": without it these files are not ours
                return []
            pillow_heif.register_heif_opener(thumbnails=False)
    return ["HEIF"]


def claims_to_be_ours(head: bytes) -> bool:
    """Whether a file that no decoder took starts like one of our formats: then it is a broken picture."""
    if _is_bitmap(head):
        return True
    if head[4:8] == b"ftyp":
        return b"avif" in head[8:] or b"avis" in head[8:] or (b"hei" in head[8:] and bool(_heif()))
    names = [name for name in SOURCE_FORMATS if name in Image.OPEN and name not in ("BMP", "AVIF", "HEIF")]
    return any(accept(head[:16]) is True for name in names if (accept := Image.OPEN[name][1]))


def _is_bitmap(head: bytes) -> bool:
    """Whether a file starts as a BMP: with "BM", as words do too, and a second header of a known size."""
    return head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in (
        12,
        16,
        40,
        52,
        56,
        64,
        108,
        124,
    )


def is_icon(file: SourceFile) -> bool:
    """Whether *file* is an ICO, by its first bytes."""
    return file.head.startswith(b"\0\0\1\0")


def icon_size(file: SourceFile) -> Size:
    """The size of the largest picture of an ICO, from that picture's own header.

    The directory says at most 256 and may lie; Pillow's plugin would decode before one can ask.
    """
    file.seek(0)
    offset = IcoFile(file).entry[0].offset
    file.seek(offset)
    head = file.read(26)
    if head.startswith(b"\x89PNG"):
        width, height = struct.unpack_from(">II", head, 16)
    elif head[0] == 12:
        width, height = struct.unpack_from("<HH", head, 4)
        height //= 2  # picture and mask, one above the other
    else:
        width, height = struct.unpack_from("<ii", head, 4)
        height = abs(height) // 2
    if width < 1 or height < 1:
        raise Undecodable("it has no pixels")
    file.seek(0)
    return width, height


def open_within_budget(job: Job, file: SourceFile) -> Image.Image:
    """The picture in *file*, not decoded yet. Raises TooLarge where one frame has more than *job* allows in
    pixels or in scans, and Undecodable."""
    with decoding(file, job):
        if is_icon(file):  # its masks are decoded with the header
            _check_budget(icon_size(file), job.max_pixels)
        picture = open_picture(file)
        _check_budget(picture.size, job.max_pixels)
        _check_scans(picture, file, job.max_pixels)
    return picture


def _check_budget(size: Size, max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise TooLarge("pixels", size[0] * size[1], max_pixels)


def _check_scans(picture: Any, file: SourceFile, max_pixels: int) -> None:
    """Raise TooLarge where a decoder would go over the pixels of a JPEG too often."""
    if picture.format not in ("JPEG", "MPO"):
        return
    # Pillow has read up to the data of the first scan. Where that has all channels, and nothing is refined
    # later, it is the only one that a decoder looks at: then the file is not read.
    position = file.tell()
    file.seek(max(0, position - 8 - 2 * picture.layers))
    whole = struct.pack(">HHB", 0xFFDA, 6 + 2 * picture.layers, picture.layers)
    if "progressive" in picture.info or file.read(5) != whole:
        file.seek(0)
        pixels, limit = picture.width * picture.height, max_pixels * _SCANS
        scans = jpeg_scans(file.read(), limit // pixels)
        if scans * pixels > limit:
            raise TooLarge("pixels or more in its scans", scans * pixels, limit)
    file.seek(position)


def orientation_of(picture: Image.Image) -> int:
    """EXIF's orientation, 1 to 8. It is 1 where the decoder has turned the picture: TIFF and HEIF."""
    if picture.format in ("TIFF", "HEIF", "ICO"):
        return 1
    try:
        # Not picture.getexif(): for PNG that decodes all pixels in search of an eXIf behind them.
        value = Image.Image.getexif(picture).get(0x0112)
    except Exception:  # broken EXIF is common, and no reason to show nothing
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def count_frames(picture: Image.Image, file: SourceFile) -> int:
    """The frames of an animation; pages, thumbnails and second views are none."""
    if picture.format == "GIF":
        position = file.tell()
        file.seek(0)
        frames = gif_frames(file.read())
        file.seek(position)
        return frames
    if picture.format not in ("PNG", "WEBP", "AVIF", "NETPBM"):
        return 1
    frames = int(getattr(picture, "n_frames", 1))
    return max(1, frames - first_frame(picture))


def first_frame(picture: Image.Image) -> int:
    """The number of the first frame: of an APNG, the default image may be no part of the animation."""
    return 1 if getattr(picture, "default_image", False) else 0


def load(job: Job, file: SourceFile, picture: Image.Image, frame: int) -> None:
    """Decode a frame, the next one or the first."""
    size = picture.size
    file.reads = 0
    with decoding(file, job):
        if frame:
            if frame == 1 and getattr(picture, "default_image", False):
                _hide_default_image(picture)
            picture.seek(frame)
        if picture.size != size:  # Pillow lets a GIF's canvas grow, past any budget
            raise Undecodable("its frames have different sizes")
        if not (frame == 0 and png_reader.load(picture, file)):
            picture.load()


def _hide_default_image(picture: Any) -> None:
    """Make the default image of an APNG transparent: the first frame is drawn on nothing (PNG §13.3), but
    Pillow draws it on what was decoded before."""
    picture.load()
    picture.im.paste(
        (0,) * len(picture.getbands()) if len(picture.getbands()) > 1 else 0, (0, 0, *picture.size)
    )


def plays(picture: Image.Image) -> int:
    """How often an animation plays; 0 is for ever."""
    loop = picture.info.get("loop")
    if picture.format == "GIF":  # counts the repetitions after the first time; without a word, there are none
        return 1 if loop is None else 0 if loop == 0 else int(loop) + 1
    return int(loop or 0)


def credits_of(picture: Image.Image) -> tuple[object, object]:
    """Copyright and artist: what stays of the metadata, from EXIF or the texts of a PNG."""
    try:
        exif = Image.Image.getexif(picture)
        found = exif.get(0x8298), exif.get(0x013B)
    except Exception:  # as in orientation_of
        found = None, None
    info = picture.info if picture.format == "PNG" else {}
    return found[0] or info.get("Copyright"), found[1] or info.get("Author")
