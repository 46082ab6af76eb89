"""Positions are removed from picture files in place: no pixel, no other fact and no length changes."""

from __future__ import annotations

import io
import struct
import tracemalloc
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence, PngImagePlugin, TiffImagePlugin
from support.drawing import scene

from imagefactory.uploads.stripping import strip_gps

SECONDS = (123_457, 10_000)  # in rationals of their own: raw bytes that can be searched for
HIDDEN = b"HIDDENPLACE"
DEGREES = "51,30.2057"
RDF, EXIF_NS = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://ns.adobe.com/exif/1.0/"
GPS = 0x8825

XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">
 <rdf:Description rdf:about="" xmlns:exif="{EXIF_NS}" xmlns:dc="http://purl.org/dc/elements/1.1/"
   xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:dji="http://www.dji.com/drone-dji/1.0/"
   exif:FNumber="4/1" exif:GPSLatitude="{DEGREES}N" dji:GpsLongitude = '{DEGREES}E'
   photoshop:City="Łódź > GPS" dji:Note='exif:GPSLatitude="none"'>
  <exif:GPSLongitude>{DEGREES}W</exif:GPSLongitude><exif:GPSAltitudeRef/>
  <!-- <exif:GPSLatitude>{DEGREES}</exif:GPSLatitude> -->
  <exif:GPSDestLatitude rdf:parseType="Resource">
    <rdf:value>{DEGREES}S</rdf:value><exif:GPSDestLatitude>nested</exif:GPSDestLatitude>
  </exif:GPSDestLatitude>
  <dc:title><rdf:Alt>
    <rdf:li xml:lang="x-default">Tower, "GPS" &amp; bridge: {"x" * 50}</rdf:li>
  </rdf:Alt></dc:title>
  <dc:rights>GPSLatitude</dc:rights>
 </rdf:Description>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()


# --- drawings -------------------------------------------------------------------------------------------


def exif(order: str = "<", has_positions: bool = True) -> bytes:
    """EXIF as cameras write it, with a GPS directory whose values lie outside of its entries."""
    tags = Image.Exif()
    tags.endian = order
    tags[0x010F], tags[0x8298], tags[0x0112] = "Drawn by a test", "Copyright of nobody", 1
    tags.get_ifd(0x8769).update({0x9003: "2024:05:06 07:08:09", 0x829A: (1, 250)})
    if has_positions:
        rational = TiffImagePlugin.IFDRational
        place = tuple(rational(*each) for each in ((51, 1), (30, 1), SECONDS))
        method = b"ASCII\0\0\0" + HIDDEN
        tags.get_ifd(GPS).update({1: "N", 2: place, 3: "W", 4: place, 6: rational(777, 10), 27: method})
    data = tags.tobytes()
    assert data.startswith(b"Exif\0\0" + {"<": b"II", ">": b"MM"}[order])
    return data


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def small() -> Image.Image:
    return scene(48, 32)


def jpeg(exif: bytes, xmp: bytes) -> bytes:
    return saved(small(), "JPEG", exif=exif, xmp=xmp)


def mpo(exif: bytes, xmp: bytes) -> bytes:
    """Two pictures, and the second one has its own EXIF, too."""
    second = small().rotate(180)
    second.encoderinfo = {"exif": exif, "xmp": xmp}
    return saved(small(), "MPO", exif=exif, xmp=xmp, save_all=True, append_images=[second])


def jpeg_with_long_xmp(exif: bytes, xmp: bytes) -> bytes:
    """Extended XMP, which is cut inside of a position, and whose second half comes first."""
    half = xmp.index(DEGREES.encode()) + 4
    plain = jpeg(exif, b"<x/>")
    parts = b""
    for start, part in ((half, xmp[half:]), (0, xmp[:half])):
        numbers = struct.pack(">32sII", b"A" * 32, len(xmp), start)
        parts += app1(b"http://ns.adobe.com/xmp/extension/\0" + numbers + part)
    return plain[:2] + parts + plain[2:]


def jpeg_with_cut_exif(exif: bytes, xmp: bytes) -> bytes:
    """EXIF in two segments, which readers join."""
    plain = jpeg(b"", xmp)
    half = len(exif) // 2
    return plain[:2] + app1(exif[:half]) + app1(b"Exif\0\0" + exif[half:]) + plain[2:]


