"""The presets of a picture that came in: made once, and hits for visitors; one that fails stops no other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.asking import Counting
from support.drawing import at_rest, quarters, scene

from imagefactory.catalog.jobs import JobRow
from imagefactory.engine.answer import Answer
from imagefactory.errors import Busy, TimedOut, Unavailable, Undecodable
from imagefactory.factory import Parts
from imagefactory.markup.pictures import Pictures
from imagefactory.model.job import Job
from imagefactory.tasks.presets import PresetsKind

TOM = "cats/tom.jpg"
THUMB = {"thumb": {"scalex": 60, "scaley": 60, "fit": "cover"}}
WEB = {"web": {"scalex": 90, "encoding": "auto"}}
CHROME = "image/avif,image/webp,*/*"
SAFARI = "image/webp,*/*"


def kind_of(parts: Parts, *presets: str) -> PresetsKind:
    pictures = Pictures(parts)
    return PresetsKind(
        parts.generator,
        parts.resolver,
        parts.identifier,
        parts.maker,
        presets,
        lambda path: pictures.picture(path, sizes="100vw", alt=""),
    )


def digest_of(parts: Parts, path: str) -> str:
    return hashlib.sha256((parts.config.paths.pictures / path).read_bytes()).hexdigest()


def job(parts: Parts, path: str = TOM, digest: str = "") -> JobRow:
    subject = f"{digest or digest_of(parts, path)} {path}"
    return JobRow("token", "presets", subject, "running", 0, 0, 1, "", {}, 0.0, 0.0, 0.0)


def run(parts: Parts, *presets: str, path: str = TOM, digest: str = "") -> Mapping[str, Any]:
    """The result of the job."""
    return kind_of(parts, *presets)(job(parts, path, digest), lambda done, total: None)


def visit(parts: Parts, preset: str, accept: str = "") -> Answer:
    """What a browser gets that sends *accept*."""
    return parts.generator.answer(TOM, parts.resolver.request([("preset", preset)]), accept)


def test_what_was_made_is_a_hit(assemble: Callable[..., Parts], renderer: Counting) -> None:
    parts = assemble(presets=THUMB | {"large": {"scalex": 300}})
    result = run(parts)
    assert (result["variants"], result["rendered"], result["failed"]) == (2, 2, [])
    answers = [visit(parts, "thumb"), visit(parts, "large")]
    assert [answer.result for answer in answers] == ["hit", "hit"]
    assert result["bytes"] == sum(answer.bytes for answer in answers)
    assert renderer.renders == 2


def test_auto_is_made_for_each_encoding_that_most_browsers_ask_for(
    assemble: Callable[..., Parts], renderer: Counting
) -> None:
    parts = assemble(presets=WEB)
    assert run(parts)["rendered"] == 3
    answers = [visit(parts, "web", accept) for accept in (CHROME, SAFARI, "")]
    assert [answer.result for answer in answers] == ["hit"] * 3
    assert [answer.media_type for answer in answers] == ["image/avif", "image/webp", "image/jpeg"]


@pytest.mark.parametrize(("names", "variants"), [((), 4), (("thumb",), 1), (("web", "thumb"), 4)])
def test_the_presets_are_those_that_are_named_or_all(
    assemble: Callable[..., Parts], names: tuple[str, ...], variants: int
) -> None:
    assert run(assemble(presets=THUMB | WEB), *names)["variants"] == variants


def test_it_is_made_once_however_often_the_job_runs(
    assemble: Callable[..., Parts], renderer: Counting
) -> None:
    parts = assemble(presets=THUMB | WEB)
    first = run(parts)
    again = run(parts)
    assert renderer.renders == 4
    assert again == {**first, "rendered": 0}


def test_presets_that_mean_the_same_variant_are_one(
    assemble: Callable[..., Parts], renderer: Counting
) -> None:
    parts = assemble(presets={"a": {"scalex": 90}, "b": {"w": 90}})
    assert run(parts)["variants"] == 1


def test_progress_counts_the_variants(assemble: Callable[..., Parts]) -> None:
    parts = assemble(presets=THUMB | WEB)
    told: list[tuple[int, int]] = []
    kind_of(parts)(job(parts), lambda done, total: told.append((done, total)))
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_markup_has_the_picture_with_its_placeholder(assemble: Callable[..., Parts]) -> None:
    parts = assemble(presets=THUMB)
    at_rest(parts.config.paths.pictures / TOM)
    markup = run(parts)["markup"]
    assert type(markup) is str
    assert markup.startswith("<picture>")
    assert "/picture/cats/tom.jpg?" in markup
    assert 'sizes="auto, 100vw"' in markup
    assert 'alt=""' in markup
    assert "data:image/webp;base64," in markup


def test_a_picture_without_presets_gets_its_placeholder(
    assemble: Callable[..., Parts], renderer: Counting
) -> None:
    parts = assemble()
    at_rest(parts.config.paths.pictures / TOM)
    result = run(parts)
    assert (result["variants"], result["failed"], renderer.renders) == (0, [], 1)
    assert parts.identifier.source(TOM).placeholder
    assert run(parts)["rendered"] == 0
    assert renderer.renders == 1


# --- what can't be made -----------------------------------------------------------------------------------


def test_an_impossible_preset_stops_no_other(assemble: Callable[..., Parts]) -> None:
    impossible = {"outside": {"rect": "1000,1000,10,10"}}
    result = run(assemble(presets=impossible | THUMB), "outside", "unknown", "thumb")
    assert result["variants"] == 1
    assert [(each["preset"], each["error"]) for each in result["failed"]] == [
        ("unknown", "bad_parameter"),
        ("outside", "bad_parameter"),
    ]
    assert result["failed"][0]["detail"].startswith("there is no preset 'unknown'")


def test_a_variant_that_fails_stops_no_other(assemble: Callable[..., Parts], renderer: Counting) -> None:
    def fail(each: Job) -> None:
        if each.encoding == "webp":
            error = Undecodable("not in this encoding")
            error.blames = "variant"
            raise error

    renderer.before = fail
    parts = assemble(presets=WEB)
    at_rest(parts.config.paths.pictures / TOM)
    result = run(parts)
    assert (result["variants"], result["rendered"]) == (2, 2)
    detail = "the source can't be decoded as a picture: not in this encoding"
    assert result["failed"] == [
        {"preset": "web", "encoding": "webp", "error": "undecodable", "detail": detail}
    ]


def test_a_variant_that_took_too_long_is_tried_again_when_the_others_are_made(
    assemble: Callable[..., Parts], renderer: Counting
) -> None:
    slow = {"avif"}

    def fail(each: Job) -> None:
        if each.encoding in slow:
            raise TimedOut("it took too long")

    renderer.before = fail
    parts = assemble(presets=WEB)
    with pytest.raises(TimedOut):
        run(parts)
    assert [visit(parts, "web", accept).result for accept in (SAFARI, "")] == ["hit", "hit"]
    slow.clear()
    result = run(parts)
    assert (result["variants"], result["rendered"]) == (3, 1)


def test_where_too_much_is_asked_for_the_rest_is_left_for_later(
    assemble: Callable[..., Parts], renderer: Counting
) -> None:
    def fail(each: Job) -> None:
        raise Busy("too many pictures are being made at the moment")

    renderer.before = fail
    with pytest.raises(Busy):
        run(assemble(presets=THUMB | WEB))
    assert renderer.renders == 1


def test_variants_that_the_cache_does_not_take_are_tried_again_later(
    assemble: Callable[..., Parts], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(Unavailable, match="can't be stored at the moment"):
        run(assemble(presets=THUMB))


def test_a_broken_picture_has_failed(assemble: Callable[..., Parts]) -> None:
    parts = assemble(presets=THUMB)
    path = parts.config.paths.pictures / "broken.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0 cut off")
    at_rest(path)
    with pytest.raises(Undecodable):
        run(parts, path="broken.jpg")


# --- a file that is not what it was -----------------------------------------------------------------------


def test_a_picture_that_has_gone_is_skipped(assemble: Callable[..., Parts], renderer: Counting) -> None:
    parts = assemble(presets=THUMB)
    assert run(parts, path="gone.jpg", digest="0" * 64) == {"skipped": "the file is not there any more"}
    assert renderer.renders == 0


def test_a_picture_that_is_another_one_by_now_is_skipped(
    assemble: Callable[..., Parts], renderer: Counting
) -> None:
    parts = assemble(presets=THUMB)
    assert run(parts, digest="0" * 64) == {"skipped": "the file is another one by now"}
    assert renderer.renders == 0


def test_a_picture_that_is_replaced_in_the_middle_is_skipped(
    assemble: Callable[..., Parts], renderer: Counting
) -> None:
    parts = assemble(presets=WEB)
    old = job(parts)

    def replaced(each: Job) -> None:
        renderer.after = lambda each: None
        other = parts.config.paths.pictures / "other.jpg"
        scene().save(other)
        other.replace(parts.config.paths.pictures / TOM)

    renderer.after = replaced
    result = kind_of(parts)(old, lambda done, total: None)
    assert result == {"skipped": "the file is another one by now"}
    assert renderer.renders == 2  # and not all three of the other picture
    assert run(parts)["variants"] == 3


def test_a_path_may_have_spaces(assemble: Callable[..., Parts]) -> None:
    parts = assemble(presets=THUMB)
    quarters().save(parts.config.paths.pictures / "my  cat .png")
    assert run(parts, path="my  cat .png")["variants"] == 1


def test_sizes_that_only_presets_may_have_keep_no_preset_from_being_made(
    assemble: Callable[..., Parts],
) -> None:
    parts = assemble(presets=THUMB | WEB, limits={"sizes": "presets"})
    assert run(parts)["variants"] == 4
