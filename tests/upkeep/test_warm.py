"""Warming: what was rendered ahead is a hit for every URL that asks for it, and nothing is made twice."""

from __future__ import annotations

import gzip
import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.asking import Counting, problems
from support.clock import Clock
from support.drawing import at_rest, quarters, scene, written
from support.serving import eventually, serving, write_config

from imagefactory import config as configs
from imagefactory import create_app, factory
from imagefactory.cli import main
from imagefactory.cli.paths import picture_path
from imagefactory.cli.progress import Progress
from imagefactory.factory import Parts
from imagefactory.storage.disk import DiskStore
from imagefactory.storage.originals import Originals
from imagefactory.upkeep.warm import run as warm_run
from imagefactory.upkeep.warm.access_logs import LogEntry
from imagefactory.upkeep.warm.orders import Budget, Order, Warmed, Wish
from imagefactory.upkeep.warm.replay import Demand, demand
from imagefactory.upkeep.warm.replay import orders as orders_of
from imagefactory.upkeep.warm.run import warm as render_ahead

WIDTHS = (80, 160)
NO_BUDGET = Budget()
PRESETS = {
    "presets.thumb": {"scalex": 60, "scaley": 60, "fit": "cover"},
    "presets.web": {"scalex": 90, "encoding": "webp"},
}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def write(tmp_path: Path, pictures: Path, cache: Path) -> Callable[..., Path]:
    """Writes a config that renders in the process of the command."""

    def make(**sections: Any) -> Path:
        sections.setdefault("render", {"processes": -1})
        sections["limits"] = {"ladder": list(WIDTHS), **sections.get("limits", {})}
        return write_config(tmp_path, pictures, cache, **sections)

    return make


def run(config: Path, *options: object, input: str | bytes | None = None) -> Result:
    arguments = ["--config", str(config), "warm", *map(str, options)]
    return CliRunner().invoke(main, arguments, input=input)


def warm(config: Path, *options: object, exits: int = 0, input: str | bytes | None = None) -> Any:
    """The JSON of a run, whose sum is right."""
    result = run(config, "--json", *options, input=input)
    assert result.exit_code == exits, result.output
    found = json.loads(result.stdout)
    assert found["variants"] == found["rendered"] + found["present"] + len(found["failed"])
    return found


def asked(config: Path, targets: Mapping[str, str]) -> tuple[list[str], int]:
    """X-Cache of each target, which is asked with its Accept header, and how many were rendered for it."""
    renderer = Counting()
    client = create_app(configs.load(config, {}), renderer=renderer).test_client()
    replies = [client.get(target, headers={"Accept": accept}) for target, accept in targets.items()]
    for reply in replies:
        assert reply.status_code == 200
        reply.close()
    return [reply.headers["X-Cache"] for reply in replies], renderer.renders


# --- what is made -----------------------------------------------------------------------------------------

JPEG = "/picture/cats/tom.jpg"


@pytest.mark.parametrize(
    ("options", "targets"),
    [
        (["--size", "90x50"], [f"{JPEG}?size=90x50", f"{JPEG}?scalex=90&scaley=50", f"{JPEG}?resize=90*50"]),
        (["--size", "90x"], [f"{JPEG}?w=90", "/images/flag.png?size=90"]),
        (["--size", "x50"], [f"{JPEG}?scaley=50", f"{JPEG}?size=x50&download=a.jpg"]),
        (["--size", "5000"], [f"{JPEG}?size=4000", "/picture/flag.png?size=120x"]),
        (
            ["--size", "90", "--encoding", "webp"],
            [f"{JPEG}?w=90&encoding=webp", "/picture/flag.png?w=90&fm=webp"],
        ),
        (["--ladder"], [f"{JPEG}?w={width}" for width in WIDTHS]),
        (["--preset", "thumb"], [f"{JPEG}?preset=thumb", f"{JPEG}?size=60x60&fit=cover"]),
        (["--preset", "web"], [f"{JPEG}?p=web", f"{JPEG}?w=90&encoding=webp"]),
        (["--preset", "web", "--encoding", "jpg"], [f"{JPEG}?p=web&encoding=jpeg", f"{JPEG}?w=90"]),
        ([], [f"{JPEG}?preset=thumb", f"{JPEG}?preset=web", "/picture/flag.png?preset=thumb"]),
    ],
)
def test_what_was_warmed_is_a_hit(write: Callable[..., Path], options: list[str], targets: list[str]) -> None:
    config = write(**PRESETS)
    found = warm(config, *options)
    assert found["rendered"] > 0
    assert found["failed"] == []
    assert asked(config, dict.fromkeys(targets, "")) == (["hit"] * len(targets), 0)


