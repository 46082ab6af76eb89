"""The helpers for PDF, SVG and raw files, each as the process that it is."""

from __future__ import annotations

import gzip
import io
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from PIL import Image
from support.documents import QUARTERS, dng, pdf, stream
from support.drawing import BLUE, GREEN, RED, WHITE, corners, near, quarters

from imagefactory.render.programs.finding import found, version

pytestmark = pytest.mark.slow
ALL = ["red", "green", "blue", "white"]
SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink"'
RECTS = (
    '<rect width="100" height="50" fill="#dc1e1e"/><rect x="100" width="100" height="50" fill="#1eb41e"/>'
    '<rect y="50" width="100" height="50" fill="#1e1edc"/>'
    '<rect x="100" y="50" width="100" height="50" fill="#fafafa"/>'
)


def helper(kind: str, data: bytes, folder: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    start = found(f"imagefactory-{kind}")
    if not start:
        pytest.skip(f"the extra {kind} is not installed")
    path = folder / "source"
    path.write_bytes(data)
    return subprocess.run(
        [*start, *options, str(path)], capture_output=True, timeout=60, cwd=folder, check=False
    )


def drawn(kind: str, data: bytes, folder: Path, *options: str) -> Image.Image:
    done = helper(kind, data, folder, *options)
    assert (done.returncode, done.stderr) == (0, b"")
    return Image.open(io.BytesIO(done.stdout))


def refused(kind: str, data: bytes, folder: Path, *options: str) -> str:
    """The line that says why there is no picture."""
    done = helper(kind, data, folder, *options)
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"imagefactory-{kind}: ")
    return line.partition(": ")[2]


def of_size(width: int, height: int) -> list[str]:
    return ["--width", str(width), "--height", str(height)]


@contextmanager
def listening() -> Iterator[tuple[str, list[int]]]:
    """An address, and the connections that were made to it when it is closed."""
    heard: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}", heard
        server.setblocking(False)
        with suppress(BlockingIOError):
            heard.append(server.accept()[1][1])


@pytest.mark.parametrize(("kind", "library"), [("pdf", "PDFium"), ("svg", "resvg"), ("raw", "LibRaw")])
def test_a_helper_says_its_version_and_that_of_its_library(kind: str, library: str) -> None:
    if not (start := found(f"imagefactory-{kind}")):
        pytest.skip(f"the extra {kind} is not installed")
    line = version(start, ["--version"], {})
    assert library in line
    assert any(letter.isdigit() for letter in line)


@pytest.mark.parametrize("kind", ["pdf", "svg", "raw"])
@pytest.mark.parametrize(
    "data", [b"", b"\0" * 100, b"<html><body/></html>", b"%PDF-1.7\n", b"II*\0\x08\0\0\0\0\0"]
)
def test_what_is_no_such_file_is_one_line_and_exit_1(kind: str, data: bytes, tmp_path: Path) -> None:
    assert refused(kind, data, tmp_path)


# --- PDF ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ([], (267, 133)),  # 200 x 100 points at 96 dpi
        (["--dpi", "72"], (200, 100)),
        (of_size(0, 0), (267, 133)),
        (of_size(400, 200), (400, 200)),
        (of_size(333, 167), (333, 167)),
        (of_size(1, 1), (1, 1)),
    ],
)
def test_a_page_has_the_size_that_is_asked_for(
    options: list[str], size: tuple[int, int], tmp_path: Path
) -> None:
    picture = drawn("pdf", pdf(), tmp_path, *options)
    assert picture.size == size
    if size != (1, 1):
        assert corners(picture) == ALL
        for place, colour in (((1, 1), RED), ((3, 1), GREEN), ((1, 3), BLUE), ((3, 3), WHITE)):
            at = place[0] * size[0] // 4, place[1] * size[1] // 4
            assert near(picture.getpixel(at), colour, within=2)