def app1(data: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data


def png(exif: bytes, xmp: bytes) -> bytes:
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", xmp.decode(), "en", "Łódź")
    return saved(small(), "PNG", exif=exif, pnginfo=texts)


def png_with_old_identifier(exif: bytes, xmp: bytes) -> bytes:
    whole = saved(small(), "PNG")
    texts = chunk(b"eXIf", exif) + chunk(b"tEXt", b"XML:com.adobe.xmp\0" + xmp)
    return whole[:33] + texts + whole[33:]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def webp(exif: bytes, xmp: bytes) -> bytes:
    return saved(small(), "WEBP", lossless=True, exif=exif, xmp=xmp)


def avif(exif: bytes, xmp: bytes) -> bytes:
    return saved(small(), "AVIF", exif=exif, xmp=xmp)


def heif(exif: bytes, xmp: bytes) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(small()).save(file, exif=exif, xmp=xmp)
    return file.getvalue()


def gif(exif: bytes, xmp: bytes) -> bytes:
    """XMP as Adobe writes it: the text is in no sub-blocks, but a trailer ends it for all who skip them."""
    trailer = b"\x01" + bytes(range(0xFF, -1, -1)) + b"\0"
    return gif_with(b"\x0bXMP DataXMP" + xmp + trailer)


def gif_in_blocks(exif: bytes, xmp: bytes) -> bytes:
    """XMP in sub-blocks, as the GIF specification would have it."""
    parts = [xmp[at : at + 100] for at in range(0, len(xmp), 100)]
    return gif_with(b"\x0bXMP DataXMP" + b"".join(bytes([len(part)]) + part for part in parts) + b"\0")


def gif_with(extension: bytes) -> bytes:
    frames = [small().rotate(angle).quantize(16) for angle in (0, 90)]
    whole = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    at = 13 + (3 << (whole[10] % 8 + 1)) * (whole[10] >> 7)
    return whole[:at] + b"!\xff" + extension + whole[at:]


def pillow_tiff(exif: bytes, xmp: bytes) -> bytes:
    tags = Image.Exif()
    tags.load(exif)
    tags[700] = xmp
    return saved(small(), "TIFF", exif=tags)


Entries = dict[int, Any]  # tag -> (type, bytes), or the entries of another directory
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}


def tiff(exif: bytes, xmp: bytes, is_big: bool = False) -> bytes:
    """Two pages in two strips each, which both have positions, in the byte order of *exif*.

    Drawn by hand: in a second page, Pillow writes offsets of EXIF and GPS that lead to the first.
    """
    order = {b"II": "<", b"MM": ">"}[exif[6:8]]
    out = bytearray(
        exif[6:8] + struct.pack(*((order + "HHHQ", 43, 8, 0, 0) if is_big else (order + "HI", 42, 0)))
    )
    link = len(out) - (8 if is_big else 4)
    for _ in range(2):
        strips = struct.pack(order + "2I", len(out), len(out) + 48 * 3 * 21)
        out += small().tobytes()
        entries = page(order, strips) | {700: (1, xmp)} | ({GPS: place(order)} if HIDDEN in exif else {})
        at, next_link = put(out, entries, order, is_big)
        struct.pack_into(order + ("Q" if is_big else "I"), out, link, at)
        link = next_link
    return bytes(out)


def big_tiff(exif: bytes, xmp: bytes) -> bytes:
    """Pillow reads those of Intel's byte order only."""
    return tiff(exif.replace(b"MM", b"II", 1), xmp, is_big=True)


def page(order: str, strips: bytes) -> Entries:
    """A directory for ``small``, in two *strips*."""

    def short(*values: int) -> tuple[int, bytes]:
        return 3, struct.pack(f"{order}{len(values)}H", *values)

    size = {256: short(48), 257: short(32), 258: short(8, 8, 8), 259: short(1), 262: short(2), 277: short(3)}
    pixels = {273: (4, strips), 278: short(21), 279: short(48 * 3 * 21, 48 * 3 * 11), 284: short(1)}
    texts = {0x010F: (2, b"Drawn by a test\0"), 0x8298: (2, b"Copyright of nobody\0")}
    return size | pixels | texts | {0x8769: {0x9003: (2, b"2024:05:06 07:08:09\0"), 0x829A: short(1, 250)}}


def place(order: str) -> Entries:
    degrees = 5, struct.pack(order + "6I", 51, 1, 30, 1, *SECONDS)
    return {1: (2, b"N\0"), 2: degrees, 3: (2, b"W\0"), 4: degrees, 27: (7, b"ASCII\0\0\0" + HIDDEN)}


