"""A picture that lacks pixels is refused, wherever it was cut. Only the mark of its end may be missing."""

from __future__ import annotations

import io
import os
import random
import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageSequence
from support.drawing import encoded, gif, ico, orientation, png_chunk, quarters, scene, written

from imagefactory.errors import ImageFactoryError, TooLarge, Undecodable
from imagefactory.model.source import Header
from imagefactory.render.checking import check
from imagefactory.render.pipeline import probe

MAX_PIXELS = 1_000_000
EOI = b"\xff\xd9"


def noise(mode: str = "RGB", size: tuple[int, int] = (92, 70)) -> Image.Image:
    """Pixels without a pattern, so that no byte of their file is without a meaning."""
    draw = random.Random(f"{mode} {size}")
    if mode == "1":
        return noise("L", size).convert("1", dither=Image.Dither.NONE)
    if mode == "P":
        return noise("RGB", size).quantize(64)
    if mode == "I;16":
        return Image.frombytes(mode, size, draw.randbytes(size[0] * size[1] * 2))
    bands = (
        Image.frombytes("L", size, draw.randbytes(size[0] * size[1]))
        for _ in Image.new(mode, (1, 1)).getbands()
    )
    return Image.merge(mode, list(bands))


def soft(*grey: int) -> Image.Image:
    """Gradients, and in the last rows the *grey* that libjpeg takes for what is lacking."""
    image = scene(130, 95)
    if grey:
        ImageDraw.Draw(image).rectangle((0, 60, 130, 95), fill=(grey[0],) * 3)
    return image


def moving(format: str, **options: Any) -> bytes:
    """Three frames."""
    first, *others = (noise("RGB", (48, 40 + n)).crop((0, 0, 48, 40)) for n in range(3))
    return encoded(first, format, save_all=True, append_images=others, **options)


JPEGS: dict[str, Callable[[], bytes]] = {
    "colour": lambda: encoded(noise(), "JPEG"),
    "4:4:4": lambda: encoded(noise(), "JPEG", subsampling=0, quality=97),
    "4:2:2": lambda: encoded(noise(), "JPEG", subsampling=1, quality=30),
    "own tables": lambda: encoded(soft(), "JPEG", optimize=True),
    "grey": lambda: encoded(noise("L"), "JPEG"),
    "CMYK": lambda: encoded(noise("CMYK"), "JPEG"),
    "restarts": lambda: encoded(noise(), "JPEG", restart_marker_blocks=4),
    "restarts of each row, own tables": lambda: encoded(soft(), "JPEG", restart_marker_rows=1, optimize=True),
    "white": lambda: encoded(Image.new("RGB", (90, 50), "white"), "JPEG", optimize=True),
    "the grey of nothing": lambda: encoded(Image.new("RGB", (64, 48), (128, 128, 128)), "JPEG"),
    "the grey of nothing at last": lambda: encoded(soft(128), "JPEG"),
    "the grey of nothing, restarts": lambda: encoded(
        soft(128), "JPEG", restart_marker_blocks=3, optimize=True
    ),
    "progressive": lambda: encoded(noise(), "JPEG", progressive=True),
    "progressive, soft": lambda: encoded(soft(), "JPEG", progressive=True, quality=90),
    "progressive, 4:4:4": lambda: encoded(soft(), "JPEG", progressive=True, subsampling=0),
    "progressive, grey": lambda: encoded(noise("L"), "JPEG", progressive=True),
    "progressive, restarts": lambda: encoded(noise(), "JPEG", progressive=True, restart_marker_blocks=5),
    "progressive, CMYK": lambda: encoded(noise("CMYK"), "JPEG", progressive=True),
}
# For each kind, how many bytes at its end are no more than the mark of the end.
OTHERS: dict[str, tuple[Callable[[], bytes], int]] = {
    "PNG": (lambda: encoded(noise(), "PNG"), 12),
    "PNG, grey": (lambda: encoded(noise("L"), "PNG"), 12),
    "PNG, alpha": (lambda: encoded(noise("RGBA"), "PNG"), 12),
    "PNG, 16 bits": (lambda: encoded(noise("I;16"), "PNG"), 12),
    "PNG, 1 bit": (lambda: encoded(noise("1"), "PNG"), 12),
    "PNG, palette": (lambda: encoded(noise("P"), "PNG"), 12),
    "PNG, interlaced": (lambda: interlaced(), 12),
    "PNG, many IDAT": (lambda: png(pixels(20, 20), 20, 20, block=50), 12),
    "APNG": (lambda: moving("PNG"), 12),
    "APNG, default image": (lambda: moving("PNG", default_image=True), 12),
    "GIF": (lambda: encoded(noise("P"), "GIF"), 1),
    "GIF, interlaced": (lambda: encoded(noise("P"), "GIF", interlace=1), 1),
    "GIF, moving": (lambda: moving("GIF"), 1),
    "WebP": (lambda: encoded(noise(), "WEBP"), 0),
    "WebP, lossless": (lambda: encoded(noise(), "WEBP", lossless=True), 0),
    "WebP, alpha": (lambda: encoded(noise("RGBA"), "WEBP"), 0),
    "WebP, moving": (lambda: moving("WEBP"), 0),
    "AVIF": (lambda: encoded(noise("RGB", (48, 40)), "AVIF", speed=10), 0),
    "AVIF, alpha": (lambda: encoded(noise("RGBA", (48, 40)), "AVIF", speed=10), 0),
    "AVIF, moving": (lambda: moving("AVIF", speed=10), 0),
    "TIFF": (lambda: encoded(noise(), "TIFF"), 0),
    "TIFF, deflated": (lambda: tiff(), 0),
    "BMP": (lambda: encoded(noise(), "BMP"), 0),
    "ICO of a PNG": (lambda: encoded(noise("RGBA", (64, 64)), "ICO", sizes=[(64, 64)]), 12),
    "ICO": (lambda: encoded(noise("RGBA", (64, 64)), "ICO", sizes=[(64, 64)], bitmap_format="bmp"), 0),
    "JPEG 2000": (lambda: encoded(noise(), "JPEG2000"), 0),
    "JPEG 2000, codestream": (lambda: encoded(noise(), "JPEG2000", no_jp2=True), 0),
}