def test_auto_is_what_every_browser_gets(write: Callable[..., Path]) -> None:
    config = write()
    assert warm(config, "--size", "90", "--encoding", "auto")["variants"] == 2 * 3
    target = f"{JPEG}?w=90&encoding=auto"
    for accept in ("image/avif,image/webp,*/*", "image/webp,*/*", "*/*"):
        assert asked(config, {target: accept}) == (["hit"], 0)


@pytest.mark.parametrize(
    "limits",
    [{"sizes": "ladder"}, {"sizes": "presets"}],
)
def test_the_limits_of_strangers_are_not_the_operators(write: Callable[..., Path], limits: Any) -> None:
    config = write(limits=limits, **PRESETS)
    assert warm(config, "cats/tom.jpg", "--size", "150", "--preset", "thumb")["rendered"] == 2
    target = f"{JPEG}?w=150" if limits["sizes"] == "ladder" else f"{JPEG}?preset=thumb"
    assert asked(config, {target: ""}) == (["hit"], 0)


def test_signed_urls_are_warmed_without_a_signature(write: Callable[..., Path]) -> None:
    config = write(limits={"sizes": "signed"}, **{"signing.keys": {"a": "0123456789abcdef"}})
    assert warm(config, "cats/tom.jpg", "--size", "150")["rendered"] == 1


def test_without_presets_it_is_the_ladder(write: Callable[..., Path]) -> None:
    found = warm(write())
    assert set(found) == {"pictures", "variants", "rendered", "present", "failed", "bytes", "seconds"}
    assert (found["pictures"], found["variants"]) == (2, 2 * len(WIDTHS))
    # The flag is 120 wide: 160 of it is all of it, as it is in its own size.
    assert (found["rendered"], found["present"]) == (4, 0)


def test_the_second_run_renders_nothing(write: Callable[..., Path], cache: Path) -> None:
    config, options = write(), ["--ladder", "--encoding", "jpeg", "--encoding", "webp"]
    first = warm(config, *options)
    assert first["bytes"] == DiskStore(cache, 2**40).index.variants.total_bytes()
    second = warm(config, *options)
    assert (second["rendered"], second["present"], second["bytes"]) == (0, first["variants"], 0)
    assert problems(DiskStore(cache, 2**40)) == []


def test_what_coincides_counts_as_present(write: Callable[..., Path], pictures: Path) -> None:
    (pictures / "copy.jpg").write_bytes((pictures / "cats" / "tom.jpg").read_bytes())
    found = warm(
        write(), "copy.jpg", "cats", "--size", "90", "--size", "90x", "--size", "400", "--size", "900"
    )
    assert (found["pictures"], found["variants"], found["rendered"], found["present"]) == (2, 8, 2, 6)


@pytest.mark.parametrize(
    ("arguments", "pictures_"),
    [
        (["cats"], 1),
        (["cats/"], 1),
        (["pictures/cats/tom.jpg"], 1),
        (["cats/tom.jpg", "cats", "pictures"], 2),
        (["cats/tom.jpg", "cats/tom.jpg"], 1),
        (["https://example.com/images/cats/tom.jpg?w=9", "flag.png"], 2),
        (["/picture/"], 2),
    ],
)
def test_paths_choose_pictures(write: Callable[..., Path], arguments: list[str], pictures_: int) -> None:
    found = warm(write(), *arguments, "--size", "20")
    assert (found["pictures"], found["rendered"]) == (pictures_, pictures_)


def test_what_an_argument_means(write: Callable[..., Path], pictures: Path) -> None:
    config = configs.load(write(http={"prefixes": ["/pic"]}), {})
    (pictures / "100% ä.jpg").touch()
    table = {
        "cats/tom.jpg": "cats/tom.jpg",
        "./cats/tom.jpg": "cats/tom.jpg",
        "pictures/cats/tom.jpg": "cats/tom.jpg",
        f"{pictures}/cats": "cats",
        str(pictures): "",
        ".": "",
        "100% ä.jpg": "100% ä.jpg",
        "/pic/100%25%20%C3%A4.jpg?w=3#x": "100% ä.jpg",
        "http://h:8080/pic/a/b.jpg": "a/b.jpg",
        "//h/pic/a.jpg": "a.jpg",
        "a\udcff.jpg": "a\ufffd.jpg",
    }
    assert {text: picture_path(text, config) for text in table} == table
    (pictures / "pictures").mkdir()
    (pictures / "pictures" / "a.jpg").touch()
    assert picture_path("pictures/a.jpg", config) == "pictures/a.jpg"


