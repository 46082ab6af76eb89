"""What the tests share: a folder of drawn pictures, parts whose renderer counts, an app."""

from __future__ import annotations

import importlib
import inspect
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings
from support.asking import Buffered, Counting, problems
from support.clock import Clock
from support.drawing import quarters

from imagefactory import create_app, factory
from imagefactory.config import Config, from_mapping
from imagefactory.factory import Parts
from imagefactory.storage.disk import DiskStore
from imagefactory.workers.pool import Pool

# No property of ours is one of time: a busy machine makes none of them false.
settings.register_profile("calm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("calm")

# Started in the background by a shell, this process ignores Ctrl-C, and so would all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# What starts another process, by the name under which a test or what it calls knows it.
_STARTERS = {
    *("subprocess", "Popen", "fork", "posix_spawn", "multiprocessing"),
    *("serving", "Server", "Pool", "browser", "firefox", "sync_playwright", "example", "pages"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as ``slow`` each test that starts a process (a server, a browser, a render worker), itself or by a
    function of its module or a fixture: `make test-quick` leaves these out."""
    for item in items:
        if isinstance(item, pytest.Function) and _starts_a_process(item):
            item.add_marker(pytest.mark.slow)


def _starts_a_process(item: pytest.Function) -> bool:
    fixtures = [each.func for found in item._fixtureinfo.name2fixturedefs.values() for each in found]
    todo, seen = [item.function, *fixtures], set()
    while todo:
        function = inspect.unwrap(todo.pop())
        code = getattr(function, "__code__", None)
        if code is None or code in seen:
            continue
        seen.add(code)
        names = _names(code)
        if names & _STARTERS:
            return True
        is_ours = function.__module__.startswith(("tests", "test_", "support", "conftest"))
        todo += [function.__globals__[name] for name in names if is_ours and name in function.__globals__]
    return False


def _names(code: CodeType) -> set[str]:
    """The names of others that *code* uses, in the functions inside of it too."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return set(code.co_names).union(*map(_names, inner))


@pytest.fixture(autouse=True)
def own_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """`warm` in the tests' own process leaves its priority, which all later servers would inherit."""
    monkeypatch.setattr(importlib.import_module("imagefactory.cli.warm"), "step_back", lambda: None)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "cats").mkdir(parents=True)
    quarters().save(folder / "cats" / "tom.jpg", quality=95)
    quarters(120, 80).save(folder / "flag.png")
    (folder / "notes.txt").write_text("not a picture")
    (folder / "page.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return folder


@pytest.fixture
def renderer() -> Counting:
    return Counting()


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Two render workers, ended with the test."""
    found = Pool(2, 30)
    yield found
    found.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def configure(tmp_path: Path, pictures: Path) -> Callable[..., Config]:
    """Makes a Config for the test's folders from sections: configure(limits={"sizes": "ladder"})."""

    def make(**sections: Any) -> Config:
        paths = {"pictures": str(pictures), "cache": str(tmp_path / "cache"), **sections.pop("paths", {})}
        return from_mapping({"paths": paths, **sections}, tmp_path, {})

    return make


@pytest.fixture
def assemble(configure: Callable[..., Config], renderer: Counting, clock: Clock) -> Callable[..., Parts]:
    """Makes the parts of a site that renders with the test's counting renderer: assemble(cache={...})."""

    def make(**sections: Any) -> Parts:
        return factory.assemble(configure(**sections), renderer, clock)

    return make


@pytest.fixture
def app(configure: Callable[..., Config], renderer: Counting, clock: Clock) -> Flask:
    return create_app(configure(), renderer, clock)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def site(configure: Callable[..., Config], renderer: Counting, clock: Clock) -> Callable[..., FlaskClient]:
    """Makes a client of a site with these sections of a config: site(http={"strict": True})."""

    def make(**sections: Any) -> FlaskClient:
        app = create_app(configure(**sections), renderer, clock)
        app.test_client_class = Buffered
        return app.test_client()

    return make


@pytest.fixture
def sound(tmp_path: Path) -> Iterator[None]:
    """The cache of the test has no problems at its end."""
    yield
    assert problems(DiskStore(tmp_path / "cache", 2**40)) == []
