"""A purge takes what was named and nothing else, for all processes, at any moment, also if it is killed."""

from __future__ import annotations

import json
import os
import pty
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from support.asking import Counting, ask, body_of, problems
from support.clock import Clock
from support.drawing import quarters
from support.filling import IS_LONG, fill_cache
from support.serving import eventually, is_right, serving, write_config

from imagefactory import factory
from imagefactory.cli import main
from imagefactory.common.globs import compile_glob
from imagefactory.config import Config, from_mapping
from imagefactory.errors import BadParameter, StorageError, Unavailable
from imagefactory.factory import Parts
from imagefactory.model.job import Rendered
from imagefactory.storage.disk import DiskStore
from imagefactory.storage.memory import MemoryStore
from imagefactory.storage.originals import Originals
from imagefactory.upkeep.purge.disk_remover import DiskRemover
from imagefactory.upkeep.purge.removing import Purged, remove
from imagefactory.upkeep.purge.selection import Selection

NAMES = [
    "a/b.png", "a/b.png.jpg", "a/bc/b.png", "ab/b.png", "b.png", "b.jpg", "A/b.png", "a/b+.png",
    "cats/tom.jpg", "cats/old/tom.jpg", "cats/old/er/x.gif", "catsuits/tom.jpg", "cats.jpg", "a[1].jpg",
    "sub/cats/tom.jpg", "ünï cödé.jpg",
]  # fmt: skip