def put(out: bytearray, entries: Entries, order: str, is_big: bool = False) -> tuple[int, int]:
    """Append a directory with all that is below it; where it is, and where the offset of the next has to be
    written."""
    count, entry, offset, room = ("Q", "HHQ", "Q", 8) if is_big else ("H", "HHI", "I", 4)
    at = len(out)
    rows = at + struct.calcsize(order + count)
    size = struct.calcsize(order + entry) + room
    out += bytes(rows - at + size * len(entries) + room)
    struct.pack_into(order + count, out, at, len(entries))
    for number, (tag, value) in enumerate(sorted(entries.items())):
        if isinstance(value, dict):
            below, _ = put(out, value, order, is_big)
            value = 4, struct.pack(order + "I", below)
        kind, data = value
        struct.pack_into(order + entry, out, rows + size * number, tag, kind, len(data) // TYPE_BYTES[kind])
        if len(data) > room:
            data, out[len(out) :] = struct.pack(order + offset, len(out)), data + bytes(len(data) % 2)
        field = rows + size * (number + 1) - room
        out[field : field + len(data)] = data
    return at, rows + size * len(entries)


def jp2(exif: bytes, xmp: bytes) -> bytes:
    """Metadata in boxes behind the codestream. Pillow reads neither of them."""
    whole = saved(small(), "JPEG2000")
    ids = b"JpgTiffExif->JP2", bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
    for name, data in zip(ids, (exif, xmp), strict=True):
        whole += struct.pack(">I4s", 24 + len(data), b"uuid") + name + data
    return whole


ROWS: dict[str, tuple[str, Callable[[bytes, bytes], bytes]]] = {
    "jpeg": ("jpeg", jpeg),
    "mpo": ("jpeg", mpo),
    "jpeg, extended XMP": ("jpeg", jpeg_with_long_xmp),
    "jpeg, EXIF in two segments": ("jpeg", jpeg_with_cut_exif),
    "png": ("png", png),
    "png, identifier and tEXt": ("png", png_with_old_identifier),
    "webp": ("webp", webp),
    "avif": ("avif", avif),
    "heif": ("heif", heif),
    "gif": ("gif", gif),
    "gif in blocks": ("gif", gif_in_blocks),
    "tiff": ("tiff", tiff),
    "tiff of Pillow": ("tiff", pillow_tiff),
    "BigTIFF": ("tiff", big_tiff),
    "jpeg2000": ("jpeg2000", jp2),
}


# --- eyes -----------------------------------------------------------------------------------------------


def strip(folder: Path, data: bytes, kind: str) -> tuple[bool, bytes]:
    """What ``strip_gps`` says of a file with *data*, and what is in the file then."""
    path = folder / "picture"
    path.write_bytes(data)
    with path.open("r+b") as file:
        is_found = strip_gps(file, kind)
    return is_found, path.read_bytes()


def opened(data: bytes) -> Image.Image:
    if data[4:8] == b"ftyp" and b"avif" not in data[:40]:
        return pytest.importorskip("pillow_heif").open_heif(io.BytesIO(data)).to_pillow()
    return Image.open(io.BytesIO(data))


def pixels(data: bytes) -> list[bytes]:
    return [frame.tobytes() for frame in ImageSequence.Iterator(opened(data))]


def tags(data: bytes) -> dict[Any, Any]:
    """All that EXIF says, but for where its parts lie, and for positions."""
    found = opened(data).getexif()
    own: dict[Any, Any] = {tag: value for tag, value in found.items() if tag not in (GPS, 0x8769, 700, 273)}
    return own | {("Exif", tag): value for tag, value in found.get_ifd(0x8769).items()}


def positions(data: bytes) -> dict[Any, Any]:
    found = opened(data).getexif()
    return {GPS: found[GPS]} if GPS in found else found.get_ifd(GPS)


def facts(packet: bytes) -> list[tuple[str, str, str]]:
    """Names, attributes and texts of XMP, which has to be well-formed for that."""
    rows = []
    for element in ElementTree.fromstring(packet).iter():
        rows += [(element.tag, name, value) for name, value in element.attrib.items()]
        rows.append((element.tag, "", (element.text or "").strip()))
    return rows


def is_position(name: str) -> bool:
    return name.rpartition("}")[2].upper().startswith("GPS")


def packets(data: bytes) -> list[bytes]:
    """The packets that can be found by their frame."""
    parts = data.split(b"<?xpacket begin=")[1:]
    return [b"<?xpacket begin=" + part.partition(b'<?xpacket end="w"?>')[0] for part in parts]


def needles(order: str) -> list[bytes]:
    return [struct.pack(order + "II", *SECONDS), HIDDEN, HIDDEN.hex().encode(), DEGREES.encode()]


# --- what is removed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ROWS)
def test_positions_go_and_all_else_stays(tmp_path: Path, name: str, order: str) -> None:
    kind, draw = ROWS[name]
    before = draw(exif(order), XMP)
    assert positions(before) or kind in ("gif", "jpeg2000")
    assert any(needle in before for needle in needles(order))
    is_found, after = strip(tmp_path, before, kind)
    assert is_found
    assert len(after) == len(before)
    assert positions(after) == {}
    assert tags(after) == tags(before)
    assert pixels(after) == pixels(before)
    for needle in (*needles("<"), *needles(">")):
        assert needle not in after
    if name != "jpeg, extended XMP":
        assert packets(after)
        for old, new in zip(packets(before), packets(after), strict=True):
            if name == "gif in blocks":
                assert b"Tower" in new
                continue
            kept = [row for row in facts(old) if not is_position(row[0]) and not is_position(row[1])]
            assert [row for row in kept if row[2] != f"{DEGREES}S"] == facts(new)
    assert strip(tmp_path, after, kind) == (False, after)


@pytest.mark.parametrize("name", ROWS)
def test_a_file_without_positions_is_not_touched(tmp_path: Path, name: str) -> None:
    kind, draw = ROWS[name]
    harmless = (
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/' xmlns:GPSx='urn:x'><a b='GPSLatitude'>GPS</a></x:xmpmeta>"
    )
    before = draw(exif(has_positions=False), harmless.ljust(200) + DEGREES.encode())
    assert strip(tmp_path, before, kind) == (False, before)


def test_kinds_without_positions_are_not_read(tmp_path: Path) -> None:
    for kind in ("bmp", "ico", "pam", "mp4", "pdf"):
        assert strip(tmp_path, jpeg(exif(), XMP), kind) == (False, jpeg(exif(), XMP))


@pytest.mark.parametrize("coding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_xmp_may_be_in_wider_units(tmp_path: Path, coding: str) -> None:
    before = webp(b"", XMP.decode().replace("Łódź", "Łódź \U0001f5fc").encode(coding))
    is_found, after = strip(tmp_path, before, "webp")
    packet = Image.open(io.BytesIO(after)).info["xmp"].decode(coding)
    assert (is_found, len(after)) == (True, len(before))
    assert DEGREES not in packet
    kept = [row for row in facts(packet.encode()) if row[1].endswith("City")]
    assert [row[2] for row in kept] == ["Łódź \U0001f5fc > GPS"]


def hexadecimal(name: bytes, data: bytes) -> bytes:
    digits = data.hex().encode()
    lines = b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return b"\n%b\n%8d\n%b\n" % (name, len(data), lines)


# A keyword, and a text with positions and without.
PROFILES = {
    "exif": (b"Raw profile type exif", *(hexadecimal(b"exif", exif("<", each)) for each in (True, False))),
    "APP1": (b"Raw profile type APP1", *(hexadecimal(b"APP1", exif(">", each)) for each in (True, False))),
    "xmp": (b"Raw profile type xmp", *(hexadecimal(b"xmp", each) for each in (XMP, b"<x>GPS</x>"))),
    "APP1 with XMP": (
        b"Raw profile type APP1",
        *(hexadecimal(b"generic", b"http://ns.adobe.com/xap/1.0/\0" + each) for each in (XMP, b"<x/>")),
    ),
    "packet": (b"XML:com.adobe.xmp", XMP, b"<x>GPS</x>"),
}


@pytest.mark.parametrize("name", PROFILES)
def test_a_compressed_text_of_a_png_is_lost_where_it_has_positions(tmp_path: Path, name: str) -> None:
    keyword, *texts = PROFILES[name]
    whole = saved(small(), "PNG")
    for text, found in zip(texts, (True, False), strict=True):
        packed = zlib.compress(text)
        for kind, rest in ((b"zTXt", b"\0" + packed), (b"iTXt", b"\1\0en\0\0" + packed)):
            before = whole[:33] + chunk(kind, keyword + b"\0" + rest) + whole[33:]
            is_found, after = strip(tmp_path, before, "png")
            assert is_found == found
            if not found:
                assert after == before
                continue
            comment = b"Comment\0".ljust(len(keyword) + 1 + len(rest))
            assert after == whole[:33] + chunk(b"tEXt", comment) + whole[33:]
            assert strip(tmp_path, after, "png") == (False, after)
            with Image.open(io.BytesIO(after)) as picture:
                picture.load()
                assert set(picture.text) == {"Comment"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "data", "is_lost"),
    [
        (b"tEXt", b"exif:GPSLatitude\x0051/1, 30/1", True),
        (b"tEXt", b"GPS\x001", True),
        (b"tEXt", b"Raw profile type exif\0" + hexadecimal(b"exif", exif()), True),
        (b"tEXt", b"Raw profile type exif\0" + hexadecimal(b"exif", exif()[:-1])[:-1] + b"x", False),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(10**8)), True),  # a bomb
        (b"zTXt", b"Raw profile type exif\0\0" + b"no zlib", False),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0" + b"x" * 5000, True),  # no text can be found
        (b"zTXt", b"Comment\0\0" + zlib.compress(XMP), False),
        (b"tEXt", b"Software\0GPSLatitude", False),
    ],
)
def test_texts_of_a_png(tmp_path: Path, kind: bytes, data: bytes, is_lost: bool) -> None:
    whole = saved(small(), "PNG")
    before = whole[:33] + chunk(kind, data) + whole[33:]
    is_found, after = strip(tmp_path, before, "png")
    comment = b"Comment\0".ljust(len(data))[: len(data)] if len(data) > 7 else b"Comm\0"
    lost = whole[:33] + chunk(b"tEXt", comment) + whole[33:]
    assert (is_found, after) == ((True, lost) if is_lost else (False, before))
    with Image.open(io.BytesIO(after)) as picture:
        assert picture.tobytes() == small().tobytes()


