"""Every request is counted once, over all processes, and Prometheus can read it."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families
from support.asking import Counting, ask
from support.clock import Clock
from support.doors import environ_of, send
from support.drawing import at_rest, quarters
from support.serving import Client, Server, eventually, serving, write_config
from support.toys import Toys, toy

from imagefactory import create_app
from imagefactory.config import Config
from imagefactory.errors import StorageError
from imagefactory.factory import Parts
from imagefactory.monitoring.numbers import History, Reader, Reading
from imagefactory.monitoring.prometheus import exposition
from imagefactory.storage.disk import DiskStore
from imagefactory.web.fastpath import FastPath
from imagefactory.workers.pool import Pool

TOKEN = "a token of the admin"
URL = "/picture/cats/tom.jpg?scalex=100"


def read(text: str) -> dict[tuple[str, ...], float]:
    """The samples of an exposition by name and the values of their labels, sorted by the label's name."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = [value for _, value in sorted(sample.labels.items())]
            found[(sample.name.removeprefix("imagefactory_"), *labels)] = sample.value
    return found


def requests(app_or_server: Any) -> dict[tuple[str, ...], float]:
    """How often each (encoding, result, status) was counted."""
    return {key[1:]: value for key, value in scrape(app_or_server).items() if key[0] == "requests_total"}


def scrape(asked: Any) -> dict[tuple[str, ...], float]:
    if isinstance(asked, Server):
        reply = asked.get("/metrics")
        assert reply.status == 200, reply
        return read(reply.body.decode())
    response = asked.test_client().get("/metrics")
    assert response.status_code == 200, response.data
    return read(response.text)


@pytest.fixture(params=["disk", "memory"])
def site(request: Any, configure: Callable[..., Config], renderer: Counting) -> Flask:
    """An app whose clock trusts the stamps of the pictures, so that the fast path takes part."""
    return create_app(configure(cache={"mode": request.param}), renderer, Clock(ahead_s=10))