def pixels(width: int, height: int) -> bytes:
    """The rows of a PNG of noise, without filters."""
    draw = random.Random(1)
    return b"".join(b"\0" + draw.randbytes(3 * width) for _ in range(height))


def png(
    rows: bytes, width: int, height: int, *late: bytes, block: int = 2**31 - 1, interlace: int = 0
) -> bytes:
    """A PNG of these rows, in IDAT chunks of *block* bytes, and of *late* chunks behind them."""
    data = zlib.compress(rows)
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlace))
    parts = [png_chunk(b"IDAT", data[at : at + block]) for at in range(0, len(data), block)]
    return b"\x89PNG\r\n\x1a\n" + head + b"".join((*parts, *late)) + png_chunk(b"IEND", b"")


def interlaced() -> bytes:
    """A PNG of 13 x 11 pixels in seven passes."""
    passes = ((2, 2), (2, 2), (4, 1), (3, 3), (7, 3), (6, 6), (13, 5))
    return png(b"".join(pixels(*size) for size in passes), 13, 11, interlace=1)


def tiff() -> bytes:
    """A TIFF whose pixels come last: libtiff writes them first, and what says where they are is cut off."""
    data = zlib.compress(random.Random(2).randbytes(40 * 30))
    tags = (
        (256, 40),
        (257, 30),
        (258, 8),
        (259, 8),
        (262, 1),
        (273, 122),
        (277, 1),
        (278, 30),
        (279, len(data)),
    )
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + table + bytes(4)).ljust(122, b"\0") + data


def heif() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener(thumbnails=False)
    return encoded(noise("RGB", (64, 64)), "HEIF")


def frames(data: bytes) -> list[tuple[str, bytes]]:
    """The pixels of all frames, as Pillow decodes them."""
    with Image.open(io.BytesIO(data)) as image:
        return [(frame.mode, frame.tobytes()) for frame in ImageSequence.Iterator(image)]


