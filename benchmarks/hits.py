"""Hits: 200 URLs in rotation over 16 connections, bodies of about 12.5 kB, every server side by side."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from . import servers, wrk
from .bench import Bench
from .client import Job, ask
from .pictures import check
from .rounds import compare, interleave
from .servers import Server

__all__ = ["run", "variants", "warm"]

_COUNT = 200
_BODY_BYTES = 12_500
_HOP_HEADERS = {"date", "server", "connection", "transfer-encoding", "via", "keep-alive"}


def run(bench: Bench) -> None:
    """Ours under each server, against the raw app in it, nginx with files, thumbor's stored results."""
    made = variants(bench)
    paths = made.paths
    running: dict[str, tuple[Server, list[str]]] = {}

    def add(name: str, start: Callable[[], Server], asked: list[str]) -> None:
        server = bench.maybe(start)
        if server is not None:
            warm(server, asked)
            running[name] = server, asked

    for server in ("waitress", "gunicorn", "granian"):
        add(f"imagefactory, {server}", lambda s=server: servers.ours(bench.stage, s, made.config), paths)
        add(f"raw app, {server}", lambda s=server: servers.raw(bench.stage, s, made.bodies), paths)
    files = [f"/static/{number}.jpg" for number in range(_COUNT)]
    add("nginx, files", lambda: servers.nginx(bench.stage, made.static, bench.pictures.folder), files)
    if "nginx, files" in running:
        cached = [path.replace("/static/", "/cached/") for path in files]
        add("nginx, files, open_file_cache", lambda: running["nginx, files"][0], cached)
    widths = [made.size[0] + number % 20 for number in range(_COUNT)]
    stored = [  # in the source's proportions: thumbor is slow at cropping, and this has to be made
        servers.target("thumbor", "photo.jpg", w, bench.pictures.height("photo.jpg", w), "jpeg", 75 + n // 20)
        for n, w in enumerate(widths)
    ]
    add(
        "thumbor, stored",
        lambda: servers.thumbor(bench.stage, bench.pictures.folder, is_storing=True),
        stored,
    )
    if not wrk.is_installed():
        bench.skip(
            "wrk: apt-get install wrk (our own client is slower than nginx and granian: no limits here)"
        )

    seconds = bench.pick(0.7, 3.0)

    def measure(server: Server, asked: list[str]) -> float:
        return wrk.hits_per_second(server.port, asked, seconds)

    found = interleave(
        {name: (lambda s=server, a=asked: measure(s, a)) for name, (server, asked) in running.items()},
        bench.pick(2, 7),
    )
    bench.stage.stop(*{id(server): server for server, _ in running.values()}.values())
    _tell(bench, found)


def _tell(bench: Bench, found: dict[str, list[float]]) -> None:
    def row(ours: str, other: str, **targets: float) -> None:
        if ours in found and other in found:
            bench.add(compare("hits", (ours, found[ours]), (other, found[other]), "hits/s", **targets))

    row("imagefactory, granian", "nginx, files", at_least=0.8)
    row("imagefactory, granian", "nginx, files, open_file_cache", at_least=0.8)
    for server, at_least in (("waitress", 3), ("gunicorn", 0.85), ("granian", None)):
        row(f"imagefactory, {server}", f"raw app, {server}", at_least=at_least)
    row("imagefactory, waitress", "thumbor, stored", at_least=2.5)
    row("imagefactory, granian", "thumbor, stored", at_least=15)
    bench.details["hits"] = found


@dataclass(frozen=True)
class Variants:
    """200 variants of about 12.5 kB in the cache of *config*: their *paths* with ``v``, the smallest *size*,
    what ``raw`` reads in *bodies*, and the *static* files for nginx."""

    config: Path
    paths: list[str]
    size: tuple[int, int]
    bodies: Path
    static: Path


def variants(bench: Bench) -> Variants:
    """The variants of this run, made when they are first asked for."""
    if bench.variants is None:
        folder = bench.stage.new_folder("hits")
        config = servers.write_config(folder, bench.pictures.folder)
        server = servers.ours(bench.stage, "waitress", config)
        paths, size = _make(bench, config, server)
        bodies = _keep(server, paths, folder)
        bench.stage.stop(server)
        bench.variants = Variants(config, paths, size, bodies, folder / "static")
    return cast(Variants, bench.variants)


def _make(bench: Bench, config: Path, server: Server) -> tuple[list[str], tuple[int, int]]:
    widths = range(160, 480, 16)
    tried = [_jpeg(width, width * 3 // 4) for width in widths]
    samples = ask(Job(server.ports, tried, connections=1, seconds=60)).samples
    width = min(zip(samples, widths, strict=True), key=lambda pair: abs(pair[0].bytes - _BODY_BYTES))[1]
    size = width - 10, width * 3 // 4 - 5
    plain = [_jpeg(size[0] + n % 20, size[1] + n // 20) for n in range(_COUNT)]
    version = _versions(config)
    paths = [f"{path}&v={version(path)}" for path in plain]
    made = ask(Job(server.ports, paths, seconds=120))
    if set(made.statuses) != {200} or len(made.samples) != _COUNT:
        raise RuntimeError(f"the variants could not be made: {dict(made.statuses)}")
    average = sum(sample.bytes for sample in made.samples) / _COUNT
    bench.say(f"  {_COUNT} variants of {average / 1000:.1f} kB, from {size[0]}x{size[1]} px")
    bench.details["hits_body_bytes"] = average
    return paths, size


def _jpeg(width: int, height: int) -> str:
    return servers.target("imagefactory", "photo.jpg", width, height, "jpeg")


def _versions(config: Path) -> Callable[[str], str]:
    """A function that gives the ``v`` of a path, as our own helpers would write it."""
    from urllib.parse import parse_qsl, unquote, urlsplit

    parts = servers.parts(config)

    def version(target: str) -> str:
        url = urlsplit(target)
        source = parts.source(unquote(url.path.removeprefix("/picture/")))
        request = parts.resolver.request([*parse_qsl(url.query), ("v", "x")])
        return parts.resolver.wanted(source, request, "").version

    return version


def _keep(server: Server, paths: list[str], folder: Path) -> Path:
    """The answers to *paths* as files in ``static``, and their headers, for nginx and the raw app."""
    static = folder / "static"
    static.mkdir()
    rows = []
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    for number, path in enumerate(paths):
        connection.request("GET", path)
        reply = connection.getresponse()
        body = reply.read()
        headers = [(name, value) for name, value in reply.getheaders() if name.lower() not in _HOP_HEADERS]
        named = {name.lower(): value for name, value in headers}
        if reply.status != 200 or named["x-cache"] != "hit" or "immutable" not in named["cache-control"]:
            raise RuntimeError(f"{path} is no versioned hit: {reply.status} {named}")
        file = static / f"{number}.jpg"
        file.write_bytes(body)
        rows.append([path.partition("?")[2], headers, str(file)])
    connection.close()
    check(body, "jpeg", tuple(int(word.split("=")[1]) for word in path.split("?")[1].split("&")[:2]))
    bodies = folder / "bodies.json"
    bodies.write_text(json.dumps(rows))
    return bodies


def warm(server: Server, paths: list[str]) -> None:
    """Ask for all *paths* twice; every answer must be a picture, of ours a hit. Twice: two processes."""
    answers = ask(Job(server.ports, [*paths, *paths], connections=16, seconds=60))
    is_ours = server.name.startswith("imagefactory")
    if set(answers.statuses) != {200} or (is_ours and set(answers.caches) != {"hit"}):
        raise RuntimeError(f"{server.name} does not answer: {dict(answers.statuses)}, {dict(answers.caches)}")
    if any(not sample.media_type.startswith("image/") for sample in answers.samples):
        raise RuntimeError(f"{server.name} sends something else than pictures")
