"""The rules of the cache: what costs a render, what never may, and what happens when things change."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from io import BufferedReader, BytesIO
from pathlib import Path

import pytest
from PIL import Image
from support.asking import Counting, ask, body_of, problems
from support.clock import Clock
from support.drawing import at_rest, encoded, quarters, written
from support.exchanging import exchanged

from imagefactory.errors import (
    BeingWritten,
    Busy,
    NotFound,
    StorageError,
    TimedOut,
    TooLarge,
    Unavailable,
    Undecodable,
)
from imagefactory.factory import Parts
from imagefactory.model.job import Job
from imagefactory.model.source import Header, Stamp
from imagefactory.model.variant import Variant
from imagefactory.storage.disk import DiskStore
from imagefactory.storage.objects import DiskObjects
from imagefactory.upkeep.purge.selection import Selection
from imagefactory.urls.query import parse_request

Assemble = Callable[..., Parts]
MODES = ["disk", "memory"]


@pytest.fixture(params=MODES)
def parts(request: pytest.FixtureRequest, assemble: Assemble) -> Parts:
    """One suite for both stores."""
    return assemble(cache={"mode": request.param})


def test_the_second_request_is_a_hit_with_the_same_bytes(parts: Parts, renderer: Counting) -> None:
    first, second = ask(parts, scalex=100), ask(parts, w=100)
    assert (first.result, second.result) == ("miss", "hit")
    assert body_of(parts, first) == body_of(parts, second)
    assert renderer.renders == 1


def test_the_etag_is_the_digest_of_the_body(parts: Parts) -> None:
    for parameters in ({"scalex": 100}, {"encoding": "webp"}, {"size": "50x50", "fit": "cover"}, {}):
        answer = ask(parts, **parameters)
        body = body_of(parts, answer)
        assert answer.etag == f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        assert answer.bytes == len(body)


def test_the_pixels_are_those_of_the_source(parts: Parts) -> None:
    answer = ask(parts, scalex=100, encoding="png")
    with Image.open(BytesIO(body_of(parts, answer))) as image:
        assert image.size == (100, 75)
        red, white = image.convert("RGB").getpixel((10, 10)), image.convert("RGB").getpixel((90, 70))
    assert max(abs(a - b) for a, b in zip(red, (220, 30, 30), strict=True)) < 8
    assert max(abs(a - b) for a, b in zip(white, (250, 250, 250), strict=True)) < 8


# --- what costs no render ------------------------------------------------------------------------------


def test_touch_chmod_copy_and_rename_cost_no_render(parts: Parts, renderer: Counting, pictures: Path) -> None:
    tom = pictures / "cats/tom.jpg"
    first = ask(parts, scalex=100)
    os.utime(tom, (1, 1))
    assert ask(parts, scalex=100).result == "hit"
    tom.chmod(0o600)
    assert ask(parts, scalex=100).result == "hit"
    shutil.copy2(tom, pictures / "copy.jpg")
    assert ask(parts, "copy.jpg", scalex=100).etag == first.etag
    tom.rename(pictures / "cats/thomas.jpg")
    assert ask(parts, "cats/thomas.jpg", scalex=100).result == "hit"
    assert renderer.renders == 1
    assert renderer.probes <= 3  # a new path is probed, a touched one is not


def test_a_restart_costs_no_render(assemble: Assemble, renderer: Counting) -> None:
    ask(assemble(), scalex=100)
    assert ask(assemble(), scalex=100).result == "hit"
    assert renderer.renders == 1


def test_a_duplicate_answers_with_its_own_name(parts: Parts, pictures: Path) -> None:
    ask(parts, scalex=100)
    shutil.copy(pictures / "cats/tom.jpg", pictures / "copy.jpg")
    assert ask(parts, "copy.jpg", scalex=100).source.path == "copy.jpg"


# --- what is never stale -------------------------------------------------------------------------------


def test_a_replaced_picture_gets_a_new_variant(parts: Parts, renderer: Counting, pictures: Path) -> None:
    old = ask(parts, scalex=100)
    quarters().rotate(180).save(pictures / "cats/tom.jpg", quality=95)
    new = ask(parts, scalex=100)
    assert new.etag != old.etag
    assert renderer.renders == 2


@pytest.mark.parametrize("pause_s", [0.0, 2.1], ids=["at once", "when the old stamp was trusted"])
@pytest.mark.slow
def test_bytes_replaced_under_the_same_size_and_mtime_are_never_served_from_the_old_variant(
    assemble: Assemble, pictures: Path, pause_s: float
) -> None:
    parts = assemble()
    path = pictures / "flag.bmp"
    quarters(60, 40).save(path)
    before = path.stat()
    old = ask(parts, "flag.bmp", scalex=30, encoding="png")
    time.sleep(pause_s)
    assert ask(parts, "flag.bmp", scalex=30, encoding="png").etag == old.etag
    with path.open("r+b") as file:  # in place: the same inode
        quarters(60, 40).rotate(180).save(file, "BMP")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (
        before.st_ino,
        before.st_size,
        before.st_mtime_ns,
    )
    assert ask(parts, "flag.bmp", scalex=30, encoding="png").etag != old.etag


def test_a_young_stamp_is_hashed_again_until_it_is_two_seconds_old(assemble: Assemble, clock: Clock) -> None:
    clock.now_s = time.time()
    parts = assemble()
    hashed: list[str] = []
    digest = parts.sources.digest
    parts.sources.digest = lambda path: hashed.append(path) or digest(path)  # type: ignore[method-assign]
    for _ in range(3):
        ask(parts, scalex=100)
    assert len(hashed) > 3
    clock.now_s += 3
    ask(parts, scalex=100)
    count = len(hashed)
    for _ in range(3):
        ask(parts, scalex=100)
    assert len(hashed) == count


def test_a_picture_that_is_gone_is_not_found(parts: Parts, pictures: Path) -> None:
    ask(parts, scalex=100)
    (pictures / "cats/tom.jpg").unlink()
    with pytest.raises(NotFound):
        ask(parts, scalex=100)


def test_another_salt_renews_everything(assemble: Assemble, renderer: Counting) -> None:
    ask(assemble(), scalex=100)
    assert ask(assemble(cache={"salt": "2"}), scalex=100).result == "miss"
    assert ask(assemble(), scalex=100).result == "hit"


def test_another_default_quality_gives_new_variants(assemble: Assemble) -> None:
    ask(assemble(), scalex=100)
    assert ask(assemble(encodings={"jpeg": {"quality": 50}}), scalex=100).result == "miss"


# --- a source that changes while it is rendered --------------------------------------------------------


def test_a_source_that_changes_while_it_is_rendered_is_rendered_again(
    parts: Parts, renderer: Counting, pictures: Path
) -> None:
    def replace(job: object) -> None:
        if renderer.renders == 1:
            with (pictures / "cats/tom.jpg").open("r+b") as file:
                quarters().rotate(180).save(file, "JPEG", quality=95)

    renderer.before = replace
    answer = ask(parts, scalex=100, encoding="png")
    assert answer.is_stable
    assert renderer.renders == 2
    with Image.open(BytesIO(body_of(parts, answer))) as image:
        assert image.convert("RGB").getpixel((10, 10)) > (200, 200, 200)  # white is up now


def test_a_source_that_never_holds_still_is_answered_and_not_stored(
    assemble: Assemble, renderer: Counting, pictures: Path
) -> None:
    tom = pictures / "cats/tom.jpg"
    parts = assemble()
    renderer.before = lambda job: os.utime(tom, ns=(1, len(renderer.jobs))) if job.source == tom else None
    answer = ask(parts, scalex=100)
    assert (answer.result, answer.is_stable) == ("bypass", False)
    assert len(body_of(parts, answer)) == answer.bytes
    assert renderer.renders == 4
    assert not list(parts.store.index.variants.good())  # type: ignore[attr-defined]


# --- links ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["inside", "listed", "none"])
def test_links_lead_where_the_config_says(
    assemble: Assemble, pictures: Path, tmp_path: Path, way: str
) -> None:
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    quarters(40, 30).save(uploads / "sun.png")
    (pictures / "shared").symlink_to(uploads)
    (pictures / "tom.jpg").symlink_to("cats/tom.jpg")
    roots = {"link_roots": [str(uploads)]} if way == "listed" else {}
    parts = assemble(paths={"follow_links": way, **roots})
    ask(parts, scalex=20)
    for path, is_there in (("tom.jpg", way != "none"), ("shared/sun.png", way == "listed")):
        assert (path in parts.sources.walk()) == is_there
        for parameters in ({"scalex": 20}, {}):
            with nullcontext() if is_there else pytest.raises(NotFound):
                assert len(body_of(parts, ask(parts, path, **parameters))) > 0


# --- what has gone outside -----------------------------------------------------------------------------


def test_what_was_moved_away_with_a_link_left_behind_is_not_found_when_something_is_made(
    parts: Parts, renderer: Counting, pictures: Path, tmp_path: Path
) -> None:
    """Its stamp is the same: only who opens it sees that it is outside."""
    ask(parts, scalex=100)
    (pictures / "cats").rename(tmp_path / "cats")
    (pictures / "cats").symlink_to(tmp_path / "cats")
    for width in (50, 100, 100):  # the first one is to be made; after it there is no hit any more either
        with pytest.raises(NotFound):
            ask(parts, scalex=width)
    assert renderer.renders == 1
    (pictures / "cats").unlink()
    (tmp_path / "cats").rename(pictures / "cats")
    assert ask(parts, scalex=100).result == "hit", "the variants are still there"


def test_an_original_that_was_moved_away_is_not_found_and_nor_are_its_variants(
    parts: Parts, pictures: Path, tmp_path: Path
) -> None:
    ask(parts, scalex=100)
    (pictures / "cats").rename(tmp_path / "cats")
    (pictures / "cats").symlink_to(tmp_path / "cats")
    for parameters in ({}, {"scalex": 100}):
        with pytest.raises(NotFound):
            ask(parts, **parameters)


def test_no_exchange_of_folder_and_link_puts_anything_of_the_outside_into_the_cache(
    parts: Parts, renderer: Counting, pictures: Path, tmp_path: Path
) -> None:
    """They change places after the look at the stamp, and again before the render."""
    outside = tmp_path / "outside"
    outside.mkdir()
    quarters(120, 80).save(outside / "tom.jpg")
    inside = hashlib.sha256((pictures / "cats/tom.jpg").read_bytes()).hexdigest()
    (pictures / "link").symlink_to(outside)
    exchanged(pictures / "cats", pictures / "link")  # cats/tom.jpg is the outside's now
    opened, dice = parts.sources.open, random.Random(1)
    seen: list[Stamp] = []

    def exchanging(path: str) -> tuple[BufferedReader, Stamp]:
        if dice.random() < 0.5:
            exchanged(pictures / "cats", pictures / "link")
        found = opened(path)
        seen.append(found[1])
        return found

    parts.sources.open = exchanging  # type: ignore[method-assign]
    renderer.before = lambda job: exchanged(pictures / "cats", pictures / "link")
    for width in range(50, 90):
        with suppress(NotFound, Unavailable):
            assert ask(parts, scalex=width).source.header == Header(400, 300, "JPEG")
    assert len(set(seen)) == 1
    rows = list(parts.store.index.sources.walk())
    assert {source.digest for source in rows} <= {inside}


# --- broken sources ------------------------------------------------------------------------------------


def test_a_broken_picture_is_decoded_once_for_a_crowd(
    parts: Parts, renderer: Counting, pictures: Path
) -> None:
    whole = (pictures / "cats/tom.jpg").read_bytes()
    (pictures / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    at_rest(pictures / "cut.jpg")

    def one(width: int) -> str:
        with pytest.raises(Undecodable) as caught:
            ask(parts, "cut.jpg", scalex=100)
        return str(caught.value)

    with ThreadPoolExecutor(8) as pool:
        messages = set(pool.map(one, range(40)))
    assert len(messages) == 1
    assert renderer.renders == 1
    (pictures / "cut.jpg").write_bytes(whole)
    assert ask(parts, "cut.jpg", scalex=100).result == "miss"


def test_a_remembered_failure_holds_on_to_nothing(parts: Parts, pictures: Path) -> None:
    """Else its traceback keeps a decoded picture alive, and grows with each request."""
    whole = (pictures / "cats/tom.jpg").read_bytes()
    (pictures / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    at_rest(pictures / "cut.jpg")
    depths = set()
    for _ in range(5):
        with pytest.raises(Undecodable) as caught:
            ask(parts, "cut.jpg", scalex=100)
        depths.add(len(caught.traceback))
    (_, remembered), *_ = parts.maker._failures._errors._values.values()
    assert remembered.__cause__ is remembered.__traceback__ is remembered.__context__ is None
    assert len(depths) == 2  # the first one, and the ones from memory


def test_broken_late_frames_spoil_no_still_picture(parts: Parts, pictures: Path) -> None:
    frames = [quarters().rotate(90 * turn) for turn in range(4)]
    frames[0].save(pictures / "whole.png", save_all=True, append_images=frames[1:])
    data = (pictures / "whole.png").read_bytes()
    at_rest(written(pictures, "cut.png", data[: len(data) * 9 // 10]))
    with pytest.raises(Undecodable):
        ask(parts, "cut.png", scalex=100, encoding="webp")
    assert ask(parts, "cut.png", scalex=100, encoding="jpeg").result == "miss"


def half(picture: Image.Image, format: str) -> bytes:
    frames = [picture.rotate(90 * turn) for turn in range(3)] if format == "GIF" else []
    more = {"save_all": True, "append_images": frames} if frames else {}
    data = encoded(picture, format, **more)
    return data[: len(data) // 2]


CUT_OFF = {
    "half.jpg": lambda: half(quarters(), "JPEG"),
    "half.png": lambda: half(quarters().rotate(5), "PNG"),
    "half.webp": lambda: half(quarters(), "WEBP"),
    "half.tiff": lambda: half(quarters(), "TIFF"),
    "half.gif": lambda: half(quarters().rotate(5), "GIF"),
    "start.jpg": lambda: half(quarters(), "JPEG")[:12],
    "noise.jpg": lambda: bytes(500),
    "empty.jpg": lambda: b"",
}


@pytest.mark.parametrize("name", CUT_OFF)
def test_what_is_cut_off_is_being_written_until_it_is_at_rest(
    parts: Parts, renderer: Counting, pictures: Path, name: str
) -> None:
    path = written(pictures, name, CUT_OFF[name]())
    for _ in range(2):
        with pytest.raises(BeingWritten, match="the picture is being written at the moment"):
            ask(parts, name, scalex=100, encoding="webp")
    assert not parts.health.failures
    before = renderer.renders
    at_rest(path)
    for _ in range(3):
        with pytest.raises(Undecodable):
            ask(parts, name, scalex=100, encoding="webp")
    assert renderer.renders <= before + 1, "that is remembered"
    quarters().save(path)
    assert ask(parts, name, scalex=100, encoding="webp").result == "miss", "nothing is remembered of it now"


def test_what_is_no_picture_by_its_name_is_not_being_written(parts: Parts, pictures: Path) -> None:
    for name in ("notes.txt", "page.svg", "empty"):
        written(pictures, name, b"")
        with pytest.raises(NotFound):
            ask(parts, name, scalex=10)


def test_what_costs_a_worker_is_remembered_though_it_was_just_written(
    assemble: Assemble, renderer: Counting
) -> None:
    def crash(job: Job) -> None:
        error = Undecodable("the process that renders it crashed, twice")
        error.cost_a_worker = True
        raise error

    parts = assemble()
    renderer.before = crash
    for _ in range(3):
        with pytest.raises(Undecodable):
            ask(parts, scalex=100)
    assert renderer.renders == 1


def test_a_pipe_in_the_place_of_a_source_is_not_waited_for(
    assemble: Assemble, renderer: Counting, pictures: Path
) -> None:
    parts = assemble()

    def swap(job: object) -> None:
        (pictures / "cats/tom.jpg").unlink(missing_ok=True)
        os.mkfifo(pictures / "cats/tom.jpg")

    renderer.before = swap
    with pytest.raises(NotFound):
        ask(parts, scalex=100)


def test_what_is_no_picture_is_not_found_unless_its_name_says_otherwise(
    parts: Parts, renderer: Counting, pictures: Path
) -> None:
    at_rest(written(pictures, "noise.jpg", b"noise" * 100))
    for _ in range(3):
        with pytest.raises(NotFound):
            ask(parts, "notes.txt", scalex=10)
        with pytest.raises(NotFound):
            ask(parts, "page.svg")
        with pytest.raises(NotFound):
            ask(parts, "noise.jpg")
        with pytest.raises(Undecodable, match="it is in no known format"):
            ask(parts, "noise.jpg", scalex=10)
    assert renderer.renders == renderer.probes == 0


def test_a_picture_over_the_pixel_budget_is_refused(assemble: Assemble) -> None:
    with pytest.raises(TooLarge, match="the source has 120000 pixels, above the limit of 1000"):
        ask(assemble(limits={"max_pixels": 1000}), scalex=10)


# --- crowds --------------------------------------------------------------------------------------------


def test_a_crowd_costs_one_render(parts: Parts, renderer: Counting) -> None:
    renderer.before = lambda job: time.sleep(0.2)
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: ask(parts, scalex=100), range(32)))
    assert renderer.renders == 1
    results = [answer.result for answer in answers]
    assert results.count("miss") == 1
    assert set(results) <= {"miss", "coalesced", "hit"}
    assert len({body_of(parts, answer) for answer in answers}) == 1


def test_a_slow_render_does_not_hold_up_another(assemble: Assemble, renderer: Counting) -> None:
    parts = assemble(render={"processes": 2})
    go = threading.Event()
    renderer.before = lambda job: go.wait(10) if job.recipe.width == 50 else None
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, parts, scalex=50)
        for width in range(51, 61):
            assert ask(parts, scalex=width).result == "miss"
        assert not slow.done()
        go.set()
        assert slow.result().result == "miss"


def test_too_many_requests_are_sent_away_at_once(assemble: Assemble, renderer: Counting) -> None:
    parts = assemble(render={"processes": 1, "queue": 1})
    go = threading.Event()
    renderer.before = lambda job: go.wait(10)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(ask, parts, scalex=50), pool.submit(ask, parts, scalex=51)]
        while parts.counters.gauges()["renders_waiting"] < 1:
            time.sleep(0.01)
        with pytest.raises(Busy, match="too many pictures are waiting to be made") as caught:
            ask(parts, scalex=52)
        assert caught.value.retry_after_s >= 1
        go.set()
        assert [future.result().result for future in waiting] == ["miss", "miss"]


def test_requests_that_wait_leave_threads_for_hits(assemble: Assemble, renderer: Counting) -> None:
    parts = assemble(server={"threads": 10})  # two may wait
    ask(parts, scalex=40)
    go = threading.Event()
    renderer.before = lambda job: go.wait(10)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(ask, parts, scalex=50) for _ in range(2)]
        while parts.maker._gate._inside < 2:
            time.sleep(0.01)
        with pytest.raises(Busy, match="too many pictures are being made"):
            ask(parts, scalex=51)
        assert ask(parts, scalex=40).result == "hit"
        go.set()
        assert sorted(future.result().result for future in waiting) == ["coalesced", "miss"]


@pytest.mark.slow
def test_a_follower_does_not_wait_for_ever(assemble: Assemble, renderer: Counting) -> None:
    parts = assemble(render={"timeout_s": 1})
    go = threading.Event()
    renderer.before = lambda job: go.wait(10)
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(ask, parts, scalex=50)
        while not renderer.jobs:
            time.sleep(0.01)
        with pytest.raises(TimedOut, match="still being made for somebody else"):
            ask(parts, scalex=50)
        go.set()
        assert leader.result().result == "miss"


def test_a_failed_leader_leaves_nothing_locked(parts: Parts, renderer: Counting) -> None:
    def fail(job: object) -> None:
        raise RuntimeError("a bug")

    renderer.before = fail
    with pytest.raises(RuntimeError):
        ask(parts, scalex=50)
    renderer.before = lambda job: None
    assert ask(parts, scalex=50).result == "miss"


# --- purge and heal ------------------------------------------------------------------------------------


def test_a_purge_while_rendering_leaves_nothing_behind(assemble: Assemble, renderer: Counting) -> None:
    parts = assemble()
    store = parts.store
    assert isinstance(store, DiskStore)
    renderer.after = lambda job: store.notices.renew()
    answer = ask(parts, scalex=100)
    assert hashlib.sha256(body_of(parts, answer)).hexdigest()[:32] == answer.etag.strip('"')
    assert list(store.index.variants.good()) == []
    assert list(store.objects.walk()) == []


@pytest.mark.parametrize("harm", ["gone", "cut", "emptied", "altered"])
def test_a_harmed_object_is_made_again(assemble: Assemble, renderer: Counting, harm: str) -> None:
    parts = assemble()
    first = ask(parts, scalex=100)
    store = parts.store
    assert isinstance(store, DiskStore)
    (path,) = store.objects.walk()
    data = path.read_bytes()
    if harm == "gone":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(data[:-1])
    elif harm == "emptied":
        path.write_bytes(b"")
    else:
        path.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
    again = ask(parts, scalex=100)
    assert again.result == "miss"
    assert body_of(parts, again) == data
    assert again.etag == first.etag
    assert ask(parts, scalex=100).result == "hit"


@pytest.mark.slow
def test_the_whole_cache_folder_may_be_deleted_under_a_running_generator(
    assemble: Assemble, renderer: Counting, tmp_path: Path
) -> None:
    parts = assemble()
    ask(parts, scalex=100)
    shutil.rmtree(tmp_path / "cache")
    assert ask(parts, scalex=100).result in ("miss", "bypass")
    ask(parts, scalex=101)
    time.sleep(2.1)  # if anything failed, the cache is tried again after two seconds
    assert ask(parts, scalex=102).result == "miss"
    assert ask(assemble(), scalex=102).result == "hit"


# --- where it may not be written -----------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("is_made_again", [False, True])
def test_a_cache_deleted_while_it_renders_costs_no_picture(
    assemble: Assemble, renderer: Counting, tmp_path: Path, moment: str, is_made_again: bool
) -> None:
    """A file of the renderer's own would leave nothing in the one that the server publishes and sends."""
    parts, cache = assemble(), tmp_path / "cache"
    expected = body_of(parts, ask(parts, scalex=100, encoding="png"))

    def delete(job: Job) -> None:
        shutil.rmtree(cache)
        if is_made_again:
            (cache / "tmp").mkdir(parents=True)
        setattr(renderer, moment, lambda job: None)

    parts.purger.purge(Selection(is_all=True))
    setattr(renderer, moment, delete)
    answer = ask(parts, scalex=100, encoding="png")
    assert body_of(parts, answer) == expected
    assert answer.bytes == len(expected)
    assert answer.result == "bypass"
    parts = assemble()
    assert [ask(parts, scalex=100, encoding="png").result for _ in range(2)] == ["miss", "hit"]
    assert problems(DiskStore(cache, 2**40)) == []