def test_a_preview_in_exif_is_searched(tmp_path: Path) -> None:
    """Thumbnails are whole JPEGs, and some have EXIF of their own."""
    inner = saved(small().resize((16, 16)), "JPEG", exif=exif())
    tags = Image.Exif()
    tags[0x927C] = inner
    is_found, after = strip(tmp_path, saved(small(), "JPEG", exif=tags), "jpeg")
    assert is_found
    assert positions(Image.open(io.BytesIO(after)).getexif()[0x927C]) == {}


def box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(data), kind) + data


def items(
    version: int, method: int, coding: bytes, exif: bytes, xmp: bytes, pixels: tuple[int, int] = (70, 6)
) -> bytes:
    """A file in boxes with two items of metadata, EXIF in two pieces, and one of pixels between them."""
    wide = ">I" if version > 1 else ">H"
    ids = [b"\2\0\0\0" + struct.pack(">HH", number, 0) for number in (1, 2)]
    infe = box(b"infe", ids[0] + b"hvc1pixels\0") + box(b"infe", ids[1] + b"Exif\0")
    infe += box(b"infe", struct.pack(">IIH", 3 << 24, 3, 0) + b"mime\0application/rdf+xml\0" + coding)
    iinf = box(b"iinf", b"\0\0\0\0" + struct.pack(">H", 3) + infe)
    data = exif[:70] + b"PIXELS" + exif[70:] + xmp

    def iloc(start: int) -> bytes:
        pieces = {1: [pixels], 2: [(0, 70), (76, len(exif) - 70)], 3: [(len(exif) + 6, len(xmp))]}
        rows = bytes([version, 0, 0, 0, 0x48, 0x40 | (4 if version else 0)]) + struct.pack(wide, 3)
        for number, places in pieces.items():
            rows += struct.pack(wide, number) + (struct.pack(">H", method) if version else b"")
            rows += struct.pack(">HIH", 0, start, len(places))
            for at, length in places:
                rows += (struct.pack(">I", 1) if version else b"") + struct.pack(">IQ", at, length)
        return box(b"iloc", rows)

    head = box(b"ftyp", b"heic\0\0\0\0heicmif1")
    if method:
        return head + box(b"meta", b"\0\0\0\0" + iinf + iloc(0) + box(b"idat", data))
    start = len(head) + 12 + len(iinf) + len(iloc(0)) + 16
    large = struct.pack(">I4sQ", 1, b"mdat", 16 + len(data)) + data
    return head + box(b"meta", b"\0\0\0\0" + iinf + iloc(start)) + large


