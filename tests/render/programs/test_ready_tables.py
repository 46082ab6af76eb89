"""Each ready table with the real program, run by hand on what is drawn here.

What the server does around them (choice, sandbox, limits) is tested where that lives.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from support.documents import QUARTERS, dng, pdf
from support.drawing import BLUE, GREEN, RED, WHITE, corners, near, quarters, save, scene
from support.films import (
    FFMPEGS,
    READY,
    colour_of_each_second,
    command,
    draw,
    film,
    frames,
    opened,
    run,
    second,
    tables,
)

from imagefactory.config import from_mapping
from imagefactory.model.program import PLACEHOLDER, PLACEHOLDERS
from imagefactory.render.films import duration_s
from imagefactory.render.programs.finding import found

NAMES = sorted(path.stem for path in READY.glob("*.toml"))
TABLES = {name: table for each in NAMES for name, table in tables(each).items()}
VIDEO = tables("video") if "video" in NAMES else {}
ALL = ["red", "green", "blue", "white"]
H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
EVERY_3_S = ("-g", "30", "-keyint_min", "30", "-sc_threshold", "0")
ffmpegs = pytest.mark.parametrize(
    "ffmpeg", FFMPEGS, ids=lambda path: "system" if path == "/usr/bin/ffmpeg" else "extra"
)


# --- the tables themselves ------------------------------------------------------------------------------


def test_a_table_for_each_kind_of_source() -> None:
    assert {"video", "pdf", "pdf_poppler", "svg", "raw", "raw_libraw", "imagemagick", "cjpeg"} <= set(NAMES)
    assert len(TABLES) == sum(len(tables(name)) for name in NAMES)  # none twice


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_known_placeholders_and_names_other_tables_of_its_file(name: str) -> None:
    table = TABLES[name]
    text = " ".join(table["command"])
    used = set(PLACEHOLDER.findall(text))
    assert used <= set(PLACEHOLDERS)
    assert not PLACEHOLDER.search(table["command"][0])
    assert "in" in used or table.get("input") == "pipe"
    assert set(table.get("parameters", {})) <= used
    siblings = next(tables(each) for each in NAMES if name in tables(each))
    assert _named(table) <= set(siblings)
    by_others = {each for other, row in siblings.items() if other != name for each in _named(row)}
    assert "sources" in table or table["role"] == "encode" or name in by_others
    for magic in table.get("magic", []):
        assert re.fullmatch(r"[^@]+@\d+", magic)


def _named(table: dict[str, Any]) -> set[str]:
    """The tables that are run in place of this one, and need no sources of their own."""
    return {*([table["fallback"]] if "fallback" in table else []), *table.get("variants", {}).values()}


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_a_valid_config(name: str) -> None:
    assert set(from_mapping({"programs": tables(name)}, Path()).programs) == set(tables(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_table_says_in_a_comment_what_it_is_for(name: str) -> None:
    text = (READY / f"{name}.toml").read_text()
    assert text.startswith("# ")
    assert max(map(len, text.splitlines())) <= 130


# --- video ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of films of ten seconds, each of one colour, with a key frame every three."""
    if not FFMPEGS:
        pytest.skip("no ffmpeg")
    folder, seconds = tmp_path_factory.mktemp("films"), colour_of_each_second()
    film(folder / "h264.mp4", seconds, *H264, *EVERY_3_S)
    # What ffmpeg's own `-skip_frame nokey` loses: key frames that frames before them refer to.
    open_gop = ("-bf", "3", "-x264opts", "open-gop=1")
    film(folder / "open.mp4", seconds, *H264, *EVERY_3_S, *open_gop)
    film(
        folder / "vp9.webm",
        seconds,
        "-c:v",
        "libvpx-vp9",
        "-g",
        "30",
        "-cpu-used",
        "8",
        "-deadline",
        "realtime",
    )
    draw("-i", str(folder / "h264.mp4"), "-c", "copy", str(folder / "h264.mkv"))
    draw(
        "-i",
        str(folder / "h264.mp4"),
        "-c",
        "copy",
        "-movflags",
        "frag_keyframe+empty_moov",
        str(folder / "frag.mp4"),
    )
    return folder