def draw(folder: Path, names: Iterable[str], first: int = 10) -> None:
    """Pictures that all differ."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        quarters(first + number, 20).save(path)


@pytest.fixture
def gallery(pictures: Path) -> Path:
    """The pictures of NAMES and no others."""
    shutil.rmtree(pictures)
    draw(pictures, NAMES)
    return pictures


def fill(parts: Parts, names: Iterable[str] = NAMES) -> None:
    """Two variants of each picture."""
    for name in names:
        for width in (5, 6):
            ask(parts, name, scalex=width)


def left(parts: Parts, names: Iterable[str] = NAMES) -> set[str]:
    """The pictures with variants, each with both of them."""
    found = set()
    store = parts.store
    assert isinstance(store, DiskStore | MemoryStore)
    variants = list(
        store.index.variants.good() if isinstance(store, DiskStore) else store.index.variants.all()
    )
    for name in names:
        digest = parts.sources.digest(name)[0]
        count = sum(variant.key.digest == digest for variant in variants)
        assert count in (0, 2), name
        if count:
            found.add(name)
    return found


def do(parts: Parts, *, is_dry_run: bool = False, **selection: Any) -> Purged:
    return parts.purger.purge(Selection(**selection), is_dry_run=is_dry_run).purged


def purge_digests(store: DiskStore, *digests: str) -> Purged:
    """What goes from *store* when there are no pictures."""
    sources = Originals(store.root / "none", 1)
    selection = Selection(digests=digests)
    return remove(DiskRemover(store), store.index.sources, store.notices, sources, selection, 0)


# --- what goes ---------------------------------------------------------------------------------------------

ALL = set(NAMES)
CATS = {"cats/tom.jpg", "cats/old/tom.jpg", "cats/old/er/x.gif"}
GOES: list[tuple[dict[str, Any], set[str]]] = [
    ({"paths": ("a/b.png",)}, {"a/b.png"}),
    ({"paths": ("b.png", "ünï cödé.jpg")}, {"b.png", "ünï cödé.jpg"}),
    ({"paths": ("a/b.png", "a/b.png")}, {"a/b.png"}),
    ({"paths": ("cats",)}, set()),
    ({"paths": ("nothing.jpg",)}, set()),
    ({"prefix": "cats"}, CATS),
    ({"prefix": "cats/"}, CATS),
    ({"prefix": "cats/old"}, {"cats/old/tom.jpg", "cats/old/er/x.gif"}),
    ({"prefix": "cat"}, set()),
    ({"prefix": "a"}, {"a/b.png", "a/b.png.jpg", "a/bc/b.png", "a/b+.png"}),
    ({"prefix": "cats.jpg"}, set()),
    ({"glob": "*"}, {"b.png", "b.jpg", "cats.jpg", "a[1].jpg", "ünï cödé.jpg"}),
    ({"glob": "**"}, ALL),
    ({"glob": "cats/*"}, {"cats/tom.jpg"}),
    ({"glob": "cats/**"}, CATS),
    ({"glob": "cats*"}, {"cats.jpg"}),
    ({"glob": "cats*/*"}, {"cats/tom.jpg", "catsuits/tom.jpg"}),
    ({"glob": "**/tom.jpg"}, {"cats/tom.jpg", "cats/old/tom.jpg", "catsuits/tom.jpg", "sub/cats/tom.jpg"}),
    ({"glob": "**/b.png"}, {"a/b.png", "a/bc/b.png", "ab/b.png", "b.png", "A/b.png"}),
    ({"glob": "cats/**/tom.jpg"}, {"cats/tom.jpg", "cats/old/tom.jpg"}),
    ({"glob": "**.gif"}, {"cats/old/er/x.gif"}),
    ({"glob": "b.???"}, {"b.png", "b.jpg"}),
    ({"glob": "a?b.png"}, set()),
    ({"glob": "a[/]b.png"}, set()),
    ({"glob": "[!a]/b.png"}, {"A/b.png"}),
    ({"glob": "a/b+.png"}, {"a/b+.png"}),
    ({"glob": "a[[]1].jpg"}, {"a[1].jpg"}),
    ({"glob": "*cödé*"}, {"ünï cödé.jpg"}),
    ({"glob": "*a*/**/*o*.*"}, CATS - {"cats/old/er/x.gif"} | {"catsuits/tom.jpg"}),
    ({"glob": "**a**/b*p*"}, {"a/b.png", "a/b.png.jpg", "a/bc/b.png", "a/b+.png", "ab/b.png"}),
    ({"is_all": True}, ALL),
    ({"is_stale": True}, set()),
    ({"older_than_s": 3600.0}, set()),
    ({"older_than_s": -0.0}, ALL),
]


@pytest.mark.parametrize("mode", ["disk", "memory"])
@pytest.mark.parametrize(("selection", "gone"), GOES, ids=[str(row[0]) for row in GOES])
def test_what_was_named_goes_and_nothing_else(
    assemble: Callable[..., Parts],
    clock: Clock,
    gallery: Path,
    selection: dict[str, Any],
    gone: set[str],
    mode: str,
) -> None:
    if mode == "memory" and "older_than_s" in selection:
        pytest.skip("a memo does not know when")
    parts = assemble(cache={"mode": mode})
    fill(parts)
    clock.ahead_s = 10
    told = do(parts, is_dry_run=True, **selection)
    assert left(parts) == ALL
    purged = do(parts, **selection)
    assert left(parts) == ALL - gone
    assert (purged.pictures, purged.variants) == (len(gone), 2 * len(gone))
    assert (told.pictures, told.variants, told.bytes) == (purged.pictures, purged.variants, purged.bytes)
    assert do(parts, **selection).variants == 0
    if isinstance(parts.store, DiskStore):
        assert problems(parts.store) == []


@pytest.mark.parametrize("digits", [64, 12])
def test_a_content_is_named_by_its_sha256(assemble: Callable[..., Parts], gallery: Path, digits: int) -> None:
    parts = assemble()
    fill(parts)
    digest = parts.sources.digest("a/b.png")[0]
    purged = do(parts, digests=(digest[:digits],))
    assert (purged.pictures, purged.variants) == (1, 2)
    assert (purged.paths, purged.digests) == (("a/b.png",), (digest,))
    assert left(parts) == ALL - {"a/b.png"}
    assert do(parts, digests=("0" * digits,)).variants == 0


def test_the_start_of_two_contents_is_refused_and_both_are_listed(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "cache", 2**40)
    fill_cache(store, 4, per_source=2)
    first, second = f"{1:064x}", f"{2:064x}"
    with pytest.raises(BadParameter, match=f"{first}, {second}; write more digits"):
        purge_digests(store, "0" * 12)
    assert purge_digests(store, second).variants == 2
    assert {variant.key.digest for variant in store.index.variants.good()} == {first}


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("*a*a*a*a*a*a*b", "a" * 200),
        ("**a**a**a**a**b**c", "a/" * 1000 + "b"),
        ("**/" * 20 + "x", "a/" * 1000 + "y"),
        ("**/*a*a*b/**/*a*b*c", "/".join(["a" * 200] * 10)),
    ],
)
def test_a_glob_takes_time_in_proportion_to_the_path(glob: str, path: str) -> None:
    began = time.process_time()
    assert compile_glob(glob).fullmatch(path) is None
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (
            {},
            "selected: nothing; it has to be one kind of paths, digests, prefix, glob, older_than, stale",
        ),
        ({"paths": ("a.jpg",), "is_all": True}, "selected: paths and all; it"),
        ({"prefix": "a", "older_than_s": 0.0}, "selected: prefix and older_than; it"),
        *(
            ({"paths": (path,)}, "is not the path of a picture, such as cats/tom.jpg")
            for path in ("", "../x.jpg", "/etc/passwd", "a//b.jpg", "a/", "./a", ".hidden/x", "a\x00", "a\\b")
        ),
        ({"prefix": "../x"}, "'../x' is not the path of a folder"),
        ({"prefix": "/"}, "is not the path of a folder"),
        ({"paths": ("a\udcff.jpg",)}, "is not UTF-8"),
        ({"glob": "a\udcff*"}, "is not UTF-8"),
        ({"glob": "/a/*"}, "starts with '/', and no path does"),
        *(({"glob": glob}, "has a hidden folder or file") for glob in ("../*", "a/../**", ".*", "./a")),
        ({"glob": "a\x00*"}, "or a control character"),
        ({"glob": "[z-a]"}, "is no glob"),
        (
            {"digests": ("abc",)},
            "'abc' is not the sha256 of a picture in hex, or 12 or more of its first digits",
        ),
        ({"digests": ("x" * 64,)}, "is not the sha256"),
        ({"older_than_s": -1.0}, "older_than=-1.0 is below the limit of 0"),
    ],
)
def test_a_selection_that_says_nothing_or_too_much_is_refused(
    assemble: Callable[..., Parts], selection: dict[str, Any], message: str
) -> None:
    parts = assemble()
    fill(parts, ["flag.png"])
    with pytest.raises(BadParameter) as caught:
        do(parts, **selection)
    assert message in str(caught.value)
    assert left(parts, ["flag.png"]) == {"flag.png"}


def test_a_path_means_what_it_holds_now_and_what_it_held_when_asked_for(
    assemble: Callable[..., Parts], pictures: Path
) -> None:
    parts = assemble()
    fill(parts, ["flag.png", "cats/tom.jpg"])
    old = parts.sources.digest("flag.png")[0]
    quarters(33, 44).save(pictures / "flag.png")
    shutil.copy(pictures / "flag.png", pictures / "copy.png")
    fill(parts, ["copy.png"])  # the row of flag.png is of its old content
    assert do(parts, paths=("flag.png",)).variants == 4
    assert old not in {row.key.digest for row in parts.store.index.variants.scan()}  # type: ignore[attr-defined]
    assert left(parts, ["flag.png", "copy.png", "cats/tom.jpg"]) == {"cats/tom.jpg"}


def test_a_picture_that_is_gone_from_the_disk_can_be_purged(
    assemble: Callable[..., Parts], pictures: Path
) -> None:
    parts = assemble()
    fill(parts, ["flag.png", "cats/tom.jpg"])
    (pictures / "flag.png").unlink()
    purged = do(parts, paths=("flag.png",))
    assert (purged.pictures, purged.variants, purged.paths) == (1, 2, ("flag.png",))
    assert parts.store.index.sources.get("flag.png") is None
    assert parts.store.index.sources.get("cats/tom.jpg")
    assert left(parts, ["cats/tom.jpg"]) == {"cats/tom.jpg"}


@pytest.mark.parametrize("selection", [{"prefix": "cats"}, {"glob": "cats/*"}, {"is_all": True}])
def test_rows_of_sources_that_are_gone_go_too_and_the_others_stay(
    assemble: Callable[..., Parts], pictures: Path, selection: dict[str, Any]
) -> None:
    parts = assemble()
    shutil.copy(pictures / "flag.png", pictures / "cats/flag.png")
    fill(parts, ["flag.png", "cats/flag.png", "cats/tom.jpg"])
    (pictures / "cats/tom.jpg").unlink()
    do(parts, is_dry_run=True, **selection)
    assert parts.store.index.sources.get("cats/tom.jpg")
    do(parts, **selection)
    assert parts.store.index.sources.get("cats/tom.jpg") is None
    assert parts.store.index.sources.get("flag.png")
    assert parts.store.index.sources.get("cats/flag.png")


def test_stale_is_what_no_picture_has_any_more(assemble: Callable[..., Parts], gallery: Path) -> None:
    parts = assemble()
    fill(parts)
    digests = {name: parts.sources.digest(name)[0] for name in NAMES}
    (gallery / "b.png").unlink()  # gone
    quarters(77, 7).save(gallery / "b.jpg")  # replaced
    shutil.copy(gallery / "cats.jpg", gallery / "copy.jpg")
    (gallery / "cats.jpg").unlink()  # a copy is left
    (gallery / "a/b.png").rename(gallery / "renamed.png")
    os.utime(gallery / "a/bc/b.png")  # touched
    tom = gallery / "cats/tom.jpg"  # the same size and time, other bytes
    before, data = tom.stat(), tom.read_bytes()
    tom.write_bytes(data[:-20] + bytes(20))
    os.utime(tom, ns=(before.st_atime_ns, before.st_mtime_ns))
    purged = do(parts, is_stale=True)
    assert set(purged.digests) == {digests[name] for name in ("b.png", "b.jpg", "cats/tom.jpg")}
    assert (purged.pictures, purged.variants) == (3, 6)
    left_digests = {row.key.digest for row in parts.store.index.variants.scan()}  # type: ignore[attr-defined]
    assert left_digests == set(digests.values()) - set(purged.digests)
    assert parts.store.index.sources.get("b.png") is None
    assert parts.store.index.sources.get("a/b.png") is None
    assert problems(parts.store) == []  # type: ignore[arg-type]


def test_what_was_moved_away_with_a_link_left_behind_is_stale(
    assemble: Callable[..., Parts], gallery: Path, tmp_path: Path
) -> None:
    parts = assemble()
    fill(parts)
    digests = {parts.sources.digest(name)[0] for name in NAMES if name.startswith("cats/")}
    (gallery / "cats").rename(tmp_path / "cats")
    (gallery / "cats").symlink_to(tmp_path / "cats")
    assert set(do(parts, is_stale=True).digests) == digests
    assert parts.store.index.sources.get("cats/tom.jpg") is None


def test_nothing_is_stale_while_the_pictures_can_not_be_read(
    assemble: Callable[..., Parts], pictures: Path
) -> None:
    parts = assemble()
    fill(parts, ["flag.png"])
    pictures.rename(pictures.with_name("elsewhere"))
    with pytest.raises(Unavailable, match="the folder of pictures can't be read"):
        do(parts, is_stale=True)
    pictures.with_name("elsewhere").rename(pictures)
    assert left(parts, ["flag.png"]) == {"flag.png"}


def test_older_than_means_the_last_use(assemble: Callable[..., Parts], clock: Clock) -> None:
    parts = assemble()
    now_s = time.time()
    fill(parts, ["flag.png", "cats/tom.jpg"])
    tom = parts.sources.digest("cats/tom.jpg")[0]
    store = parts.store
    assert isinstance(store, DiskStore)
    uses = {row.key.text(): 1 for row in store.index.variants.of(tom) if row.key}
    store.index.counts.add(uses, {}, now_s + 1000)
    clock.now_s = now_s + 1200
    assert do(parts, older_than_s=500.0).variants == 2
    assert left(parts, ["flag.png", "cats/tom.jpg"]) == {"cats/tom.jpg"}


def test_a_picture_that_can_not_be_read_now_is_told(assemble: Callable[..., Parts]) -> None:
    fill(assemble(), ["flag.png"])
    purged = do(assemble(limits={"max_source_bytes": 10}), paths=("flag.png",))
    assert purged.unread == ("flag.png",)
    assert purged.variants == 2  # by its row


# --- without an index, with orphans ------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["missing", "garbage", "emptied"])
@pytest.mark.parametrize(
    ("selection", "gone"),
    [
        ({"paths": ("flag.png",)}, {"flag.png"}),
        ({"prefix": "cats"}, {"cats/tom.jpg"}),
        ({"glob": "*.png"}, {"flag.png"}),
        ({"is_all": True}, {"flag.png", "cats/tom.jpg"}),
        ({"is_stale": True}, set()),
    ],
)
def test_a_purge_needs_no_index(
    assemble: Callable[..., Parts], tmp_path: Path, selection: Any, gone: set[str], harm: str
) -> None:
    fill(assemble(), ["flag.png", "cats/tom.jpg"])
    shutil.rmtree(tmp_path / "cache/index")
    if harm != "missing":
        (tmp_path / "cache/index").mkdir()
        (tmp_path / "cache/index/cache.db").write_bytes(b"garbage" * 999 if harm == "garbage" else b"")
    parts = assemble()
    assert do(parts, is_dry_run=True, **selection).variants == 2 * len(gone)
    assert do(parts, **selection).variants == 2 * len(gone)
    folders = {path.parent.name for path in parts.store.objects.walk()}  # type: ignore[attr-defined]
    names = {"flag.png", "cats/tom.jpg"} - gone
    assert folders == {parts.sources.digest(name)[0] for name in names}


def test_objects_without_a_row_go_with_their_picture(assemble: Callable[..., Parts]) -> None:
    parts = assemble()
    fill(parts, ["flag.png"])
    store = parts.store
    assert isinstance(store, DiskStore)
    store.index.variants.remove_rows(list(store.index.variants.scan())[:1])
    purged = do(parts, paths=("flag.png",))
    assert (purged.pictures, purged.variants) == (1, 2)
    assert list(store.objects.walk()) == []


def test_all_takes_also_what_is_no_object_and_rows_that_have_no_name(
    assemble: Callable[..., Parts], tmp_path: Path
) -> None:
    parts = assemble()
    fill(parts, ["flag.png"])
    objects = tmp_path / "cache/objects"
    (objects / "stray").write_text("x")
    (objects / "aa").mkdir(exist_ok=True)
    (objects / "aa" / "stray.jpg").write_text("x")
    store = parts.store
    assert isinstance(store, DiskStore)
    store.index.database.write(
        lambda cache, sql: sql("UPDATE Cache SET key = 'variant x' WHERE rowid = 2", ())
    )
    do(parts, is_all=True)
    assert list(store.objects.walk()) == []
    assert list(store.index.variants.scan()) == []
    assert problems(store) == []


# --- while pictures are rendered ---------------------------------------------------------------------------


class Interruption:
    """A purge in a thread of its own, begun at some point of a render, which goes on when the purge has ended
    or waits for the render."""

    def __init__(self, parts: Parts, **selection: Any) -> None:
        self.parts = parts
        self.selection = selection
        self.renewals = 0
        self.purged: list[Purged] = []
        self.thread: threading.Thread | None = None
        store = parts.store
        assert isinstance(store, DiskStore)
        renew = store.notices.renew

        def count() -> None:
            renew()
            self.renewals += 1

        store.notices.renew = count  # type: ignore[method-assign]

    def __call__(self, *details: object) -> None:
        if self.thread is None:
            self.thread = threading.Thread(
                target=lambda: self.purged.append(do(self.parts, **self.selection))
            )
            self.thread.start()
            assert eventually(lambda: not self.thread.is_alive() or self.renewals >= 2, 20)

    def end(self) -> None:
        assert self.thread
        self.thread.join(30)
        assert self.purged


def before(function: Callable[..., Any], interrupt: Callable[..., object]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        interrupt()
        return function(*args, **kwargs)

    return run


def after(function: Callable[..., Any], interrupt: Callable[..., object]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        found = function(*args, **kwargs)
        interrupt()
        return found

    return run


POINTS = ["before the render", "after the render", "before the row", "after the row", "before the check"]


@pytest.mark.parametrize("selection", [{"paths": ("flag.png",)}, {"is_all": True}], ids=["path", "all"])
@pytest.mark.parametrize("is_there_already", [False, True], ids=["new", "again"])
@pytest.mark.parametrize("point", POINTS)
def test_a_render_in_flight_does_not_bring_the_variant_back(
    assemble: Callable[..., Parts],
    renderer: Counting,
    point: str,
    is_there_already: bool,
    selection: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = assemble()
    store = parts.store
    assert isinstance(store, DiskStore)
    if is_there_already:  # of this source, another variant; and an object of this variant without a row
        ask(parts, "flag.png", scalex=7)
        answer = ask(parts, "flag.png", scalex=5)
        assert answer.variant
        store.index.variants.remove(answer.variant.key)
        store.index.completeness.set_whole(True)
    interrupt = Interruption(parts, **selection)
    if point == "before the render":
        renderer.before = interrupt
    elif point == "after the render":
        renderer.after = interrupt
    elif point == "before the row":
        monkeypatch.setattr(store.index.variants, "put", before(store.index.variants.put, interrupt))
    elif point == "after the row":
        monkeypatch.setattr(store.index.variants, "put", after(store.index.variants.put, interrupt))
    else:
        monkeypatch.setattr(store, "keep", after(store.keep, interrupt))
    answer = ask(parts, "flag.png", scalex=5)
    assert body_of(parts, answer)
    interrupt.end()
    assert problems(store) == []
    assert list(store.objects.walk()) == []
    renders = renderer.renders
    assert ask(parts, "flag.png", scalex=5).result == "miss"
    assert renderer.renders == renders + 1
    assert ask(parts, "flag.png", scalex=5).result == "hit"


@pytest.mark.parametrize("point", ["before", "after"])
def test_an_object_that_is_adopted_while_it_is_purged_goes_too(
    assemble: Callable[..., Parts], renderer: Counting, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = assemble()
    store = parts.store
    assert isinstance(store, DiskStore)
    answer = ask(parts, "flag.png", scalex=5)
    assert answer.variant
    store.index.variants.remove(answer.variant.key)
    store.index.completeness.set_whole(False)
    interrupt = Interruption(parts, paths=("flag.png",))
    wrap = before if point == "before" else after
    monkeypatch.setattr(store.index.variants, "put", wrap(store.index.variants.put, interrupt))
    assert ask(parts, "flag.png", scalex=5).result == "hit"  # adopted
    epoch = store.notices.epoch() if point == "before" else 0
    interrupt.end()
    assert store.notices.epoch() != epoch  # who remembered it meanwhile forgets it
    assert store.index.variants.get(answer.variant.key) is None
    assert list(store.objects.walk()) == []
    assert ask(parts, "flag.png", scalex=5).result == "miss"
    assert renderer.renders == 2


def test_an_object_that_was_rendered_again_after_its_row_went_stays(
    assemble: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = assemble()
    store = parts.store
    assert isinstance(store, DiskStore)
    fill(parts, ["flag.png", "cats/tom.jpg"])
    store.index.completeness.set_whole(True)
    finish = store.journal._finish
    monkeypatch.setattr(store.journal, "_finish", before(finish, lambda: ask(parts, "flag.png", scalex=5)))
    assert do(parts, paths=("flag.png",)).variants == 2
    assert problems(store) == []
    (row,) = [row for row in store.index.variants.scan() if row.key and row.key.recipe.startswith("v1-5x")][
        :1
    ]
    assert row.key
    assert ask(parts, "flag.png", scalex=5).result == "hit"


def test_in_memory_a_render_in_flight_does_not_bring_the_variant_back(
    assemble: Callable[..., Parts], renderer: Counting
) -> None:
    parts = assemble(cache={"mode": "memory"})
    fill(parts, ["flag.png"])
    renderer.after = lambda job: do(parts, paths=("flag.png",))
    ask(parts, "flag.png", scalex=9)
    assert left(parts, ["flag.png"]) == set()


# --- lists of what shall go --------------------------------------------------------------------------------


def cut_short(store: DiskStore, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Let a purge end as if it were killed, at *step*."""

    def die(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    where = {"rows": (store.index.variants, "remove_rows"), "objects": (store.journal, "_finish")}[step]
    with monkeypatch.context() as patch:
        patch.setattr(*where, die)
        with pytest.raises(KeyboardInterrupt):
            purge_digests(store, f"{1:064x}")


@pytest.mark.parametrize("step", ["rows", "objects"])
def test_who_starts_next_finishes_what_a_dead_process_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = DiskStore(tmp_path / "cache", 2**40)
    fill_cache(store, 6, per_source=3)
    cut_short(store, monkeypatch, step)
    assert len(list(store.objects.walk())) == 6
    assert len(list(store.temps.folder.glob("*.doomed"))) == 1
    epoch = store.notices.epoch()
    DiskStore(tmp_path / "cache", 2**40).start()
    assert problems(store) == []
    assert {variant.key.digest for variant in store.index.variants.good()} == {f"{2:064x}"}
    assert (store.notices.epoch() != epoch) == (step == "rows")


def test_what_was_rendered_after_its_list_was_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DiskStore(tmp_path / "cache", 2**40)
    variants = fill_cache(store, 6, per_source=3)
    cut_short(store, monkeypatch, "objects")
    again = variants[0]
    with store.temp() as temp:
        assert temp
        temp.path.write_bytes(b"the bytes of object 0")
        store.keep(again.key, Rendered(100, 75), temp)
    store.start()
    assert store.index.variants.get(again.key) == again
    assert problems(store) == []
    assert store.index.variants.count() == 4


def test_a_list_whose_writer_lives_and_one_of_nonsense_harm_nothing(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "cache", 2**40)
    fill_cache(store, 6, per_source=3)
    outside = tmp_path / "precious"
    outside.write_text("x")
    names = [
        f"{path.stat().st_ino} {path.relative_to(store.objects.root)}\n" for path in store.objects.walk()
    ]
    hostile = [
        f"{outside.stat().st_ino} ../../precious\n",
        f"{outside.stat().st_ino} {outside}\n",
        "x\n",
        "\n",
    ]
    with store.temp() as temp:
        assert temp
        living = temp.path.with_suffix(".doomed")
        temp.path.write_text("".join(names))
        os.link(temp.path, living)
        (store.temps.folder / "b.doomed").write_text("".join(hostile) + names[0][:-1])
        store.start()
        assert outside.exists()
        assert len(list(store.objects.walk())) == 6
    assert not (store.temps.folder / "b.doomed").exists()


def test_a_purge_makes_room_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DiskStore(tmp_path / "cache", 2**40)
    fill_cache(store, 6, per_source=3)
    monkeypatch.setattr(store.journal, "_note", lambda *details: None)  # as it is when the disk is full
    assert purge_digests(store, f"{1:064x}").variants == 3
    assert problems(store) == []
    assert store.index.variants.count() == 3


def test_a_cache_that_can_not_be_changed_is_told(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "cache", 2**40)
    fill_cache(store, 6, per_source=3)
    shutil.rmtree(store.temps.folder)
    store.temps.folder.write_text("a file")
    with pytest.raises(StorageError, match="no file can be written in the cache"):
        purge_digests(store, f"{1:064x}")
    assert store.index.variants.count() == 6


# --- killed ------------------------------------------------------------------------------------------------


def state(cache: Path) -> tuple[set[str], set[str], set[str]]:
    """The objects, the rows, and what is left in tmp."""
    store = DiskStore(cache, 2**40)
    objects = {str(path.relative_to(store.objects.root)) for path in store.objects.walk()}
    rows = {variant.key.text() for variant in store.index.variants.good()}
    return objects, rows, {path.name for path in store.temps.folder.iterdir() if path.is_file()}


def command(config: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "imagefactory", "--config", str(config), *arguments]


@pytest.mark.slow
def test_a_purge_that_was_killed_and_is_run_again_ends_as_one_whole_run(tmp_path: Path) -> None:
    dice = random.Random(7)
    base = tmp_path / "base"
    fill_cache(DiskStore(base, 2**40), 4000)
    (tmp_path / "pictures").mkdir()
    doomed = [f"sha256:{number:064x}" for number in range(1, 151)]

    def prepare(name: str) -> tuple[Path, list[str]]:
        cache = tmp_path / name
        shutil.copytree(base, cache)
        config = write_config(tmp_path, tmp_path / "pictures", cache)
        return cache, command(config, "purge", *doomed)

    cache, purge_command = prepare("whole")
    before = (cache / "epoch").stat().st_mtime_ns
    whole = subprocess.Popen(purge_command, stdout=subprocess.DEVNULL)
    assert eventually(lambda: (cache / "epoch").stat().st_mtime_ns != before, 60, 0.001)
    began = time.monotonic()
    assert whole.wait(60) == 0
    seconds = time.monotonic() - began
    wanted = state(cache)
    assert (len(wanted[0]), len(wanted[1]), wanted[2]) == (1000, 1000, set())
    reached = set()
    for number in range(20 if IS_LONG else 3):
        cache, purge_command = prepare(f"killed-{number}")
        before = (cache / "epoch").stat().st_mtime_ns
        process = subprocess.Popen(purge_command, stdout=subprocess.DEVNULL)
        assert eventually(lambda at=cache, was=before: (at / "epoch").stat().st_mtime_ns != was, 60, 0.001)
        time.sleep(dice.uniform(0, seconds * 0.7))
        process.kill()
        process.wait()
        objects, rows, _ = state(cache)
        reached.add((len(rows) > 1000, len(objects) > 1000))
        if number % 2:  # somebody else comes in between, and leaves no object without a row
            DiskStore(cache, 2**40).start()
            assert problems(DiskStore(cache, 2**40)) == []
        assert subprocess.run(purge_command, stdout=subprocess.DEVNULL, check=False).returncode == 0
        assert state(cache) == wanted
        assert problems(DiskStore(cache, 2**40)) == []
        shutil.rmtree(cache)
    print(f"killed with (rows, objects) left: {reached}; a whole run takes {seconds:.2f} s")


# --- servers -----------------------------------------------------------------------------------------------


def test_all_server_processes_see_a_purge_at_the_next_request(tmp_path: Path, pictures: Path) -> None:
    """A body that no renderer makes is planted: who still gives it did not see the purge."""
    pytest.importorskip("granian")
    os.utime(pictures / "flag.png", (1, 1))
    cache = tmp_path / "cache"
    config = write_config(tmp_path, pictures, cache)
    target = "/picture/flag.png?scalex=50&encoding=webp"
    with serving(config, ["--server", "granian", "--workers", "2"]) as server:
        true = server.get(target).body
        store = DiskStore(cache, 2**40)
        (row,) = store.index.variants.scan()
        assert row.key
        for number in range(3):
            planted = b"planted %d" % number
            with store.temp() as temp:
                assert temp
                temp.path.write_bytes(planted)
                store.keep(row.key, Rendered(50, 33), temp)
            store.notices.renew()
            with ExitStack() as stack:
                clients = [stack.enter_context(server.client()) for _ in range(30)]
                assert {client.get(target).body for client in clients * 3} == {planted}
                subprocess.run(command(config, "purge", "flag.png"), check=True, stdout=subprocess.DEVNULL)
                assert {client.get(target).body for client in clients * 3} == {true}


@pytest.mark.slow
def test_readers_get_whole_pictures_while_they_are_purged(tmp_path: Path, pictures: Path) -> None:
    cache, names = tmp_path / "cache", [f"p{number}.png" for number in range(6)]
    token = "open-sesame-open-sesame"
    draw(pictures, names, 300)
    config = write_config(
        tmp_path, pictures, cache,
        server={"threads": 120}, render={"queue": 1000}, admin={"token": token},
    )  # fmt: skip
    targets = [f"/picture/{name}?scalex={width}&encoding=jpeg" for name in names for width in (40, 80, 120)]
    wrong: list[str] = []
    counts = {"answers": 0, "miss": 0, "hit": 0, "coalesced": 0}
    is_over = threading.Event()
    lock = threading.Lock()

    def read(seed: int) -> None:
        dice = random.Random(seed)
        with server.client() as client:
            while not is_over.is_set():
                target = dice.choice(targets)
                try:
                    reply = client.get(target)
                except (OSError, HTTPException) as error:
                    wrong.append(f"{target}: {error!r}")
                    return
                with lock:
                    counts["answers"] += 1
                    counts[reply.cache] = counts.get(reply.cache, 0) + 1
                if not is_right(reply):
                    wrong.append(f"{target}: {reply.status} {dict(reply.headers)} {reply.body[:200]!r}")

    purges = 0
    with serving(config) as server:
        readers = [threading.Thread(target=read, args=(seed,)) for seed in range(50)]
        for reader in readers:
            reader.start()
        end = time.monotonic() + (60 if IS_LONG else 8)
        dice = random.Random(1)
        with server.client() as admin:
            while time.monotonic() < end and not wrong:
                authorization = f"Bearer {token}"
                for name in dice.sample(names, 3):
                    reply = admin.get(f"/picture/{name}", "DELETE", Authorization=authorization)
                    assert reply.status == 200, reply
                    purges += 1
                options = dice.choice(
                    (["--all", "--yes"], ["--prefix", "cats"], ["--glob", "p*"], ["--stale"])
                )
                done = subprocess.run(
                    command(config, "purge", *options), capture_output=True, text=True, check=False
                )
                assert done.returncode == 0, done.stderr
                purges += 1
                quarters(400 + purges, 50).save(pictures / "fresh.png")
                (pictures / "fresh.png").replace(pictures / dice.choice(names))
        is_over.set()
        for reader in readers:
            reader.join()
        assert wrong == []
        assert counts["hit"] and counts["miss"]
        subprocess.run(command(config, "purge", "--all", "--yes"), check=True, capture_output=True)
        assert {server.get(target).cache for target in targets} == {"miss"}
        assert all(is_right(server.get(target)) for target in targets)
    print(f"{purges} purges, {counts}")
    store = DiskStore(cache, 2**40)
    store.start()
    assert problems(store) == []
    assert store.index.variants.count() == len(targets)


# --- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, gallery: Path) -> Path:
    return write_config(tmp_path, gallery, tmp_path / "cache", http={"prefixes": ["/picture", "/img"]})  # type: ignore[dict-item]


@pytest.fixture
def filled(config: Path, tmp_path: Path, gallery: Path, renderer: Counting) -> Parts:
    paths = {"pictures": str(gallery), "cache": str(tmp_path / "cache")}
    settings: Config = from_mapping({"paths": paths}, tmp_path, {})
    parts = factory.assemble(settings, renderer)
    fill(parts)
    return parts


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--config", str(config), "purge", *arguments])


@pytest.mark.parametrize(
    ("arguments", "gone"),
    [
        (["cats/tom.jpg"], {"cats/tom.jpg"}),
        (["pictures/cats/tom.jpg"], {"cats/tom.jpg"}),
        (["http://example.com/picture/cats/tom.jpg?scalex=5"], {"cats/tom.jpg"}),
        (["/img/%C3%BCn%C3%AF%20c%C3%B6d%C3%A9.jpg"], {"ünï cödé.jpg"}),
        (["--prefix", "pictures/cats/"], CATS),
        (["--glob", "cats/*"], {"cats/tom.jpg"}),
        (["--older-than", "30d"], set()),
        (["--older-than", "0s"], ALL),
        (["--stale"], set()),
        (["--all", "--yes"], ALL),
    ],
)
def test_the_command_prints_what_went(
    filled: Parts, config: Path, arguments: list[str], gone: set[str]
) -> None:
    would = run(config, *arguments, "--dry-run", "--json")
    assert left(filled) == ALL
    result = run(config, *arguments, "--json")
    assert (would.exit_code, result.exit_code) == (0, 0)
    found, told = json.loads(result.stdout), json.loads(would.stdout)
    assert set(found) == {"pictures", "variants", "bytes", "dry_run", "unread"}
    assert (found["pictures"], found["variants"]) == (len(gone), 2 * len(gone))
    assert {**told, "dry_run": False} == found
    assert left(filled) == ALL - gone


def test_the_command_says_it_in_words(filled: Parts, config: Path) -> None:
    assert "2 variants of 1 picture, " in run(config, "b.png", "--dry-run").stdout
    assert run(config, "b.png", "--dry-run").stdout.endswith(" would go\n")
    assert run(config, "b.png").stdout.endswith(", gone\n")
    assert run(config, "b.png").stdout == "0 variants of 0 pictures, 0 B, gone\n"
    digest = filled.sources.digest("b.jpg")[0]
    assert run(config, f"sha256:{digest[:12].upper()}").stdout.startswith("2 variants of 1 picture")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "it is not said what shall go; write one of PATH, sha256:HEX, --prefix, --glob, --older-than"),
        (["a.jpg", "--all", "--yes"], "PATH and --all are different things; write one of PATH, "),
        (["a.jpg", f"sha256:{'0' * 64}"], "PATH and sha256:HEX are different things"),
        (["--prefix", "a", "--glob", "b"], "--prefix and --glob are different things"),
        (["--stale", "--older-than", "1d"], "--older-than and --stale are different things"),
        (["--prefix", ""], "--prefix is empty; --all means everything"),
        (["--prefix", "pictures"], "--prefix is empty"),
        (["--glob", ""], "--glob is empty"),
        (["../x.jpg"], "is not the path of a picture"),
        (["http://example.com/elsewhere/x.jpg"], "is neither a picture's URL"),
        (["sha256:abc"], "'abc' is not the sha256 of a picture"),
        (["--older-than", "30"], "--older-than: '30' is not a time; write a number with s, m, h, d or w"),
        (["--older-than", "-1d"], "is not a time"),
        (["--all"], "--all removes everything: say --yes, or --dry-run"),
        (["--everything"], "No such option"),
    ],
)
def test_wrong_usage_is_exit_2_and_removes_nothing(
    filled: Parts, config: Path, arguments: list[str], message: str
) -> None:
    result = run(config, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert left(filled) == ALL


def test_a_purge_in_memory_mode_by_command_is_exit_2(tmp_path: Path, gallery: Path) -> None:
    config = write_config(tmp_path, gallery, tmp_path / "cache", cache={"mode": "memory"})
    result = run(config, "b.png")
    assert result.exit_code == 2
    assert "there is nothing on disk" in result.stderr


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (EOFError, 1)])
def test_ctrl_c_when_all_asks_is_exit_130(
    filled: Parts, config: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException], code: int
) -> None:
    def answer(*args: object) -> str:
        raise stop

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("click.termui.visible_prompt_func", answer)
    with pytest.raises(click.ClickException, match="nothing was removed") as caught:
        main.main(["--config", str(config), "purge", "--all"], standalone_mode=False)
    assert caught.value.exit_code == code
    assert left(filled) == ALL