@pytest.mark.parametrize(("version", "method"), [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1)])
def test_items_lie_in_the_file_or_in_their_box(tmp_path: Path, version: int, method: int) -> None:
    before = items(version, method, b"", b"\0\0\0\6" + exif(), XMP)
    is_found, after = strip(tmp_path, before, "heif")
    assert (is_found, len(after)) == (True, len(before))
    assert not [needle for needle in needles("<") if needle in after]
    assert b"PIXELS" in after
    assert b"Copyright of nobody" in after
    assert strip(tmp_path, after, "heif") == (False, after)


def test_compressed_xmp_of_a_heif_is_lost_where_it_has_positions(tmp_path: Path) -> None:
    packed = zlib.compress(XMP)
    before = items(0, 0, b"deflate\0", b"\0\0\0\0" + exif("<", False)[6:], packed)
    assert strip(tmp_path, before, "heif") == (
        True,
        before.replace(packed, bytes(len(packed))).replace(b"mime", b"free"),
    )
    harmless = items(0, 0, b"deflate\0", b"\0\0\0\0" + exif("<", False)[6:], zlib.compress(b"<x>GPS</x>"))
    assert strip(tmp_path, harmless, "heif") == (False, harmless)


# --- files that lie -------------------------------------------------------------------------------------


FIELDS = {
    "count": (8, "H"),
    "type": (36, "H"),
    "number": (38, "I"),
    "pointer": (42, "I"),
    "next_at": (46, "I"),
}


