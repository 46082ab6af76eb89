"""The rows of pictures: what is put comes back, in the order of bytes, in pages, and never half."""

from __future__ import annotations

import hashlib
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from imagefactory.catalog import schema
from imagefactory.catalog.database import Database
from imagefactory.catalog.pictures import Picture, PictureRows, is_stamp, stamp_text
from imagefactory.config import from_mapping
from imagefactory.errors import MissingExtra
from imagefactory.model.source import Stamp


def open_rows(folder: Path) -> PictureRows:
    return PictureRows(Database(from_mapping({"catalog": {"url": f"sqlite:///{folder}/c.db"}}, folder, {})))


@pytest.fixture
def rows(tmp_path: Path) -> PictureRows:
    return open_rows(tmp_path)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def picture(path: str, body: str = "", **values: object) -> Picture:
    digest = sha(body or path)
    plain = Picture(path, digest, digest, "1 2 3 4", 2000, 40, 30, "JPEG", "ready", 1000.0)
    return replace(plain, **values)


def paths_of(rows: PictureRows, limit: int = 100, **asked: str) -> list[str]:
    """All paths, read in pages."""
    found, after = [], ""
    while True:
        page, after = rows.page(after, limit, **asked)
        assert len(page) <= limit
        found += [each.path for each in page]
        if not after:
            return found


# --- writing ----------------------------------------------------------------------------------------------


def test_what_is_put_comes_back(rows: PictureRows) -> None:
    whole = Picture("é/a b.jpg", "a" * 64, "b" * 64, "9 8 7 6", 2**40, 7, 0, "FILE", "pending", 1.5)
    rows.put([whole, picture("x.jpg")])
    assert rows.get("é/a b.jpg") == whole
    assert rows.get("É/a b.jpg") is None
    assert rows.known(["x.jpg", "y.jpg", "x.jpg"]) == {"x.jpg": picture("x.jpg")}
    assert (rows.count(), rows.known([]), rows.present([])) == (2, {}, {})
    rows.put([])


def test_a_row_with_the_same_digest_keeps_its_state_and_its_time(rows: PictureRows) -> None:
    rows.put([picture("a.jpg", state="pending")])
    later = picture("a.jpg", stamp="5 6 7 8", added_s=2000.0, width=50)
    rows.put([later])
    assert rows.get("a.jpg") == replace(later, state="pending", added_s=1000.0)
    other = picture("a.jpg", "other", added_s=3000.0)
    rows.put([other])
    assert rows.get("a.jpg") == other


def test_more_than_fits_into_one_statement(rows: PictureRows) -> None:
    many = [picture(f"{number:05}.jpg") for number in range(2500)]
    rows.put(many)
    assert rows.known([each.path for each in many]) == {each.path: each for each in many}
    assert len(rows.present([each.digest for each in many])) == 2500
    assert rows.mark([each.path for each in many], "hidden") == 2500
    assert rows.remove([*(each.path for each in many), "none"]) == 2500
    assert rows.count() == 0


def test_one_transaction_is_done_whole_or_not_at_all(rows: PictureRows) -> None:
    rows.put([picture("old.jpg")])
    with pytest.raises(RuntimeError), rows.transaction() as connection:
        rows.put([picture(f"{number}.jpg") for number in range(1500)], connection)
        assert rows.remove(["old.jpg"], connection) == 1
        assert rows.received([sha("old.jpg")], connection) == {}
        raise RuntimeError
    assert paths_of(rows) == ["old.jpg"]
    with rows.transaction() as connection:
        rows.put([picture("new.jpg")], connection)
        rows.mark(["old.jpg"], "hidden", connection)
    assert [(each.path, each.state) for each in rows.walk()] == [("new.jpg", "ready"), ("old.jpg", "hidden")]


# --- reading ----------------------------------------------------------------------------------------------

CATS = ["Cats/TOM.jpg", "cats/50%.jpg", "cats/5_0.jpg", "cats/a'b.jpg"]
ALL = [*CATS[:1], "café/Äpfel.png", *CATS[1:]]  # in the order of bytes
_PATH = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> PictureRows:
    """Rows that several examples share."""
    return open_rows(tmp_path_factory.mktemp("rows"))


