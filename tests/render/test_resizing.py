"""Resizing: the SIMD filter and Pillow's make the same picture, and Pillow's takes over wherever it must."""

from __future__ import annotations

import logging
import resource
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL
import pytest
from PIL import Image, ImageChops, ImageStat
from support.drawing import scene

from imagefactory.render import resizing
from imagefactory.render.resizing import MAX_DIFFERENCE, MEAN_DIFFERENCE, premultiplied, resized

MODES = ("L", "LA", "RGB", "RGBA", "CMYK")
needs_fast = pytest.mark.skipif(resizing._fast() is None, reason='needs the extra "fast"')


def picture(mode: str, width: int = 200, height: int = 150) -> Image.Image:
    """Soft detail in every channel, alpha from nothing to all."""
    red, green, blue = scene(width, height).split()
    bands = {"L": (blue,), "LA": (blue, red), "RGB": (red, green, blue), "RGBA": (blue, green, red, green)}
    return Image.merge(mode, bands.get(mode, (red, green, blue, red)))


def by_pillow(image: Image.Image, size: tuple[int, int], box: Any) -> Image.Image:
    """Plain Lanczos on premultiplied colours, as it comes out: La or RGBa with alpha."""
    return premultiplied(image).resize(size, Image.Resampling.LANCZOS, box)


def difference(one: Image.Image, other: Image.Image) -> tuple[float, float]:
    """The greatest and the mean difference of a channel, of 255."""
    found = ImageStat.Stat(ImageChops.difference(one, other))
    return max(high for _, high in found.extrema), max(found.mean)


# --- the same picture -----------------------------------------------------------------------------------


@needs_fast
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((90, 70), (0, 0, 200, 150)),
        ((33, 47), (10.3, 20.7, 180.2, 149.9)),
        ((33, 47), (0, 0, 199.5, 149.5)),  # as of a scaled decode
        ((200, 70), (0, 0, 200, 150)),
        ((90, 150), (0, 0, 200, 150)),
        ((500, 300), (0, 0, 200, 150)),
        ((64, 64), (99.5, 70.25, 107.5, 78.25)),
        ((50, 50), (20, 20, 70, 70)),  # a plain cut
        ((1, 1), (0, 0, 200, 150)),
        ((300, 1), (0, 149, 200, 150)),
    ],
)
def test_both_filters_make_the_same_picture(mode: str, size: tuple[int, int], box: Any) -> None:
    image = picture(mode)
    result = resized(image, size, box)
    assert (result.mode, result.size) == (mode, size)
    greatest, mean = difference(premultiplied(result), by_pillow(image, size, box))
    assert greatest <= MAX_DIFFERENCE
    assert mean <= MEAN_DIFFERENCE


@needs_fast
def test_what_lies_behind_the_third_band_changes_nothing() -> None:
    """Pillow stores RGB in four bytes; the fourth may be anything."""
    colours = picture("RGB")
    tidy = Image.frombytes("RGB", colours.size, colours.convert("RGBA").tobytes(), "raw", "RGBX")
    untidy = Image.merge("RGBA", (*colours.split(), scene(200, 150).split()[0])).tobytes()
    untidy = Image.frombytes("RGB", colours.size, untidy, "raw", "RGBX")
    assert resized(tidy, (70, 50), (0, 0, 200, 150)).tobytes() == (
        resized(untidy, (70, 50), (0, 0, 200, 150)).tobytes()
    )


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("is_fast", [True, False])
def test_no_hidden_colour_comes_out(monkeypatch: pytest.MonkeyPatch, mode: str, is_fast: bool) -> None:
    if not is_fast:
        monkeypatch.setattr(resizing, "_fast", lambda: None)
    image = Image.new("RGBA", (120, 120), (0, 0, 0, 0)).convert(mode)
    image.paste((250,) * (len(mode) - 1) + (255,), (30, 30, 90, 90))
    result = resized(image, (37, 37), (0, 0, 120, 120))
    seen = [pixel for _, pixel in result.getcolors(9999) if pixel[-1] > 8]
    assert len(seen) > 3
    assert all(min(pixel[:-1]) >= 245 for pixel in seen)


