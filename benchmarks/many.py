"""Hits beside 200,000 cached variants, against hits beside 1,000: what a full cache costs.

The variants are put into the store by the package's own classes: rendering them would take an hour, and their
fsyncs a quarter of one. The keys are real, of real sources; the bodies are one tiny picture. They lie in
memory where there is room (/dev/shm): making and removing so many files took a slow disk ten minutes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qsl

from PIL import Image

from imagefactory.model.variant import Key, Variant, version

from . import pictures, servers, wrk
from .bench import Bench
from .client import Job, ask
from .rounds import compare, interleave
from .servers import Server

__all__ = ["Library", "draw_sources", "fill", "run"]

_SOURCES = 200
_SIZE = (1280, 960)
_FEW = 1_000
_ROTATION = 200
_WARM = 20
_BYTES_EACH = 5_000  # a block of the object, and its row


@dataclass(frozen=True)
class Library:
    """A filled cache: its *config*, and *targets*, of which each is a hit."""

    config: Path
    targets: list[str]


def run(bench: Bench) -> None:
    """Two filled caches; each server is started anew for every round, with an empty memo."""
    many = bench.pick(10_000, 200_000)
    folder = bench.stage.new_memory_folder("many", many * _BYTES_EACH)
    sources = draw_sources(folder / "pictures")
    bench.say(f"  filling caches with {_FEW:,} and {many:,} variants")
    libraries = {
        count: fill(folder / str(count), folder / "pictures", sources, count) for count in (_FEW, many)
    }
    found = interleave(
        {str(count): (lambda lib=library: _measure(bench, lib)) for count, library in libraries.items()},
        bench.pick(2, 9),
    )
    for name, number in (("asked the first time", 0), ("200 in rotation", 1)):
        ours, other = ([values[number] for values in found[str(count)]] for count in (many, _FEW))
        bench.add(
            compare(
                "many",
                (f"{many:,} variants, {name}", ours),
                (f"{_FEW:,} variants", other),
                "hits/s",
                at_least=0.9,
            )
        )
    bench.details["many"] = {"variants": many, "first, rotation": found}


def _measure(bench: Bench, library: Library) -> tuple[float, float]:
    """Hits a second of URLs that this process has not seen, each asked once; and of 200 in rotation."""
    server = servers.ours(bench.stage, "waitress", library.config)
    shuffled = random.Random(1).sample(library.targets, min(len(library.targets), _FEW))
    _ask_once(server, shuffled[:_WARM])
    first = _ask_once(server, shuffled[_WARM:])
    rotation = shuffled[:_ROTATION]
    _ask_once(server, rotation)
    again = wrk.hits_per_second(server.port, rotation, bench.pick(1.0, 3.0))
    bench.stage.stop(server)
    return first, again


def _ask_once(server: Server, targets: list[str]) -> float:
    answers = ask(Job(server.ports, targets, connections=8, seconds=60))
    if set(answers.caches) != {"hit"} or len(answers.samples) != len(targets):
        raise RuntimeError(f"not only hits: {dict(answers.statuses)}, {dict(answers.caches)}")
    return answers.per_second


def draw_sources(folder: Path) -> list[str]:
    """200 sources of equal size and different bytes in the new *folder*; their names."""
    folder.mkdir(parents=True)
    picture = Image.new("RGB", _SIZE, "teal")
    names = [f"{number:03}.jpg" for number in range(_SOURCES)]
    for name in names:
        picture.save(folder / name, comment=name.encode())
    pictures.wait_until_settled()
    return names


def fill(folder: Path, sources: Path, names: list[str], count: int) -> Library:
    """A cache in the new *folder* with *count* variants, evenly many of each source."""
    folder.mkdir()
    config = servers.write_config(folder, sources)
    parts = servers.parts(config)
    store = parts.disk
    store.start()
    target = BytesIO()
    Image.new("RGB", (4, 3), "teal").save(target, "JPEG")
    data = target.getvalue()
    body = hashlib.sha256(data).hexdigest()
    targets = []
    recipes: dict[str, str] = {}
    for name in names:
        source = parts.source(name)
        for width, height in _sizes(count // _SOURCES):
            query = f"scalex={width}&scaley={height}&fit=cover&encoding=jpeg"
            if query not in recipes:  # the sources have one size: equal queries are equal recipes
                recipes[query] = parts.resolver.wanted(
                    source, parts.resolver.request(parse_qsl(query)), ""
                ).key.recipe
            key = Key(source.digest, recipes[query], "jpeg")
            path = store.objects.root / store.objects.name(key, body)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            store.index.variants.put(Variant(key, body, len(data), width, height))
            targets.append(f"/picture/{name}?{query}&v={version(key.digest, key.recipe, key.encoding)}")
    return Library(config, targets)


def _sizes(count: int) -> Iterator[tuple[int, int]]:
    for number in range(count):
        yield 100 + number % 40, 100 + number // 40
