"""What the tests share: a folder of drawn pictures, a generator that counts its renders, an app."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from drawing import quarters
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings
from werkzeug.test import TestResponse

from imagefactory import create_app
from imagefactory.config import Config, from_mapping
from imagefactory.engine.generator import Answer, Generator
from imagefactory.model.formats import Header
from imagefactory.model.job import Job, Rendered
from imagefactory.storage.store import DiskStore
from imagefactory.urls.query import parse_request
from imagefactory.workers.rendering import InThread

# No property of ours is one of time: a busy machine makes none of them false.
settings.register_profile("calm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("calm")

# Started in the background by a shell, this process ignores Ctrl-C, and so would all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Buffered(FlaskClient):
    """Reads and closes each answer, as a server does: a file that stays open is a warning, so an error."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        return super().open(*args, **{"buffered": True, **kwargs})


class Counting(InThread):
    """The real renderer, which counts what it does and can be told to do something on the way."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.probes = 0
        self.before: Callable[[Job], object] = lambda job: None
        self.after: Callable[[Job], object] = lambda job: None

    @property
    def renders(self) -> int:
        return len(self.jobs)

    def probe(self, source: Path) -> Header | None:
        self.probes += 1
        return super().probe(source)

    def render(self, job: Job) -> Rendered:
        self.jobs.append(job)
        self.before(job)
        rendered = super().render(job)
        self.after(job)
        return rendered


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
def configure(tmp_path: Path, pictures: Path) -> Callable[..., Config]:
    """Makes a Config for the test's folders from sections: configure(limits={"sizes": "ladder"})."""

    def make(**sections: Any) -> Config:
        paths = {"pictures": str(pictures), "cache": str(tmp_path / "cache"), **sections.pop("paths", {})}
        return from_mapping({"paths": paths, **sections}, tmp_path, {})

    return make


@pytest.fixture
def generate(configure: Callable[..., Config], renderer: Counting) -> Callable[..., Generator]:
    """Makes a Generator that renders with the test's counting renderer."""

    def make(clock: Callable[[], float] | None = None, **sections: Any) -> Generator:
        config = configure(**sections)
        return Generator(config, renderer, clock) if clock else Generator(config, renderer)

    return make


@pytest.fixture
def app(configure: Callable[..., Config], renderer: Counting) -> Flask:
    return create_app(configure(), renderer=renderer)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def site(configure: Callable[..., Config], renderer: Counting) -> Callable[..., FlaskClient]:
    """Makes a client of a site with these sections of a config: site(http={"strict": True})."""

    def make(**sections: Any) -> FlaskClient:
        app = create_app(configure(**sections), renderer=renderer)
        app.test_client_class = Buffered
        return app.test_client()

    return make


def ask(generator: Generator, path: str = "cats/tom.jpg", accept: str = "", **parameters: object) -> Answer:
    """The generator's answer to ``path?parameters``, opened."""
    request = parse_request(
        [(name, str(value)) for name, value in parameters.items()], salt=generator.rules.salt
    )
    answer = generator.answer(path, request, accept)
    if generator.open(answer) is None:
        answer = generator.answer(path, request, accept, must_open=True)
    return answer


def body_of(generator: Generator, answer: Answer) -> bytes:
    """The bytes of an answer."""
    body = generator.open(answer)
    assert body is not None
    if body.data is not None:
        return body.data
    if body.file is not None:
        with body.file:
            return body.file.read()
    return (body.root / body.name).read_bytes()


def problems(store: DiskStore) -> list[str]:
    """What a look at the whole cache finds wrong: rows without a sound object, objects without a row, files
    left in tmp, a wrong byte count."""
    found = []
    expected = set()
    total = 0
    for variant in store.index.variants():
        total += variant.bytes
        expected.add(store.objects.root / store.objects.name(variant.key, variant.body))
        store.objects._seen.clear()
        if not store.objects.is_sound(variant):
            found.append(f"no sound object for {variant.key.text()}")
    found += [f"no row for {path}" for path in store.objects.walk() if path not in expected]
    found += [f"left behind: {path}" for path in store.objects.tmp.iterdir() if path.is_file()]
    if total != store.index.total_bytes():
        found.append(f"{store.index.total_bytes()} bytes counted, {total} bytes there")
    return found


@pytest.fixture
def sound(tmp_path: Path) -> Iterator[None]:
    """The cache of the test has no problems at its end."""
    yield
    assert problems(DiskStore(tmp_path / "cache", 2**40)) == []