@pytest.mark.parametrize("mode", MODES)
def test_a_resize_leaves_the_source_alone(mode: str) -> None:
    image = picture(mode)
    image.readonly = 1
    before = image.tobytes()
    result = resized(image, (90, 70), (0, 0, 200, 150))
    result.paste(0, (0, 0, 90, 70))
    assert image.tobytes() == before


def test_without_anything_to_do_it_is_the_picture_itself() -> None:
    image = picture("RGB")
    assert resized(image, (200, 150), (0, 0, 200, 150)) is image
    assert resized(image, (200, 150), (-1, 0, 201, 150)) is image
    assert resized(image, (200, 150), (1, 0, 200, 150)) is not image


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ((-5, -0.1, 250, 151), (0, 0, 200, 150)),
        ((float("nan"), 0, 100, 100), (0, 0, 100, 100)),
        ((0, 0, float("inf"), 100), (0, 0, 200, 100)),
        ((199.7, 149.3, 200.00000001, 151), (199.7, 149.3, 200, 150)),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_box_is_cut_to_the_picture(mode: str, box: Any, cut: Any) -> None:
    image = picture(mode)
    assert resized(image, (33, 22), box).tobytes() == resized(image, (33, 22), cut).tobytes()


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((0, 5), (0, 0, 200, 150)),
        ((5, -1), (0, 0, 200, 150)),
        ((5, 5), (10, 10, 10, 20)),
        ((5, 5), (20, 10, 10, 20)),
        ((5, 5), (200, 0, 210, 150)),
        ((5, 5), (0, 0, 200, float("nan"))),
    ],
)
def test_what_has_no_pixels_is_refused(size: tuple[int, int], box: Any) -> None:
    with pytest.raises(ValueError, match=r"can't be resized to \(.*\): there are no pixels"):
        resized(picture("RGB"), size, box)


# --- threads --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc")
def test_a_resize_starts_no_threads() -> None:
    before = len(list(Path("/proc/self/task").iterdir()))
    resized(picture("RGBA", 1500, 1000), (700, 500), (0, 0, 1500, 1000))
    assert len(list(Path("/proc/self/task").iterdir())) == before


def test_threads_make_what_one_thread_does() -> None:
    images = [picture(mode, 400, 300) for mode in MODES]
    wanted = [resized(image, (151, 97), (0.5, 0, 400, 300)).tobytes() for image in images]
    wrong: list[str] = []

    def check() -> None:
        for _ in range(10):
            for image, data in zip(images, wanted, strict=True):
                if resized(image, (151, 97), (0.5, 0, 400, 300)).tobytes() != data:
                    wrong.append(image.mode)

    threads = [threading.Thread(target=check) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- when Pillow takes over -----------------------------------------------------------------------------

find_fast = resizing._fast.__wrapped__


@needs_fast
def test_the_library_passes_its_check() -> None:
    for mode in ("L", "RGB", "RGBA", "CMYK"):
        assert resizing._difference(resizing._load(), mode) <= MAX_DIFFERENCE


def test_without_the_library_pillow_resizes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "cykooz_resizer", None)
    assert find_fast() is None
    assert caplog.messages == []  # an extra may be missing
    monkeypatch.setattr(resizing, "_fast", find_fast)
    image = picture("RGBA")
    result = resized(image, (90, 70), (0, 0, 200, 150))
    assert difference(premultiplied(result), by_pillow(image, (90, 70), None))[0] <= MAX_DIFFERENCE


class Panic(BaseException):
    """As PyO3 raises it."""


def fails(error: BaseException) -> Callable[[], Any]:
    def load() -> Any:
        raise error

    return load


@pytest.mark.parametrize(
    "error", [OSError("cannot open shared object file"), RuntimeError("no AVX"), Panic(), SystemError()]
)
@pytest.mark.parametrize("when", ["at import", "in use"])
def test_a_library_that_fails_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: BaseException, when: str
) -> None:
    failing = fails(error)
    monkeypatch.setattr(resizing, "_load", failing if when == "at import" else lambda: lambda *_: failing())
    with caplog.at_level(logging.WARNING):
        assert find_fast() is None
    assert len(caplog.messages) == 1
    assert "cykooz-resizer fails" in caplog.messages[0]
    assert "Pillow resizes" in caplog.messages[0]


