"""Which paths lead to a picture, and which don't lead anywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagefactory.errors import NotFound, TooLarge
from imagefactory.storage.originals import Originals

REFUSED = [
    "",
    "/",
    "/cats/tom.jpg",
    "//cats/tom.jpg",
    "cats//tom.jpg",
    "cats/tom.jpg/",
    "./cats/tom.jpg",
    "cats/./tom.jpg",
    "cats/../cats/tom.jpg",
    "../secret.jpg",
    "cats/../../secret.jpg",
    "..",
    ".",
    ".hidden.jpg",
    ".git/tom.jpg",
    "cats/.tom.jpg",
    "cats\\tom.jpg",
    "..\\secret.jpg",
    "cats/tom.jpg\x00",
    "cats/tom.jpg\x00.png",
    "cats/\ntom.jpg",
    "cats/tom.jpg\x7f",
    "cats",
    "cats/none.jpg",
    "cats/tom.jpg/x",
    "cats/TOM.JPG",
    "x" * 300,
    "x/" * 3000 + "x",
    "\ud800.jpg",
    "\ufffd.jpg",
    "out.jpg",
    "outdir/secret.jpg",
    "loop.jpg",
    "dangling.jpg",
    "hiddenlink.jpg",
    "pipe.jpg",
]


@pytest.fixture
def sources(tmp_path: Path, pictures: Path) -> Originals:
    (tmp_path / "secret.jpg").write_bytes((pictures / "cats/tom.jpg").read_bytes())
    (pictures / ".hidden.jpg").write_bytes(b"hidden")
    (pictures / ".git").mkdir()
    (pictures / ".git/tom.jpg").write_bytes(b"hidden")
    (pictures / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (pictures / "outdir").symlink_to(tmp_path)
    (pictures / "loop.jpg").symlink_to("loop.jpg")
    (pictures / "dangling.jpg").symlink_to("nothing.jpg")
    (pictures / "hiddenlink.jpg").symlink_to(".hidden.jpg")
    (pictures / "inside.jpg").symlink_to("cats/tom.jpg")
    (pictures / "folder").symlink_to("cats")
    os.mkfifo(pictures / "pipe.jpg")
    return Originals(pictures, 10**6)


@pytest.mark.parametrize("path", REFUSED, ids=[repr(path[:20]) for path in REFUSED])
def test_what_is_not_canonical_hidden_outside_or_no_file_is_not_found(sources: Originals, path: str) -> None:
    with pytest.raises(NotFound, match="^there is no picture at this address$"):
        sources.open(path)


@pytest.mark.parametrize("path", ["cats/tom.jpg", "inside.jpg", "folder/tom.jpg"])
def test_a_file_in_the_folder_is_found_also_through_a_link_that_stays_inside(
    sources: Originals, path: str
) -> None:
    file, stamp = sources.open(path)
    with file:
        assert file.read() == (sources.root / "cats/tom.jpg").read_bytes()
    assert sources.stamp(path) == stamp


@pytest.mark.parametrize("name", ["ä ö.jpg", "日本.jpg", "a+b&c=d?.jpg", "100%.jpg", "x'\".jpg", "a..b.jpg"])
def test_names_may_be_written_in_any_language(sources: Originals, name: str) -> None:
    (sources.root / name).write_bytes(b"x")
    file, _ = sources.open(name)
    file.close()


def test_a_file_that_may_not_be_read_is_not_found(sources: Originals) -> None:
    (sources.root / "locked.jpg").write_bytes(b"x")
    (sources.root / "locked.jpg").chmod(0)
    if os.getuid() == 0:
        pytest.skip("root may read everything")
    with pytest.raises(NotFound):
        sources.open("locked.jpg")


def test_a_file_with_too_many_bytes_is_refused_before_it_is_read(sources: Originals) -> None:
    with (sources.root / "huge.jpg").open("wb") as file:
        file.truncate(10**12)  # sparse
    with pytest.raises(TooLarge, match="the source has 1000000000000 bytes, above the limit of 1000000"):
        sources.digest("huge.jpg")


def test_a_walk_lists_regular_visible_files_in_order(sources: Originals) -> None:
    assert list(sources.walk()) == [
        "flag.png",
        "hiddenlink.jpg",
        "inside.jpg",
        "notes.txt",
        "out.jpg",
        "page.svg",
        "cats/tom.jpg",
    ]


@pytest.mark.parametrize(
    "name", ["Screenshot 9.41\u202fPM.png", "no\xa0break.png", "bidi\u202e.png", "bell\x07.png"]
)
def test_a_walk_finds_what_a_url_finds(sources: Originals, pictures: Path, name: str) -> None:
    (pictures / name).write_bytes(b"x")
    try:
        sources.stamp(name)
        has_one = True
    except NotFound:
        has_one = False
    assert (name in sources.walk()) == has_one == ("\x07" not in name)


def test_bytes_that_are_no_text_are_no_path(sources: Originals, pictures: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (pictures / name).write_bytes(b"x")
    assert name not in sources.walk()
    with pytest.raises(NotFound):
        sources.stamp(name)
