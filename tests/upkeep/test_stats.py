"""What is in a cache, and what it was good for, is said as it is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.asking import ask
from support.drawing import quarters
from support.filling import fill_cache, put_object
from support.serving import write_config

from imagefactory.cli import main
from imagefactory.common.units import ratio_text, size_text
from imagefactory.factory import Parts
from imagefactory.model.variant import Key
from imagefactory.storage.disk import DiskStore
from imagefactory.upkeep.stats import Answered, Sum, answered, take_stats

KEYS = {"pictures", "variants", "bytes", "max_bytes", "by_encoding", "objects", "hits", "misses"}


def stats(config: Path, *arguments: str) -> Any:
    return CliRunner().invoke(main, ["--config", str(config), "stats", *arguments])


def test_each_sum_is_that_of_what_is_there(assemble: Callable[..., Parts], pictures: Path) -> None:
    quarters(200, 100).save(pictures / "copy.png")
    (pictures / "copy of it.png").write_bytes((pictures / "copy.png").read_bytes())
    parts = assemble()
    asked = [
        ask(parts, "cats/tom.jpg", scalex=100),
        ask(parts, "cats/tom.jpg", scalex=300, encoding="webp"),
        ask(parts, "copy.png", scalex=50),
    ]
    ask(parts, "copy of it.png", scalex=50)
    store = parts.store
    assert isinstance(store, DiskStore)
    found = take_stats(store)
    assert (found.pictures, found.variants, found.objects) == (2, 3, 3)
    assert found.bytes == sum(answer.bytes for answer in asked) == store.index.variants.total_bytes()
    assert found.by_encoding == {
        "jpeg": Sum(1, asked[0].bytes), "webp": Sum(1, asked[1].bytes), "png": Sum(1, asked[2].bytes),
    }  # fmt: skip
    assert found.by_size["160"] == Sum(2, asked[0].bytes + asked[2].bytes)
    assert found.by_size["320"] == Sum(1, asked[1].bytes)
    sources = ("cats/tom.jpg", "copy.png", "copy of it.png")
    assert found.source_bytes == sum((pictures / path).stat().st_size for path in sources)
    assert max(found.largest, key=lambda each: each.bytes) == found.largest[0]
    assert {each.path for each in found.largest} == {"cats/tom.jpg", "copy of it.png"}


@pytest.mark.parametrize(
    ("counters", "expected"),
    [
        ({}, Answered()),
        ({"requests hit webp 200": 3, "requests coalesced avif 200": 2}, Answered(hits=5)),
        ({"requests hit webp 304": 1, "requests miss webp 200": 1}, Answered(1, 1)),
        ({"requests bypass png 200": 4}, Answered(misses=4)),
        ({"requests original jpeg 200": 7, "requests not_found - 404": 2}, Answered(originals=7, errors=2)),
        ({"requests stream - 200": 7, "requests upload - 201": 2, "requests upload - 415": 1}, Answered()),
        ({"requests options - 204": 9, "requests purge - 200": 9, "evicted variants": 9, "": 1}, Answered()),
    ],
)  # fmt: skip
def test_a_hit_is_what_was_not_rendered(counters: dict[str, float], expected: Answered) -> None:
    assert answered(counters) == expected


def test_the_hit_ratio_is_unknown_before_the_first_variant() -> None:
    assert Answered(errors=3).hit_ratio is None
    assert Answered(hits=3, misses=1).hit_ratio == 0.75


def test_the_most_used_come_first_and_nobody_who_was_not_used(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "cache", 2**40)
    store.start()
    first = put_object(store, Key("f" * 64, "v1-9x9-q80", "jpeg"), b"longer than all the others " * 9)
    store.index.variants.put_many([(first, 1000.0)])
    variants = fill_cache(store, 3000, per_source=100)
    uses = {variants[number].key.text(): number for number in (7, 1500, 2999)}
    store.index.counts.add(uses, {}, 2000.0)
    found = take_stats(store)
    assert [each.uses for each in found.most_used] == [2999, 1500, 7]
    assert found.most_used[0].digest == variants[2999].key.digest
    assert found.most_used[0].path == ""
    assert (found.pictures, found.variants, len(found.largest)) == (31, 3001, 10)
    assert (found.largest[0].digest, found.largest[0].bytes) == ("f" * 64, 9 * 27)


def test_saved_is_the_difference_to_the_originals(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "cache", 2**40)
    store.start()
    counts = {"bytes_of_sources webp": 1000.0, "bytes_of_variants webp": 300.0, "bytes_sent webp": 350.0}
    store.index.counts.add(
        {}, {**counts, "bytes_sent jpeg": 50.0, "evicted variants": 2, "evicted bytes": 9}, 1.0
    )
    found = take_stats(store)
    assert (found.saved, found.sent, found.evicted) == (700, 400, Sum(2, 9))


def test_a_cache_that_is_not_there_is_zeros_and_is_not_made(tmp_path: Path, pictures: Path) -> None:
    config = write_config(tmp_path, pictures, tmp_path / "cache", cache={"max_bytes": "1 GB"})
    result = stats(config, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told.keys() >= KEYS
    assert (told["pictures"], told["bytes"], told["max_bytes"], told["by_encoding"]) == (0, 0, 10**9, {})
    assert told["hit_ratio"] is None
    assert not (tmp_path / "cache").exists()
    assert "hit ratio" in stats(config).stdout


def test_objects_without_an_index_are_counted(tmp_path: Path, pictures: Path) -> None:
    store = DiskStore(tmp_path / "cache", 2**40)
    put_object(store, Key("a" * 64, "v1-1x1-q80", "jpeg"), b"x")
    found = json.loads(stats(write_config(tmp_path, pictures, tmp_path / "cache"), "--json").stdout)
    assert (found["objects"], found["variants"]) == (1, 0)
    assert not (tmp_path / "cache" / "index").exists()


def test_the_table_is_aligned_and_has_no_control_characters(
    tmp_path: Path, assemble: Callable[..., Parts], pictures: Path
) -> None:
    (pictures / "a\u202eb.jpg").write_bytes((pictures / "cats" / "tom.jpg").read_bytes())
    parts = assemble()
    answer = ask(parts, "a\u202eb.jpg", scalex=100)
    assert answer.variant is not None
    parts.counters.use(answer.variant.key.text(), 1234)
    parts.keeper.flush()
    output = stats(write_config(tmp_path, pictures, tmp_path / "cache")).stdout
    assert "\u202e" not in output
    lines = output.splitlines()
    table = lines[lines.index("") + 1 :][:2]
    assert [line.split() for line in table] == [
        ["encoding", "variants", "bytes"],
        ["jpeg", "1", *table[1].split()[2:]],
    ]
    assert len({len(line) for line in table}) == 1
    assert "most used" in output and "1234" in output


def test_memory_mode_has_no_stats(tmp_path: Path, pictures: Path) -> None:
    result = stats(write_config(tmp_path, pictures, tmp_path / "cache", cache={"mode": "memory"}))
    assert result.exit_code == 2
    assert "memory" in result.stderr


def test_the_cache_of_another_user_is_left_alone(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    result = stats(write_config(tmp_path, pictures, tmp_path / "cache"))
    assert (result.exit_code, "belongs to" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (1234, "1.23 kB"), (99_960, "100 kB"),
     (999_500, "1.00 MB"), (10**10, "10.0 GB"), (2 * 10**21, "2000 EB"), (-5000, "-5.00 kB")],
)  # fmt: skip
def test_sizes_have_three_digits(size: int, text: str) -> None:
    assert size_text(size) == text


def test_ratios_are_percents() -> None:
    assert [ratio_text(part) for part in (None, 0, 0.9734, 1)] == ["-", "0.0 %", "97.3 %", "100.0 %"]


def test_a_damaged_index_is_told_and_left_as_it_is(tmp_path: Path, pictures: Path) -> None:
    index = tmp_path / "cache/index/cache.db"
    index.parent.mkdir(parents=True)
    index.write_bytes(b"no database" * 1000)
    result = stats(write_config(tmp_path, pictures, tmp_path / "cache"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "file is not a database" in result.stderr
    assert index.read_bytes() == b"no database" * 1000


def test_it_says_that_there_is_no_cache_yet(tmp_path: Path, pictures: Path) -> None:
    result = stats(write_config(tmp_path, pictures, tmp_path / "cache"))
    assert result.exit_code == 0
    assert result.stderr == f"paths.cache: there is no folder {tmp_path / 'cache'} yet\n"
    assert not (tmp_path / "cache").exists()
