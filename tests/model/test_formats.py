"""Facts about formats that must agree with the decoders."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.drawing import encoded, quarters

from imagefactory.model.formats import HEAD_BYTES, SOURCE_FORMATS, may_be_picture

Image.init()
FORMATS = [name for name in SOURCE_FORMATS if name not in ("MPO", "HEIF")]
BRANDS = [
    b"avif",
    b"avis",
    b"mif1",
    b"msf1",
    b"heic",
    b"heix",
    b"hevc",
    b"hevx",
    b"heim",
    b"heis",
    b"hevm",
    b"hevs",
]
HEADS = [
    *(encoded(quarters(60, 40), name)[:HEAD_BYTES] for name in FORMATS),
    *(struct.pack(">I", 24) + b"ftyp" + brand + b"\0\0\0\0" + brand + b"mif1" for brand in BRANDS),
    *(b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+", b"GIF87a", b"\xff\x4f\xff\x51"),
]


@pytest.mark.parametrize("head", HEADS)
def test_a_picture_is_told_by_its_first_bytes(head: bytes) -> None:
    assert may_be_picture(head)


@pytest.mark.parametrize(
    "head",
    [
        *(
            b"",
            b"\xff",
            b"a text",
            b"%PDF-1.7",
            b"%!PS-Adobe",
            b"<svg xmlns=",
            b"PK\3\4",
            b"RIFF\0\0\0\0AVI LIST",
        ),
        *(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", b"\0\0\1\xba"),
    ],
)
def test_other_files_are_told_too(head: bytes) -> None:
    assert not may_be_picture(head)


@given(st.sampled_from(HEADS), st.binary(max_size=16), st.integers(0, 16))
def test_nothing_that_a_decoder_would_look_at_is_left_out(head: bytes, other: bytes, at: int) -> None:
    head = (head[:at] + other + head[at + len(other) :])[:HEAD_BYTES]
    if any(Image.OPEN[name][1](head[:16]) is True for name in FORMATS if Image.OPEN[name][1]):
        assert may_be_picture(head)