@settings(max_examples=40)
@given(paths=st.sets(_PATH, max_size=12), limit=st.integers(1, 5))
def test_the_order_is_that_of_the_bytes(kept: PictureRows, paths: set[str], limit: int) -> None:
    rows = kept
    rows.remove([each.path for each in rows.walk()])
    rows.put([picture(path, "same") for path in paths])
    expected = sorted(paths, key=str.encode)
    assert paths_of(rows, limit) == expected
    assert [each.path for each in rows.walk()] == expected
    for path in expected:
        assert [each.path for each in rows.walk(path)] == expected[expected.index(path) + 1 :]
        assert rows.known([path]).keys() == {path}


@pytest.mark.parametrize("limit", [1, 7, 10, 11, 1000])
def test_pages_have_each_row_once(rows: PictureRows, limit: int) -> None:
    """Also where the last page is full, and where rows come and go in between."""
    rows.put([picture(f"{number}.jpg") for number in range(10)])
    first, after = rows.page(limit=limit)
    assert (len(first), after) == (min(limit, 10), f"{limit - 1}.jpg" if limit < 10 else "")
    assert paths_of(rows, limit) == [f"{number}.jpg" for number in range(10)]
    if after:
        rows.put([picture("!.jpg")])
        rows.remove([after])
        assert [each.path for each in rows.page(after)[0]] == [f"{number}.jpg" for number in range(limit, 10)]


@pytest.mark.parametrize(("limit", "count"), [(-5, 1), (0, 1), (5000, 1000)])
def test_a_page_has_1_to_1000_rows(rows: PictureRows, limit: int, count: int) -> None:
    rows.put([picture(f"{number:04}.jpg") for number in range(1001)])
    assert len(rows.page(limit=limit)[0]) == count


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("", ALL),
        ("cats", CATS),
        ("CATS tom", ["Cats/TOM.jpg"]),
        ("tom CATS", ["Cats/TOM.jpg"]),
        ("cats dogs", []),
        ("%", ["cats/50%.jpg"]),
        ("_", ["cats/5_0.jpg"]),
        ("0%.", ["cats/50%.jpg"]),
        ("/", ALL),
        ("\\", []),
        ("a'b", ["cats/a'b.jpg"]),
        ("'; --", []),
        ("  CAFÉ  ", ["café/Äpfel.png"]),
        ("äpfel Café", ["café/Äpfel.png"]),
    ],
)
def test_a_search_has_all_words_in_any_case(rows: PictureRows, q: str, found: list[str]) -> None:
    assert sorted(ALL, key=str.encode) == ALL
    rows.put([picture(path) for path in reversed(ALL)])
    assert paths_of(rows, q=q) == found
    assert paths_of(rows, 1, q=q) == found


def test_a_page_is_of_a_state_and_a_digest(rows: PictureRows) -> None:
    """The digest is that of the file, or of what came; both at once give one row."""
    came = sha("with a position")
    rows.put([picture("a.jpg", "x"), picture("b.jpg", "x", state="pending"), picture("c.jpg", "y")])
    rows.put([picture("d.jpg", "x", received=came), picture("e.jpg", "z", received=sha("x"))])
    assert paths_of(rows, 1, digest=sha("x")) == ["a.jpg", "b.jpg", "d.jpg", "e.jpg"]
    assert paths_of(rows, digest=came) == ["d.jpg"]
    assert paths_of(rows, 1, state="ready") == ["a.jpg", "c.jpg", "d.jpg", "e.jpg"]
    assert paths_of(rows, state="pending") == ["b.jpg"]
    assert paths_of(rows, state="pending", digest=sha("x"), q="B") == ["b.jpg"]
    assert paths_of(rows, state="none") == paths_of(rows, digest="none") == []


def test_present_tells_digests_as_stored_and_as_received(rows: PictureRows) -> None:
    came = sha("with a position")
    rows.put([picture("b.jpg", "x"), picture("a.jpg", "x"), picture("c.jpg", "y", received=came)])
    rows.put(
        [picture("d.jpg", "z", state="pending"), picture("e.jpg", "w", state="hidden", received=sha("v"))]
    )
    asked = [sha("x"), sha("y"), came, sha("z"), sha("w"), sha("v"), sha("none")]
    assert rows.present(asked) == {sha("x"): "a.jpg", sha("y"): "c.jpg", came: "c.jpg"}
    assert rows.received(asked) == {sha("y"): came, sha("w"): sha("v")}