def test_a_cache_that_can_not_be_changed_is_exit_1(filled: Parts, config: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "cache/tmp")
    (tmp_path / "cache/tmp").write_text("a file")
    result = run(config, "b.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no file can be written in the cache" in result.stderr


def test_a_picture_that_can_not_be_read_is_exit_1(filled: Parts, tmp_path: Path, gallery: Path) -> None:
    config = write_config(tmp_path, gallery, tmp_path / "cache", limits={"max_source_bytes": 10})
    result = run(config, "b.png")
    assert result.exit_code == 1
    assert "2 variants of 1 picture" in result.stdout
    assert "'b.png' can't be read: only what was known of it went" in result.stderr


@pytest.mark.parametrize(("answer", "code", "count"), [(b"y\n", 0, 0), (b"n\n", 1, 32), (b"\n", 1, 32)])
def test_on_a_terminal_all_asks(filled: Parts, config: Path, answer: bytes, code: int, count: int) -> None:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            command(config, "purge", "--all"), stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        os.write(ours, answer)
        out, errors = process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == code
    assert b"Remove all 32 variants" in errors
    assert (b"nothing was removed" in errors) == bool(code)
    assert (b"32 variants of 16 pictures" in out) == (not code)
    assert filled.store.index.variants.count() == count


def test_ctrl_c_is_exit_130_in_one_line(filled: Parts, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("imagefactory.storage.purge_journal.PurgeJournal._finish", die)
    result = run(config, "b.png")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "Error: stopped; what was begun is finished by the next command or server\n"
    monkeypatch.undo()
    assert run(config, "b.jpg").exit_code == 0
    assert left(filled) == ALL - {"b.png", "b.jpg"}
    assert problems(DiskStore(filled.config.paths.cache, 2**40)) == []


def test_help_shows_examples() -> None:
    result = CliRunner().invoke(main, ["purge", "--help"])
    assert "imagefactory purge --older-than 30d" in result.stdout
