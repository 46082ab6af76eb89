"""The memory: variants of one source share its decode and its resizes, and are as if they did not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from support.drawing import job, near, opened, orientation, photos, quarters, save, scene

from imagefactory.errors import ImageFactoryError, SourceChanged, Undecodable
from imagefactory.model.recipe import Rect
from imagefactory.render import decoders, framing, pipeline, saving
from imagefactory.render.memory import Memory
from imagefactory.render.pipeline import render

WIDTHS = (1000, 800, 640, 480, 320, 240, 160, 100)
ORDERS = {
    "down": WIDTHS,
    "up": WIDTHS[::-1],
    "mixed": (480, 100, 1000, 240, 800, 160, 640, 320),
    "near": (320, 640, 641, 639, 321, 319, 160),
}


def later() -> int:
    """A time at which the sources of these tests are no news any more."""
    return time.time_ns() + 10**10


@pytest.fixture
def memory() -> Memory:
    return Memory(now_ns=later)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a frame was decoded, and how often a picture was resized."""
    counts = {"decodes": 0, "resizes": 0}
    load, resized = decoders.load, pipeline.resized

    def counted_load(*arguments: Any) -> None:
        counts["decodes"] += 1
        load(*arguments)

    def counted_resized(image: Image.Image, *arguments: Any) -> Image.Image:
        result = resized(image, *arguments)
        counts["resizes"] += result is not image
        return result

    monkeypatch.setattr(decoders, "load", counted_load)
    monkeypatch.setattr(pipeline, "resized", counted_resized)
    return counts


def drawing(width: int = 1200, height: int = 900) -> Image.Image:
    """A scene with thin lines, which a bad filter would lose."""
    image = scene(width, height)
    draw = ImageDraw.Draw(image)
    for i in range(0, width, 37):
        draw.line((i, 0, width - i, height), (i % 256, 80, 255 - i % 256), 2)
        draw.ellipse((i, i // 2, i + 60, i // 2 + 40), outline=(20, i % 256, 90))
    return image


def glass(width: int = 1200, height: int = 900) -> Image.Image:
    """A drawing that is partly transparent."""
    image = drawing(width, height).convert("RGBA")
    image.putalpha(Image.radial_gradient("L").resize((width, height)))
    return image


# --- the same variants ----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.jpg", {"quality": 92}), ("b.png", {}), ("c.jpg", {"exif": orientation(6)})],
)
@pytest.mark.slow
def test_a_ladder_is_as_if_each_step_was_rendered_alone(
    tmp_path: Path, memory: Memory, order: str, name: str, options: dict[str, Any]
) -> None:
    source = save(tmp_path, name, glass() if name == "b.png" else drawing(), **options)
    for width in ORDERS[order]:
        work = job(source, "webp", width=width)
        assert render(work, memory).body == render(work).body, width


@pytest.mark.parametrize("source", photos(), ids=lambda path: path.name)
@pytest.mark.slow
def test_a_ladder_of_a_photograph_is_as_if_each_step_was_rendered_alone(source: Path) -> None:
    memory = Memory(now_ns=later)
    for width in (640, 1280, 320, 150):
        work = job(source, "jpeg", width=width)
        assert render(work, memory).body == render(work).body, width


RECIPES: list[dict[str, Any]] = [
    {},
    {"width": 400},
    {"width": 150, "height": 150, "fit": "cover"},
    {"width": 150, "height": 50, "fit": "cover", "gravity": "smart"},
    {"width": 150, "height": 150, "fit": "pad", "background": "10203080"},
    {"width": 150, "height": 25, "fit": "stretch"},
    {"width": 150, "rotate": 90, "flop": True},
    {"width": 150, "blur": 2.0},
    {"width": 150, "sharpen": 1.0},
    {"width": 150, "grayscale": True},
    {"width": 100, "rect": Rect(50, 25, 351, 166)},
    {"width": 100, "rect": Rect(0.1, 0.1, 0.5, 0.5, True)},
    {"width": 100, "trim": 10.0},
    {"width": 700, "enlarge": True},
]


DRAWN = ("a.png", "b.png", "a.jpg", "p.png", "i.tif", "m.gif")


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.slow
def test_any_variant_is_the_same_after_all_others(tmp_path: Path, memory: Memory, name: str) -> None:
    source = drawn(tmp_path, name)
    for recipe in RECIPES:
        render(job(source, "jpeg", **recipe), memory)
    for recipe in RECIPES:
        for encoding in ("webp", "jpeg", "gif") if name == "m.gif" else ("webp", "jpeg"):
            work = job(source, encoding, **recipe)
            assert render(work, memory).body == render(work).body, (encoding, recipe)


def drawn(folder: Path, name: str) -> Path:
    image = glass(600, 450) if name == "b.png" else drawing(600, 450)
    if name == "p.png":
        image = image.quantize(64)
    if name == "i.tif":  # 32 bits, of which the greatest value is white
        image = image.convert("L").convert("I").point(lambda v: v * 1000)
    if name == "m.gif":
        frames = [drawing(120, 90).rotate(5 * i) for i in range(3)]
        return save(folder, name, frames[0], save_all=True, append_images=frames[1:], duration=50)
    return save(folder, name, image)


# --- less work ------------------------------------------------------------------------------------------


def test_a_ladder_is_one_decode_and_a_resize_for_each_size(
    tmp_path: Path, memory: Memory, count: dict[str, int]
) -> None:
    source = save(tmp_path, "a.png", drawing())
    for width in WIDTHS:
        for encoding in ("jpeg", "webp", "avif"):
            render(job(source, encoding, width=width), memory)
    assert count == {"decodes": 1, "resizes": len(WIDTHS)}


@pytest.mark.parametrize("order", ORDERS)
def test_a_jpeg_of_less_than_3_megapixels_is_decoded_once(
    tmp_path: Path, memory: Memory, count: dict[str, int], order: str
) -> None:
    source = save(tmp_path, "a.jpg", drawing())
    jobs = [job(source, "webp", width=width) for width in ORDERS[order]]
    assert [render(each, memory).body for each in jobs] == [render(each).body for each in jobs]
    assert count["decodes"] == 1 + len(jobs)


@pytest.fixture
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "_WHOLE_PIXELS", 0)


