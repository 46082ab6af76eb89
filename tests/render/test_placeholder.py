"""A source's row has a tiny picture of it, made with its first render and of no further cost."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.asking import Counting, ask, problems
from support.clock import Clock
from support.drawing import cmyk_profile, corners, job, near, orientation, quarters, rgb_profile, save

from imagefactory.errors import StorageError
from imagefactory.factory import Parts
from imagefactory.model.job import Rendered
from imagefactory.model.source import Header, Source, Stamp
from imagefactory.render.memory import Memory
from imagefactory.render.pipeline import render
from imagefactory.render.placeholder import LONGEST
from imagefactory.storage.index import DiskIndex
from imagefactory.upkeep.warm.orders import Budget, Order, Wish
from imagefactory.upkeep.warm.run import warm
from imagefactory.workers import messages
from imagefactory.workers.pool import Pool

FOUR = ["red", "green", "blue", "white"]
URI = "data:image/webp;base64,UklGRg=="
LATER_S = 10_000_000_000.0  # no stamp is racy by this clock


def picture(uri: str) -> Image.Image:
    """The picture in a placeholder."""
    head, _, data = uri.partition(",")
    assert head == "data:image/webp;base64"
    assert len(uri) <= LONGEST
    image = Image.open(io.BytesIO(b64decode(data, validate=True)))
    assert image.format == "WEBP"
    assert max(image.size) <= 24
    image.load()
    assert not {"exif", "icc_profile", "xmp"} & set(image.info)
    return image


def made(path: Path, encoding: str = "png", **recipe: Any) -> Image.Image:
    """The placeholder that is made along with a render of *path*."""
    asked = replace(job(path, encoding, **recipe), wants_placeholder=True)
    return picture(render(asked).placeholder)


def with_hole() -> Image.Image:
    image = quarters().convert("RGBA")
    image.paste((0, 0, 0, 0), (200, 150, 400, 300))
    return image


def noise() -> Image.Image:
    bands = [Image.effect_noise((300, 300), 200) for _ in range(4)]
    return Image.merge("RGBA", bands)


# --- what it looks like ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "image", "options", "size"),
    [
        ("a.jpg", quarters(), {"quality": 95}, (20, 15)),
        ("a.png", quarters(), {}, (20, 15)),
        ("a.webp", quarters(300, 400), {}, (15, 20)),
        ("palette.png", quarters().quantize(8), {}, (20, 15)),
        ("cmyk.jpg", quarters().convert("CMYK"), {"quality": 95}, (20, 15)),
        ("cmyk.tif", quarters().convert("CMYK"), {}, (20, 15)),
        ("small.png", quarters(8, 6), {}, (8, 6)),
        ("large.jpg", quarters(4000, 3000), {"quality": 95}, (20, 15)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_resembles_the_picture(
    tmp_path: Path, name: str, image: Image.Image, options: dict[str, Any], size: tuple[int, int]
) -> None:
    tiny = made(save(tmp_path, name, image, **options), width=40)
    assert (tiny.mode, tiny.size, corners(tiny)) == ("RGB", size, FOUR)


@pytest.mark.parametrize("value", range(1, 9))
def test_it_is_upright(tmp_path: Path, value: int) -> None:
    path = save(tmp_path, "a.jpg", quarters(), quality=95, exif=orientation(value))
    whole = Image.open(io.BytesIO(render(job(path, width=100)).body or b""))
    tiny = made(path, width=40)
    assert corners(tiny) == corners(whole)
    assert tiny.size == ((15, 20) if value > 4 else (20, 15))


@pytest.mark.parametrize(
    "recipe",
    [
        {"width": 30, "height": 60, "fit": "cover", "gravity": "north"},
        {"width": 60, "height": 60, "fit": "pad", "background": "000000ff"},
        {"width": 40, "rotate": 90, "flop": True},
        {"width": 40, "grayscale": True, "blur": 3.0},
        {"width": 40, "trim": 10.0},
        {"width": 9, "height": 40, "fit": "stretch"},
    ],
    ids=str,
)
def test_it_is_the_whole_picture_whatever_the_recipe_shows(tmp_path: Path, recipe: dict[str, Any]) -> None:
    tiny = made(save(tmp_path, "a.png", quarters()), **recipe)
    assert (tiny.size, corners(tiny)) == ((20, 15), FOUR)


def test_it_keeps_alpha(tmp_path: Path) -> None:
    tiny = made(save(tmp_path, "a.png", with_hole()), "jpeg", width=40)  # which has none
    assert tiny.mode == "RGBA"
    alpha = tiny.getchannel("A")
    assert (alpha.getpixel((4, 3)), alpha.getpixel((16, 12))) == (255, 0)
    assert corners(tiny)[:3] == FOUR[:3]


def test_alpha_that_hides_nothing_is_left_out(tmp_path: Path) -> None:
    assert made(save(tmp_path, "a.png", quarters().convert("RGBA")), width=40).mode == "RGB"


@pytest.mark.parametrize(
    ("image", "profile", "wanted"),
    [
        (Image.new("RGB", (60, 40), (200, 100, 50)), rgb_profile("p3"), (218, 96, 37)),
        (Image.new("CMYK", (60, 40), (0, 255, 0, 0)), cmyk_profile(), (255, 0, 0)),
    ],
    ids=["p3", "cmyk"],
)
def test_its_colours_are_srgb(tmp_path: Path, image: Image.Image, profile: bytes, wanted: Any) -> None:
    path = save(tmp_path, "a.tif", image, icc_profile=profile)
    whole = Image.open(io.BytesIO(render(job(path, width=60)).body or b"")).convert("RGB")
    plain = image.convert("RGB").getpixel((9, 9))
    assert not near(plain, whole.getpixel((9, 9)), 12)  # the profile says something
    assert near(made(path, width=60).getpixel((9, 9)), whole.getpixel((9, 9)), 8)


@pytest.mark.parametrize(("size", "tiny"), [((1, 1), (1, 1)), ((4000, 10), (20, 1)), ((3, 3000), (1, 20))])
def test_it_has_a_pixel_at_least(tmp_path: Path, size: tuple[int, int], tiny: tuple[int, int]) -> None:
    found = made(save(tmp_path, "a.png", Image.new("RGB", size, (220, 30, 30))), width=20)
    assert found.size == tiny
    assert near(found.getpixel((0, 0)), (220, 30, 30), 12)


def test_of_an_animation_it_is_the_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (100, 75), "black"), Image.new("RGB", (100, 75), "lime")]
    path = save(tmp_path, "a.gif", quarters(100, 75), save_all=True, append_images=frames)
    for encoding in ("webp", "png"):
        assert corners(made(path, encoding, width=50)) == FOUR


def test_what_would_be_too_long_has_fewer_pixels(tmp_path: Path) -> None:
    tiny = made(save(tmp_path, "a.png", noise()), width=40)  # its length is looked at
    assert tiny.mode == "RGBA"
    assert 1 < max(tiny.size) < 20


def test_a_variant_is_the_same_with_and_without(tmp_path: Path) -> None:
    asked = job(save(tmp_path, "a.jpg", quarters(), quality=95), "webp", width=100)
    with_one = render(replace(asked, wants_placeholder=True))
    assert with_one.body == render(asked).body
    assert render(asked).placeholder == ""


def test_a_picture_is_not_lost_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> Any:
        raise MemoryError

    monkeypatch.setattr(sys.modules["imagefactory.render.placeholder"], "_tiny", fail)
    asked = job(save(tmp_path, "a.png", quarters()), width=40)
    found = render(replace(asked, wants_placeholder=True))
    assert (found.placeholder, found.body) == ("", render(asked).body)


def test_it_is_made_of_the_decode_that_is_remembered(tmp_path: Path) -> None:
    path = save(tmp_path, "a.png", quarters())
    os.utime(path)
    memory = Memory(now_ns=lambda: int(LATER_S * 1e9))
    assert render(job(path, width=40), memory).placeholder == ""
    later = render(replace(job(path, width=50), wants_placeholder=True), memory)
    assert corners(picture(later.placeholder)) == FOUR


# --- between processes -------------------------------------------------------------------------------------


def test_a_worker_makes_it(tmp_path: Path) -> None:
    path = save(tmp_path, "a.png", quarters())
    pool = Pool(1, 60, 0)
    try:
        asked = job(path, "webp", width=40)
        assert pool.render(asked).placeholder == ""
        assert corners(
            picture(pool.render(replace(asked, wants_placeholder=True, effort={"method": 0})).placeholder)
        )
    finally:
        pool.close()


@pytest.mark.parametrize(
    "text", ["javascript:1", URI + '"onload="', URI + "\n", "", None, 7, URI + "A" * 1000]
)
def test_a_worker_is_not_believed(text: object) -> None:
    message, body = messages.rendered_message(Rendered(1, 1, b"", {}, URI))
    assert messages.rendered_from(message, body).placeholder == URI
    assert messages.rendered_from({**message, "placeholder": text}, body).placeholder == ""


# --- in the index ------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock(now_s=LATER_S)


@pytest.fixture(params=["disk", "memory"])
def parts(request: pytest.FixtureRequest, assemble: Callable[..., Parts]) -> Parts:
    cache = {"mode": "memory"} if request.param == "memory" else {}
    return assemble(cache=cache)


def row(parts: Parts, path: str = "cats/tom.jpg") -> str:
    """The placeholder of *path*, as it is known."""
    return parts.source(path).placeholder


def test_the_first_render_makes_it_and_no_other_is_asked(parts: Parts, renderer: Counting) -> None:
    assert row(parts) == ""
    ask(parts, w=40)
    first = row(parts)
    assert corners(picture(first)) == FOUR
    ask(parts, w=50)
    assert [job.wants_placeholder for job in renderer.jobs] == [True, False]
    assert row(parts) == first


def test_a_cut_has_one_of_the_whole(parts: Parts) -> None:
    ask(parts, rect="0,0,100,100")
    assert corners(picture(row(parts))) == FOUR


def test_a_hit_writes_nothing(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(parts, w=40)
    written: list[Source] = []
    monkeypatch.setattr(parts.store.index.sources, "put", written.append)
    assert ask(parts, w=40).result == "hit"
    assert ask(parts, w=50).result == "miss"
    assert written == []


def test_a_preview_leaves_none(parts: Parts) -> None:
    source = parts.source("cats/tom.jpg")
    parts.maker.preview(source, parts.resolver.wanted(source, parts.resolver.request([("w", "40")]), ""))
    assert row(parts) == ""


def test_another_process_finds_it(assemble: Callable[..., Parts], renderer: Counting) -> None:
    one = assemble()
    ask(one, w=40)
    other = assemble()
    assert row(other) == row(one) != ""
    ask(other, w=50)
    assert not renderer.jobs[-1].wants_placeholder
    assert problems(other.store) == []  # type: ignore[arg-type]


def test_a_touched_source_keeps_it(parts: Parts, pictures: Path, renderer: Counting) -> None:
    ask(parts, w=40)
    first = row(parts)
    os.utime(pictures / "cats" / "tom.jpg", (1, 1))
    assert row(parts) == first
    copy = pictures / "cats" / "new.jpg"
    shutil.copy(pictures / "cats" / "tom.jpg", copy)
    copy.replace(pictures / "cats" / "tom.jpg")
    assert row(parts) == first != ""
    assert (renderer.renders, renderer.probes) == (1, 1)


def test_a_replaced_source_gets_another(parts: Parts, pictures: Path) -> None:
    ask(parts, w=40)
    quarters().rotate(180).save(pictures / "cats" / "tom.jpg", quality=95)
    assert row(parts) == ""
    ask(parts, w=40)
    assert corners(picture(row(parts))) == FOUR[::-1]


def test_a_source_replaced_during_the_render_does_not_get_it(
    parts: Parts, pictures: Path, renderer: Counting
) -> None:
    def put_other(job: object) -> None:
        renderer.after = lambda job: None
        quarters().rotate(180).save(pictures / "cats" / "tom.jpg", quality=95)
        assert row(parts) == ""  # another visitor, who has the new one read

    renderer.after = put_other
    ask(parts, w=40)
    assert row(parts) == ""
    ask(parts, w=50)
    assert corners(picture(row(parts))) == FOUR[::-1]


def test_an_index_that_fails_is_no_matter(
    assemble: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = assemble()
    row(parts)

    def fail(*args: object) -> None:
        raise StorageError("index", "no room")

    monkeypatch.setattr(parts.store.index.sources, "put", fail)
    answer = ask(parts, w=40)
    assert (answer.result, answer.bytes > 0) == ("miss", True)
    assert row(parts) == ""


def warmed(parts: Parts, *paths: str) -> tuple[int, int]:
    """How many variants of *paths* were rendered, and how many were there."""
    wish = Wish(parts.resolver.request([("w", "40")]), "w=40")
    found = warm(
        [parts],
        parts.store,  # type: ignore[arg-type]
        [Order(path, [wish]) for path in paths],
        Budget(),
        threading.Event(),
        lambda variants, size: None,
        time.monotonic,
    )
    return found.rendered, found.present


def test_warm_makes_it(assemble: Callable[..., Parts]) -> None:
    parts = assemble()
    for rendered in (2, 0):
        assert warmed(parts, "cats/tom.jpg", "flag.png") == (rendered, 2 - rendered)
        assert corners(picture(row(parts, "cats/tom.jpg"))) == FOUR
        assert corners(picture(row(parts, "flag.png"))) == FOUR


def test_warm_makes_that_of_a_copy_which_needs_no_render(
    assemble: Callable[..., Parts], pictures: Path, renderer: Counting
) -> None:
    parts = assemble()
    assert warmed(parts, "cats/tom.jpg") == (1, 0)
    shutil.copy(pictures / "cats" / "tom.jpg", pictures / "copy.jpg")
    assert ask(parts, "copy.jpg", w=40).result == "hit"
    assert row(parts, "copy.jpg") == ""
    for _ in range(2):
        assert warmed(parts, "copy.jpg") == (0, 1)
        assert row(parts, "copy.jpg") == row(parts, "cats/tom.jpg") != ""
        assert renderer.renders == 2


# --- rows --------------------------------------------------------------------------------------------------

SOURCE = Source("cats/tom.jpg", Stamp(1, 2, 3, 4), "ab" * 32, Header(400, 300, "JPEG"))


def open_index(root: Path) -> DiskIndex:
    return DiskIndex(root / "index", root / "locks" / "index", root / "tmp" / "damaged-index")


@pytest.mark.parametrize("placeholder", ["", URI])
def test_a_row_comes_back_as_it_went(tmp_path: Path, placeholder: str) -> None:
    source = replace(SOURCE, placeholder=placeholder)
    open_index(tmp_path).sources.put(source)
    assert open_index(tmp_path).sources.get(SOURCE.path) == source


def test_a_row_without_one_is_written_as_ever(tmp_path: Path) -> None:
    """Else a cache from before would have all of its sources read again."""
    open_index(tmp_path).sources.put(SOURCE)
    with closing(sqlite3.connect(tmp_path / "index" / "cache.db")) as connection:
        ((value,),) = connection.execute("SELECT value FROM Cache WHERE tag = 'source'")
    assert value.rpartition(" ")[0] == (
        f'{{"stamp":[1,2,3,4],"digest":"{"ab" * 32}","is_racy":false,"header":{{"width":400,"height":300,'
        '"format":"JPEG","frames":1,"orientation":1,"has_alpha":false}}'
    )


@pytest.mark.parametrize("found", ["<script>", URI + '">', 7, None, ["x"], URI + "A" * 1000])
def test_a_row_that_says_something_else_has_none(tmp_path: Path, found: Any) -> None:
    open_index(tmp_path).sources.put(replace(SOURCE, placeholder=found))
    assert open_index(tmp_path).sources.get(SOURCE.path) == SOURCE


def test_a_damaged_one_spoils_its_row(tmp_path: Path) -> None:
    open_index(tmp_path).sources.put(replace(SOURCE, placeholder=URI))
    with closing(sqlite3.connect(tmp_path / "index" / "cache.db")) as connection, connection:
        connection.execute("UPDATE Cache SET value = replace(value, 'UklG', 'UklH')")
    assert open_index(tmp_path).sources.get(SOURCE.path) is None


def test_sources_share_one_remembered_header_and_those_without_one_are_to_be_looked_at(
    tmp_path: Path,
) -> None:
    index = open_index(tmp_path)
    texts = ["", URI, URI.replace("UklG", "AAAA")]
    sources = [replace(SOURCE, path=str(i), placeholder=text) for i, text in enumerate(texts)]
    for source in sources:
        index.sources.put(source)
    found = sorted(index.sources.unchanged({source.path: source.stamp for source in sources}))
    assert [(path, digest, header) for path, digest, header, _ in found] == [
        (source.path, source.digest, source.header) for source in sources[1:]
    ]
    assert len(index.sources._headers) == 1