def test_pages_are_counted_from_1(tmp_path: Path) -> None:
    two = pdf([QUARTERS, b"1 0 0 rg 0 0 200 100 re f"])
    assert corners(drawn("pdf", two, tmp_path, "--page", "1")) == ALL
    assert corners(drawn("pdf", two, tmp_path, "--page", "2")) == ["red"] * 4
    assert refused("pdf", two, tmp_path, "--page", "3") == "it has 2 pages, and no page 3"
    assert refused("pdf", two, tmp_path, "--page", "0") == "it has 2 pages, and no page 0"


def test_a_page_is_turned_and_cropped_as_it_says(tmp_path: Path) -> None:
    turned = drawn("pdf", pdf(page=b"/Rotate 90"), tmp_path)
    assert (turned.size, corners(turned)) == ((133, 267), ["blue", "red", "white", "green"])
    cut = drawn("pdf", pdf(page=b"/CropBox [0 50 200 100]"), tmp_path)
    assert (cut.size, corners(cut)) == ((267, 67), ["red", "green"] * 2)


def test_forms_and_annotations_are_drawn(tmp_path: Path) -> None:
    look = b"/Type /XObject /Subtype /Form /BBox [0 0 60 30] /Resources << >>"
    field = b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (a) /F 4 /Rect [10 10 70 40] /AP << /N 11 0 R >> >>"
    note = b"<< /Type /Annot /Subtype /Square /F 4 /Rect [110 60 170 90] /AP << /N 11 0 R >> >>"
    green = stream(b"0.118 0.706 0.118 rg 0 0 60 30 re f", look)
    data = pdf(
        [b"1 1 1 rg 0 0 200 100 re f"], page=b"/Annots [10 0 R 12 0 R]",
        catalog=b"/AcroForm << /Fields [10 0 R] >>", more=[field, green, note],
    )  # fmt: skip
    picture = drawn("pdf", data, tmp_path, *of_size(200, 100))
    assert near(picture.getpixel((40, 75)), GREEN)
    assert near(picture.getpixel((140, 25)), GREEN)
    assert near(picture.getpixel((100, 50)), (255, 255, 255))


def test_a_pdf_with_a_password_is_refused(tmp_path: Path) -> None:
    locked = b"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >> /ID [<00> <00>]" % (
        (b"41" * 32,) * 2
    )
    assert "password" in refused("pdf", pdf(trailer=locked), tmp_path).lower()


def test_a_pdf_runs_nothing_and_opens_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"1 0 0 rg 0 0 200 100 re f")
    with listening() as (address, heard):
        script = f"app.launchURL('{address}'); this.submitForm('{address}');".encode()
        acts = [
            b"<< /S /JavaScript /JS (%s) >>" % script,
            b"<< /S /Launch /F (/bin/sh) >>",
            b"<< /S /URI /URI (%s) >>" % address.encode(),
            b"<< /Length 0 /F (%s) >>\nstream\n\nendstream" % str(secret).encode(),
            b"<< /S /SubmitForm /F (%s) >>" % address.encode(),
        ]
        catalog = (
            b"/OpenAction 10 0 R /AA << /WC 11 0 R /DP 14 0 R >> /AcroForm << /Fields [] /XFA (x) >> "
            b"/Names << /JavaScript << /Names [(a) 10 0 R] >> >>"
        )
        entries = b"/AA << /O 11 0 R /C 12 0 R >>"
        done = helper("pdf", pdf(catalog=catalog, page=entries, more=acts), tmp_path)  # warns of XFA
        assert corners(Image.open(io.BytesIO(done.stdout))) == ALL
        outside = pdf([b""], page=b"/Contents 13 0 R", more=acts)
        assert near(drawn("pdf", outside, tmp_path).getpixel((5, 5)), (255, 255, 255))
    assert heard == []


def test_pdfium_has_no_javascript_engine() -> None:
    pypdfium2 = pytest.importorskip("pypdfium2")
    assert not {"V8", "XFA"} & set(pypdfium2.PDFIUM_INFO.flags)


