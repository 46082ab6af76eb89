"""The list of pictures is walked beside the requests, once for all of them; a request never walks."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from support.clock import Clock
from support.pages import links_of
from support.serving import eventually

from imagefactory.web.pages import names
from imagefactory.web.pages.names import NameList, Names

MANY = [f"album {number // 500:03}/IMG {number:06}.jpg" for number in range(100_000)]


class Folder:
    """A folder of *paths*, whose walks are counted, and wait at *stop_at* until they may go on."""

    def __init__(self, paths: list[str], stop_at: int = -1) -> None:
        self.paths = paths
        self.walks = 0
        self.stop_at = stop_at
        self.may_go_on = threading.Event()
        self.is_waiting = threading.Event()

    def walk(self) -> Iterator[str]:
        self.walks += 1
        for number, path in enumerate(self.paths):
            if number == self.stop_at:
                self.is_waiting.set()
                self.may_go_on.wait(60)
            yield path


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine may be busy."""
    monkeypatch.setattr(names, "_WAIT_S", 60)


def clocked(folder: Folder) -> tuple[NameList, Clock]:
    clock = Clock(now_s=1000)
    return NameList(folder.walk, lambda path: True, clock), clock


# --- the list ---------------------------------------------------------------------------------------------


def test_one_walk_is_for_all_who_ask() -> None:
    folder = Folder(MANY)
    found, _ = clocked(folder)
    threads = [threading.Thread(target=found.read) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found.read().paths == MANY for _ in range(100)] == [True] * 100
    assert folder.walks == 1


def test_a_list_is_renewed_after_seconds_and_only_when_it_is_asked_for() -> None:
    folder = Folder(["a.jpg"])
    found, clock = clocked(folder)
    assert found.read().paths == ["a.jpg"]
    folder.paths = ["b.jpg"]
    clock.now_s += 2.9
    assert (found.read().paths, folder.walks) == (["a.jpg"], 1)
    clock.now_s += 1000
    assert folder.walks == 1
    assert (found.read().paths, folder.walks) == (["b.jpg"], 2)


def test_what_takes_long_is_walked_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(["a.jpg", "b.jpg"], stop_at=1)
    found, clock = clocked(folder)
    monkeypatch.setattr(names, "_WAIT_S", 0)
    found.read()
    clock.now_s += 20
    folder.may_go_on.set()
    assert eventually(lambda: found.read().is_whole)
    clock.now_s += 199
    found.read()
    assert folder.walks == 1
    clock.now_s += 2
    found.read()
    assert folder.walks == 2


