"""A camera's raw file on standard output: its preview, a JPEG (``raw.py --preview FILE``), or developed, a
PPM (``raw.py FILE``, ``raw.py --full FILE``).

A program of its own, started as ``imagefactory-raw`` in the sandbox: it imports nothing of this package. The
preview is the camera's own rendering and costs a tenth of a development.
"""

from __future__ import annotations

import argparse
import sys

import rawpy

_VERSION = f"rawpy {vars(rawpy)['__version__']}, LibRaw {'.'.join(map(str, rawpy.libraw_version))}"
# EXIF 3.0 §4.6.4, tag 0x0112 of type SHORT, in both byte orders
_ORIENTATIONS = (b"\x12\x01\x03\x00", b"\x01\x12\x00\x03")
_MAX_EXIF = 64 * 1024


def main() -> None:
    """Print what the command line asks for. Prints nothing, and ends well, where a preview is asked for and
    there is none that is good enough: the caller takes its next program then."""
    parser = argparse.ArgumentParser(prog="imagefactory-raw")
    parser.add_argument("--version", action="version", version=_VERSION)
    parser.add_argument("--preview", action="store_true", help="the JPEG in the file, as it is")
    parser.add_argument("--full", action="store_true", help="all pixels of the sensor, not half of each side")
    parser.add_argument("file")
    asked = parser.parse_args()
    try:
        with rawpy.imread(asked.file) as raw:
            data = preview(raw) if asked.preview else developed(raw, asked.full)
    except (rawpy.LibRawError, ValueError, OSError, MemoryError) as error:
        sys.exit(f"imagefactory-raw: {_reason(error)}")
    sys.stdout.buffer.write(data)


def preview(raw: rawpy.RawPy) -> bytes:
    """The embedded JPEG. Empty where there is none, where it has less than half of the sensor's width, or
    where its EXIF doesn't say which side is up; LibRaw says so in a preview that has no EXIF."""
    try:
        thumb = raw.extract_thumb()
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
        return b""
    if thumb.format is not rawpy.ThumbFormat.JPEG:
        return b""
    jpeg = bytes(thumb.data)
    is_upright = any(tag in jpeg[:_MAX_EXIF] for tag in _ORIENTATIONS)
    return jpeg if is_upright and 2 * max(_size(jpeg)) >= max(raw.sizes.width, raw.sizes.height) else b""


def developed(raw: rawpy.RawPy, full: bool) -> bytes:
    """A PPM, upright, with the white balance of the camera, in sRGB; at half of the width and height, which
    needs no demosaicing, unless *full*."""
    pixels = raw.postprocess(use_camera_wb=True, half_size=not full)
    height, width, _ = pixels.shape
    data: bytes = pixels.tobytes()
    return b"P6\n%d %d\n255\n" % (width, height) + data


def _size(jpeg: bytes) -> tuple[int, int]:
    """Width and height of a JPEG (ITU-T T.81 §B.2.2); zeros where it has no frame."""
    at = 2
    while at + 9 <= len(jpeg) and jpeg[at] == 0xFF:
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(jpeg[at + 7 : at + 9], "big"), int.from_bytes(jpeg[at + 5 : at + 7], "big")
        at += 2 + length
    return 0, 0


def _reason(error: Exception) -> str:
    """LibRaw's errors have bytes for a text."""
    first = error.args[0] if error.args else error
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


if __name__ == "__main__":
    main()