@pytest.mark.parametrize(
    "box", ["0 0 1e9 1e9", "0 0 1e9 10", "0 0 0 0", "5 5 1 1", "-9e9 -9e9 9e9 9e9", "a b"]
)
def test_an_absurd_page_is_at_most_4096_pixels_wide(box: str, tmp_path: Path) -> None:
    done = helper("pdf", pdf(box=box), tmp_path)
    if done.returncode:
        assert done.stderr.startswith(b"imagefactory-pdf: ")
    else:
        assert max(Image.open(io.BytesIO(done.stdout)).size) <= 4096
    assert "more than" in refused("pdf", pdf(), tmp_path, *of_size(20_000, 20_000))


def test_pages_in_a_circle_end(tmp_path: Path) -> None:
    loop = pdf().replace(b"/Kids [100 0 R]", b"/Kids [  2 0 R]")
    assert helper("pdf", loop, tmp_path).returncode in (0, 1)


# --- SVG ------------------------------------------------------------------------------------------------


def svg(inner: str, size: str = 'width="200" height="100"', before: str = "") -> bytes:
    return f"{before}{SVG} {size}>{inner}</svg>".encode()


@pytest.mark.parametrize(
    ("size", "options", "wanted"),
    [
        ('width="200" height="100"', [], (200, 100)),
        ('width="200" height="100"', of_size(640, 320), (640, 320)),
        # resvg keeps the ratio itself and rounds up: 33 x 17
        ('width="200" height="100"', of_size(33, 16), (33, 16)),
        ('width="200" height="100"', of_size(33, 17), (33, 17)),
        ('viewBox="0 0 200 100"', [], (200, 100)),
        ('viewBox="0,0,200,100"', of_size(400, 200), (400, 200)),
        ('viewBox="0 0 200 100" width="50"', [], (50, 25)),
        ('viewBox="0 0 200 100" height="50%" width="100%"', [], (200, 100)),
        ("viewBox='0 0 200 100' width='4in' height = '2in'", [], (384, 192)),
        ('viewBox="0 0 200 100" width="100mm" height="5cm"', [], (378, 189)),
        ('viewBox="0 0 200 100" width="30pt" height="15pt" preserveAspectRatio="xMinYMin"', [], (40, 20)),
        ('viewBox="0 0 200 100" width="1e2" height="50."', [], (100, 50)),
        ("", [], (200, 100)),
        ("", of_size(400, 200), (400, 200)),
        ('viewBox="0 0 200 100" width="1000000" height="500000"', [], (4096, 2048)),
    ],
)
def test_a_drawing_has_the_size_that_is_asked_for(
    size: str, options: list[str], wanted: tuple[int, int], tmp_path: Path
) -> None:
    picture = drawn("svg", svg(RECTS, size), tmp_path, *options)
    assert (picture.size, picture.mode) == (wanted, "RGBA")
    assert corners(picture) == ALL


def test_what_is_not_drawn_on_is_transparent(tmp_path: Path) -> None:
    picture = drawn("svg", svg('<rect width="100" height="100" fill="red" opacity=".5"/>'), tmp_path)
    assert near(picture.getpixel((50, 50)), (255, 0, 0, 128), within=2)
    assert picture.getpixel((150, 50))[3] == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_encodings_of_the_text(encoding: str, tmp_path: Path) -> None:
    declared = f'<?xml version="1.0" encoding="{encoding}"?>' if encoding.startswith("iso") else ""
    text = svg(RECTS + "<!-- gr\u00fcn -->", before=declared).decode()
    assert corners(drawn("svg", text.encode(encoding), tmp_path)) == ALL


def test_a_compressed_drawing_is_unpacked_up_to_a_bound(tmp_path: Path) -> None:
    assert corners(drawn("svg", gzip.compress(svg(RECTS)), tmp_path)) == ALL
    bomb = gzip.compress(svg(RECTS + " " * 100_000_000))
    assert len(bomb) < 200_000
    assert "unpacks to more" in refused("svg", bomb, tmp_path)
    assert refused("svg", gzip.compress(svg(RECTS))[:40], tmp_path)