def seconds_of(table: str, file: Path, ffmpeg: str, **values: object) -> list[int]:
    done = run(VIDEO[table], file, [ffmpeg], **values)
    assert done.returncode == 0, done.stderr
    return [second(frame) for frame in frames(done.stdout)]


def still(file: Path, ffmpeg: str, table: str = "video") -> Image.Image:
    done = run(VIDEO[table], file, [ffmpeg], time=1)
    assert done.returncode == 0, done.stderr
    (frame,) = frames(done.stdout)
    return frame


@ffmpegs
@pytest.mark.parametrize("name", ["h264.mp4", "open.mp4", "vp9.webm", "h264.mkv", "frag.mp4"])
def test_a_poster_is_the_key_frame_before_and_exact_is_the_frame(name: str, ffmpeg: str, films: Path) -> None:
    """At the end and behind it too: the last one."""
    key = {t: seconds_of("video", films / name, ffmpeg, time=t) for t in (0, 2, 5, 9.5, 10, 5000)}
    assert key == {0: [0], 2: [0], 5: [3], 9.5: [9], 10: [9], 5000: [9]}
    exact = {t: seconds_of("video_exact", films / name, ffmpeg, time=t) for t in (0, 2, 5, 9.9, 10, 5000)}
    assert exact == {0: [0], 2: [2], 5: [5], 9.9: [9], 10: [9], 5000: [9]}


@ffmpegs
def test_a_preview_has_the_frames_from_its_time_on(ffmpeg: str, films: Path) -> None:
    file = films / "h264.mp4"
    assert (
        seconds_of("video_preview", file, ffmpeg, time=4, frames=30, fps=10) == [4] * 10 + [5] * 10 + [6] * 10
    )
    assert seconds_of("video_preview", file, ffmpeg, time=7.5, frames=6, fps=2) == [7, 8, 8, 9, 9]
    assert seconds_of("video_preview", file, ffmpeg, time=10, frames=30, fps=10) == []  # then its fallback


@ffmpegs
def test_a_sprite_has_frames_of_the_whole_film(ffmpeg: str, films: Path) -> None:
    shown = seconds_of("video_sprite", films / "h264.mp4", ffmpeg, frames=25, fps=2.5)
    assert (len(shown), shown[0], shown[-1], set(shown)) == (25, 0, 9, {0, 3, 6, 9})
    assert shown == sorted(shown)


@ffmpegs
def test_frames_of_previews_and_sprites_are_small_and_never_enlarged(ffmpeg: str, tmp_path: Path) -> None:
    wide = film(tmp_path / "wide.mp4", [quarters(1280, 240)] * 5, *H264)
    tall = film(tmp_path / "tall.mp4", [quarters(100, 800)] * 5, *H264)
    small = film(tmp_path / "small.mp4", [quarters(64, 48)] * 5, *H264)
    for table in ("video_preview", "video_sprite"):
        sizes = [
            frames(run(VIDEO[table], file, [ffmpeg], frames=2, fps=4).stdout)[0].size
            for file in (wide, tall, small)
        ]
        assert sizes == [(640, 120), (80, 640), (64, 48)]


@ffmpegs
def test_a_film_of_one_frame(ffmpeg: str, tmp_path: Path) -> None:
    file = film(tmp_path / "one.mp4", [quarters(64, 48)], *H264)
    for table, count in (("video", 1), ("video_exact", 1), ("video_preview", 1), ("video_sprite", 4)):
        found = frames(run(VIDEO[table], file, [ffmpeg], frames=4, fps=10).stdout)
        assert [corners(frame) for frame in found] == [ALL] * count


