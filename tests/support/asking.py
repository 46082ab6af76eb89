"""A renderer that counts, the parts of a site asked without a server, and a look at the cache they leave."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from imagefactory.engine.answer import Answer
from imagefactory.factory import Parts
from imagefactory.model.job import Job, Rendered
from imagefactory.model.source import Header
from imagefactory.storage.disk import DiskStore
from imagefactory.storage.objects import DiskObjects
from imagefactory.urls.query import parse_request
from imagefactory.workers.rendering import InThread


class Buffered(FlaskClient):
    """Reads and closes each answer, as a server does: a file that stays open is a warning, so an error."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        return super().open(*args, **{"buffered": True, **kwargs})


class Counting(InThread):
    """The real renderer, which counts what it does and can be told to do something on the way."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.probes = 0
        self.checks = 0
        self.before: Callable[[Job], object] = lambda job: None
        self.after: Callable[[Job], object] = lambda job: None
        self.on_check: Callable[[], object] = lambda: None

    @property
    def renders(self) -> int:
        return len(self.jobs)

    def probe(self, source: Path, descriptor: int | None = None) -> Header | None:
        self.probes += 1
        return super().probe(source, descriptor)

    def check(self, source: Path, max_pixels: int, descriptor: int | None = None) -> Header | None:
        self.checks += 1
        self.on_check()
        return super().check(source, max_pixels, descriptor)

    def render(self, job: Job) -> Rendered:
        self.jobs.append(job)
        self.before(job)
        rendered = super().render(job)
        self.after(job)
        return rendered


def picture(client: FlaskClient, url: str) -> Image.Image:
    """The picture at ``/picture/url``, loaded; the answer has to be a 200."""
    answer = client.get(f"/picture/{url}")
    assert answer.status_code == 200, answer.text
    image = Image.open(io.BytesIO(answer.data))
    image.load()
    return image


def ask(parts: Parts, path: str = "cats/tom.jpg", accept: str = "", **parameters: object) -> Answer:
    """The generator's answer to ``path?parameters``, which was opened."""
    request = parse_request(
        [(name, str(value)) for name, value in parameters.items()], salt=parts.resolver.salt
    )
    answer = parts.generator.answer(path, request, accept)
    body = parts.generator.open(answer)
    if body is None:
        answer = parts.generator.answer(path, request, accept, must_open=True)
        body = parts.generator.open(answer)
    if body is not None:
        body.close()
    return answer


def body_of(parts: Parts, answer: Answer) -> bytes:
    """The bytes of an answer."""
    body = parts.generator.open(answer)
    assert body is not None
    return body.read()


def problems(store: DiskStore) -> list[str]:
    """What a look at the whole cache finds wrong: rows without a sound object, objects without a row, files
    left in tmp, a wrong byte count."""
    found = []
    expected = set()
    total = 0
    objects = DiskObjects(store.objects.root)  # which has hashed none of them yet
    for variant in store.index.variants.good():
        total += variant.bytes
        expected.add(store.objects.root / store.objects.name(variant.key, variant.body))
        if not objects.has(variant):
            found.append(f"no sound object for {variant.key.text()}")
    found += [f"no row for {path}" for path in store.objects.walk() if path not in expected]
    found += [f"left behind: {path}" for path in store.temps.folder.iterdir() if path.is_file()]
    if total != store.index.variants.total_bytes():
        found.append(f"{store.index.variants.total_bytes()} bytes counted, {total} bytes there")
    return found
