"""JPEG XL with its extra, and what is said without it."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from PIL import Image
from support.asking import Counting
from support.drawing import (
    corners,
    encoded,
    job,
    opened,
    orientation,
    photos,
    quarters,
    rendered,
    rgb_profile,
    save,
    scene,
    written,
)

from imagefactory.model.formats import ENCODINGS, NEEDS_EXTRA
from imagefactory.render import pipeline as render
from imagefactory.render.jxl import distance_of
from imagefactory.urls.negotiation import negotiate

needs_extra = pytest.mark.skipif("jxl" in NEEDS_EXTRA, reason="the extra jxl is not installed")


def jpeg_in(data: bytes) -> bytes:
    """The JPEG that a JPEG XL was made of; RuntimeError where it was not made of one."""
    return bytes(importlib.import_module("pyjpegxl").jxl_to_jpeg(data))


def made(source: Path, **options: Any) -> bytes:
    """What the generator has rendered of *source* where nobody asks for a quality."""
    body = render.render(replace(job(source, "jxl", **options), may_transcode=True)).body
    assert body is not None
    return body


# --- with the extra ---------------------------------------------------------------------------------------


@needs_extra
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_alpha_is_kept_without_loss(tmp_path: Path, mode: str) -> None:
    image = scene(90, 60).convert(mode)
    if "A" in mode:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    result = rendered(save(tmp_path, "a.png", image), "jxl")
    assert result.mode == {"LA": "RGBA"}.get(mode, mode)
    if "A" in mode:
        assert result.getchannel("A").tobytes() == image.getchannel("A").tobytes()


@needs_extra
def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [quarters(40, 30).rotate(180 * turn) for turn in (0, 1)]
    source = save(tmp_path, "a.gif", frames[0], save_all=True, append_images=frames[1:], duration=100)
    result = rendered(source, "jxl")
    assert corners(result) == ["red", "green", "blue", "white"]
    assert not getattr(result, "is_animated", False)


@needs_extra
def test_quality_counts_as_in_cjxl(tmp_path: Path) -> None:
    assert [round(distance_of(quality), 2) for quality in (100, 90, 79, 30, 29, 1)] == [
        0.0, 1.0, 1.99, 6.4, 6.51, 15.0,
    ]  # fmt: skip
    source = save(tmp_path, "a.png", scene())
    sizes = [len(made(source, quality=quality)) for quality in (20, 60, 79, 95, 100)]
    assert sizes == sorted(sizes)
    assert rendered(source, "jxl", quality=100).tobytes() == scene().tobytes()


@needs_extra
@pytest.mark.parametrize(
    "source", [path for path in photos() if path.suffix == ".jpg"], ids=lambda path: path.name
)
def test_it_has_fewer_bytes_than_a_jpeg(source: Path) -> None:
    """At the default qualities, which look alike: an encoder that doesn't use its own colours has thrice as
    many."""
    sizes = {}
    for encoding in ("jxl", "jpeg"):
        body = render.render(job(source, encoding, width=640)).body
        assert body is not None
        sizes[encoding] = len(body)
    assert sizes["jxl"] < 0.85 * sizes["jpeg"], sizes


@needs_extra
def test_of_the_metadata_copyright_and_artist_stay(tmp_path: Path) -> None:
    exif = orientation(6, copyright="me", artist="her")
    exif[0x010F] = "a camera"
    source = save(tmp_path, "a.jpg", scene(), exif=exif, xmp=b"<x:xmpmeta>place</x:xmpmeta>")
    body = made(source)
    assert b"camera" not in body
    assert b"xmpmeta" not in body
    result = Image.open(io.BytesIO(body))
    result.load()
    assert dict(result.getexif()) == {0x8298: "me", 0x013B: "her"}
    assert result.size == (300, 400)


@needs_extra
def test_a_jpeg_as_it_is_is_transcoded_without_loss(tmp_path: Path) -> None:
    data = encoded(scene(), "JPEG", quality=90)
    target = tmp_path / "target"
    target.touch()
    work = replace(job(written(tmp_path, "a.jpg", data), "jxl", target=target), may_transcode=True)
    result = render.render(work)
    body = target.read_bytes()
    assert (result.body, result.width, result.height) == (None, 400, 300)
    assert jpeg_in(body) == data
    assert len(body) < len(data)
    assert opened(replace(result, body=body), "jxl").size == (400, 300)


@needs_extra
@pytest.mark.parametrize(
    ("saving", "recipe"),
    [
        ({}, {"width": 399}),
        ({}, {"rotate": 90}),
        ({}, {"grayscale": True}),
        ({"exif": orientation(1, copyright="me")}, {}),
        ({"exif": orientation(6)}, {}),
        ({"icc_profile": rgb_profile("p3")}, {}),
        ({"comment": b"a comment"}, {}),
    ],
)
def test_what_must_change_is_rendered(tmp_path: Path, saving: dict[str, Any], recipe: dict[str, Any]) -> None:
    body = made(save(tmp_path, "a.jpg", scene(), quality=90, **saving), **recipe)
    assert b"comment" not in body
    with pytest.raises(RuntimeError):
        jpeg_in(body)


@needs_extra
def test_a_jpeg_that_is_cut_off_is_as_broken_as_ever(tmp_path: Path) -> None:
    data = encoded(scene(), "JPEG", quality=90)
    source = written(tmp_path, "a.jpg", data[:3000] + b"\xff\xd9")
    work = job(source, "jxl")
    outcomes = []
    for may_transcode in (False, True):
        try:
            outcomes.append(str(render.render(replace(work, may_transcode=may_transcode)).body))
        except Exception as error:
            outcomes.append(repr(error))
    assert outcomes[0] == outcomes[1]


@needs_extra
def test_the_server_answers_it(app: Flask, renderer: Counting, pictures: Path) -> None:
    client, data = app.test_client(), (pictures / "cats/tom.jpg").read_bytes()
    for query, is_same in (
        ("encoding=jxl", True),
        ("f=jxl&q=79", True),
        ("f=jxl&q=78", False),
        ("f=jxl&w=50", False),
    ):
        answer = client.get(f"/picture/cats/tom.jpg?{query}", buffered=True)
        assert (answer.status_code, answer.content_type) == (200, "image/jxl")
        assert answer.headers["Content-Disposition"] == "inline; filename=tom.jxl"
        if is_same:
            assert jpeg_in(answer.data) == data
        else:
            with pytest.raises(RuntimeError):
                jpeg_in(answer.data)
    assert renderer.renders == 3
    assert [job.recipe.quality for job in renderer.jobs] == [79, 78, 79]


@needs_extra
@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("image/jxl,image/webp,*/*", "jxl"),
        ("image/webp,image/jxl", "jxl"),
        ("image/jxl,image/avif", "avif"),
        ("image/jxl,image/avif;q=0.9", "jxl"),
        ("image/jxl;q=0.5,image/webp", "webp"),
        ("image/jxl;q=0", "jpeg"),
    ],
)
def test_auto_takes_it_after_avif_and_before_webp(accept: str, expected: str) -> None:
    assert negotiate(accept, "jpeg") == expected


@needs_extra
def test_a_server_process_loads_no_library_for_it() -> None:
    code = "import sys, imagefactory.engine.generator\n"
    code += "print([m for m in ('pyjpegxl', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


# --- without it -------------------------------------------------------------------------------------------

WITHOUT = """
import sys
sys.modules["pyjpegxl"] = None  # as if it were not installed
from imagefactory.errors import BadParameter
from imagefactory.urls.negotiation import negotiate
from imagefactory.urls.query import parse_request
from imagefactory.storage.objects import DiskObjects
from imagefactory.model.variant import Key
from pathlib import Path
try:
    parse_request([("encoding", "JXL")])
except BadParameter as error:
    print(error)
print(negotiate("image/jxl,image/webp;q=0.5", "jpeg"), negotiate("image/jxl", "png"))
objects, key = DiskObjects(Path("x")), Key("ab" * 32, "v1-10x10-q79", "jxl")
print(objects.named(objects.name(key, "cd" * 16)) == (key, "cd" * 16))
"""


def test_without_the_extra_it_is_a_mistake_and_auto_never_takes_it() -> None:
    """And what a cache has from when it was there still has its name."""
    said = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [
        "encoding=JXL needs the extra 'jxl', which this server does not have; use avif or webp",
        "webp png",
        "True",
    ]


def test_it_is_an_encoding_or_an_extra() -> None:
    assert ("jxl" in ENCODINGS) != ("jxl" in NEEDS_EXTRA)
