"""Which paths lead to a picture, and which don't lead anywhere."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from support.exchanging import exchanged
from support.open_files import open_below

from imagefactory.errors import NotFound, SourceChanged, TooLarge, Unavailable
from imagefactory.storage import beneath
from imagefactory.storage.beneath import Opener, open_at_once, open_by_parts
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
    "absolute-out.jpg",
    "climbing-out.jpg",
    "hiddenfolder/tom.jpg",
    "self",
]


@pytest.fixture(params=[open_at_once, open_by_parts], ids=["openat2", "by parts"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """One suite for both ways to open."""
    opener: Opener = request.param
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        os.close(opener(folder, ".", os.O_RDONLY))
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        pytest.skip("this system has no openat2")
    finally:
        os.close(folder)
    return opener


@pytest.fixture
def sources(tmp_path: Path, pictures: Path, opener: Opener) -> Originals:
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
    (pictures / "absolute-out.jpg").symlink_to(tmp_path / "pictures/../secret.jpg")
    (pictures / "climbing-out.jpg").symlink_to("cats/../../secret.jpg")
    (pictures / "absolute.jpg").symlink_to(pictures / "cats/tom.jpg")
    (pictures / "cats/climbing.jpg").symlink_to(f"../../{pictures.name}/inside.jpg")
    (pictures / "through-hidden.jpg").symlink_to(".git/../cats/tom.jpg")
    (pictures / "hiddenfolder").symlink_to(".git")
    (pictures / "self").symlink_to(".")
    os.mkfifo(pictures / "pipe.jpg")
    return Originals(pictures, 10**6, opener=opener)


@pytest.mark.parametrize("path", REFUSED, ids=[repr(path[:20]) for path in REFUSED])
def test_what_is_not_canonical_hidden_outside_or_no_file_is_not_found(sources: Originals, path: str) -> None:
    with pytest.raises(NotFound, match="^there is no picture at this address$"):
        sources.open(path)
    with pytest.raises(NotFound, match="^there is no picture at this address$"):
        sources.look(path)


INSIDE = [
    "cats/tom.jpg",
    "inside.jpg",
    "folder/tom.jpg",
    "absolute.jpg",
    "cats/climbing.jpg",
    "folder/climbing.jpg",
    "self/self/folder/tom.jpg",
    "through-hidden.jpg",
]


@pytest.mark.parametrize("path", INSIDE)
def test_a_file_in_the_folder_is_found_also_through_a_link_that_stays_inside(
    sources: Originals, path: str
) -> None:
    file, stamp = sources.open(path)
    with file:
        assert file.read() == (sources.root / "cats/tom.jpg").read_bytes()
    assert sources.stamp(path) == sources.look(path) == stamp


@pytest.mark.parametrize("path", INSIDE)
def test_where_no_link_is_followed_only_plain_paths_lead_to_a_file(
    sources: Originals, path: str, opener: Opener
) -> None:
    strict = Originals(sources.root, 10**6, "none", opener=opener)
    if path == "cats/tom.jpg":
        strict.open(path)[0].close()
    else:
        with pytest.raises(NotFound):
            strict.open(path)


def test_the_folder_itself_may_be_a_link_and_lead_elsewhere_at_any_time(
    sources: Originals, tmp_path: Path, opener: Opener
) -> None:
    current, other = tmp_path / "current", tmp_path / "release-2"
    current.symlink_to(sources.root)
    linked = Originals(current, 10**6, opener=opener)
    assert linked.digest("inside.jpg") == sources.digest("cats/tom.jpg")
    other.mkdir()
    (other / "inside.jpg").write_bytes(b"new")
    current.unlink()
    current.symlink_to(other)
    file, _ = linked.open("inside.jpg")
    with file:
        assert file.read() == b"new"
    with pytest.raises(NotFound):
        linked.open("cats/tom.jpg")


# --- links to other folders that are listed -------------------------------------------------------------


@pytest.fixture
def uploads(sources: Originals, tmp_path: Path) -> Path:
    """A folder outside of the pictures, with two links to it among them."""
    uploads = tmp_path / "uploads"
    (uploads / "2024").mkdir(parents=True)
    (uploads / ".private").mkdir()
    for name in ("2024/sun.jpg", "moon.jpg", ".private/key.jpg"):
        (uploads / name).write_bytes(name.encode())
    (uploads / "back").symlink_to(sources.root / "cats")
    (uploads / "out").symlink_to(tmp_path)
    (uploads / "around").symlink_to(uploads)
    (sources.root / "shared").symlink_to(uploads)
    (sources.root / "moon.jpg").symlink_to(uploads / "moon.jpg")
    return uploads


def test_links_lead_to_listed_folders_and_to_no_others(
    sources: Originals, uploads: Path, tmp_path: Path, opener: Opener
) -> None:
    listed = Originals(sources.root, 10**6, "listed", [tmp_path / "none", uploads], opener)
    for path, data in (
        ("shared/2024/sun.jpg", b"2024/sun.jpg"),
        ("shared/around/around/moon.jpg", b"moon.jpg"),
        ("moon.jpg", b"moon.jpg"),
    ):
        with pytest.raises(NotFound):
            sources.open(path)
        file, stamp = listed.open(path)
        with file:
            assert file.read() == data
        assert listed.look(path) == listed.stamp(path) == stamp
    listed.open("shared/back/tom.jpg")[0].close()
    for path in (
        "out.jpg",
        "shared/out/secret.jpg",
        "shared/.private/key.jpg",
        "shared",
        "outdir/secret.jpg",
    ):
        with pytest.raises(NotFound):
            listed.open(path)


def test_a_walk_follows_a_link_to_what_it_has_not_listed_and_never_in_a_circle(
    sources: Originals, uploads: Path, opener: Opener
) -> None:
    listed = Originals(sources.root, 10**6, "listed", [uploads], opener)
    inside, all_ = list(sources.walk()), list(listed.walk())
    assert [path for path in all_ if path not in inside] == [
        "moon.jpg",
        "shared/moon.jpg",
        "shared/2024/sun.jpg",
    ]
    for path in all_:
        listed.open(path)[0].close()
    assert list(listed.walk("shared/2024")) == ["shared/2024/sun.jpg"]
    assert list(sources.walk("shared")) == list(sources.walk("outdir")) == list(sources.walk("..")) == []


# --- what changes while it is opened --------------------------------------------------------------------


@pytest.mark.parametrize("path", ["album/tom.jpg", "link/tom.jpg", "album/deep/tom.jpg", "by-link.jpg"])
@pytest.mark.parametrize("call", ["open", "look", "digest"])
def test_no_exchange_of_a_folder_and_a_link_leads_out(
    pictures: Path, tmp_path: Path, opener: Opener, path: str, call: str
) -> None:
    """At each of the moments at which something is opened, the folder and the link change places."""
    for folder in (pictures / "album/deep", tmp_path / "outside/deep"):
        folder.mkdir(parents=True)
        for name in (folder / "tom.jpg", folder.parent / "tom.jpg"):
            name.write_bytes(b"inside" if pictures in name.parents else b"the outside")
    (pictures / "link").symlink_to(tmp_path / "outside")
    (pictures / "by-link.jpg").symlink_to("album/tom.jpg")

    for moments in ({1}, {2}, {3}, {1, 2}, {1, 3}, {2, 3}, {1, 2, 3}):
        count = 0

        def exchanging(folder: int, below: str, flags: int) -> int:
            nonlocal count
            count += 1
            if count in moments:  # noqa: B023
                exchanged(pictures / "album", pictures / "link")
            return opener(folder, below, flags)

        sources = Originals(pictures, 10**6, opener=exchanging)
        try:
            found = getattr(sources, call)(path)
        except NotFound:
            continue
        if call == "open":
            with found[0] as file:
                assert file.read() == b"inside"
        else:
            assert (found if call == "look" else found[1]).size == len(b"inside")


def test_where_openat2_is_not_known_or_not_allowed_the_names_are_opened_one_by_one(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (errno.ENOSYS, errno.EPERM):

        def refuse(folder: int, path: str, flags: int) -> int:
            raise OSError(number, "")  # noqa: B023

        with monkeypatch.context() as patch:
            patch.setattr(beneath, "open_at_once", refuse)
            Originals(pictures, 10**6).open("cats/tom.jpg")[0].close()


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EMFILE, Unavailable), (errno.EIO, Unavailable), (errno.EACCES, NotFound)]
)
def test_an_error_of_the_disk_is_told_from_an_absent_file(
    pictures: Path, number: int, kind: type[Exception]
) -> None:
    def fail(folder: int, path: str, flags: int) -> int:
        raise OSError(number, "")

    with pytest.raises(kind):
        Originals(pictures, 10**6, opener=fail).open("cats/tom.jpg")


def test_no_descriptor_is_left_open(sources: Originals) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("reads /proc")
    for path in [*REFUSED, *INSIDE]:
        for call in (sources.look, sources.digest):
            try:
                call(path)
            except NotFound:
                continue
    list(sources.walk())
    assert open_below(sources.root.parent) == []


def test_what_is_fetched_is_the_open_file_with_that_stamp(sources: Originals) -> None:
    path, other = sources.root / "cats/tom.jpg", sources.root / "flag.png"
    stamp, data = sources.stamp("cats/tom.jpg"), path.read_bytes()
    with sources.fetch("cats/tom.jpg", stamp) as local:
        other.rename(path)
        assert os.pread(local.descriptor, len(data) + 1, 0) == data
        assert local == (path, stamp, local.descriptor)
    with pytest.raises(SourceChanged), sources.fetch("cats/tom.jpg", stamp):
        pass


# --- names ----------------------------------------------------------------------------------------------


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


def test_a_walk_lists_what_may_be_opened_in_order(sources: Originals) -> None:
    assert list(sources.walk()) == [
        "absolute.jpg",
        "flag.png",
        "inside.jpg",
        "notes.txt",
        "page.svg",
        "through-hidden.jpg",
        "cats/climbing.jpg",
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