def shown(data: bytes) -> list[tuple[str, bytes]] | None:
    """``frames`` of a file that is cut, None where there are none."""
    try:
        return frames(data)
    except Exception:  # Pillow raises about everything
        return None


def passes(folder: Path, data: bytes, max_pixels: int = MAX_PIXELS) -> bool:
    """What the check says of *data*; the header is that of a probe."""
    path = written(folder, "picture", data)
    try:
        found = check(path, max_pixels)
    except Undecodable:
        return False
    assert found is not None
    assert found == probe(path)
    return True


@cache
def cuts(length: int, start: int = 0) -> list[int]:
    """How many bytes stay: all but 1 to 40, and 10 to 99 per cent of what comes behind *start*."""
    late = {length - n for n in range(1, 41)}
    early = {start + (length - start) * part // 100 for part in (*range(10, 99, 8), 99)}
    return sorted(n for n in late | early if n > start)


# --- whole ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*JPEGS, *OTHERS])
def test_a_whole_picture_passes(tmp_path: Path, kind: str) -> None:
    assert passes(tmp_path, JPEGS[kind]() if kind in JPEGS else OTHERS[kind][0]())


def test_a_whole_heic_passes_and_a_cut_one_does_not(tmp_path: Path) -> None:
    data = heif()
    assert passes(tmp_path, data)
    assert not [n for n in cuts(len(data), 40) if passes(tmp_path, data[:n])]


def test_the_header_is_that_of_a_probe(tmp_path: Path) -> None:
    turned = written(tmp_path, "a.jpg", encoded(quarters(), "JPEG", exif=orientation(6)))
    assert check(turned, MAX_PIXELS) == Header(300, 400, "JPEG", 1, 6)
    moving_one = written(tmp_path, "a.webp", moving("WEBP", lossless=True))
    assert check(moving_one, MAX_PIXELS) == Header(48, 40, "WEBP", 3, 1, probe(moving_one).has_alpha)  # type: ignore[union-attr]
    assert check(written(tmp_path, "a.txt", b"not a picture"), MAX_PIXELS) is None


def test_the_open_file_is_read_wherever_it_stands(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jpg", JPEGS["progressive"]())
    with path.open("rb") as file:
        file.seek(100)
        path.rename(tmp_path / "moved")
        for _ in range(2):
            assert check(path, MAX_PIXELS, file.fileno()) == Header(92, 70, "JPEG")
        os.fstat(file.fileno())


@pytest.mark.parametrize("kind", ["colour", "progressive", "PNG", "GIF", "ICO of a PNG", "AVIF", "TIFF"])
def test_over_the_budget_it_is_too_large(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, "a", JPEGS[kind]() if kind in JPEGS else OTHERS[kind][0]())
    header = check(path, MAX_PIXELS)
    assert header is not None
    assert check(path, header.width * header.height) == header
    with pytest.raises(TooLarge):
        check(path, header.width * header.height - 1)


# --- JPEG -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_may_lack_its_end_marker_and_no_pixel(tmp_path: Path, kind: str) -> None:
    """Whether the end marker was lost, or written behind what is left: a decoder has to show the same."""
    data = JPEGS[kind]()
    whole, start = frames(data), data.index(b"\xff\xda")
    wrong = []
    for length in cuts(len(data), start):
        is_same = shown(data[:length] + EOI) == whole
        for cut in (data[:length], data[:length] + EOI):
            may, does = is_same, passes(tmp_path, cut)
            has_to = length >= len(data) - 2
            if (does and not may) or (has_to and not does):
                wrong.append((length - len(data), cut.endswith(EOI), does))
    assert wrong == []
    assert shown(data[:-2] + EOI) == whole


@pytest.mark.parametrize("kind", ["colour", "progressive", "restarts", "progressive, restarts"])
def test_what_lies_behind_the_end_of_a_jpeg_is_nothing(tmp_path: Path, kind: str) -> None:
    data, second = JPEGS[kind](), JPEGS["colour"]()
    for junk in (
        b"\0",
        b"\xff",
        bytes(100),
        b"junk" * 9,
        second,
        second[:300],
        b"\xff\xda\0\x08\1\1\0\0\x3f\0",
    ):
        assert passes(tmp_path, data + junk)


def test_odd_and_whole_jpegs_pass(tmp_path: Path) -> None:
    data = JPEGS["colour"]()
    preview = b"\xff\xe5" + struct.pack(">H", 2 + len(data[:900])) + data[:900]
    for odd in (
        data[:2] + preview + data[2:],
        data[:2] + b"\xff\xfe\0\x06\xff\xda\xff\xd9" + data[2:],
        data[:-2] + b"\xff\xff\xff" + EOI,  # fill bytes (§B.1.1.2)
        data[:-2] + bytes(3) + EOI,
        data[:-2] + b"\xff\xdc\0\4\0\x46" + EOI,  # DNL, the number of lines
        data[:-2] + b"\xff\xfe\0\4ab" + EOI,
    ):
        assert frames(odd) == frames(data)
        assert passes(tmp_path, odd)
    both = io.BytesIO()
    quarters().save(both, "MPO", save_all=True, append_images=[noise()])
    assert passes(tmp_path, both.getvalue())
    assert passes(tmp_path, both.getvalue()[:-500]), "the second picture is not the one that is shown"


def test_scans_of_one_component_each_have_to_be_whole(tmp_path: Path) -> None:
    data = separate_scans()
    whole = frames(data)
    assert passes(tmp_path, data)
    assert passes(tmp_path, data[:-2])
    start = data.index(b"\xff\xda")
    for length in cuts(len(data) - 2, start):
        assert shown(data[:length] + EOI) != whole
        assert not passes(tmp_path, data[:length])
        assert not passes(tmp_path, data[:length] + EOI)


def separate_scans() -> bytes:
    """A sequential JPEG of three components, a scan for each: each has the data of the same grey picture."""
    grey = JPEGS["grey"]()
    frame, scan = grey.index(b"\xff\xc0"), grey.index(b"\xff\xda")
    size, data = grey[frame + 4 : frame + 9], grey[scan + 10 : -2]
    rows = b"".join(bytes((id, 0x11, 0)) for id in (1, 2, 3))
    tables = grey[frame + 13 : scan]
    scans = b"".join(b"\xff\xda\0\x08\1" + bytes((id, 0, 0, 63, 0)) + data for id in (1, 2, 3))
    return grey[:frame] + b"\xff\xc0\0\x11" + size + b"\3" + rows + tables + scans + EOI


def test_a_jpeg_of_arithmetic_codes_is_left_to_the_decoder(tmp_path: Path) -> None:
    """It has no codes to be counted (T.81 §F.1.4), and libjpeg refuses to wait for more of its data."""
    data = bytes.fromhex(ARITHMETIC)
    assert frames(data)
    assert passes(tmp_path, data)
    assert not passes(tmp_path, data[:-12])


# 24 x 16 grey pixels, by cjpeg -arithmetic -quality 10: Pillow writes no such file.
ARITHMETIC = (
    "ffd8ffe000104a46494600010100000100010000ffdb00831000500037003c0046003c00320050004600410046005a00"
    "550050005f007800c800820078006e006e007800f500af00b9009100c8012200ff0131012c011d00ff01180113014001"
    "6801cc01860140015401b301590113011801900221019501b301db01ea020302080203013601810235025d023001f402"
    "5801cc01f9020301efffc9000b080010001801011100ffcc000600101005ffda0008010100003f00d8c1ea4a3f3639dc"
    "13b5fa6b94df4dfaed037031bc7776d2e6657f5a69822f0e40b7108e5468bc9460415336faf51e12f5d9ffd9"
)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}])
def test_a_part_between_two_restarts_may_not_be_missing_or_short(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    data = encoded(noise(), "JPEG", restart_marker_blocks=2, **options)
    parts = re.split(rb"\xff([\xd0-\xd7])", data)  # every other one is the number of a restart
    whole = frames(data)
    assert passes(tmp_path, data)
    assert len(parts) >= 2 * 14 + 1
    spoiled = [parts[:5] + parts[7:], parts[:5] + parts[21:], [*parts[:6], b"", *parts[7:]]]
    spoiled += [[*parts[:at], parts[at][:-n], *parts[at + 1 :]] for at in range(4, 24, 2) for n in (1, 2, 4)]
    changed = 0
    for kept in spoiled:
        marked = (b"\xff" * (number % 2) + part for number, part in enumerate(kept))
        broken = b"".join(marked)
        if shown(broken) != whole:
            changed += 1
            assert not passes(tmp_path, broken)
    assert changed > 25


@pytest.mark.parametrize("kind", ["colour", "progressive", "restarts", "own tables", "grey"])
def test_a_marker_in_the_data_ends_it(tmp_path: Path, kind: str) -> None:
    data = JPEGS[kind]()
    middle = (data.index(b"\xff\xda") + len(data)) // 2
    middle += data[middle - 1] == 0xFF
    for garbage in (EOI, b"\xff\xc8\0\2", b"\xff\xd5", b"\xff\xfe\0\x08abcdef", b"\xff\xe0\0\4ab"):
        broken = data[:middle] + garbage + data[middle:]
        assert shown(broken) != frames(data)
        assert not passes(tmp_path, broken)


@pytest.mark.parametrize("missing", ["the last", "the first", "one between"])
def test_a_progressive_jpeg_has_all_scans(tmp_path: Path, missing: str) -> None:
    data = JPEGS["progressive"]()
    head, *scans = data[:-2].split(b"\xff\xda")
    tables = [scan.rfind(b"\xff\xc4") for scan in scans]
    assert len(scans) == 10
    if missing == "the last":
        kept = [*scans[:-2], scans[-2][: tables[-2]] if tables[-2] > 0 else scans[-2]]
    elif missing == "the first":
        kept = scans[1:]
    else:
        kept = [*scans[:4], *scans[5:]]
    broken = b"\xff\xda".join((head, *kept)) + EOI
    assert shown(broken) != frames(data)
    assert not passes(tmp_path, broken)


# --- others ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OTHERS)
def test_no_other_picture_may_lack_more_than_the_mark_of_its_end(tmp_path: Path, kind: str) -> None:
    make, mark = OTHERS[kind]
    data = make()
    whole = None if kind.startswith("ICO") else frames(data)
    wrong = []
    for length in cuts(len(data), 8):
        does = passes(tmp_path, data[:length])
        if does != (length >= len(data) - mark):
            wrong.append(length - len(data))
        if does and whole is not None:
            assert frames(data[:length]) == whole
    assert wrong == []


@pytest.mark.parametrize("kind", [kind for kind in OTHERS if "PNG" in kind])
def test_a_flipped_bit_in_the_data_of_a_png_shows(tmp_path: Path, kind: str) -> None:
    data = OTHERS[kind][0]()
    start, end = data.index(b"IDAT"), data.rindex(b"IEND") - 4
    for part in (0.1, 0.35, 0.6, 0.85, 1):
        at = start + 4 + int((end - start - 5) * part)
        broken = bytearray(data)
        broken[at] ^= 4
        assert not passes(tmp_path, bytes(broken))


def test_the_stream_of_a_png_has_all_rows_and_its_own_end(tmp_path: Path) -> None:
    rows = pixels(20, 20)
    data = zlib.compress(rows)
    whole = png(rows, 20, 20)

    def of(stream: bytes) -> bytes:
        return whole.replace(png_chunk(b"IDAT", data), png_chunk(b"IDAT", stream))

    assert of(data) == whole
    for cut in range(1, 30):
        assert not passes(tmp_path, of(data[:-cut]))
    assert not passes(tmp_path, png(rows[:-1], 20, 20))
    assert not passes(tmp_path, of(data[:-1] + bytes([data[-1] ^ 1])))
    far_more = zlib.compress(rows + bytes(10**6))
    for more in (png(rows + b"\0" * 9, 20, 20), of(far_more), of(far_more[:-4]), of(data + b"more")):
        assert frames(more) == frames(whole)
        assert passes(tmp_path, more)


def test_what_is_no_pixel_of_a_png_may_be_broken_behind_them(tmp_path: Path) -> None:
    rows, broken = pixels(20, 20), bytearray(png_chunk(b"zzZz", b"anything"))
    broken[-1] ^= 1
    data = png(rows, 20, 20, bytes(broken))
    assert passes(tmp_path, data)
    assert passes(tmp_path, data + b"junk")


def test_a_frame_of_an_apng_has_its_checksums_too(tmp_path: Path) -> None:
    data = moving("PNG")
    at = data.rindex(b"fdAT")
    length = int.from_bytes(data[at - 4 : at], "big")
    spoiled = bytearray(data)
    spoiled[at + 4 + length] ^= 1
    assert frames(bytes(spoiled)) == frames(data), "Pillow does not look"
    assert not passes(tmp_path, bytes(spoiled))
    fewer = data[: at - 4] + data[at + 8 + length :]
    assert not passes(tmp_path, fewer)
    number, rows = data[at + 4 : at + 8], zlib.decompress(data[at + 8 : at + 4 + length])
    for lacking in (0, 1, 1 + 3 * 48):  # a byte; a row, which Pillow does not miss
        chunk = png_chunk(b"fdAT", number + zlib.compress(rows[: len(rows) - lacking]))
        assert passes(tmp_path, data[: at - 4] + chunk + data[at + 8 + length :]) == (not lacking)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF"])
def test_frames_over_the_budget_are_not_decoded(tmp_path: Path, format: str) -> None:
    """As in a render, which shows the first one then. A frame counts as 4,096 pixels at least."""
    if format == "GIF":
        block = b"\x02\x02\x44\x01\x00"
        data = gif(8, 8, 3, block)
        broken = (
            data[: -len(block) - 1] + b"\x02\x01\x2c\x00;"
        )  # the code of the end before that of its pixel
    else:
        data = moving(format)
        at = data.rindex(b"fdAT" if format == "PNG" else b"ANMF") - 40
        broken = data[: at - 360] + bytes(each ^ 0x55 for each in data[at - 360 : at]) + data[at:]
    assert first_frame(data) == first_frame(broken)
    assert not passes(tmp_path, broken)
    assert passes(tmp_path, broken, 3 * 4096 - 1)
    assert passes(tmp_path, data, 3 * 4096)


def first_frame(data: bytes) -> tuple[str, bytes]:
    """The pixels of the first frame, as Pillow decodes them."""
    with Image.open(io.BytesIO(data)) as image:
        return image.mode, image.tobytes()


def test_a_gif_that_ends_between_two_frames_has_fewer(tmp_path: Path) -> None:
    data = moving("GIF")
    mark = b"\x21\xf9\x04"
    last = data.rindex(mark)
    assert passes(tmp_path, data[:last])
    for length in range(last + 1, last + 24):
        assert not passes(tmp_path, data[:length]), "it ends within a block"


def test_an_icon_is_its_largest_picture(tmp_path: Path) -> None:
    sound, cut = encoded(noise("RGBA", (16, 16)), "PNG"), encoded(noise("RGBA", (16, 16)), "PNG")[:-30]
    assert passes(tmp_path, ico(sound))
    assert not passes(tmp_path, ico(cut))


# --- anything -------------------------------------------------------------------------------------------


def test_whatever_bytes_come_the_answer_is_one_of_ours(tmp_path: Path) -> None:
    draw = random.Random(3)
    wholes = [make() for make in JPEGS.values()] + [make() for make, _ in OTHERS.values()]
    for _ in range(400):
        data = bytearray(draw.choice(wholes))
        for _ in range(draw.choice((1, 3, 20))):
            at, count = (
                draw.randrange(min(len(data), draw.choice((60, 700, 10**6)))),
                draw.choice((1, 1, 2, 9)),
            )
            data[at : at + count] = draw.choice(
                (draw.randbytes(count), b"", draw.randbytes(3), b"\xff" * count)
            )
        with suppress(ImageFactoryError):
            check(written(tmp_path, "a", bytes(data)), MAX_PIXELS)