@ffmpegs
def test_auto_is_the_first_picture_that_is_neither_dark_nor_flat(ffmpeg: str, tmp_path: Path) -> None:
    black, grey, white = (Image.new("RGB", (160, 120), colour) for colour in ("black", "#777", "white"))
    title = black.copy()
    ImageDraw.Draw(title).text((30, 40), "A FILM", fill="white", font_size=30)
    shown = scene(160, 120)
    parts = [each for each in (black, grey, white, title, shown) for _ in range(10)]
    file = film(tmp_path / "auto.mp4", parts, *H264, "-g", "5", "-keyint_min", "5", "-sc_threshold", "0")
    (frame,) = frames(run(VIDEO["video_auto"], file, [ffmpeg]).stdout)
    assert near(frame.resize((1, 1)).getpixel((0, 0)), shown.resize((1, 1)).getpixel((0, 0)))
    dull = film(tmp_path / "dull.mp4", parts[:40], *H264)
    done = run(VIDEO["video_auto"], dull, [ffmpeg])
    assert (done.returncode, done.stdout) == (0, b"")  # then its fallback, the first frame


COLOURS = {
    "plain": H264,
    "bt709": (
        *("-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709", "-color_primaries", "bt709"),
        *("-color_trc", "bt709", *H264),
    ),
    "full range": ("-vf", "scale=out_range=full", "-color_range", "pc", *H264),
    "10 bit": ("-c:v", "libx264", "-pix_fmt", "yuv420p10le"),
    "4:4:4": ("-c:v", "libx264", "-pix_fmt", "yuv444p"),
    "RGB": ("-c:v", "libx264rgb", "-pix_fmt", "rgb24"),
    "bt2020": ("-vf", "scale=out_color_matrix=bt2020", "-colorspace", "bt2020nc", "-pix_fmt", "yuv420p10le"),
    "HEVC": ("-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p10le"),
    "AV1": ("-c:v", "libsvtav1", "-preset", "12", "-pix_fmt", "yuv420p"),
}


@pytest.mark.parametrize("kind", COLOURS)
def test_colours_are_right(kind: str, tmp_path: Path) -> None:
    if not FFMPEGS:
        pytest.skip("no ffmpeg")
    file = film(tmp_path / "film.mp4", [quarters(160, 120)] * 5, *COLOURS[kind])
    for ffmpeg in FFMPEGS:
        frame = still(file, ffmpeg)
        found = [frame.getpixel((x, y)) for y in (30, 90) for x in (40, 120)]
        assert all(near(a, b, within=4) for a, b in zip(found, (RED, GREEN, BLUE, WHITE), strict=True)), found


@ffmpegs
def test_films_of_phones_are_upright(ffmpeg: str, tmp_path: Path) -> None:
    flat = film(tmp_path / "flat.mp4", [quarters(160, 120)] * 5, *H264)
    file = tmp_path / "turned.mp4"
    draw("-display_rotation", "90", "-i", str(flat), "-c", "copy", str(file))
    for table in ("video", "video_exact"):
        frame = still(file, ffmpeg, table)
        assert (frame.size, corners(frame)) == ((120, 160), ["green", "white", "red", "blue"])


@ffmpegs
def test_pixels_are_square(ffmpeg: str, tmp_path: Path) -> None:
    file = film(tmp_path / "wide.mp4", [quarters(160, 120)] * 5, "-vf", "setsar=2", *H264)
    assert still(file, ffmpeg).size == (320, 120)
    turned = tmp_path / "turned.mp4"
    draw("-display_rotation", "90", "-i", str(file), "-c", "copy", str(turned))
    assert still(turned, ffmpeg).size == (60, 160)  # the ratio is that of the turned pixels
    unsaid = film(tmp_path / "unsaid.mp4", [quarters(160, 120)] * 5, "-vf", "setsar=0", *H264)
    assert still(unsaid, ffmpeg).size == (160, 120)


