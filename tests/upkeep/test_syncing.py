"""sync: the folder is the truth. Afterwards each picture has its row, and nothing else has one."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.asking import Counting
from support.clock import Clock
from support.drawing import at_rest, quarters

from imagefactory.catalog.database import Database
from imagefactory.catalog.pictures import Picture, PictureRows
from imagefactory.errors import Busy, CatalogUnavailable, Unavailable
from imagefactory.factory import Parts
from imagefactory.model.source import Stamp
from imagefactory.storage.originals import Originals
from imagefactory.upkeep import syncing
from imagefactory.upkeep.syncing import Compared, Synced, compare, sync


class Site:
    """A folder, its catalog, and how often on_new was called with which paths."""

    def __init__(self, parts: Parts, folder: Path, file: Path) -> None:
        self.parts = parts
        self.folder = folder
        config = replace(parts.config, catalog=replace(parts.config.catalog, url=f"sqlite:///{file}"))
        self.rows = PictureRows(Database(config))
        self.new: list[str] = []
        self.hashed: list[str] = []
        sources = parts.sources
        assert isinstance(sources, Originals)
        digest = sources.digest

        def counting(path: str) -> tuple[str, Stamp]:
            self.hashed.append(path)
            return digest(path)

        sources.digest = counting  # type: ignore[method-assign]

    def draw(self, *paths: str, width: int = 40) -> None:
        """Different pictures at *paths*, which were modified an hour ago."""
        for path in paths:
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            image = quarters(width, 30)
            image.putpixel((1, 1), tuple(hashlib.sha256(path.encode()).digest()[:3]))
            image.save(file, "PNG")
            at_rest(file)
        self.settle()

    def settle(self) -> None:
        """Wait until no stamp is racy: that is two seconds, so the clock goes ahead instead."""
        assert isinstance(self.parts.clock, Clock)
        self.parts.clock.ahead_s += 10

    def sync(self, **options: Any) -> Synced:
        self.hashed, self.new = [], []
        return sync(
            self.parts.sources,
            self.parts.identifier,
            self.rows,
            self.parts.clock,
            lambda pictures, connection: self.new.extend(each.path for each in pictures),
            **options,
        )

    def compare(self, **options: Any) -> Compared:
        parts = self.parts
        programs = parts.resolver.programs
        return compare(parts.sources, parts.store.index.sources, programs, self.rows, **options)

    @property
    def paths(self) -> list[str]:
        return [each.path for each in self.rows.walk()]

    def digest(self, path: str) -> str:
        return hashlib.sha256((self.folder / path).read_bytes()).hexdigest()

    def is_true(self) -> None:
        """Assert that the rows are those of the folder, field by field."""
        found = {each.path: each for each in self.rows.walk()}
        pictures = [path for path in self.folder.rglob("*.png") if path.is_file()]
        assert sorted(found) == sorted(str(path.relative_to(self.folder)) for path in pictures)
        for path, row in found.items():
            assert row.digest == self.digest(path)
            assert row.bytes == (self.folder / path).stat().st_size
        assert self.compare(may_hash=True).count == 0


def counts(done: Synced) -> tuple[int, int, int, int, int]:
    return done.added, done.changed, done.removed, done.unchanged, done.failures


@pytest.fixture
def site(tmp_path: Path, assemble: Callable[..., Parts]) -> Site:
    folder = tmp_path / "originals"
    folder.mkdir()
    return Site(assemble(paths={"pictures": str(folder)}), folder, tmp_path / "c.db")


# --- what a sync brings -----------------------------------------------------------------------------------


def test_a_new_picture_gets_its_row(site: Site) -> None:
    site.draw("a.png", "b/c.png", "é/ü 1.png")
    done = site.sync()
    assert counts(done) == (3, 0, 0, 0, 0)
    assert done.is_whole
    assert sorted(site.new) == ["a.png", "b/c.png", "é/ü 1.png"]
    row = site.rows.get("a.png")
    assert row is not None
    assert (row.width, row.height, row.format, row.state) == (40, 30, "PNG", "ready")
    assert row.digest == row.received == site.digest("a.png")
    assert abs(row.added_s - site.parts.clock()) < 60
    site.is_true()


def test_an_empty_folder_is_an_empty_catalog(site: Site) -> None:
    assert counts(site.sync()) == (0, 0, 0, 0, 0)


def test_what_has_its_stamp_is_not_read(site: Site) -> None:
    site.draw("a.png", "b.png")
    site.sync()
    before = list(site.rows.walk())
    assert counts(site.sync()) == (0, 0, 0, 2, 0)
    assert (site.hashed, site.new, list(site.rows.walk())) == ([], [], before)


def test_changed_removed_and_touched(site: Site) -> None:
    site.draw("a.png", "b.png", "c.png", "d/e.png")
    site.sync()
    first = {each.path: each for each in site.rows.walk()}
    site.draw("a.png", width=50)
    (site.folder / "b.png").unlink()
    shutil.rmtree(site.folder / "d")
    os.utime(site.folder / "c.png", (1, 1))
    assert counts(site.sync()) == (0, 1, 2, 1, 0)
    assert site.new == ["a.png"]
    site.is_true()
    row = site.rows.get("c.png")
    assert row is not None
    assert replace(row, stamp=first["c.png"].stamp) == first["c.png"] != row
    changed = site.rows.get("a.png")
    assert changed is not None
    assert changed.added_s > first["a.png"].added_s
    assert counts(site.sync()) == (0, 0, 0, 2, 0)


def test_a_moved_or_copied_picture_keeps_what_it_was_received_as(site: Site) -> None:
    came = "f" * 64
    site.draw("a.png", "b.png")
    site.sync()
    rows = site.rows.known(["a.png", "b.png"])
    site.rows.put([replace(rows["a.png"], received=came)])
    (site.folder / "sub").mkdir()
    (site.folder / "a.png").rename(site.folder / "sub" / "moved.png")
    shutil.copy(site.folder / "sub" / "moved.png", site.folder / "copied.png")
    os.utime(site.folder / "copied.png", (1, 1))
    site.settle()
    assert counts(site.sync()) == (2, 0, 1, 1, 0)
    found = {each.path: each.received for each in site.rows.walk()}
    assert found == {"b.png": rows["b.png"].received, "copied.png": came, "sub/moved.png": came}
    for path, received in (("copied.png", "e" * 64), ("b.png", "d" * 64)):
        row = site.rows.get(path)
        assert row is not None
        site.rows.put([replace(row, received=received)])
        os.utime(site.folder / path, (9, 9))
    assert counts(site.sync()) == (0, 0, 0, 3, 0)
    assert [each.received[0] for each in site.rows.walk()] == ["d", "e", "f"]
    site.draw("copied.png")
    site.sync()
    changed = site.rows.get("copied.png")
    assert changed is not None
    assert changed.received == changed.digest


def test_what_was_hashed_within_two_seconds_is_hashed_once_more(site: Site) -> None:
    """A second write could have the same stamp."""
    site.draw("a.png")
    clock = site.parts.clock
    assert isinstance(clock, Clock)
    clock.ahead_s = 0
    os.utime(site.folder / "a.png")
    assert (counts(site.sync()), site.hashed) == ((1, 0, 0, 0, 0), ["a.png"])
    assert site.compare().count == 0
    site.settle()
    assert (counts(site.sync()), site.hashed, site.new) == ((0, 0, 0, 1, 0), ["a.png"], [])
    assert (counts(site.sync()), site.hashed) == ((0, 0, 0, 1, 0), [])


# --- what is no picture -----------------------------------------------------------------------------------


def test_what_is_no_picture_has_no_row_and_is_no_failure(site: Site) -> None:
    site.draw("a.png", ".hidden.png", ".uploads/x.png")
    (site.folder / "notes.txt").write_text("no picture")
    (site.folder / "empty.jpg").write_bytes(b"")
    at_rest(site.folder / "empty.jpg")
    assert counts(site.sync()) == (1, 0, 0, 0, 0)
    assert site.paths == ["a.png"]
    assert site.compare().count == 0


def test_a_broken_picture_has_no_row_and_is_named(site: Site) -> None:
    """Also one that had a row before, whatever its state; it is not hashed again each time."""
    site.draw("a.png", "b.png")
    site.sync()
    site.rows.mark(["b.png"], "hidden")
    for name in ("b.png", "c.png"):
        (site.folder / name).write_bytes((site.folder / "a.png").read_bytes()[:20])
        at_rest(site.folder / name)
    site.settle()
    done = site.sync()
    assert counts(done) == (0, 0, 1, 1, 2)
    assert [each.path for each in done.failed] == ["b.png", "c.png"]
    assert "broken" in done.failed[0].detail
    assert site.paths == ["a.png"]
    assert counts(site.sync()) == (0, 0, 0, 1, 2)
    assert site.hashed == []
    assert site.compare().count == 0


def test_a_file_over_the_limit_is_named(tmp_path: Path, assemble: Callable[..., Parts]) -> None:
    folder = tmp_path / "originals"
    folder.mkdir()
    parts = assemble(paths={"pictures": str(folder)}, limits={"max_source_bytes": 1000})
    site = Site(parts, folder, tmp_path / "c.db")
    site.draw("a.png")
    site.sync()
    with (folder / "a.png").open("ab") as file:
        file.write(bytes(1000))
    done = site.sync()
    assert counts(done) == (0, 0, 1, 0, 1)
    assert "above the limit of 1000" in done.failed[0].detail


def test_a_path_that_no_column_holds_is_named(site: Site) -> None:
    long = "/".join(["d" * 250] * 4) + "/" + "f" * 40 + ".png"
    site.draw("a.png")
    here = Path.cwd()
    try:
        os.chdir(site.folder)
        site.folder, folder = Path(), site.folder
        site.draw(long)
    finally:
        os.chdir(here)
        site.folder = folder
    done = site.sync()
    assert counts(done) == (1, 0, 0, 0, 1)
    assert done.failed[0].detail == "its path has more than 1024 characters"


# --- states, links, the folder itself ---------------------------------------------------------------------


def test_states_stay_and_what_is_not_ready_needs_no_file(site: Site) -> None:
    """The file of a picture that is pending lies elsewhere."""
    site.draw("a.png", "b.png")
    site.sync()
    row = site.rows.get("a.png")
    assert row is not None
    site.rows.put([replace(row, path="p.png", state="pending"), replace(row, path="r.png")])
    site.rows.mark(["a.png"], "hidden")
    os.utime(site.folder / "a.png", (1, 1))
    assert site.compare().gone == 1
    assert counts(site.sync()) == (0, 0, 1, 2, 0)
    assert {each.path: each.state for each in site.rows.walk()} == {
        "a.png": "hidden",
        "b.png": "ready",
        "p.png": "pending",
    }
    assert site.compare().count == 0


def test_a_folder_that_is_now_a_link_to_outside_is_gone(site: Site, tmp_path: Path) -> None:
    """Its files have the same stamps as before."""
    site.draw("a.png", "d/b.png")
    site.sync()
    (site.folder / "d").rename(tmp_path / "outside")
    (site.folder / "d").symlink_to(tmp_path / "outside")
    assert site.compare().gone == 1
    assert counts(site.sync()) == (0, 0, 1, 1, 0)
    assert site.paths == ["a.png"]


def test_a_link_to_a_file_within_is_a_picture(site: Site) -> None:
    site.draw("a.png")
    (site.folder / "l.png").symlink_to("a.png")
    assert counts(site.sync()) == (2, 0, 0, 0, 0)
    assert [paths for _, paths in site.rows.duplicates()] == [["a.png", "l.png"]]
    (site.folder / "a.png").unlink()
    assert counts(site.sync(may_empty=True)) == (0, 0, 2, 0, 0)


def test_no_row_goes_because_the_folder_can_not_be_read(site: Site) -> None:
    site.draw("a.png")
    site.sync()
    site.folder.rename(site.folder.with_name("away"))
    for call in (site.sync, site.compare):
        with pytest.raises(Unavailable, match="the folder of pictures can't be read"):
            call()
    site.folder.with_name("away").rename(site.folder)
    assert counts(site.sync()) == (0, 0, 0, 1, 0)


def test_no_row_goes_when_the_folder_vanishes_amid_a_sync(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.draw(*(f"{number}.png" for number in range(5)))
    site.sync()
    walk = site.parts.sources.walk

    def walk_and_vanish(below: str = "") -> Iterator[str]:
        yield from walk(below)
        site.folder.rename(site.folder.with_name("away"))

    monkeypatch.setattr(site.parts.sources, "walk", walk_and_vanish)
    with pytest.raises(Unavailable):
        site.sync()
    assert site.rows.count() == 5


def test_a_folder_without_a_file_empties_the_catalog_only_if_told(site: Site) -> None:
    """A disk that is not mounted looks like that."""
    site.draw("a.png")
    site.sync()
    (site.folder / "a.png").unlink()
    with pytest.raises(Unavailable, match="there is no file in the folder of pictures; is its disk mounted"):
        site.sync()
    assert site.paths == ["a.png"]
    assert counts(site.sync(may_empty=True)) == (0, 0, 1, 0, 0)
    assert counts(site.sync()) == (0, 0, 0, 0, 0)


# --- busy, written, changed in between, stopped -----------------------------------------------------------


def test_what_is_busy_is_tried_again_at_the_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And left as it is when it is busy still."""
    site.draw("a.png", "b.png", "c.png")
    site.sync()
    site.draw("a.png", "b.png", width=50)
    before = site.rows.get("b.png")
    source, asked = site.parts.identifier.source, []

    def busy(path: str) -> Any:
        asked.append(path)
        if path == "b.png" or len(asked) == 1:
            raise Busy("too many")
        return source(path)

    with monkeypatch.context() as patch:
        patch.setattr(site.parts.identifier, "source", busy)
        done = site.sync()
    assert counts(done) == (0, 1, 0, 1, 1)
    assert (done.failed[0].path, done.failed[0].detail) == ("b.png", "too many")
    assert site.rows.get("b.png") == before
    assert counts(site.sync()) == (0, 1, 0, 2, 0)
    site.is_true()