def test_memory_mode_writes_nothing(assemble: Assemble, tmp_path: Path) -> None:
    parts = assemble(cache={"mode": "memory"})
    ask(parts, scalex=100)
    assert not (tmp_path / "cache").exists()


def test_memory_mode_is_bounded(assemble: Assemble, renderer: Counting) -> None:
    parts = assemble(cache={"mode": "memory", "memory_bytes": 20_000})
    for width in range(50, 150):
        ask(parts, scalex=width)
    assert ask(parts, scalex=149).result == "hit"
    assert ask(parts, scalex=50).result == "miss"
    assert parts.store.index.variants.total_bytes() <= 20_000


def test_what_memory_forgets_at_once_is_sent_all_the_same(assemble: Assemble, renderer: Counting) -> None:
    """As when many visitors at once want more than it may hold."""
    parts = assemble(cache={"mode": "memory"})
    answer = parts.generator.answer("cats/tom.jpg", parse_request([("scalex", "100")]))
    assert answer.variant is not None
    parts.store.remove(answer.variant)
    assert len(body_of(parts, answer)) == answer.bytes
    assert renderer.renders == 1


def test_a_full_cache_is_a_bypass(assemble: Assemble) -> None:
    parts = assemble(cache={"max_bytes": 1000})
    assert ask(parts, scalex=100, quality=95).result == "bypass"
    assert "max_bytes" in str(parts.health.check())