def test_a_url_of_something_else_is_wrong_usage(write: Callable[..., Path]) -> None:
    for text in ("/picturesque/a.jpg", "https://example.com/a.jpg"):
        result = run(write(), text)
        assert result.exit_code == 2
        assert f"{text} is neither a picture's URL, which begins with /picture or /images" in result.stderr


def test_a_picture_without_a_suffix_is_warmed_once_it_is_known(
    write: Callable[..., Path], pictures: Path
) -> None:
    quarters(50, 40).save(pictures / "bare", "PNG")
    config = write()
    assert warm(config, "--size", "20")["pictures"] == 2
    asked(config, {"/picture/bare?w=10": ""})
    assert warm(config, "--size", "20")["pictures"] == 3


def test_a_replaced_picture_is_warmed_anew(write: Callable[..., Path], pictures: Path) -> None:
    config = write()
    warm(config, "--size", "90")
    quarters(300, 300).save(pictures / "cats" / "tom.jpg")
    found = warm(config, "--size", "90")
    assert (found["rendered"], found["present"]) == (1, 1)
    assert asked(config, {f"{JPEG}?w=90": ""}) == (["hit"], 0)


# --- what can't be made -----------------------------------------------------------------------------------


def test_broken_pictures_are_listed_and_the_rest_is_made(write: Callable[..., Path], pictures: Path) -> None:
    at_rest(written(pictures, "broken.jpg", b"\xff\xd8\xff\xe0 not much of a picture"))
    config = write()
    found = warm(config, "--ladder", exits=1)
    assert found["rendered"] == 4
    assert {(each["path"], each["error"]) for each in found["failed"]} == {("broken.jpg", "undecodable")}
    assert [each["query"] for each in found["failed"]] == [f"scalex={width}" for width in WIDTHS]
    assert all("can't be decoded" in each["detail"] for each in found["failed"])
    again = run(config, "--ladder")
    assert again.exit_code == 1
    assert again.stdout.startswith("6 variants of 3 pictures: 0 rendered (0 B), 4 present, 2 failed, in ")
    assert "broken.jpg: undecodable: " in again.stderr
    assert "(2 variants)" in again.stderr


def test_what_is_no_picture_and_was_asked_for_is_no_failure(
    write: Callable[..., Path], pictures: Path
) -> None:
    at_rest(written(pictures, "data", b"II*\0" + bytes(100)))
    config = write()
    app = create_app(configs.load(config, {}), renderer=Counting())
    assert app.test_client().get("/picture/data?w=10").status_code == 422
    assert warm(config, "--size", "20")["pictures"] == 2


