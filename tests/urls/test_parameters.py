"""What a query may say, and what is answered to a mistake."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.errors import BadParameter, ConfigError
from imagefactory.model.formats import ENCODINGS, default_encoding
from imagefactory.model.source import Header
from imagefactory.urls.negotiation import negotiate
from imagefactory.urls.parameters import NAMES
from imagefactory.urls.query import Request, compile_presets, negotiated_in, parse_request


def read(query: str, **options: object) -> Request:
    return parse_request(parse_qsl(query, keep_blank_values=True), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        # numbers: the text is matched before it is converted
        ("scalex=1_000", "scalex='1_000' is not a number; a number is written as 12 or 12.5"),
        ("scalex=%2B5", r"scalex='\+5' is not a number"),
        ("scalex=+5", "scalex=' 5' is not a number"),
        ("scalex=-5", "scalex='-5' is not a number"),
        ("scalex=1e3", "scalex='1e3' is not a number"),
        ("scalex=nan", "scalex='nan' is not a number"),
        ("scalex=inf", "scalex='inf' is not a number"),
        ("scalex=0x10", "scalex='0x10' is not a number"),
        ("scalex=٣٢", "scalex='٣٢' is not a number"),
        ("scalex=３", "scalex='３' is not a number"),
        ("scalex=1000000", "scalex='1000000' is not a number"),
        ("scalex=5.", "scalex='5.' is not a number"),
        ("scalex=.5", "scalex='.5' is not a number"),
        ("scalex=5%0A", r"scalex='5\\n' is not a number"),
        ("scalex=1.0000001", "scalex='1.0000001' is not a number"),
        ("scalex=" + "9" * 5000, "is not a number"),
        ("w=abc", "w='abc' is not a number"),
        ("quality=0", "quality=0 is below the limit of 1"),
        ("quality=120", "quality=120 is above the limit of 100"),
        ("quality=80.5", "quality='80.5' is not a whole number from 1 to 100"),
        ("q=", "q='' is not a whole number from 1 to 100"),
        ("dpr=0", "dpr=0 is below the limit of 0.1"),
        ("dpr=6", "dpr=6 is above the limit of 5"),
        ("blur=101", "blur=101 is above the limit of 100"),
        ("blur=0.05", "blur=0.05 is below the limit of 0.1"),
        ("sharpen=11", "sharpen=11 is above the limit of 10"),
        ("trim=100.5", "trim=100.5 is above the limit of 100"),
        # sizes
        ("size=axb", "size='axb' is not a size; write 640x480, or one side alone"),
        ("size=1x2x3", "size='1x2x3' is not a size"),
        ("size=640*480", "size='640\\*480' is not a size"),
        ("resize=640-480", "resize='640-480' is not a size; write 640\\*480"),
        # words
        ("encoding=tiff", f"encoding='tiff' is not an encoding; allowed: {', '.join(ENCODINGS)}, auto"),
        ("encoding=", "encoding='' is not an encoding"),
        ("f=wepb", "f='wepb' is not an encoding; .*, did you mean 'webp'"),
        ("fit=fill", "fit=fill means three things in three systems; write cover"),
        (
            "fit=kover",
            "fit='kover' is not a fit; allowed: inside, cover, pad, stretch, outside, did you mean",
        ),
        ("gravity=up", "gravity='up' is not a gravity; allowed: center, north"),
        ("fp=0.5", "fp='0.5' is not a point; write x,y"),
        ("fp=0.5,1.5", "fp=1.5 is above the limit of 1"),
        ("bg=redd", "bg='redd' is not a colour; .*, did you mean 'red'"),
        ("bg=12345", "bg='12345' is not a colour"),
        ("rotate=45", "rotate='45' is not one of 90, 180, 270"),
        ("rotate=-90", "rotate='-90' is not one of"),
        ("flip=yes", "flip='yes' is neither 0 nor 1"),
        ("enlarge=true", "enlarge='true' is neither 0 nor 1"),
        ("rect=1,2,3", "rect='1,2,3' is not a rectangle; write x,y,w,h"),
        ("rect=0,0,0,5", "rect='0,0,0,5' is empty"),
        ("rect=-1,0,5,5", "rect='-1' is not a number"),
        ("preset=nope", "there is no preset 'nope'; this server has none"),
        ("download=a%0Ab", "download is not a file name"),
        ("download=" + "x" * 201, "download is not a file name"),
        # twice, and two names for one thing
        ("scalex=1&scalex=1", "scalex is given twice"),
        ("encoding=png&encoding=jpeg", "encoding is given twice"),
        ("scalex=100&w=200", "w gives a width of 200, another parameter 100"),
        ("size=300x200&h=250", "h gives a height of 250, another parameter 200"),
        ("size=300x&resize=301", "resize gives a width of 301, another parameter 300"),
        ("encoding=png&f=gif", "f='gif' disagrees with encoding; give one of them"),
        ("gravity=north&fp=0.5,0.5", "fp='0.5,0.5' disagrees with gravity"),
    ],
)
def test_a_mistake_is_refused_with_what_would_be_right(query: str, problem: str) -> None:
    with pytest.raises(BadParameter, match=problem):
        read(query)


@pytest.mark.parametrize(
    "query",
    [
        "scalex=100&w=100",
        "w=300&width=300.2",  # the same after rounding
        "encoding=jpg&format=JPEG",
        "size=300x&h=200",
        "scalex=&scaley=",
        "scalex=0&w=300",
        "fit=cover&mode=crop",
        "utm_source=mail&nonsense",
        "p=thumb&preset=thumb",
    ],
)
def test_names_that_agree_and_unknown_names_are_fine(query: str) -> None:
    read(query, presets=compile_presets({"thumb": {"scalex": "10"}}))


def test_an_unknown_name_is_refused_when_strict() -> None:
    with pytest.raises(BadParameter, match="there is no parameter 'scalx', did you mean 'scalex'?"):
        read("scalx=5", strict=True)


@pytest.mark.parametrize(
    ("query", "is_plain"),
    [
        ("", True),
        ("v=123456789012&download=a.jpg&s=x&e=1&k=a", True),
        ("scalex=0&dpr=2&gravity=north&fit=cover&enlarge=1&bg=red&anim=1&rotate=0&blur=0&foo=1", True),
        ("scalex=10", False),
        ("encoding=jpeg", False),
        ("encoding=auto", False),
        ("quality=80", False),
        ("rotate=90", False),
        ("flip=1&flop=1", False),
        ("rotate=180&flip=1&flop=1", True),
        ("anim=0", False),
        ("trim=0", False),
    ],
)
def test_the_original_is_what_is_asked_for_without_a_parameter_that_changes_pixels(
    query: str, is_plain: bool
) -> None:
    assert read(query).is_plain is is_plain


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("preset=thumb", "v1-240x240-cover-q70"),
        ("preset=thumb&size=300x200", "v1-300x200-cover-q70"),
        ("preset=thumb&scalex=100", "v1-100x240-cover-q70"),
        ("preset=thumb&q=50&fit=inside", "v1-240x240-inside-q50"),
        ("preset=thumb&dpr=2", "v1-480x480-cover-q70"),
        ("preset=thumb&gravity=north", "v1-240x240-cover-north-q70"),
    ],
)
def test_explicit_parameters_override_a_preset(query: str, expected: str) -> None:
    presets = compile_presets({"thumb": {"scalex": "240", "scaley": "240", "fit": "cover", "quality": "70"}})
    assert read(query, presets=presets).recipe.text() == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("scalex", 9), ("w", 9), ("size", 9), ("q", 9), ("fit", "pad"), ("dpr", 2), ("rotate", 90)],
)
def test_with_presets_only_nothing_else_changes_pixels(name: str, value: object) -> None:
    presets = compile_presets({"thumb": {"scalex": "240"}})
    read("preset=thumb&encoding=webp&v=1&download=x", presets=presets, presets_only=True)
    with pytest.raises(
        BadParameter, match=f"{name} can't be chosen on this server, which takes presets only"
    ):
        read(f"preset=thumb&{name}={value}", presets=presets, presets_only=True)
    with pytest.raises(BadParameter, match="which takes presets only"):
        read("encoding=webp", presets=presets, presets_only=True)


@pytest.mark.parametrize(
    ("preset", "problem"),
    [
        ({"scalex": "-1"}, "presets.thumb.scalex: scalex='-1' is not a number"),
        ({"fitt": "cover"}, "presets.thumb.fitt: no parameter that a preset can set, did you mean 'fit'"),
        ({"preset": "x"}, "presets.thumb.preset: no parameter that a preset can set"),
        ({"v": "x"}, "presets.thumb.v: no parameter that a preset can set"),
        ({"size": "10x10", "w": "20"}, "presets.thumb.w: w gives a width of 20, another parameter 10"),
    ],
)
def test_a_mistake_in_a_preset_names_its_key(preset: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        compile_presets({"thumb": preset})


@given(st.lists(st.tuples(st.sampled_from([*NAMES, "x"]), st.text(max_size=30)), max_size=6))
def test_no_text_raises_anything_but_a_bad_parameter(pairs: list[tuple[str, str]]) -> None:
    try:
        request = parse_request(pairs)
    except BadParameter as error:
        assert str(error)
    else:
        assert request.recipe.text()


# --- Accept -----------------------------------------------------------------------------------------------

CHROMIUM = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
SAFARI = "image/webp,image/avif,image/jxl,image/heic,image/heic-sequence,video/*;q=0.8,image/png,*/*;q=0.5"


@pytest.mark.parametrize(
    ("accept", "own", "expected"),
    [
        (CHROMIUM, "jpeg", "avif"),
        (SAFARI, "jpeg", "avif"),
        ("", "jpeg", "jpeg"),
        ("*/*", "png", "png"),
        ("image/*", "jpeg", "jpeg"),
        ("image/webp,*/*;q=0.8", "jpeg", "webp"),
        ("image/webp;q=0.8,image/avif;q=0.5", "jpeg", "webp"),
        ("image/webp;q=0.5,image/jpeg", "jpeg", "jpeg"),
        ("image/webp;q=0.5,image/jpeg;q=0.5", "jpeg", "webp"),
        ("image/avif;q=0,image/webp", "jpeg", "webp"),
        ("image/avif;q=0", "jpeg", "jpeg"),
        ("IMAGE/WEBP", "jpeg", "webp"),
        ("image/png,*/*", "jpeg", "png"),
        ("image/png,image/jpeg", "jpeg", "jpeg"),  # a tie: the source's own
        ("image/png,image/jpeg", "gif", "jpeg"),
        ("image/png;q=0.9,image/gif;q=0.8", "jpeg", "png"),
        ("image/webp;q=abc", "jpeg", "jpeg"),
        (";;;,,,=", "gif", "gif"),
        ("image/webp;q=1.5", "jpeg", "jpeg"),
    ],
)
def test_auto_takes_what_is_accepted_by_name(accept: str, own: str, expected: str) -> None:
    assert negotiate(accept, own) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (Header(1, 1, "JPEG"), "jpeg"),
        (Header(1, 1, "MPO"), "jpeg"),
        (Header(1, 1, "GIF"), "gif"),
        (Header(1, 1, "TIFF"), "jpeg"),
        (Header(1, 1, "TIFF", has_alpha=True), "png"),
        (Header(1, 1, "HEIF"), "jpeg"),
    ],
)
def test_without_an_encoding_the_source_keeps_its_own_if_we_write_it(header: Header, expected: str) -> None:
    assert default_encoding(header) == expected
    assert expected in ENCODINGS


@pytest.mark.parametrize("pairs", [[("w", "auto"), ("scalex", "")], [("scalex", "0"), ("w", "auto")]])
def test_a_side_that_says_nothing_leaves_the_width_negotiated(pairs: list[tuple[str, str]]) -> None:
    assert negotiated_in(pairs).width