@pytest.mark.slow
def test_a_cache_folder_that_can_not_be_made_is_a_bypass(
    assemble: Assemble, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    parts = assemble()
    for width in range(50, 60):
        assert ask(parts, scalex=width).result == "bypass"
    assert 1 <= len([record for record in caplog.records if "in trouble" in record.message]) <= 3
    (tmp_path / "cache").unlink()
    time.sleep(2.1)
    assert ask(parts, scalex=100).result == "miss"
    assert "the cache works again" in caplog.text
    assert parts.health.check() == {}


def test_a_disk_that_fails_is_no_fault_of_the_picture(
    assemble: Assemble, pictures: Path, renderer: Counting
) -> None:
    def fail(job: object) -> None:
        raise OSError(5, "Input/output error")

    renderer.before = fail
    with pytest.raises(Unavailable, match="can't be read at the moment"):
        ask(assemble(), scalex=100)


def test_a_variant_on_a_bad_disk_is_rendered_under_its_claim(
    assemble: Assemble, renderer: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each process would render it by itself."""
    parts = assemble()
    first = ask(parts, scalex=100)
    assert first.variant
    store, key = parts.store, first.variant.key.text()

    def broken(objects: DiskObjects, variant: Variant) -> None:
        raise StorageError("objects", "an object can't be read: Input/output error")

    taken = []

    def try_claim(job: Job) -> None:
        with suppress(TimedOut), store.claims.take(key, 0):
            taken.append(key)

    renderer.before = try_claim
    monkeypatch.setattr(DiskObjects, "open", broken)
    ask(parts, scalex=100)
    assert (renderer.renders, taken) == (2, [])


def test_an_original_that_was_touched_is_hashed_where_there_is_time_for_it(
    assemble: Assemble, clock: Clock, pictures: Path
) -> None:
    clock.ahead_s = 10
    parts = assemble()
    answer = ask(parts)
    os.utime(pictures / "cats/tom.jpg", (1, 1))
    assert parts.finder.open(answer, may_hash=False) is None
    body = parts.finder.open(answer)
    assert body
    assert body.read() == (pictures / "cats/tom.jpg").read_bytes()