def structure(order: str, **fields: int) -> bytes:
    """EXIF of one directory: two texts, then the entry that leads to positions, with *fields* changed."""
    out = bytearray({"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8))
    put(out, {0x010F: (2, b"Drawn by a test\0"), 0x8298: (2, b"Somebody\0"), GPS: place(order)}, order)
    for name, value in fields.items():
        at, layout = FIELDS[name]
        struct.pack_into(order + layout, out, at, value)
    return bytes(out)


HOSTILE = {
    "the next directory is this one": structure("<", next_at=8),
    "the next one is behind the end": structure(">", next_at=2**32 - 1),
    "65535 entries": structure("<", count=65_535),
    "the pointer leads to its own directory": structure(">", pointer=8),
    "the pointer leads behind the end": structure("<", pointer=2**32 - 1),
    "the pointer leads to the last byte": structure("<", pointer=len(structure("<")) - 1),
    "the pointer leads to nothing": structure("<", pointer=0),
    "the pointer leads into a text": structure(">", pointer=52),
    "the pointer is a text": structure("<", type=2, number=400),
    "the pointer is of an unknown type": structure("<", type=99),
    "a thousand million pointers": structure("<", number=10**9),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", ["jpeg", "webp", "tiff"])
def test_what_leads_nowhere_is_removed_as_well(tmp_path: Path, name: str, kind: str) -> None:
    data = HOSTILE[name]
    wrap = {"jpeg": jpeg, "webp": webp}.get(kind)
    before = wrap(b"Exif\0\0" + data, b"<x/>") if wrap else data
    is_found, after = strip(tmp_path, before, kind)
    assert (is_found, len(after)) == (True, len(before))
    at = after.index(data[:4])
    order = "<" if data[:1] == b"I" else ">"
    old, new = struct.unpack_from(order + "8xH", data), struct.unpack_from(order + "8xH", after, at)
    assert new[0] == old[0] - 1
    assert after[at + 10 : at + 34] == data[10:34]  # the two other entries
    assert after[at + 34 : at + 38] == data[46:50]  # and the offset of the next directory
    assert after[at + 38 : at + 50] == bytes(12)
    assert b"Drawn by a test\0" in after
    assert b"Somebody\0" in after
    assert strip(tmp_path, after, kind)[0] is False


@pytest.mark.parametrize("length", range(0, 400, 7))
def test_what_is_cut_off_is_no_error(tmp_path: Path, length: int) -> None:
    for order in "<>":
        data = exif(order)[6:][:length]
        _, after = strip(tmp_path, data, "tiff")
        assert len(after) == len(data)
        assert strip(tmp_path, after, "tiff") == (False, after)


def test_pixels_are_no_positions(tmp_path: Path) -> None:
    """Pixels lie where a position is said to be."""
    before = bytearray(tiff(exif(), b"<x/>"))
    latitude = before.index(struct.pack("<HHI", 2, 5, 3)) + 8
    for pixels_at in (8, 100, 48 * 32 * 3):
        struct.pack_into("<I", before, latitude, pixels_at)
        is_found, after = strip(tmp_path, bytes(before), "tiff")
        assert is_found
        assert pixels(after) == pixels(bytes(before))


def test_a_shared_text_stays(tmp_path: Path) -> None:
    data = bytearray(structure("<"))
    method = data.index(struct.pack("<HH", 27, 7)) + 8
    text = struct.unpack_from("<I", data, data.index(struct.pack("<HH", 0x010F, 2)) + 8)[0]
    struct.pack_into("<I", data, method, text)
    is_found, after = strip(tmp_path, bytes(data), "tiff")
    assert is_found
    assert b"Drawn by a test\0" in after


def test_a_value_in_place_of_the_next_offset_stays(tmp_path: Path) -> None:
    """Some cameras leave out the offset of the next directory, and the first text begins there."""
    out = bytearray(b"II" + struct.pack("<HIH", 42, 8, 2))
    text = 10 + 24
    out += struct.pack("<HHII", 0x010F, 2, 9, text) + struct.pack("<HHII", GPS, 4, 1, text + 10)
    out += b"CAMERAS!\0\0"
    put(out, place("<"), "<")
    is_found, after = strip(tmp_path, bytes(out), "tiff")
    assert is_found
    assert after[text : text + 9] == b"CAMERAS!\0"
    assert after[10 : 10 + 24] == struct.pack("<HHII", 0x010F, 2, 9, text) + bytes(12)
    assert after[8:10] == b"\1\0"


@pytest.mark.parametrize("below", [0x8769, 0xA005, 0x014A])
@pytest.mark.parametrize("order", ["<", ">"])
def test_positions_may_hang_below_other_directories(tmp_path: Path, below: int, order: str) -> None:
    out = bytearray({"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8))
    put(out, {0x010F: (2, b"Drawn by a test\0"), below: {0x9003: (2, b"2024\0"), GPS: place(order)}}, order)
    is_found, after = strip(tmp_path, bytes(out), "tiff")
    assert is_found
    assert not [needle for needle in needles(order) if needle in after]
    assert b"2024\0" in after
    assert strip(tmp_path, after, "tiff") == (False, after)


@pytest.mark.parametrize("kind", [4, 0x5A5A])
@pytest.mark.parametrize("is_below", [True, False])
def test_an_offset_may_lead_into_other_data(tmp_path: Path, kind: int, is_below: bool) -> None:
    """The notes of a camera maker read like a directory with positions. Behind the first directory is an
    offset, which is followed where the types of entries exist; behind a directory below it is none."""
    notes = struct.pack("<H", 1000) + struct.pack("<HHII", GPS, kind, 1, 2**31) * 1000
    entries: Entries = {0x927C: (7, notes)}
    out = bytearray(b"II" + struct.pack("<HI", 42, 8))
    put(out, {0x8769: entries} if is_below else entries, "<")
    struct.pack_into("<I", out, out.index(notes) - 4, out.index(notes))
    before = bytes(out)
    is_found, after = strip(tmp_path, before, "tiff")
    assert (is_found, after == before) == ((False, True) if is_below or kind != 4 else (True, False))


BROKEN = {
    "never ends": f'<a b="c"><exif:GPSLatitude>{DEGREES}',
    "a tag that never ends": f'<a b="c" exif:GPSLatitude="{DEGREES}N" ',
    "a quote that never ends": f'<a b="c" exif:GPSLatitude="{DEGREES}N',
    "the wrong end": f'<a b="c"><exif:GPSLatitude><b><b><b>{DEGREES}</exif:GPSLatitude></a>',
    "a comment that never ends": f'<a b="c"><!-- <exif:GPSLatitude>{DEGREES}',
    "an end without a beginning": f'<a b="c" GPSLatitude="{DEGREES}"></exif:GPSLatitude></exif:GPSLatitude>',
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_xmp_keeps_no_position(tmp_path: Path, name: str) -> None:
    before = webp(b"", BROKEN[name].encode())
    is_found, after = strip(tmp_path, before, "webp")
    assert (is_found, len(after)) == (True, len(before))
    assert b'<a b="c"' in after
    if name != "the wrong end":
        assert DEGREES.encode() not in after
    assert strip(tmp_path, after, "webp") == (False, after)


def test_a_long_packet_is_read_in_parts(tmp_path: Path) -> None:
    """Up to 8 MiB is changed as ever; a longer one that has positions is blanked, and one without is left."""
    noise = b"gps" * 3_000_000
    head, tail = b"<a><b>%b</b>" % noise, b"<exif:GPSLatitude>%b</exif:GPSLatitude></a>" % DEGREES.encode()
    plain = webp(b"", b"<a/>")
    for packet, new in (
        (b"<a>" + b"x" * 3_000_000 + tail, b"<a>" + b"x" * 3_000_000 + b" " * (len(tail) - 4) + b"</a>"),
        (head + tail, b" " * len(head + tail)),
        (head + b"</a>", head + b"</a>"),
    ):
        at = plain.index(b"XMP ")
        file = [plain[:at] + b"XMP " + struct.pack("<I", len(each)) + each for each in (packet, new)]
        assert strip(tmp_path, file[0], "webp") == (packet != new, file[1])


@pytest.mark.parametrize("ahead", range(1, 10))
def test_a_name_may_lie_on_the_border_of_two_parts(tmp_path: Path, ahead: int) -> None:
    name = b"<exif:GPSAltitude/>"
    text = b"<a>".ljust(2**20 - ahead, b"x")
    before = webp(b"", text + name + b"</a>")
    assert strip(tmp_path, before, "webp") == (True, before.replace(name, b" " * len(name)))


def test_the_trailer_of_a_gif_stays(tmp_path: Path) -> None:
    """Without it, readers find no end of the block."""
    before = gif(b"", BROKEN["never ends"].encode())
    is_found, after = strip(tmp_path, before, "gif")
    assert is_found
    assert DEGREES.encode() not in after
    assert pixels(after) == pixels(before)


def test_an_item_ends_where_pixels_begin(tmp_path: Path) -> None:
    data = b"\0\0\0\6" + exif()
    at = data.index(struct.pack("<II", *SECONDS))
    before = items(0, 0, b"", data, XMP, pixels=(at + 6, 8))  # six bytes lie between the pieces of EXIF
    _, after = strip(tmp_path, before, "heif")
    assert struct.pack("<II", *SECONDS) in after
    assert DEGREES.encode() not in after


def test_a_bomb_is_not_inflated(tmp_path: Path) -> None:
    whole = saved(small(), "PNG")
    bomb = chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(bytes(64 * 2**20)))
    tracemalloc.start()
    is_found, _ = strip(tmp_path, whole[:33] + bomb + whole[33:], "png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert is_found
    assert peak < 16 * 2**20


def test_many_chunks(tmp_path: Path) -> None:
    whole = png(exif(), XMP)
    before = whole[:33] + chunk(b"tEXt", b"a\0b") * 100_000 + whole[33:]
    is_found, after = strip(tmp_path, before, "png")
    assert is_found
    assert not [needle for needle in needles("<") if needle in after]


def claims(count: int) -> bytes:
    """A JPEG whose segments all claim the same 64 kB of entries."""
    head = b"\xff\xe1\xff\xffExif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 5000)
    return b"\xff\xd8" + (head + struct.pack("<HHII", 256, 4, 1, 48) * 4) * count + bytes(65_000)


def bombs(count: int) -> bytes:
    text = chunk(b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(bytes(4 * 2**20)))
    return saved(small(), "PNG")[:33] + text * count


def loops(count: int) -> bytes:
    """A TIFF of directories with a thousand entries each, which all lead to each other."""
    rows = b"".join(struct.pack("<HHII", 0x14A, 4, 100_000, 8 + 2 * number) for number in range(1000))
    return b"II*\0\x08\0\0\0" + (struct.pack("<H", 1000) + rows) * count


def nowhere(count: int) -> bytes:
    """A HEIF that has four thousand million items, which take no room."""
    iloc = box(b"iloc", b"\2\0\0\0\0\0" + b"\xff" * 4 + b"\xff" * count)
    return box(b"ftyp", b"heic\0\0\0\0") + box(b"meta", bytes(4) + iloc + box(b"iinf", bytes(6)))


def open_elements(count: int) -> bytes:
    return webp(b"", b"<a:GPSb>" * count + b"<!--" * count + b"<a b='" * count)


@pytest.mark.parametrize(
    ("draw", "kind"),
    [
        (lambda: claims(20_000), "jpeg"),
        (lambda: bombs(1_000), "png"),
        (lambda: loops(500), "tiff"),
        (lambda: nowhere(100_000), "heif"),
        (lambda: open_elements(100_000), "webp"),
        (lambda: gif_with(b"\xfe" + b"\1x" * 500_000 + b"\0"), "gif"),
    ],
    ids=["claims", "bombs", "loops", "items", "elements", "sub-blocks"],
)
def test_the_work_is_bounded(tmp_path: Path, draw: Callable[[], bytes], kind: str) -> None:
    """Each of them comes to an end, at the latest when as much was read as the file is long, and 64 MiB."""
    before = draw()
    _, after = strip(tmp_path, before, kind)
    assert len(after) == len(before)


NUMBERS = st.sampled_from([0, 1, 2, 4, 8, 16, 40, 100, 273, 700, 0x8769, GPS, 0x7FFF, 0xFFFF])
PATCHES = st.one_of(
    st.binary(min_size=1, max_size=4),
    st.builds(
        lambda layout, number: struct.pack(layout, number), st.sampled_from(["<H", ">H", "<I", ">I"]), NUMBERS
    ),
    st.sampled_from([b"<", b">", b'"', b"'", b"<!--", b"</", b"/>", b"exif:GPS", b" GPSx='"]),
)
RASTER = small().tobytes()
WHOLE = {
    (name, order): ROWS[name][1](exif(order), XMP)
    for name in ("jpeg", "png", "webp", "avif", "gif", "tiff", "tiff of Pillow", "BigTIFF", "jpeg2000")
    for order in "<>"
}


def metadata(data: bytes, order: str) -> list[int]:
    """Where the bytes of EXIF and XMP are in a file as drawn; in a TIFF, all but pixels."""
    with Image.open(io.BytesIO(data)) as picture:
        own = picture.info.get("exif", exif(order)).removeprefix(b"Exif\0\0")
    is_tiff = data[:2] in (b"II", b"MM")
    parts = (RASTER[: 48 * 3 * 21], RASTER[48 * 3 * 21 :]) if is_tiff else (own, XMP)
    found = {at for part in parts for start in starts(data, part) for at in range(start, start + len(part))}
    return sorted(set(range(len(data))) - found if is_tiff else found)


def starts(data: bytes, part: bytes) -> Iterator[int]:
    at = data.find(part)
    while at >= 0:
        yield at
        at = data.find(part, at + len(part))


PLACES = {key: metadata(data, key[1]) for key, data in WHOLE.items()}


@settings(max_examples=200)
@given(st.sampled_from(sorted(WHOLE)), st.lists(st.tuples(st.floats(0, 1), PATCHES), min_size=1, max_size=8))
def test_broken_metadata_is_no_error_and_pixels_stay(
    tmp_path_factory: pytest.TempPathFactory, key: tuple[str, str], patches: list[tuple[float, bytes]]
) -> None:
    before, places = bytearray(WHOLE[key]), PLACES[key]
    for fraction, patch in patches:
        for number, value in enumerate(patch, int(fraction * (len(places) - 1))):
            if number < len(places):
                before[places[number]] = value
    kind = ROWS[key[0]][0]
    _, after = strip(tmp_path_factory.getbasetemp(), bytes(before), kind)
    assert len(after) == len(before)
    changed = {at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new}
    if kind == "png":  # checksums lie behind the data
        for first, second in pairwise([*places, len(before)]):
            if second > first + 1:
                changed -= set(range(first + 1, first + 5))
    assert not changed - set(places)


@settings(max_examples=200)
@given(st.sampled_from(sorted(WHOLE)), st.lists(st.tuples(st.floats(0, 1), PATCHES), min_size=1, max_size=8))
def test_a_broken_file_is_no_error(
    tmp_path_factory: pytest.TempPathFactory, key: tuple[str, str], patches: list[tuple[float, bytes]]
) -> None:
    before = bytearray(WHOLE[key])
    for fraction, patch in patches:
        at = int(fraction * (len(before) - len(patch)))
        before[at : at + len(patch)] = patch
    _, after = strip(tmp_path_factory.getbasetemp(), bytes(before), ROWS[key[0]][0])
    assert len(after) == len(before)