@pytest.mark.parametrize(
    "path", ["cats/none.jpg", "notes.txt", "../secret.jpg", "cats/../flag.png", "a\udcff.jpg"]
)
def test_what_is_named_and_is_no_picture_has_failed(write: Callable[..., Path], path: str) -> None:
    found = warm(write(), path, "flag.png", "--size", "20", exits=1)
    assert [each["error"] for each in found["failed"]] == ["not_found"]
    assert (found["pictures"], found["rendered"]) == (2, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--preset", "thmb"],
            "--preset: there is no preset 'thmb'; this server has thumb, web, did you mean 'thumb'?",
        ),
        (["--encoding", "wepb"], "--encoding: encoding='wepb' is not an encoding; allowed: jpeg, png, webp"),
        (["--encoding", "wepb"], "did you mean 'webp'?"),
        (["--size", "12y"], "--size: size='12y' is not a size; write 640x480, or one side alone"),
        (["--size", "0x0"], "--size 0x0 asks for the original, which is not rendered"),
        (["--budget", "much"], "--budget: 'much' is neither; write bytes, such as 500 MB or 2 GB, or a time"),
        (["--from-log", "none.log"], "--from-log none.log: No such file or directory"),
        (["--from-log", "-", "--ladder"], "--from-log makes what its URLs ask for, and takes no sizes"),
        (["--jobs", "0"], "'--jobs': 0 is not in the range"),
        (
            [*["--size", "9"] * 501],
            "501 variants of each picture are asked for, and the cache keeps 500 of one",
        ),
    ],
)
def test_wrong_usage_is_exit_2(
    write: Callable[..., Path], cache: Path, options: list[str], message: str
) -> None:
    result = run(write(**PRESETS), *options, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_cache_in_memory_is_exit_2(write: Callable[..., Path], options: list[str]) -> None:
    result = run(write(cache={"mode": "memory"}), *options)
    assert result.exit_code == 2
    assert "there is nothing on disk with mode = 'memory'" in result.stderr


def test_no_pictures_folder_is_exit_2(tmp_path: Path, cache: Path) -> None:
    result = run(write_config(tmp_path, tmp_path / "none", cache))
    assert result.exit_code == 2
    assert f"paths.pictures: there is no folder {tmp_path / 'none'}" in result.stderr


def test_its_help_has_examples() -> None:
    result = CliRunner().invoke(main, ["warm", "--help"])
    assert result.exit_code == 0
    assert "imagefactory warm cats --size 640x --encoding auto" in result.stdout


# --- without rendering ------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files
    }


def test_a_dry_run_writes_nothing_and_says_what_would_be_rendered(
    write: Callable[..., Path], cache: Path, pictures: Path
) -> None:
    (pictures / "copy.jpg").write_bytes((pictures / "cats" / "tom.jpg").read_bytes())
    config, options = write(), ["--ladder", "--encoding", "jpeg", "--encoding", "webp"]
    planned = warm(config, *options, "--dry-run")
    assert planned["dry_run"] is True
    assert not cache.exists()
    # In a process of its own: the last one that closes a database tidies up.
    done = subprocess.run(
        [sys.executable, "-m", "imagefactory", "--config", str(config), "warm", "flag.png", "--size", "80"],
        check=True,
    )
    assert done.returncode == 0
    before = contents(cache)
    planned = warm(config, *options, "--dry-run")
    assert contents(cache) == before
    found = warm(config, *options)
    counted = ("pictures", "variants", "rendered", "present", "failed")
    assert [planned[name] for name in counted] == [found[name] for name in counted]


def test_a_dry_run_sees_broken_pictures(write: Callable[..., Path], pictures: Path) -> None:
    (pictures / "broken.jpg").write_bytes(b"nothing")
    found = warm(write(), "--size", "20", "--dry-run", exits=1)
    assert [each["path"] for each in found["failed"]] == ["broken.jpg"]
    assert found["rendered"] == 2


def test_a_dry_run_beside_a_server_sees_what_it_wrote(write: Callable[..., Path]) -> None:
    config = write()
    with serving(config) as server, server.client() as client:
        assert client.get(f"{JPEG}?w=90").cache == "miss"
        found = warm(config, "cats", "--size", "90", "--size", "91", "--dry-run")
        assert (found["rendered"], found["present"]) == (1, 1)


# --- one lane at a time, seen from inside -----------------------------------------------------------------


class Lane:
    """A site that counts its renders, and orders for it. Its clock is ahead, so that nothing is racy."""

    def __init__(self, parts: Parts, renderer: Counting, clock: Clock) -> None:
        clock.ahead_s = 10
        self.parts = parts
        self.renderer = renderer
        self.stop = threading.Event()

    def orders(self, *queries: str, paths: tuple[str, ...] = ("cats/tom.jpg", "flag.png")) -> list[Order]:
        pairs = [[tuple(part.split("=")) for part in query.split("&")] for query in queries]
        wishes = [
            Wish(self.parts.resolver.request(each), query) for each, query in zip(pairs, queries, strict=True)
        ]  # type: ignore[arg-type]  # two each
        return [Order(path, wishes) for path in paths]

    def warm(
        self, orders: list[Order], budget: Budget = NO_BUDGET, clock: Callable[[], float] = time.monotonic
    ) -> Warmed:
        assert isinstance(self.parts.store, DiskStore)
        return render_ahead(
            [self.parts],
            self.parts.store,
            orders,
            budget,
            self.stop,
            lambda reached, size: None,
            clock,
        )


@pytest.fixture
def lane(assemble: Callable[..., Parts], renderer: Counting, clock: Clock, sound: None) -> Lane:
    return Lane(assemble(), renderer, clock)


