"""A page of a PDF as PPM on standard output: ``pdf.py --width W --height H --page N FILE``.

A program of its own, started as ``imagefactory-pdf`` in the sandbox: it imports nothing of this package.
PDFium as pypdfium2 ships it has neither JavaScript (V8) nor XFA, and is given no callback that could open a
link or a file. Forms and annotations are drawn.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pypdfium2

_VERSION = f"pypdfium2 {pypdfium2.PYPDFIUM_INFO}, PDFium {pypdfium2.PDFIUM_INFO}"
_POINTS_PER_INCH = 72
# A page of 200 inches is allowed (PDF 32000-1, annex C.2). At its natural size it would take gigabytes.
_LONGEST_NATURAL_PX = 4096
_MOST_PIXELS = 100_000_000


def main() -> None:
    """Print the page that the command line asks for; exit with 1 and a line if there is none."""
    parser = argparse.ArgumentParser(prog="imagefactory-pdf")
    parser.add_argument("--version", action="version", version=_VERSION)
    parser.add_argument("--width", type=int, default=0, help="pixels; 0 for both: by --dpi")
    parser.add_argument("--height", type=int, default=0)
    parser.add_argument("--page", type=int, default=1, help="the first is 1")
    parser.add_argument("--dpi", type=float, default=96)
    parser.add_argument("file")
    asked = parser.parse_args()
    try:
        sys.stdout.buffer.writelines(page(asked.file, asked.page, asked.width, asked.height, asked.dpi))
    except (pypdfium2.PdfiumError, ValueError, OSError) as error:
        sys.exit(f"imagefactory-pdf: {error}")


def page(path: str, number: int, width: int, height: int, dpi: float) -> tuple[bytes, memoryview]:
    """Head and pixels (RGB) of the PPM: *width* x *height*, or where both are 0 the page's own size at *dpi*.

    Raises PdfiumError for what is no PDF, is broken or wants a password, ValueError for a page that it
    doesn't have or a size that is too large, OSError for the file.
    """
    # Opened here: a path is resolved first, and /proc/self/fd/3 then is a name that may be gone.
    document = pypdfium2.PdfDocument(Path(path).open("rb"), autoclose=True)  # noqa: SIM115  closed with the document
    document.init_forms()  # before the pages, or no field of a form is drawn
    if not 1 <= number <= len(document):
        raise ValueError(f"it has {len(document)} pages, and no page {number}")
    sheet = document[number - 1]
    own = sheet.get_size()
    if not (width and height):
        scale = min(dpi / _POINTS_PER_INCH, _LONGEST_NATURAL_PX / max(*own, 1))
        width, height = (max(1, round(side * scale)) for side in own)
    if width * height > _MOST_PIXELS:
        raise ValueError(f"{width} x {height} is more than {_MOST_PIXELS} pixels")
    # Page.render takes one scale for both sides and rounds up: up to a pixel more than asked for.
    raw = pypdfium2.raw
    bitmap = pypdfium2.PdfBitmap.new_native(width, height, raw.FPDFBitmap_BGR, rev_byteorder=True)
    bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
    where = (bitmap, sheet, 0, 0, width, height, 0, raw.FPDF_ANNOT | raw.FPDF_REVERSE_BYTE_ORDER)
    raw.FPDF_RenderPageBitmap(*where)
    if document.formenv:
        raw.FPDF_FFLDraw(document.formenv, *where)
    return b"P6\n%d %d\n255\n" % (width, height), _packed(memoryview(bitmap.buffer).cast("B"), bitmap)


def _packed(pixels: memoryview, bitmap: pypdfium2.PdfBitmap) -> memoryview:
    """The rows without what fills each up to a multiple of four bytes."""
    row = bitmap.width * 3
    if bitmap.stride == row:
        return pixels
    starts = range(0, bitmap.stride * bitmap.height, bitmap.stride)
    return memoryview(b"".join(pixels[start : start + row] for start in starts))


if __name__ == "__main__":
    main()