def test_a_request_during_the_first_walk_gets_what_that_has_met(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(MANY, stop_at=1000)
    found, _ = clocked(folder)
    monkeypatch.setattr(names, "_WAIT_S", 0)
    assert not found.read().is_whole
    folder.is_waiting.wait(60)
    known = found.read()
    assert (known.paths, known.is_whole, known.is_cut) == (MANY[:1000], False, False)
    assert known.find("000999", 0, 9) == [MANY[999]]
    folder.may_go_on.set()
    assert eventually(lambda: found.read().is_whole)
    assert (found.read().paths, folder.walks) == (MANY, 1)


def test_a_request_during_a_later_walk_gets_the_list_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(["a.jpg", "b.jpg"])
    found, clock = clocked(folder)
    found.read()
    clock.now_s += 4
    folder.paths, folder.stop_at = ["c.jpg", "d.jpg"], 1
    monkeypatch.setattr(names, "_WAIT_S", 0)
    assert (found.read().paths, found.read().is_whole) == (["a.jpg", "b.jpg"], True)
    folder.may_go_on.set()
    assert eventually(lambda: found.read().paths == ["c.jpg", "d.jpg"])


@pytest.mark.parametrize(
    ("bound", "most", "count"),
    [("_MOST", 2000, 2000), ("_MOST_FILES", 1500, 1500), ("_MOST_BYTES", 100_000, 0)],
)
def test_a_list_has_its_bounds(monkeypatch: pytest.MonkeyPatch, bound: str, most: int, count: int) -> None:
    monkeypatch.setattr(names, bound, most)
    found, _ = clocked(Folder(MANY))
    known = found.read()
    assert (known.is_whole, known.is_cut) == (True, True)
    assert known.paths == MANY[: count or len(known.paths)]
    assert len(known.folded) == len(known.paths) > 400
    if bound == "_MOST_BYTES":
        assert sum(map(len, known.paths + known.folded)) < most


def test_a_list_as_long_as_its_bound_is_not_cut() -> None:
    known = clocked(Folder(MANY))[0].read()
    assert (len(known.paths), known.is_whole, known.is_cut) == (100_000, True, False)
    known = clocked(Folder([*MANY, "one more.jpg"]))[0].read()
    assert (len(known.paths), known.is_cut) == (100_000, True)


def test_a_walk_that_fails_leaves_the_list_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    folder = Folder(["a.jpg"])
    found, clock = clocked(folder)
    found.read()
    clock.now_s += 4
    folder.paths = None  # type: ignore[assignment]
    assert (found.read().paths, folder.walks) == (["a.jpg"], 2)
    assert (found.read().paths, folder.walks) == (["a.jpg"], 2)
    assert [each.message for each in caplog.records] == ["the list of pictures can't be read"]
    clock.now_s += 4
    folder.paths = ["b.jpg"]
    assert found.read().paths == ["b.jpg"]


def test_where_no_thread_can_start_the_next_request_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    folder = Folder(["a.jpg"])
    found, _ = clocked(folder)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert not found.read().is_whole
    assert found.read().paths == ["a.jpg"]


def test_a_list_that_is_not_asked_for_is_forgotten() -> None:
    folder = Folder(["a.jpg"])
    found, clock = clocked(folder)
    found.read()
    clock.now_s += 599
    found.forget_if_unused()
    assert found._names.paths
    clock.now_s += 2
    found.forget_if_unused()
    assert not found._names.paths
    assert (found.read().paths, folder.walks) == (["a.jpg"], 2)


paths = st.lists(st.text(st.sampled_from("aBßẞ. /"), max_size=6), max_size=12)


@given(paths, st.text(st.sampled_from("aBsß "), max_size=6), st.integers(0, 5), st.integers(0, 5))
def test_a_search_finds_what_has_all_words(found: list[str], text: str, start: int, more: int) -> None:
    words = sorted(text.casefold().split(), key=len, reverse=True)
    wanted = [path for path in found if all(word in path.casefold() for word in words)]
    known = Names(found, [path.casefold() for path in found])
    assert known.find(text, start, start + more) == wanted[start : start + more]


# --- the page ---------------------------------------------------------------------------------------------


def shown(page: str) -> int:
    return len(re.findall(r'<span class="name">', page))


def test_no_request_walks_the_folder(
    site: Callable[..., FlaskClient], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted where folders are read: a thread reads each once, whatever is asked for meanwhile."""
    for number in range(3000):
        folder = pictures / f"{number // 300}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.png").write_bytes(b"x")
    web, read, scandir = site(), [], os.scandir
    monkeypatch.setattr(names, "_FRESH_S", 1000)

    def counting(path: Any = ".") -> Any:
        place = Path(f"/proc/self/fd/{path}").readlink() if isinstance(path, int) else Path(path)
        if place.is_relative_to(pictures):
            read.append((threading.current_thread().name, place))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counting)
    for query in ("", "zzzz", "2999", "png 29", *map(str, range(20))):
        for page in (1, 2, 10):
            assert web.get("/", query_string={"q": query, "page": page}).status_code == 200
    assert web.get("/?page=50").status_code == 200
    folders = [pictures, pictures / "cats", *(pictures / str(number) for number in range(10))]
    assert sorted(read) == sorted(("imagefactory-names", folder) for folder in folders)


def test_a_page_says_that_the_folder_is_being_read(
    site: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    web, folder = site(), Folder(["a.jpg", "b.jpg", "c.jpg"], stop_at=2)
    monkeypatch.setattr(names, "_WAIT_S", 0)
    (view,) = [each for name, each in web.application.view_functions.items() if name == "playground"]
    monkeypatch.setattr(view.__self__._names, "_walk", folder.walk)  # type: ignore[attr-defined]
    web.get("/")
    folder.is_waiting.wait(60)
    page = web.get("/?q=jpg").text
    assert "The folder is being read, 2 pictures until now." in page
    assert "/?q=jpg&page=1" in links_of(page)
    assert shown(page) == 2
    page = web.get("/?q=c.jpg").text
    assert (shown(page), "No picture has this" in page) == (0, False)
    folder.may_go_on.set()
    assert eventually(lambda: "being read" not in web.get("/").text)
    assert shown(web.get("/").text) == 3


def test_a_page_says_what_it_leaves_out(
    site: Callable[..., FlaskClient], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(700):
        (pictures / f"{number}.png").write_bytes(b"x")
    monkeypatch.setattr(names, "_MOST", 650)
    web = site()
    page = web.get("/?page=11")
    assert "There are more pictures than the 650 that are listed" in page.text
    assert shown(page.text) == 50
    page = web.get("/?q=png&page=10")
    assert (shown(page.text), "There is more: add a word." in page.text) == (60, True)
    assert "page=11" not in page.text
    assert web.get("/?q=png&page=11").status_code == 404
    assert "There is more" not in web.get("/?q=png&page=9").text


def test_where_nothing_is_shown_nothing_is_walked(
    site: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    web = site(limits={"sizes": "signed"}, signing={"keys": {"a": "x" * 16}})
    monkeypatch.setattr(NameList, "read", lambda own: pytest.fail("a list was read"))
    assert web.get("/?q=tom").status_code == 200


def test_pages_are_made_one_by_one_and_few_wait(
    site: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All others are told at once, and pictures go on."""
    web = site()
    view = web.application.view_functions["playground"].__self__  # type: ignore[attr-defined]
    replies: list[int] = []
    client = web.application.test_client

    def ask() -> None:
        replies.append(client().get("/?q=tom").status_code)

    with view._turn:
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert eventually(lambda: view._places._value == 0)
        reply = web.get("/")
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
        assert json.loads(reply.data)["error"] == "busy"
        assert web.get("/picture/cats/tom.jpg").status_code == 200
        assert web.get("/?about=cats/tom.jpg").status_code == 200
        assert replies == []
    for thread in threads:
        thread.join()
    assert replies == [200] * 4
    assert web.get("/").status_code == 200