def get(app: Flask, url: str, method: str = "GET", **headers: str) -> tuple[str, dict[str, str], bytes]:
    """Status, headers and body, read and closed as a server does."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status, found, body = send(app, environ_of(url, method, named))
    return status[:3], dict(found), body


# --- counting ----------------------------------------------------------------------------------------------


def test_each_kind_of_answer_is_counted_once(site: Flask) -> None:
    def ask_for(url: str, method: str = "GET", **headers: str) -> str:
        return get(site, url, method, **headers)[0]

    assert ask_for(URL) == "200"
    etag = get(site, URL)[1]["ETag"]
    for _ in range(3):
        assert ask_for(URL) == "200"
    assert ask_for(URL, "HEAD") == "200"
    assert ask_for(URL, If_None_Match=etag) == "304"
    assert ask_for(URL, Range="bytes=0-9") == "206"
    assert ask_for(URL, Range="bytes=999999-") == "416"
    assert ask_for(URL, If_Match='"no"') == "412"
    assert ask_for(URL, "OPTIONS") == "204"
    assert ask_for(URL, "POST") == "405"
    assert ask_for("/picture/no.jpg?scalex=1") == "404"
    assert ask_for("/picture/flag.png?quality=120") == "400"
    assert ask_for("/picture/flag.png") == "200"
    assert ask_for("/picture/flag.png", "HEAD") == "200"
    assert requests(site) == {
        ("jpeg", "miss", "200"): 1,
        ("jpeg", "hit", "200"): 5,
        ("jpeg", "hit", "304"): 1,
        ("jpeg", "hit", "206"): 1,
        ("jpeg", "hit", "416"): 1,
        ("jpeg", "hit", "412"): 1,
        ("", "options", "204"): 1,
        ("", "method_not_allowed", "405"): 1,
        ("", "not_found", "404"): 1,
        ("", "bad_parameter", "400"): 1,
        ("png", "original", "200"): 2,
    }
    found = scrape(site)
    assert (found["cache_hits_total",], found["cache_misses_total",]) == (9, 1)


def test_bytes_are_those_that_were_sent(site: Flask, pictures: Path) -> None:
    size = len(get(site, URL)[2])
    get(site, URL)
    get(site, URL, "HEAD")
    get(site, URL, Range="bytes=0-9")
    original = (pictures / "cats" / "tom.jpg").stat().st_size
    get(site, "/picture/cats/tom.jpg")
    found = scrape(site)
    assert found["sent_bytes_total", "jpeg"] == 2 * size + 10 + original
    assert found["variant_bytes_total", "jpeg"] == 2 * size
    assert found["source_bytes_total", "jpeg"] == 2 * original


def test_a_mistake_of_ours_is_counted_as_500(site: Flask, renderer: Counting) -> None:
    def fail(job: object) -> None:
        raise ZeroDivisionError

    renderer.before = fail
    assert site.test_client().get(URL).status_code == 500
    assert requests(site) == {("", "internal", "500"): 1}


def test_a_hit_is_not_lost_when_it_is_counted_at_that_moment(site: Flask) -> None:
    """The keeper may empty the list just when a hit has put itself into it."""
    fast = site.wsgi_app
    assert isinstance(fast, FastPath)

    class Emptied(list[Any]):
        def append(self, entry: Any) -> None:
            super().append(entry)
            fast._feed()

    for _ in range(2):
        get(site, URL)  # from the second one on it is in memory
    fast._hit = Emptied()
    for _ in range(5):
        get(site, URL)
    assert requests(site)["jpeg", "hit", "200"] == 6


def test_each_render_is_in_the_histogram_of_each_phase(site: Flask) -> None:
    for width in (50, 60, 70):
        get(site, f"/picture/cats/tom.jpg?scalex={width}&encoding=webp")
    found = scrape(site)
    assert found["render_seconds_count", "webp", "wait"] == 3
    assert found["render_seconds_sum", "webp", "wait"] > 0
    buckets = [
        value for key, value in found.items() if key[0] == "render_seconds_bucket" and key[3] == "wait"
    ]
    assert buckets == sorted(buckets) and buckets[-1] == 3 and len(buckets) == 13


def test_each_run_of_a_program_is_counted_by_its_result(
    configure: Callable[..., Config], pictures: Path, tmp_path: Path
) -> None:
    toys = Toys(tmp_path / "toys")
    for name, text in (("good.toy", toy()), ("bad.toy", "TOY nonsense\n"), ("late.toy", "SLOW\n")):
        (pictures / name).write_text(text)
        at_rest(pictures / name)
    slow = {"command": ["/bin/sleep", "30"], "input": "pipe", "sources": [".toy"], "magic": ["SLOW@0"]}
    pool = Pool(1, 20)
    app = create_app(
        configure(programs={**toys.tables(), "slow": slow | {"sandbox": "none", "timeout_s": 1}}), pool
    )
    statuses = [
        get(app, f"/picture/{url}")[0]
        for url in (
            "good.toy?t=3&scalex=50",
            "good.toy?t=3&scalex=60",
            "bad.toy?scalex=50",
            "late.toy?scalex=50",
        )
    ]
    assert statuses == ["200", "200", "422", "503"]
    found = scrape(app)
    pool.close()
    runs = {key[1:]: value for key, value in found.items() if key[0] == "program_runs_total"}
    # A film's header is a run of its own; the two sizes of second 3 are one.
    assert runs == {("film", "ok"): 2, ("film", "failed"): 1, ("slow", "stopped"): 1}
    for phase in ("run", "cpu"):
        # Labels by their names: phase, program.
        assert found["program_seconds_count", phase, "film"] == 2
        assert found["program_seconds_sum", phase, "film"] > 0
    assert ("program_seconds_count", "run", "slow") not in found


# --- the text ----------------------------------------------------------------------------------------------


def test_the_text_keeps_the_rules_of_names() -> None:
    counters = {
        "requests hit webp 200": 3.0, "bytes_sent webp": 5.0, "render_seconds decode webp 0.1": 1.0,
        "render_seconds decode webp sum": 0.07, "nonsense": 1.0, "requests": 2.0, "evicted variants": 4.0,
    }  # fmt: skip
    text = exposition(Reading(1.0, counters, free=5, troubles=frozenset({"index"}))).decode()
    found = read(text)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, family in families.items():
        assert re.fullmatch(r"imagefactory(_[a-z]+)+", name), name
        assert family.documentation.endswith(".")
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
        else:
            assert not name.endswith(("_total", "_sum", "_count", "_bucket"))
    assert found["evicted_variants_total",] == 4
    assert [found["trouble", part] for part in ("budget", "claims", "index", "objects")] == [0, 0, 1, 0]
    assert found["render_seconds_bucket", "webp", "0.05", "decode"] == 0
    assert found["render_seconds_bucket", "webp", "0.1", "decode"] == 1
    assert found["render_seconds_bucket", "webp", "+Inf", "decode"] == 1
    assert found["disk_free_bytes",] == 5
    # A description for each name, and no name twice.
    described = re.findall("^# TYPE (\\S+)", text, re.MULTILINE)
    assert len(described) == len(set(described)) == len(re.findall("^# HELP", text, re.MULTILINE))


def test_without_the_library_the_extra_is_named(site: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    response = site.test_client().get("/metrics")
    assert response.status_code == 501
    assert response.json == {
        "error": "not_installed", "detail": "this needs pip install 'flask-imagefactory[metrics]'",
    }  # fmt: skip


# --- who may see it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("203.0.113.9", {}, 401),
        ("203.0.113.9", {"Authorization": f"Bearer {TOKEN}"}, 200),
        ("203.0.113.9", {"Authorization": f"Bearer {TOKEN}x"}, 401),
        ("127.0.0.1", {"X-Forwarded-For": "203.0.113.9"}, 401),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, 401),
        ("127.0.0.1", {"X-Forwarded-For": "203.0.113.9", "Authorization": f"Bearer {TOKEN}"}, 200),
    ],
)
def test_metrics_are_for_this_machine_and_the_admin(
    configure: Callable[..., Config], renderer: Counting, peer: str, headers: dict[str, str], status: int
) -> None:
    client = create_app(configure(admin={"token": TOKEN}), renderer=renderer).test_client()
    response = client.get("/metrics", headers=headers, environ_base={"REMOTE_ADDR": peer})
    assert response.status_code == status
    if status == 401:
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    else:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"


def test_without_a_token_nobody_from_outside_may(app: Flask) -> None:
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Basic Og=="}):
        response = app.test_client().get(
            "/metrics", headers=headers, environ_base={"REMOTE_ADDR": "203.0.113.9"}
        )
        assert response.status_code == 401


def test_scripts_of_other_origins_get_no_numbers(configure: Callable[..., Config]) -> None:
    """Whatever is allowed to them for pictures."""
    app = create_app(configure(http={"access_control_allow_origin": "*", "timing_allow_origin": "*"}))
    for peer, status in (("127.0.0.1", 200), ("203.0.113.9", 401)):
        response = app.test_client().get("/metrics", environ_base={"REMOTE_ADDR": peer})
        assert response.status_code == status
        assert not {"Access-Control-Allow-Origin", "Timing-Allow-Origin"} & set(response.headers.keys())


# --- what can't be read ------------------------------------------------------------------------------------


def test_counts_stay_when_the_index_can_not_be_read(
    assemble: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = assemble()
    ask(parts, scalex=100)
    parts.counters.add("requests miss jpeg 200")
    reader = Reader(parts)
    before = reader.take()
    assert before.counters["requests miss jpeg 200"] == 1 and before.is_fresh

    def fail(*arguments: object) -> None:
        raise StorageError("index", "the index can't be used")

    store = parts.store
    assert isinstance(store, DiskStore)
    for name in ("all", "add"):
        monkeypatch.setattr(store.index.counts, name, fail)
    parts.counters.add("requests miss jpeg 200")
    during = reader.take()
    assert (during.counters, during.variants, during.is_fresh) == (before.counters, 1, False)
    assert during.troubles == {"index"}
    monkeypatch.undo()
    assert reader.take().counters["requests miss jpeg 200"] == 2


def test_a_new_index_begins_at_zero_and_is_no_error(assemble: Callable[..., Parts]) -> None:
    reader = Reader(assemble())
    reading = reader.take()
    assert (reading.counters, reading.variants, reading.processes) == ({}, 0, 1)


def test_samples_are_taken_once_in_each_step(assemble: Callable[..., Parts], clock: Clock) -> None:
    history = History(Reader(assemble()), step_s=5, length=3)
    for now_s in (1000.0, 1001.0, 1004.9, 1005.0, 1010.0, 1015.0, 1016.0):
        clock.now_s = now_s
        history.look(now_s)
    assert [sample.time_s for sample in history.samples()] == [1005.0, 1010.0, 1015.0]


# --- several processes -------------------------------------------------------------------------------------


@pytest.fixture(params=["granian", "gunicorn"])
def crowd(request: Any, tmp_path: Path, pictures: Path) -> Iterator[Server]:
    pytest.importorskip(request.param)
    quarters(300, 200).save(pictures / "second.jpg")
    with serving(
        write_config(tmp_path, pictures, tmp_path / "cache"), ["--server", request.param, "--workers", "2"]
    ) as server:
        yield server


def workers(server: Server) -> list[int]:
    """The server processes below the first one; not its render workers."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                status = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if int(status[1]) == server.process.pid and b"resource_tracker" not in command:
                found.append(int(folder.name))
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_all_processes_are_counted_together_and_a_killed_one_takes_nothing_away(crowd: Server) -> None:
    def ask_often(times: int) -> None:
        for number in range(times):
            with Client(crowd.host, crowd.port) as client:  # another connection: another worker, now and then
                assert (
                    client.get(f"/picture/{('cats/tom', 'second')[number % 2]}.jpg?scalex=90").status == 200
                )

    def total() -> float:
        return sum(requests(crowd).values())

    ask_often(60)
    assert eventually(lambda: total() == 60, seconds=20), requests(crowd)
    assert scrape(crowd)["cache_misses_total",] == 2
    os.kill(workers(crowd)[0], signal.SIGKILL)
    for _ in range(5):
        try:
            assert total() == 60
        except OSError:  # the connection was the dead one's
            continue
    assert eventually(lambda: len(workers(crowd)) == 2, seconds=20)
    assert eventually(lambda: crowd.get(URL).status == 200, seconds=20)
    assert eventually(lambda: total() >= 61, seconds=20)