@pytest.fixture
def taking_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread where there are two: which of two begins first would be theirs to decide."""
    monkeypatch.setattr(warm_run, "THREADS_PER_WORKER", 1)


def test_the_variants_of_a_source_follow_each_other_the_largest_first(lane: Lane, taking_turns: None) -> None:
    queries = ["w=20&f=webp", "w=100&f=jpeg", "w=20&f=jpeg", "w=50&f=webp", "w=100&f=webp", "w=50&f=jpeg"]
    found = lane.warm(lane.orders(*queries))
    assert found.rendered == 12
    assert [(job.source.name, job.recipe.width, job.encoding) for job in lane.renderer.jobs] == [
        (source, width, encoding)
        for source in ("tom.jpg", "flag.png")
        for width in (100, 50, 20)
        for encoding in ("jpeg", "webp")
    ]


def test_the_last_picture_is_made_by_all_lanes(lane: Lane, renderer: Counting) -> None:
    other, working = Counting(), set()

    def meet(name: str) -> None:
        if renderer.renders + other.renders > 1:  # the first one is made alone, to know a size
            working.add(name)
            assert eventually(lambda: len(working) == 2, 20)

    renderer.before, other.before = lambda job: meet("one"), lambda job: meet("other")
    store = lane.parts.store
    assert isinstance(store, DiskStore)
    lanes = [lane.parts, factory.assemble(lane.parts.config, other, store=store)]
    orders = lane.orders(*(f"w={width}" for width in range(20, 40)), paths=("cats/tom.jpg",))
    found = render_ahead(lanes, store, orders, NO_BUDGET, lane.stop, lambda *sums: None, time.monotonic)
    assert found.rendered == 20 == renderer.renders + other.renders
    assert working == {"one", "other"}


def test_a_picture_replaced_since_is_not_there(lane: Lane, pictures: Path) -> None:
    orders = lane.orders("w=20")
    lane.warm(orders)
    time.sleep(0.02)  # a tick of the file system's clock
    quarters(390, 290).save(pictures / "cats" / "tom.jpg")
    assert lane.warm(orders).rendered == 1


def test_what_is_there_is_skipped_without_being_opened(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = lane.orders("w=20", "w=50")
    assert lane.warm(orders).rendered == 4

    def refuse(*args: object) -> Any:
        raise AssertionError("opened")

    monkeypatch.setattr(Originals, "open", refuse)
    monkeypatch.setattr(lane.parts.store.objects, "open", refuse)  # type: ignore[attr-defined]
    monkeypatch.setattr(lane.parts.identifier, "source", refuse)
    found = lane.warm(orders)
    assert (found.pictures, found.rendered, found.present, found.failed) == (2, 0, 4, [])


def test_a_damaged_row_is_no_proof_that_nothing_is_to_be_done(
    lane: Lane, assemble: Callable[..., Parts], clock: Clock
) -> None:
    orders = lane.orders("w=20")
    lane.warm(orders)
    index = lane.parts.store.index  # type: ignore[attr-defined]
    for change in (
        "replace(value, '\"width\":400', '\"width\":401')",
        'replace(value, \'"digest":"\', \'"digest":"0\')',
    ):
        index.database.write(
            lambda cache, sql, change=change: sql(
                f"UPDATE Cache SET value = {change} WHERE tag = 'source'", ()
            )
        )
        # As by another process: this one remembers headers.
        assert Lane(assemble(), lane.renderer, clock).warm(orders).present == 2
        source = index.sources.get("cats/tom.jpg")
        assert source is not None  # a good one again
        assert source.header.width == 400


def test_the_budget_of_bytes_is_kept(lane: Lane) -> None:
    orders = lane.orders(*(f"w={width}" for width in range(40, 60)))
    total = lane.warm(orders[:1]).bytes
    lane.parts.store.index.database.write(lambda cache, sql: sql("DELETE FROM Cache WHERE size > 0", ()))  # type: ignore[attr-defined]
    for path in lane.parts.store.objects.walk():  # type: ignore[attr-defined]
        path.unlink()
    found = lane.warm(orders[:1], Budget(bytes=total // 2))
    assert found.stopped == "budget"
    assert total // 4 < found.bytes <= total // 2
    assert found.variants == found.rendered
    rest = lane.warm(orders[:1])
    assert (rest.rendered, rest.present, rest.stopped) == (20 - found.rendered, found.rendered, "")


def test_the_budget_of_time_is_kept(lane: Lane) -> None:
    def tick() -> float:
        return 10.0 * lane.renderer.renders

    found = lane.warm(lane.orders(*(f"w={width}" for width in range(40, 60))), Budget(seconds=30), tick)
    assert found.stopped == "budget"
    assert 3 <= found.rendered <= 4  # one may have begun before


def test_when_it_is_stopped_it_finishes_what_it_has_begun(lane: Lane) -> None:
    lane.renderer.after = lambda job: lane.stop.set()
    found = lane.warm(lane.orders("w=20", "w=30", "w=40", "w=50"))
    assert found.stopped == "interrupted"
    assert 1 <= found.rendered <= 2
    assert found.variants == found.rendered


def test_a_source_replaced_meanwhile_is_made_as_it_is_now(lane: Lane, pictures: Path) -> None:
    def replace(job: Any) -> None:
        if lane.renderer.renders == 1:
            quarters(390, 290).save(pictures / "cats" / "tom.jpg")

    lane.renderer.before = replace
    found = lane.warm(lane.orders("w=20", "w=50", paths=("cats/tom.jpg",)))
    assert found.rendered == 2
    assert found.failed == []
    source = lane.parts.source("cats/tom.jpg")
    assert len(lane.parts.store.index.variants.of(source.digest)) == 2  # type: ignore[attr-defined]


def test_a_picture_that_goes_meanwhile_is_no_failure(lane: Lane, pictures: Path) -> None:
    orders = lane.orders("w=20")
    (pictures / "flag.png").unlink()
    found = lane.warm(orders)
    assert (found.pictures, found.rendered, found.failed) == (1, 1, [])


# --- a full cache -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_cache_gives_up_what_was_used_before_and_then_says_so(
    write: Callable[..., Path], cache: Path
) -> None:
    config = write()
    total = warm(
        config, "cats/tom.jpg", *[word for side in range(100, 110) for word in ("--size", str(side))]
    )["bytes"]
    store = DiskStore(cache, 2**40)
    old = {variant.key for variant in store.index.variants.good()}
    small = write(cache={"max_bytes": f"{total} B"})
    sizes = [word for side in range(120, 150) for word in ("--size", str(side))]
    found = warm(small, "cats/tom.jpg", *sizes, exits=1)
    assert found["stopped"] == "full"
    assert 0 < found["rendered"] < 30
    assert found["failed"] == []
    there = {variant.key for variant in store.index.variants.good()}
    assert not there & old
    assert len(there) == found["rendered"]
    assert store.index.variants.total_bytes() <= total
    assert problems(store) == []
    told = run(small, "cats/tom.jpg", *sizes)
    assert told.exit_code == 1
    assert "the cache is full: " in told.stderr
    assert "raise [cache] max_bytes" in told.stderr
    assert {
        variant.key for variant in store.index.variants.good()
    } == there  # what was found there is kept as well


# --- logs -------------------------------------------------------------------------------------------------


def line(target: str, status: int = 200, method: str = "GET") -> str:
    return f'10.0.0.1 - - [21/Nov/2026:10:00:00 +0000] "{method} {target} HTTP/1.1" {status} 512 "-" "curl/8"'


def own(path: str, query: str, encoding: str) -> str:
    return json.dumps({"method": "GET", "path": path, "query": query, "status": 200, "encoding": encoding})


LOG = [
    line(f"{JPEG}?scalex=70"),
    line(f"{JPEG}?scalex=70&download=x"),
    line("/images/cats/t%6Fm.jpg?preset=thumb"),
    own("/picture/flag.png", "resize=30*30&encoding=auto", "webp"),
    line("/picture/flag.png?w=31&encoding=auto", 206),
    line(f"{JPEG}?w=72", 304, "HEAD"),
    *[line(f"{JPEG}?w=9{n}", status) for n, status in enumerate((404, 500, 301))],
    line(f"{JPEG}?w=95", 200, "POST"),
    line("/elsewhere/cats/tom.jpg?w=96"),
    line("/picture/gone.jpg?w=97"),
    line(JPEG),
    line(f"{JPEG}?w=bad"),
    "nonsense",
]


def test_a_log_is_replayed_with_the_parameters_of_its_urls(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    config, log = write(**PRESETS), tmp_path / "access.log"
    log.write_text("\n".join(LOG) + "\n")
    result = run(config, "--json", "--from-log", log)
    found = json.loads(result.stdout)
    assert (result.exit_code, found["failed"]) == (0, [])
    assert (found["pictures"], found["rendered"]) == (2, 3 + 1 + 3)
    assert "7 requests for 8 variants; 1 line of no known format" in result.stderr
    targets = {f"{JPEG}?scalex=70": "", f"{JPEG}?preset=thumb": "", f"{JPEG}?w=72": ""}
    targets |= {"/picture/flag.png?size=30x30&encoding=auto": "image/webp,image/avif;q=0.1"}
    for accept in ("image/avif,image/webp", "image/webp", ""):
        targets["/picture/flag.png?w=31&encoding=auto"] = accept
        assert asked(config, targets) == (["hit"] * 5, 0)
    assert warm(config, "--from-log", log)["rendered"] == 0


@pytest.mark.parametrize("kind", ["plain", "gzip", "stdin"])
def test_a_log_may_be_gzipped_or_come_from_a_pipe(
    write: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    text, log = "\n".join(LOG).encode(), tmp_path / "access.log.1"
    log.write_bytes(gzip.compress(text) if kind == "gzip" else text)
    found = warm(write(**PRESETS), "--from-log", "-" if kind == "stdin" else log, input=text)
    assert found["rendered"] == 7


def test_a_log_that_is_cut_is_told(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress("\n".join(LOG).encode())[:-20])
    result = run(write(), "--from-log", tmp_path / "cut.gz")
    assert result.exit_code == 2
    assert "--from-log" in result.stderr


def test_what_was_asked_for_most_is_made_first(
    write: Callable[..., Path], cache: Path, tmp_path: Path, taking_turns: None
) -> None:
    log = tmp_path / "access.log"
    counts = {70: 9, 71: 2, 72: 40, 73: 1, 74: 20, 75: 4}
    log.write_text(
        "\n".join(line(f"{JPEG}?w={width}") for width, count in counts.items() for _ in range(count))
    )
    warm(write(), "--from-log", log, "--jobs", "1")
    rows = sorted(DiskStore(cache, 2**40).index.variants.scan(), key=lambda row: row.number)
    made = [row.variant.width for row in rows if row.variant]
    assert made == sorted(counts, key=lambda width: -counts[width])


def test_what_was_asked_of_a_picture_about_as_often_is_one_order(assemble: Callable[..., Parts]) -> None:
    requests = [assemble().resolver.request([("w", width)]) for width in ("10", "20", "30")]
    one, two, rare = (Wish(request, "") for request in requests)
    counts = Counter({("a", one): 15, ("b", one): 12, ("a", two): 9, ("b", rare): 2, ("c", one): 3})
    found = [(order.path, order.wishes, order.is_more) for order in orders_of(Demand(counts, 41, 0))]
    assert found == [
        ("a", [one, two], False),
        ("b", [one], False),
        ("c", [one], False),
        ("b", [rare], True),
    ]


def test_only_so_many_variants_of_a_log_are_counted(assemble: Callable[..., Parts]) -> None:
    entries = [LogEntry("GET", JPEG, f"w={n}", 200, "") for n in range(1, 30) for _ in range(30 - n)]
    found = demand(entries, ["/picture"], assemble().resolver.operators_request, lambda path: True, limit=5)
    assert found.requests == found.counts.total() + found.forgotten == len(entries)
    assert len(found.counts) <= 10
    assert [wish.query for (_, wish), _ in found.counts.most_common(5)] == [f"w={n}" for n in range(1, 6)]


def test_a_log_takes_a_budget_and_paths(write: Callable[..., Path], tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("\n".join(LOG))
    found = warm(write(**PRESETS), "cats", "--from-log", log)
    assert (found["pictures"], found["rendered"]) == (1, 3)
    found = warm(write(**PRESETS), "--from-log", log, "--budget", "0s")
    assert (found["rendered"], found["stopped"]) == (0, "budget")


# --- several processes ------------------------------------------------------------------------------------


@pytest.fixture
def many(pictures: Path) -> int:
    """Adds pictures that take a while; how many there are then."""
    for number in range(6):
        scene(900 + number, 700).save(pictures / f"scene-{number}.jpg")
    return 8


SLOW = ["--size", "800", "--size", "700", "--size", "600", "--encoding", "avif", "--encoding", "webp"]


def begin(config: Path, *options: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "imagefactory", "--config", str(config), "warm", "--json", *options]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def has_objects(cache: Path, count: int = 1) -> bool:
    return sum(1 for path in (cache / "objects").rglob("*") if path.is_file()) >= count


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_goes_on_where_it_was_stopped(
    write: Callable[..., Path], cache: Path, many: int, number: signal.Signals
) -> None:
    config = write(render={"processes": 1})
    first = begin(config, *SLOW)
    assert eventually(lambda: has_objects(cache, 8), 60)
    first.send_signal(number)
    said, told = first.communicate(timeout=60)
    made = len(list(DiskStore(cache, 2**40).index.variants.good()))
    assert "Traceback" not in told
    if number == signal.SIGKILL:
        assert first.returncode == -number
    else:
        found = json.loads(said)
        assert first.returncode == 128 + number
        assert (found["stopped"], found["rendered"]) == ("interrupted", made)
        assert "stopped; run it again for the rest" in told
    found = warm(config, *SLOW)
    assert found["variants"] == many * 6
    # Killed, it may leave an object without its row, which is found and not rendered again.
    count = DiskStore(cache, 2**40).index.variants.count()
    assert found["rendered"] + made == count or (
        number == signal.SIGKILL and found["rendered"] + made < count
    )
    assert 0 < made < many * 6 - 2
    assert problems(DiskStore(cache, 2**40)) == []


def test_two_at_once_render_nothing_twice(write: Callable[..., Path], cache: Path, many: int) -> None:
    config = write(render={"processes": 1})
    both = [begin(config, *SLOW) for _ in range(2)]
    found = [json.loads(each.communicate(timeout=120)[0]) for each in both]
    assert sum(each["rendered"] for each in found) == DiskStore(cache, 2**40).index.variants.count()
    assert all(each["variants"] == many * 6 and each["failed"] == [] for each in found)
    assert problems(DiskStore(cache, 2**40)) == []


def test_a_server_beside_it_gives_hits(write: Callable[..., Path], many: int) -> None:
    config = write(render={"processes": 1})
    with serving(config) as server, server.client() as client:
        assert client.get(f"{JPEG}?w=200").cache == "miss"
        process = begin(config, *SLOW)
        while process.poll() is None:
            assert client.get(f"{JPEG}?w=200").cache == "hit"
        assert process.communicate()[1].count("Traceback") == 0
        assert process.returncode == 0
        for number in range(6):
            assert client.get(f"/picture/scene-{number}.jpg?w=700&encoding=webp").cache == "hit"


def test_it_lets_others_go_first() -> None:
    code = (
        "import os; from imagefactory.cli.warm import step_back; step_back(); step_back(); print(os.nice(0))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "10"


def test_its_renders_are_counted(write: Callable[..., Path], cache: Path) -> None:
    warm(write(), "--size", "50", "--encoding", "webp")
    counters = DiskStore(cache, 2**40).index.counts.all()
    assert (
        sum(
            count
            for name, count in counters.items()
            if name.startswith("render_seconds encode webp ") and not name.endswith("sum")
        )
        == 2
    )


# --- progress ---------------------------------------------------------------------------------------------


def test_off_a_terminal_progress_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(300, "variants", "warming", None)
    shown.update(100, "2.00 MB written")
    assert capsys.readouterr().err == ""  # not before ten seconds
    shown.tell("something")
    assert capsys.readouterr().err == "something\n"
    assert shown._line(20.0) == "warming: 100 of 300 variants, 5.0/s, 0:00:40 left, 2.00 MB written"
    shown.expect(None)
    assert shown._line(20.0) == "warming: 100 variants, 5.0/s, 2.00 MB written"


def test_on_a_terminal_progress_is_a_bar(write: Callable[..., Path]) -> None:
    config = write()
    command = f"stty cols 100 rows 30; exec {sys.executable} -m imagefactory --config {config} warm"
    code = f"import pty, sys; sys.exit(pty.spawn(['sh', '-c', {command!r}]) >> 8)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, stdin=subprocess.DEVNULL, timeout=60
    )
    assert done.returncode == 0
    assert b"warming: " in done.stdout
    assert b"4 variants of 2 pictures: 4 rendered" in done.stdout