def test_a_twin_is_another_path_with_the_same_picture_stored_or_received(rows: PictureRows) -> None:
    came = sha("with a position")
    rows.put(
        [picture("a.jpg", "x"), picture("c.jpg", "y", received=came), picture("d.jpg", "z", state="off")]
    )
    with rows.transaction() as connection:

        def twin(path: str, stored: str, received: str) -> str:
            return rows.twin(path, (stored, received), connection)

        assert twin("b.jpg", sha("x"), sha("x")) == "a.jpg"
        assert twin("a.jpg", sha("x"), sha("x")) == ""
        assert twin("b.jpg", sha("y"), came) == twin("b.jpg", sha("n"), came) == "c.jpg"
        assert twin("b.jpg", came, came) == twin("b.jpg", sha("y"), sha("n")) == "c.jpg"
        assert twin("b.jpg", sha("z"), sha("z")) == twin("b.jpg", sha("n"), sha("n")) == ""


def test_newest_are_ready_ones_the_latest_first(rows: PictureRows) -> None:
    times = {"a": 3.0, "b": 5.0, "c": 1.0, "d": 5.0}
    rows.put([picture(name, added_s=time_s) for name, time_s in times.items()])
    rows.put([picture("e", added_s=9.0, state="pending")])
    assert [each.path for each in rows.newest(3)] == ["d", "b", "a"]


def test_duplicates_are_whole_and_in_order(rows: PictureRows) -> None:
    """Also more of them than are read at a time, and one digest that has more paths than that."""
    dice = random.Random(3)
    expected = {sha(f"twice {number}"): [f"{number}-1", f"{number}-2"] for number in range(700)}
    expected[sha("often")] = sorted(f"often-{number}" for number in range(1500))
    many = [picture(path, received=digest, digest=digest) for digest in expected for path in expected[digest]]
    many += [picture(f"once-{number}") for number in range(50)]
    many += [
        picture("hidden", "twice 1", state="hidden"),
        picture("ready", "half"),
        picture("not", "half", state="x"),
    ]
    dice.shuffle(many)
    rows.put(many)
    assert list(rows.duplicates()) == sorted(expected.items())


def test_without_duplicates_there_are_none(rows: PictureRows) -> None:
    assert list(rows.duplicates()) == []
    rows.put([picture("a"), picture("b")])
    assert list(rows.duplicates()) == []


def test_rows_that_change_during_a_walk(rows: PictureRows) -> None:
    """What was there all the time comes once, whatever else comes and goes."""
    rows.put([picture(f"{number:04}") for number in range(2000)])
    found = []
    for number, each in enumerate(rows.walk()):
        found.append(each.path)
        if number == 100:
            rows.remove(["0050", "1500"])
            rows.put([picture("0000a"), picture("1999a")])
    assert found == [f"{number:04}" for number in range(2000) if number != 1500] + ["1999a"]


# --- stamps, the extra, the other dialect -----------------------------------------------------------------


def test_a_racy_stamp_is_the_one_of_no_file() -> None:
    stamp = Stamp(2**64 - 1, 2**63 - 1, 2**63 - 1, 2**63 - 1)
    assert is_stamp(stamp_text(stamp), stamp)
    assert not is_stamp(stamp_text(stamp, is_racy=True), stamp)
    assert is_stamp(stamp_text(stamp, is_racy=True), stamp, may_be_racy=True)
    assert not is_stamp(stamp_text(stamp), stamp._replace(version=1), may_be_racy=True)
    assert len(stamp_text(stamp, is_racy=True)) <= schema.pictures.c.stamp.type.length


def test_without_sqlalchemy_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    monkeypatch.setitem(sys.modules, "sqlalchemy.exc", None)
    rows = open_rows(tmp_path)
    for call in (
        rows.count,
        lambda: rows.put([picture("a")]),
        lambda: list(rows.walk()),
        lambda: rows.get("a"),
    ):
        with pytest.raises(MissingExtra, match=r"flask-imagefactory\[uploads\]"):
            call()


def test_postgresql_compares_bytes_too() -> None:
    dialect = postgresql.dialect()
    table = str(CreateTable(schema.pictures).compile(dialect=dialect))
    assert 'path VARCHAR(1024) COLLATE "C" NOT NULL' in table
    assert "number BIGSERIAL NOT NULL" in table
    indexes = [str(CreateIndex(each).compile(dialect=dialect)) for each in schema.pictures.indexes]
    assert sum("WHERE" in each for each in indexes) == 2