def test_what_is_being_written_is_named_and_comes_the_next_time(site: Site) -> None:
    site.draw("a.png", "b.png")
    whole = (site.folder / "b.png").read_bytes()
    clock = site.parts.clock
    assert isinstance(clock, Clock)
    clock.ahead_s = 0
    (site.folder / "b.png").write_bytes(whole[:20])
    done = site.sync()
    assert counts(done) == (1, 0, 0, 0, 1)
    assert done.failed[0].detail == "the picture is being written at the moment"
    (site.folder / "b.png").write_bytes(whole)
    assert counts(site.sync())[:3] == (1, 0, 0)
    site.is_true()


def test_a_row_that_is_written_meanwhile_is_not_overwritten(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload replaces a picture, and brings back one that was gone, after the sync looked at them."""
    site.draw("a.png", "b.png", "c.png")
    site.sync()
    site.draw("a.png", width=50)
    (site.folder / "b.png").unlink()
    transaction, uploads = site.rows.transaction, []

    def upload_first() -> Any:
        if not uploads:
            uploads.append(1)
            site.draw("a.png", "b.png", width=60)
            for each in map(site.parts.identifier.source, ("a.png", "b.png")):
                stamp, known = each.stamp, site.rows.get(each.path)
                assert known is not None
                text, size = syncing.stamp_text(stamp), stamp.size
                site.rows.put([replace(known, digest=each.digest, stamp=text, bytes=size)])
        return transaction()

    monkeypatch.setattr(site.rows, "transaction", upload_first)
    done = site.sync()
    assert (done.removed, done.failures, site.new) == (0, 0, [])
    site.is_true()


def test_what_goes_after_it_was_looked_at_gets_no_row(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.draw("a.png", "b.png")
    transaction = site.rows.transaction

    def delete_first() -> Any:
        (site.folder / "a.png").unlink(missing_ok=True)
        return transaction()

    monkeypatch.setattr(site.rows, "transaction", delete_first)
    assert counts(site.sync()) == (1, 0, 0, 0, 0)
    assert site.new == site.paths == ["b.png"]


def test_the_rows_and_what_becomes_of_them_are_one_transaction(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job of a picture is there with its row, or both come the next time."""
    monkeypatch.setattr(syncing, "_AT_ONCE", 2)
    site.draw(*(f"{number}.png" for number in range(5)))
    parts = site.parts
    seen: list[str] = []

    def enqueue(pictures: list[Picture], connection: Any) -> None:
        assert set(seen).isdisjoint(each.path for each in pictures)
        if len(seen) == 2:
            raise CatalogUnavailable("away")
        seen.extend(each.path for each in pictures)

    with pytest.raises(CatalogUnavailable):
        sync(parts.sources, parts.identifier, site.rows, parts.clock, enqueue)
    assert site.paths == sorted(seen) == ["0.png", "1.png"]
    assert counts(site.sync()) == (3, 0, 0, 2, 0)
    assert site.new == ["2.png", "3.png", "4.png"]


@pytest.mark.parametrize("after", range(0, 16, 3))
def test_stopped_at_any_moment_the_next_one_does_the_rest(site: Site, after: int) -> None:
    site.draw(*(f"{number}.png" for number in range(6)))
    site.sync()
    site.draw("0.png", "new.png", width=50)
    (site.folder / "5.png").unlink()
    asked = []

    def may_go_on() -> bool:
        asked.append(1)
        return len(asked) <= after

    first = site.sync(may_go_on=may_go_on)
    assert first.is_whole == (len(asked) <= after)
    second = site.sync()
    both = [first, second]
    assert sum(each.added for each in both) == sum(each.changed for each in both) == 1
    assert sum(each.removed for each in both) == 1
    site.is_true()


def test_more_files_than_fit_into_a_transaction(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was done to a folder, in any order: one sync makes it right."""
    monkeypatch.setattr(syncing, "_AT_ONCE", 7)
    dice = random.Random(5)
    folders = ["", "a/", "a b/", "a-b/", "a/b/", "Ä/"]
    names = [f"{folder}{number}.png" for folder in folders for number in range(8)]
    site.draw(*names)
    assert counts(site.sync()) == (48, 0, 0, 0, 0)
    for _ in range(4):
        there = [str(path.relative_to(site.folder)) for path in site.folder.rglob("*.png")]
        for path in dice.sample(there, 12):
            (site.folder / path).unlink()
        site.draw(*dice.sample(names, 9), width=dice.randrange(40, 90))
        site.sync()
        site.is_true()


@pytest.mark.slow
def test_killed_at_any_moment_the_next_one_does_the_rest(tmp_path: Path, renderer: Counting) -> None:
    folder = tmp_path / "originals"
    (folder / "sub").mkdir(parents=True)
    for number in range(300):
        image = quarters(20, 20)
        image.putpixel((0, 0), (number % 256, number // 256, 7))
        image.save(folder / ("sub" if number % 3 else "") / f"{number}.png")
    config = tmp_path / "config.toml"
    config.write_text(f'[paths]\npictures = "originals"\n[catalog]\nurl = "sqlite:///{tmp_path}/c.db"\n')
    command = [sys.executable, "-m", "imagefactory", "--config", str(config), "catalog", "sync"]
    dice = random.Random(2)
    was_killed = 0
    for _ in range(6):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(dice.uniform(0.3, 1.5))
            process.kill()
        was_killed += process.returncode < 0
    assert was_killed
    subprocess.run(command, check=True, capture_output=True)
    check = [*command[:-1], "check", "--hash"]
    assert subprocess.run(check, check=True, capture_output=True, text=True).stdout.startswith("300 rows: 0 ")


# --- comparing --------------------------------------------------------------------------------------------


def test_each_difference_is_named(site: Site) -> None:
    site.draw("same.png", "gone.png", "changed.png", "altered.png")
    site.sync()
    (site.folder / "gone.png").unlink()
    site.draw("changed.png", width=50)
    site.draw("missing.png")
    row = site.rows.get("altered.png")
    assert row is not None
    site.rows.put([replace(row, digest="0" * 64)])
    site.hashed = []
    found = site.compare()
    expected = [("missing", "missing.png"), ("changed", "changed.png"), ("gone", "gone.png")]
    assert [(each.kind, each.path) for each in found.differences] == expected
    assert (found.rows, found.count, found.altered, site.hashed) == (4, 3, 0, [])
    found = site.compare(may_hash=True)
    assert ("altered", "altered.png") in [(each.kind, each.path) for each in found.differences]
    assert (found.count, sorted(site.hashed)) == (4, ["altered.png", "same.png"])
    assert site.rows.count() == 4


def test_comparing_changes_nothing(site: Site, tmp_path: Path) -> None:
    site.draw("a.png")
    assert site.compare().missing == 1
    assert (site.rows.count(), site.hashed, site.parts.store.index.sources.get("a.png")) == (0, [], None)