def test_an_interrupt_is_no_failure_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resizing, "_load", fails(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        find_fast()


def spotted(image: Image.Image) -> Image.Image:
    """One wrong pixel in the largest of the pictures that are compared."""
    if image.width == 64:
        image.paste(255, (0, 0, 1, 1))
    return image


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.point(lambda v: min(255, v + MAX_DIFFERENCE + 1)),  # too bright
        lambda image: image.point(lambda v: min(255, v + 1)),  # too bright on the average
        spotted,
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda image: image.convert("1"),
        lambda image: image.crop((0, 0, 5, 1)),
    ],
)
def test_a_library_that_differs_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, change: Any
) -> None:
    def differs(image: Image.Image, size: tuple[int, int], box: Any) -> Image.Image:
        return change(image.resize(size, Image.Resampling.LANCZOS, box))

    monkeypatch.setattr(resizing, "_load", lambda: differs)
    with caplog.at_level(logging.WARNING):
        assert find_fast() is None
    assert len(caplog.messages) == 1
    assert "differs from Pillow by" in caplog.messages[0]


@pytest.mark.parametrize(("version", "is_known"), [("12.3.0", True), ("13.0.0", True), ("14.0.0", False)])
def test_only_layouts_of_pixels_that_the_library_knows_are_shown_to_it(
    monkeypatch: pytest.MonkeyPatch, version: str, is_known: bool
) -> None:
    loads: list[str] = []

    def load() -> Any:
        loads.append(version)
        return by_pillow

    monkeypatch.setattr(PIL, "__version__", version)
    monkeypatch.setattr(resizing, "_load", load)
    find_fast()
    assert bool(loads) == is_known


def test_pictures_that_could_exhaust_memory_are_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library ends the process when memory runs out."""
    used: list[tuple[int, int]] = []

    def fast(image: Image.Image, size: tuple[int, int], box: Any) -> Image.Image:
        used.append(size)
        return by_pillow(image, size, box)

    monkeypatch.setattr(resizing, "_fast", lambda: fast)
    monkeypatch.setattr(resizing, "_MAX_PIXELS", 200 * 150 + 300 * 150 + 300 * 200)
    for size in ((300, 200), (301, 200), (300, 201), (20, 10)):
        assert resized(picture("RGB"), size, (0, 0, 200, 150)).size == size
    assert used == [(300, 200), (20, 10)]


def test_what_the_library_refuses_is_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resizing, "_fast", lambda: lambda *_: fails(RuntimeError("out of the image"))())
    for mode in MODES:
        found = resized(picture(mode), (90, 70), (0.5, 0, 200, 150))
        wanted = by_pillow(picture(mode), (90, 70), (0.5, 0, 200, 150))
        assert premultiplied(found).tobytes() == premultiplied(wanted.convert(mode)).tobytes()


def test_a_picture_that_lies_about_itself_is_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    def fast(*_: Any) -> Image.Image:
        raise AssertionError("it would read beyond the pixels")

    monkeypatch.setattr(resizing, "_fast", lambda: fast)
    image = picture("L")
    image._size = (200, 151)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="box can.t exceed"):
        resized(image, (20, 15), (0, 0, 200, 151))


def test_a_side_beyond_all_pictures_takes_no_memory_for_the_filter() -> None:
    """Each weight of a filter over 20,000,000 pixels takes 8 bytes, and each pixel has six."""
    image = Image.new("L", (20_000_000, 1), 40)
    image.paste(200, (10_000_000, 0, 20_000_000, 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for turned in (False, True):
        picture = image.transpose(Image.Transpose.ROTATE_270) if turned else image
        small = resized(picture, (1, 1000) if turned else (1000, 1), (0, 0, *picture.size))
        values = list(small.tobytes())
        assert values[:495] == [40] * 495
        assert values[505:] == [200] * 495
    grew = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grew * (1024 if sys.platform == "linux" else 1) < 400_000_000