def test_a_picture_in_the_file_is_drawn(tmp_path: Path) -> None:
    png = io.BytesIO()
    quarters(20, 10).save(png, "PNG")
    uri = f"data:image/png;base64,{b64encode(png.getvalue()).decode()}"
    inner = f'<image x:href="{uri}" width="200" height="100"/>'
    assert corners(drawn("svg", svg(inner), tmp_path)) == ALL
    nested = f"data:image/svg+xml;base64,{b64encode(svg(RECTS)).decode()}"
    assert corners(drawn("svg", svg(f'<image href="{nested}" width="200" height="100"/>'), tmp_path)) == ALL


def _outside(link: str) -> dict[str, bytes]:
    """A drawing that shows the picture at *link*, in each way that there is."""
    image = f'<image href="{link}" width="200" height="100"/>'
    ns = "http://www.w3.org/2000/svg"
    size = 'width="200" height="100"'
    nested = b64encode(svg(image)).decode()
    return {
        "href": svg(image),
        "xlink": svg(f'<image x:href="{link}" width="200" height="100"/>'),
        "both": svg(f'<image href="data:," x:href="{link}" width="200" height="100"/>'),
        "apostrophes": svg(f"<image\n href\n=\n'{link}' width='200' height='100'></image>"),
        "spaces": svg(f'<image href=" {link}" width="200" height="100"/>'),
        "prefix": f'<s:svg xmlns:s="{ns}" {size}><s:image href="{link}" {size}/></s:svg>'.encode(),
        "tag in a value": svg(f'<image id="&gt; > " href="{link}" width="200" height="100"/>'),
        "characters": svg(f'<image href="&#{ord(link[0])};{link[1:]}" width="200" height="100"/>'),
        "pattern": svg(
            f'<pattern id="p" width="1" height="1">{image}</pattern><rect {size} fill="url(#p)"/>'
        ),
        "filter": svg(f'<filter id="f"><feImage href="{link}"/></filter><rect {size} filter="url(#f)"/>'),
        "use": svg(f'<use href="{link}#a"/><rect {size} fill="url({link}#a)"/>'),
        "style": svg(f"<style>@import url({link}); rect {{fill: url({link})}}</style>"),
        "sheet": svg("", before=f'<?xml-stylesheet href="{link}"?>'),
        "font": svg(f"<style>@font-face {{font-family: a; src: url({link})}}</style>"),
        "nested": svg(f'<image href="data:image/svg+xml;base64,{nested}" width="200" height="100"/>'),
        "script": svg(f'<script href="{link}">fetch("{link}")</script><a href="{link}"/>'),
        "utf-16": svg(image).decode().encode("utf-16"),
        "default": svg(f"<image {size}/>", before=f'<!DOCTYPE svg [<!ATTLIST image href CDATA "{link}">]>'),
    }


@pytest.mark.parametrize("way", _outside("/a"))
@pytest.mark.parametrize("kind", ["absolute", "relative", "file", "http"])
def test_nothing_outside_of_the_file_is_read(way: str, kind: str, tmp_path: Path) -> None:
    Image.new("RGB", (200, 100), "red").save(tmp_path / "red.png")
    with listening() as (address, heard):
        link = {
            "absolute": str(tmp_path / "red.png"),
            "relative": "red.png",
            "file": f"file://{tmp_path}/red.png",
            "http": f"{address}/red.png",
        }[kind]
        picture = drawn("svg", _outside(link)[way], tmp_path)
    assert not near(picture.getpixel((100, 50)), (255, 0, 0, 255), within=40)
    assert heard == []