@ffmpegs
def test_interlaced_fields_make_no_comb(ffmpeg: str, tmp_path: Path) -> None:
    """One field is white and one black: a comb would have lines of both."""
    comb = Image.new("RGB", (160, 120), "black")
    for y in range(0, 120, 2):
        comb.paste("white", (0, y, 160, y + 1))
    options = (
        "-c:v",
        "libx264",
        "-pix_fmt",
        "yuv444p",
        "-flags",
        "+ilme+ildct",
        "-x264opts",
        "tff=1",
        "-crf",
        "5",
    )
    file = film(tmp_path / "fields.mp4", [comb] * 5, "-vf", "setfield=tff", *options)
    frame = still(file, ffmpeg).convert("L")
    lines = {frame.getpixel((80, y)) // 128 for y in range(20, 100)}  # type: ignore[operator]
    assert len(lines) == 1


@ffmpegs
def test_the_film_is_taken_and_not_the_cover(ffmpeg: str, tmp_path: Path) -> None:
    cover = save(tmp_path, "cover.jpg", scene(100, 100))
    flat = film(tmp_path / "flat.mp4", [quarters(160, 120)] * 5, *H264)
    tones = tmp_path / "tones.m4a"
    draw("-f", "lavfi", "-i", "sine=d=2", str(tones))
    first = ["-i", str(tones), "-i", str(cover)]
    maps = ["-map", "0:a", "-map", "1:v", "-disposition:v:0", "attached_pic", "-c", "copy"]
    draw(*first, "-i", str(flat), *maps, "-map", "2:v", str(tmp_path / "both.mp4"))
    assert corners(still(tmp_path / "both.mp4", ffmpeg)) == ALL
    draw(*first, *maps, str(tmp_path / "song.mp4"))
    for name in ("song.mp4", "tones.m4a"):
        for table in VIDEO:
            done = run(VIDEO[table], tmp_path / name, [ffmpeg])
            assert (done.returncode != 0, done.stdout) == (True, b"")


@ffmpegs
@pytest.mark.parametrize("kind", ["m3u8", "ffconcat", "png", "empty", "cut", "sdp"])
def test_what_is_no_film_is_refused(kind: str, ffmpeg: str, films: Path, tmp_path: Path) -> None:
    """A list of films would name files and addresses."""
    good = films / "h264.mp4"
    png = io.BytesIO()
    quarters().save(png, "PNG")
    data = {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{good}\n#EXT-X-ENDLIST\n".encode(),
        "ffconcat": f"ffconcat version 1.0\nfile '{good}'\n".encode(),
        "png": png.getvalue(),
        "empty": b"",
        "cut": good.read_bytes()[: good.stat().st_size // 2],  # its index is at the end
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    }[kind]
    (tmp_path / "film.mp4").write_bytes(data)
    for table in VIDEO:
        done = run(VIDEO[table], tmp_path / "film.mp4", [ffmpeg])
        assert done.returncode != 0
        assert done.stdout == b""


@ffmpegs
def test_a_film_that_is_cut_off_shows_what_there_is(ffmpeg: str, films: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    draw("-i", str(films / "h264.mp4"), "-c", "copy", "-movflags", "faststart", str(whole))
    data = whole.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    assert [
        second(frame) for frame in frames(run(VIDEO["video"], tmp_path / "cut.mp4", [ffmpeg], time=1).stdout)
    ] == [0]
    behind = run(VIDEO["video"], tmp_path / "cut.mp4", [ffmpeg], time=9)
    assert (behind.returncode, behind.stdout) == (0, b"")


@ffmpegs
def test_the_sample_clip_has_a_poster_at_each_of_its_times(ffmpeg: str) -> None:
    clip = Path(__file__).parents[3] / "pictures" / "clip.mp4"
    assert clip.stat().st_size < 250_000
    with clip.open("rb") as file:
        assert duration_s(file) == 40
    shown = [run(VIDEO["video"], clip, [ffmpeg], time=t).stdout for t in (0, 4, 30, 34.9, 38)]
    assert {frames(each)[0].size for each in shown} == {(640, 360)}
    assert shown[0] == shown[1] != shown[2] == shown[3] != shown[4]
    (auto,) = frames(run(VIDEO["video_auto"], clip, [ffmpeg]).stdout)
    assert auto == frames(shown[0])[0]


# --- documents, drawings, raw files ---------------------------------------------------------------------


def needs(table: dict[str, Any]) -> None:
    if not found(table["command"][0]):
        pytest.skip(f"no {table['command'][0]}")


@pytest.mark.parametrize("name", ["pdf", "pdf_poppler"])
def test_a_page_of_a_pdf(name: str, tmp_path: Path) -> None:
    table = TABLES[name]
    needs(table)
    path = tmp_path / "two.pdf"
    path.write_bytes(pdf([QUARTERS, b"1 0 0 rg 0 0 200 100 re f"]))
    for values, size in (
        ({}, (267, 133)),
        ({"dpi": 72}, (200, 100)),
        ({"width": 400, "height": 200}, (400, 200)),
    ):
        done = run(table, path, **values)
        (page,) = frames(done.stdout)
        assert max(abs(a - b) for a, b in zip(page.size, size, strict=True)) <= (
            "width" not in values
        )  # rounded up
        assert corners(page) == ALL
    (page,) = frames(run(table, path, page=2).stdout)
    assert corners(page) == ["red"] * 4
    done = run(table, path, page=3)
    assert (done.returncode != 0, done.stdout) == (True, b"")


def test_an_svg(tmp_path: Path) -> None:
    table = TABLES["svg"]
    needs(table)
    path = tmp_path / "drawing.svg"
    left = '<rect width="2" height="2" fill="red"/>'
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 2">{left}</svg>')
    picture = opened(run(table, path, width=400, height=200).stdout)
    assert (picture.format, picture.size) == ("PNG", (400, 200))
    assert (picture.getpixel((100, 100)), picture.getpixel((300, 100))) == ((255, 0, 0, 255), (0, 0, 0, 0))


def test_a_raw_file_by_its_preview_or_developed(tmp_path: Path) -> None:
    needs(TABLES["raw"])
    preview = io.BytesIO()
    quarters(40, 30).save(preview, "JPEG")
    path = tmp_path / "raw.dng"
    path.write_bytes(dng(quarters(64, 48), 1, preview.getvalue(), (40, 30)))
    assert opened(run(TABLES["raw"], path).stdout).format == "JPEG"
    for name, size in (("raw_develop", (32, 24)), ("raw_full", (64, 48))):
        (picture,) = frames(run(TABLES[name], path).stdout)
        assert (picture.size, corners(picture)) == (size, ALL)


def test_a_raw_file_by_libraw_alone(tmp_path: Path) -> None:
    needs(TABLES["raw_libraw"])
    path = tmp_path / "raw.dng"
    path.write_bytes(dng(quarters(64, 48), 6))
    (picture,) = frames(run(TABLES["raw_libraw"], path).stdout)
    assert (picture.size, corners(picture)) == ((24, 32), ["blue", "red", "white", "green"])


# --- ImageMagick and cjpeg ------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", [-1, 1])
def test_a_targa(orientation: int, tmp_path: Path) -> None:
    """Its rows may begin below, as those of most do."""
    needs(TABLES["targa"])
    picture = quarters(64, 48).convert("RGBA")
    picture.putpixel((1, 1), (0, 0, 0, 0))
    path = save(tmp_path, "a.tga", picture, orientation=orientation)
    shown = opened(run(TABLES["targa"], path).stdout)
    assert (shown.format, shown.size, corners(shown)) == ("PNG", (64, 48), ALL)
    assert shown.convert("RGBA").getpixel((1, 1))[3] == 0  # type: ignore[index]


def test_a_picture_of_photoshop(tmp_path: Path) -> None:
    needs(TABLES["photoshop"])
    path = tmp_path / "a.psd"
    subprocess.run(["convert", str(save(tmp_path, "a.png", quarters(64, 48))), f"psd:{path}"], check=True)
    shown = opened(run(TABLES["photoshop"], path).stdout)
    assert (shown.format, shown.size, corners(shown)) == ("PNG", (64, 48), ALL)


def test_a_picture_of_gimp(tmp_path: Path) -> None:
    """Version 0 of the format, one layer in one tile."""
    needs(TABLES["gimp"])
    path = tmp_path / "a.xcf"
    path.write_bytes(xcf(quarters(64, 48)))
    shown = opened(run(TABLES["gimp"], path).stdout)
    assert (shown.format, shown.size, corners(shown)) == ("PNG", (64, 48), ALL)


def xcf(image: Image.Image) -> bytes:
    """*image*, at most 64 pixels a side, as GIMP's file; each of its runs is one byte long."""

    def words(*numbers: int) -> bytes:
        return b"".join(number.to_bytes(4, "big") for number in numbers)

    width, height = image.size
    data = bytearray(b"gimp xcf file\0" + words(width, height, 0))
    data += words(17, 1) + b"\1" + words(0, 0)  # compressed
    layer = len(data) + 12
    data += words(layer, 0, 0)
    data += (
        words(width, height, 0, 2)
        + b"a\0"
        + words(6, 4, 255)
        + words(8, 4, 1)
        + words(15, 8, 0, 0)
        + words(0, 0)
    )
    hierarchy = len(data) + 8
    data += words(hierarchy, 0) + words(width, height, 3, hierarchy + 20, 0)
    data += words(width, height, hierarchy + 36, 0)
    for channel in image.convert("RGB").split():
        data += b"".join(bytes([0, value]) for value in channel.tobytes())
    # ImageMagick reads the last tile as if it were as long as one can be.
    data += bytes(64 * 64 * 6)
    return bytes(data)


@pytest.mark.parametrize("name", ["photoshop", "gimp", "targa", "imagemagick"])
@pytest.mark.parametrize("kind", ["mvg", "msl", "svg", "ps", "text"])
def test_imagemagick_goes_by_the_prefix_and_not_by_what_a_file_says(
    name: str, kind: str, tmp_path: Path
) -> None:
    table = TABLES[name]
    needs(table)
    save(tmp_path, "secret.png", quarters())
    secret, out = tmp_path / "secret.png", tmp_path / "out"
    msl = f'<image><read filename="{secret}"/><write filename="{out}"/></image>'
    data = {
        "mvg": f"push graphic-context\nviewbox 0 0 9 9\nimage over 0,0 0,0 '{secret}'\npop graphic-context",
        "msl": f'<?xml version="1.0"?>{msl}',
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{secret}"/></svg>',
        "ps": f"%!PS\n({out}) (w) file closefile showpage",
        "text": f"@{secret}",
    }[kind]
    path = tmp_path / "source"
    path.write_text(data)
    done = run(table, path, width=30, height=20, quality=80)
    # A Targa has no magic bytes: what begins like one is noise, of the size that the noise says.
    assert name == "targa" or (done.returncode != 0 and done.stdout == b"")
    assert not out.exists()
    assert done.stdout == b"" or corners(opened(done.stdout)) != ALL


def test_imagemagick_makes_the_whole_answer(tmp_path: Path) -> None:
    """The bytes of the program itself, run by hand."""
    table = TABLES["imagemagick"]
    needs(table)
    path = save(tmp_path, "1.jpg", scene(1200, 900), quality=95)
    shown = opened(body := run(table, path, width=300, height=200, quality=80).stdout)
    assert (shown.format, shown.size) == ("JPEG", (267, 200))
    hand = [f"jpeg:{path}", "-auto-orient", "-thumbnail", "300x200>"]
    by_hand = subprocess.run(
        [shutil.which("convert") or "", *hand, "-quality", "80", "jpeg:-"], capture_output=True
    )
    assert by_hand.stdout == body


def test_imagemagick_turns_upright_and_never_enlarges(tmp_path: Path) -> None:
    table = TABLES["imagemagick"]
    needs(table)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path, "1.jpg", quarters(400, 300), exif=exif)
    for asked, size in (((150, 999), (150, 200)), ((999, 100), (75, 100)), ((999, 999), (300, 400))):
        shown = opened(run(table, path, width=asked[0], height=asked[1], quality=80).stdout)
        assert (shown.size, corners(shown)) == (size, ["blue", "red", "white", "green"])


def test_cjpeg_writes_what_it_is_given(tmp_path: Path) -> None:
    table = TABLES["cjpeg"]
    needs(table)
    ppm = io.BytesIO()
    scene().save(ppm, "PPM")
    sizes = []
    for quality in (90, 40):
        done = run(table, ppm.getvalue(), quality=quality)
        shown = opened(done.stdout)
        assert (shown.format, shown.size, done.stderr) == ("JPEG", (400, 300), b"")
        sizes.append(len(done.stdout))
    assert sizes[0] > sizes[1]
    assert "{in}" not in command(table, {})