@pytest.mark.usefixtures("all_are_large")
@pytest.mark.parametrize("order", ORDERS)
def test_a_jpeg_is_decoded_once_for_each_scale(
    tmp_path: Path, memory: Memory, count: dict[str, int], order: str
) -> None:
    """Here at 1/1, 1/2 and 1/4."""
    source = save(tmp_path, "a.jpg", drawing())
    for width in ORDERS[order]:
        for encoding in ("jpeg", "webp"):
            render(job(source, encoding, width=width), memory)
    assert count["decodes"] == 3


@pytest.mark.usefixtures("all_are_large")
def test_a_jpeg_is_decoded_as_small_as_may_be(tmp_path: Path, memory: Memory) -> None:
    source = save(tmp_path, "a.jpg", drawing())
    work = job(source, "webp", width=75)
    assert render(work, memory).body == render(work).body
    assert memory.bytes < 200 * 150 * 4 * 2


def test_encodings_quality_and_salt_share_a_picture(
    tmp_path: Path, memory: Memory, count: dict[str, int]
) -> None:
    source = save(tmp_path, "a.png", glass())
    for encoding, options in (
        ("webp", {}),
        ("webp", {"quality": 30}),
        ("avif", {"salt": "0123abcd"}),
        ("png", {"anim": False}),
        ("jpeg", {}),
        ("jpeg", {"background": "ff0000ff"}),
        ("webp", {}),
    ):
        work = job(source, encoding, width=300, **options)
        assert render(work, memory).body == render_alone(work, count)
    assert count == {"decodes": 1, "resizes": 1}


def render_alone(work: Any, count: dict[str, int]) -> bytes | None:
    """What render makes, uncounted."""
    before = dict(count)
    body = render(work).body
    count.update(before)
    return body


def test_each_background_is_laid_below_the_same_picture(tmp_path: Path, memory: Memory) -> None:
    source = save(tmp_path, "a.png", Image.new("RGBA", (400, 300), (0, 0, 0, 0)))
    for _ in range(2):
        for background, wanted in (
            ("", (255, 255, 255)),
            ("ff0000ff", (254, 0, 0)),
            ("00ff00ff", (0, 255, 0)),
        ):
            work = job(source, "jpeg", width=100, background=background)
            assert near(opened(render(work, memory), "jpeg").getpixel((50, 50)), wanted)
        assert opened(render(job(source, "png", width=100), memory), "png").getpixel((50, 50))[3] == 0
    for background in ("ff0000ff", "00ff00ff"):
        work = job(source, "png", width=100, height=100, fit="pad", background=background)
        found = opened(render(work, memory), "png").getpixel((50, 5))
        assert found == tuple(bytes.fromhex(background))


# --- never another picture ------------------------------------------------------------------------------


def test_a_replaced_source_is_rendered_anew(tmp_path: Path, memory: Memory) -> None:
    source = save(tmp_path, "a.png", Image.new("RGB", (400, 300), (255, 0, 0)))
    old = job(source, width=100)
    assert opened(render(old, memory), "png").getpixel((5, 5)) == (255, 0, 0)
    status = source.stat()
    save(tmp_path, "new.png", Image.new("RGB", (400, 300), (0, 0, 255))).replace(source)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(SourceChanged):
        render(old, memory)
    assert opened(render(job(source, width=100), memory), "png").getpixel((5, 5)) == (0, 0, 255)
    with pytest.raises(SourceChanged):
        render(old, memory)


def test_a_source_that_is_gone_is_not_remembered(tmp_path: Path, memory: Memory) -> None:
    source = save(tmp_path, "a.png", drawing())
    work = job(source, width=100)
    render(work, memory)
    source.unlink()
    with pytest.raises(FileNotFoundError):
        render(work, memory)


def test_sources_are_not_mixed_up(tmp_path: Path, memory: Memory) -> None:
    red, blue = (
        job(save(tmp_path, f"{name}.png", Image.new("RGB", (400, 300), name)), width=100)
        for name in ("red", "blue")
    )
    for work in (red, blue, red):
        assert render(work, memory).body == render(work).body