def test_resvg_alone_would_read_it(tmp_path: Path) -> None:
    """What the helper is for: once this fails, it has less to do."""
    resvg_py = pytest.importorskip("resvg_py")
    Image.new("RGB", (200, 100), "red").save(tmp_path / "red.png")
    text = _outside(str(tmp_path / "red.png"))["href"].decode()
    picture = Image.open(io.BytesIO(resvg_py.svg_to_bytes(svg_string=text)))
    assert near(picture.getpixel((100, 50)), (255, 0, 0, 255))


ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "data",
    [
        svg("&e9;", before=f'<!DOCTYPE svg [<!ENTITY e0 "0123456789">{ENTITIES}]>'),
        svg("&e;", before='<!DOCTYPE svg [<!ENTITY e SYSTEM "file:///etc/passwd">]>'),
        svg("&e;", before="<!DOCTYPE svg [<!ENTITY e \"<image href='/etc/passwd'/>\">]>"),
        svg("<g>" * 5000 + "</g>" * 5000),
        svg("", 'width="0" height="5"'),
        svg("", 'viewBox="0 0 1e999 1"'),
        svg("<rect"),
        b'<?xml version="1.0" encoding="nonsense"?><svg/>',
        b'<?xml version="1.0" encoding="zip"?><svg/>',
        b"\xff\xfe<\0s",
    ],
)
def test_a_hostile_drawing_is_refused(data: bytes, tmp_path: Path) -> None:
    assert refused("svg", data, tmp_path)


def test_elements_in_elements_do_not_overflow_the_stack(tmp_path: Path) -> None:
    """With the usual stack of 8 MB resvg dies at 500."""
    drawn("svg", svg('<g opacity=".9">' * 900 + RECTS + "</g>" * 900), tmp_path)


# --- raw files ------------------------------------------------------------------------------------------


def jpeg(width: int, height: int, **options: object) -> bytes:
    file = io.BytesIO()
    quarters(width, height).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


@pytest.mark.parametrize(("orientation", "tall"), [(1, False), (3, False), (6, True), (8, True)])
def test_a_raw_file_is_developed_upright(orientation: int, tall: bool, tmp_path: Path) -> None:
    data = dng(quarters(64, 48), orientation)
    turned = {
        1: ALL,
        3: ALL[::-1],
        6: ["blue", "red", "white", "green"],
        8: ["green", "white", "red", "blue"],
    }
    for options, size in (([], (32, 24)), (["--full"], (64, 48))):
        picture = drawn("raw", data, tmp_path, *options)
        assert (picture.size, corners(picture)) == (size[::-1] if tall else size, turned[orientation])
    assert near(drawn("raw", dng(quarters(64, 48)), tmp_path).getpixel((8, 6)), RED, within=20)


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_preview_is_handed_on_and_says_which_side_is_up(orientation: int, tmp_path: Path) -> None:
    data = dng(quarters(64, 48), orientation, jpeg(40, 30), (40, 30))
    picture = drawn("raw", data, tmp_path, "--preview")
    assert (picture.format, picture.size) == ("JPEG", (40, 30))
    assert (picture.getexif()[0x0112], corners(picture)) == (orientation, ALL)


def test_the_orientation_of_a_preview_that_has_its_own_is_kept(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    picture = drawn("raw", dng(quarters(64, 48), 3, jpeg(40, 30, exif=exif), (40, 30)), tmp_path, "--preview")
    assert picture.getexif()[0x0112] == 3


def _nameless() -> bytes:
    """A preview whose EXIF is there and says nothing of its orientation."""
    exif = Image.Exif()
    exif[0x0110] = "Test"
    return b"\xff\xd8" + jpeg(40, 30, exif=exif)[20:]  # without JFIF, before which LibRaw writes its own EXIF


@pytest.mark.parametrize(
    ("preview", "size"),
    [(b"", (0, 0)), (jpeg(24, 18), (24, 18)), (_nameless(), (40, 30)), (b"no JPEG", (40, 30))],
)
def test_without_a_good_preview_nothing_is_printed(
    preview: bytes, size: tuple[int, int], tmp_path: Path
) -> None:
    done = helper("raw", dng(quarters(64, 48), 6, preview, size), tmp_path, "--preview")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_raw_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    assert refused("raw", dng(quarters(64, 48))[:3000], tmp_path)


def test_helpers_import_nothing_of_this_package() -> None:
    """They are scripts: started by path, without PYTHONPATH."""
    for kind in ("pdf", "svg", "raw"):
        start = found(f"imagefactory-{kind}")
        if start:
            done = subprocess.run(
                [sys.executable, "-I", "-X", "importtime", start[-1], "--version"], capture_output=True
            )
            assert done.returncode == 0
            assert b" imagefactory." not in done.stderr