def test_nothing_is_kept_of_a_source_that_just_changed(tmp_path: Path, count: dict[str, int]) -> None:
    """Two writes in one tick of the clock leave one stamp."""
    source = save(tmp_path, "a.png", drawing())
    changed_ns = source.stat().st_ctime_ns
    now = [changed_ns + 1_999_999_999]
    memory = Memory(now_ns=lambda: now[0])
    for decodes in (1, 2):
        render(job(source, width=100), memory)
        assert count["decodes"] == decodes
        assert memory.bytes == 0
    now[0] += 1
    for _ in range(2):
        render(job(source, width=100), memory)
    assert count["decodes"] == 3
    now[0] = changed_ns - 3_600_000_000_000  # the clock was set back since
    render(job(source, width=90), memory)
    assert count["decodes"] == 3


@pytest.mark.parametrize("name", ["a.png", "b.png", "a.jpg", "p.png", "m.gif"])
@pytest.mark.slow
def test_what_is_kept_is_never_changed(tmp_path: Path, memory: Memory, name: str) -> None:
    source = drawn(tmp_path, name)
    render(job(source, width=200, anim=False), memory)
    kept = [image for _, image in memory._kept.values()]
    before = [image.tobytes() for image in kept]
    assert len(kept) >= 3
    assert all(image.readonly for image in kept)
    for encoding in ("png", "jpeg", "webp", "gif"):
        for recipe in [*RECIPES, {"width": 200}]:
            render(job(source, encoding, **recipe), memory)
    assert [image.tobytes() for image in kept] == before


# --- bounds ---------------------------------------------------------------------------------------------


def test_memory_is_bounded(tmp_path: Path) -> None:
    source = drawn(tmp_path, "a.png")  # decoded: 1.1 MB
    wanted = {str(recipe): render(job(source, "jpeg", **recipe)).body for recipe in RECIPES}
    for max_bytes in (0, 500_000, 1_200_000, 2_000_000, 9_000_000):
        memory = Memory(max_bytes, now_ns=later)
        for recipe in [*RECIPES, *RECIPES]:
            assert render(job(source, "jpeg", **recipe), memory).body == wanted[str(recipe)]
            assert memory.bytes <= max_bytes


def test_a_picture_that_is_too_large_costs_no_other_its_place(tmp_path: Path, count: dict[str, int]) -> None:
    source = save(tmp_path, "a.png", drawing())  # decoded: 4.3 MB
    memory = Memory(1_000_000, now_ns=later)
    render(job(source, "webp", width=300), memory)
    render(job(source, "webp", width=900), memory)
    count.update(decodes=0, resizes=0)
    for encoding in ("webp", "jpeg", "png"):
        render(job(source, encoding, width=300), memory)
    assert count == {"decodes": 0, "resizes": 0}


def test_cleared_it_holds_nothing(tmp_path: Path, memory: Memory, count: dict[str, int]) -> None:
    source = save(tmp_path, "a.png", drawing())
    render(job(source, width=100), memory)
    assert memory.bytes > 1200 * 900 * 4
    memory.clear()
    assert memory.bytes == 0
    render(job(source, width=100), memory)
    assert count["decodes"] == 2


def test_another_source_takes_the_place(tmp_path: Path, memory: Memory) -> None:
    render(job(save(tmp_path, "a.png", drawing())), memory)
    render(job(save(tmp_path, "b.png", quarters(40, 30))), memory)
    assert 0 < memory.bytes <= 40 * 30 * 4 * 2


# --- who is to blame ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_is_told_once_for_each_job_that_the_source_is_decoded(tmp_path: Path, memory: Memory) -> None:
    told: list[int] = []
    for name in ("a.png", "m.gif"):
        source = drawn(tmp_path, name)
        for number, recipe in enumerate([*RECIPES, *RECIPES[::2]]):
            told.clear()
            render(job(source, "gif", **recipe), memory, lambda n=number: told.append(n))  # type: ignore[misc]
            assert told == [number]


def test_a_broken_source_is_never_decoded(tmp_path: Path, memory: Memory) -> None:
    source = save(tmp_path, "a.png", drawing())
    source.write_bytes(source.read_bytes()[:5000])
    with pytest.raises(Undecodable):
        render(job(source, width=100), memory, told_too_early)


def told_too_early() -> None:
    raise AssertionError("it is not decoded")


def test_what_fails_after_the_decode_leaves_the_memory_sound(
    tmp_path: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(tmp_path, "a.png", drawing())
    work = job(source, width=100)
    told: list[str] = []
    failures: list[Callable[..., Any]] = []
    for module, name in ((pipeline, "resized"), (pipeline, "_finish"), (saving, "encoded")):

        def fail(*_: Any, **__: Any) -> None:
            raise MemoryError

        failures.append(fail)
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            with pytest.raises(ImageFactoryError):
                render(work, memory, lambda: told.append("decoded"))
    assert len(told) == len(failures)
    assert render(work, memory).body == render(work).body
