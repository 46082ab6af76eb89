"""The benchmark's own arithmetic, and what it says of what is not there. Nothing is measured here."""

from __future__ import annotations

import argparse
import io
import math
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import __main__ as program
from benchmarks import report, servers
from benchmarks.bench import Bench
from benchmarks.calibrate import nearest
from benchmarks.charts import bars
from benchmarks.client import percentile
from benchmarks.pictures import Pictures, check, gather
from benchmarks.rounds import compare, interleave
from benchmarks.servers import Stage


def test_rounds_are_interleaved() -> None:
    order: list[str] = []
    found = interleave({"a": lambda: order.append("a") or 1, "b": lambda: order.append("b") or 2}, 3)
    assert order == ["a", "b"] * 3
    assert found == {"a": [1, 1, 1], "b": [2, 2, 2]}


def test_a_ratio_is_taken_within_its_round() -> None:
    """The machine halved its speed in the second round, and the ratio stays."""
    row = compare("hits", ("ours", [100, 50, 90]), ("theirs", [200, 100, 100]), "/s", at_least=0.6)
    assert (row.ratio, row.low, row.high) == (0.5, 0.5, 0.9)
    assert (row.our_value, row.other_value) == (90, 100)
    assert (row.target, row.verdict) == ("≥ 0.6", "short")


@pytest.mark.parametrize(
    ("targets", "verdict"),
    [({}, ""), ({"at_least": 0.5}, "met"), ({"at_least": 0.51}, "short"), ({"at_most": 0.5}, "met"),
     ({"at_most": 0.0}, "short")],
)  # fmt: skip
def test_a_target_is_met_or_short(targets: dict[str, float], verdict: str) -> None:
    assert compare("x", ("a", [1.0]), ("b", [2.0]), "", **targets).verdict == verdict


def test_no_round_is_an_error() -> None:
    with pytest.raises(ValueError, match="no round of a and b"):
        compare("x", ("a", []), ("b", []), "")


@pytest.mark.parametrize(("part", "expected"), [(0.5, 51), (0.99, 100), (1.0, 100), (0.0, 1)])
def test_percentiles(part: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), part) == expected


def test_a_percentile_of_nothing_is_no_number() -> None:
    assert math.isnan(percentile([], 0.5))


@pytest.mark.parametrize(
    ("wanted", "expected"), [(0.62, 62), (0.624, 62), (0.0, 30), (2.0, 98)]
)  # the last two can't be reached
def test_calibration_finds_the_nearest_quality(wanted: float, expected: int) -> None:
    assert nearest(lambda quality: quality / 100, wanted) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", list(program.SECTIONS)), ("ladder, hits", ["hits", "ladder"]), ("cold,", ["cold"])],
)
def test_sections_run_in_one_order(text: str, expected: list[str]) -> None:
    assert program.sections(text) == expected


def test_an_unknown_section_is_named() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no section 'hit', but hits, many"):
        program.sections("cold,hit")


def test_a_chart_is_xml_with_a_bar_for_each_row() -> None:
    root = ET.fromstring(bars("Hits <1>", [("imagefactory & co", 1200.0), ("other", 0.0)], "/s"))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["Hits <1>", "imagefactory & co", "1,200 /s", "other", "0 /s"]
    assert len(list(root.iter("{http://www.w3.org/2000/svg}rect"))) == 3  # and the ground
    assert root.get("role") == "img"


def test_the_table_is_put_between_its_markers() -> None:
    text = "before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter\n"
    filled = report.fill_markers(text, "new")
    assert filled == "before\n<!-- bench: begin -->\n\nnew\n\n<!-- bench: end -->\nafter\n"
    assert report.fill_markers(filled, "new") == filled
    with pytest.raises(ValueError, match="bench: begin"):
        report.fill_markers("a page without markers", "new")


def test_the_docs_can_be_filled() -> None:
    page = Path(__file__).parents[2] / "docs" / "benchmarks.md"
    assert "| new |" in report.fill_markers(page.read_text(), "| new |")


def test_what_is_short_of_its_target_is_bold() -> None:
    row = compare("hits", ("ours", [1.0]), ("theirs", [2.0]), "/s", at_least=0.8)
    assert "| **short** |" in report.markdown([row])
    assert "short" in report.table([row]) and "**" not in report.table([row])
    assert "| met |" in report.markdown([replace(row, at_least=0.4)])


def test_what_is_absent_is_skipped_with_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCH_IPX", str(tmp_path))
    monkeypatch.setenv("BENCH_THUMBOR", str(tmp_path / "thumbor"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(servers.shutil, "which", lambda *_, **__: None)
    said: list[str] = []
    with Stage() as stage:
        bench = Bench(stage, Pictures(tmp_path, ""), is_quick=True, say=said.append)
        for start in (servers.ipx, servers.thumbor, lambda s, p: servers.nginx(s, p, p)):
            for _ in range(2):  # said once
                assert bench.maybe(lambda start=start: start(stage, tmp_path)) is None
    assert [text.split(":")[0] for text in bench.skipped] == ["ipx", "thumbor", "nginx"]
    assert all("install" in text for text in bench.skipped)
    assert len(said) == 3
    assert not stage.folder.exists()


def test_a_stage_ends_its_processes() -> None:
    port = servers.free_port()
    code = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(60)"
    with Stage() as stage:
        server = stage.start("sleeper", [sys.executable, "-c", code], port)
        assert server.is_running
    assert not server.is_running


def test_a_contender_that_does_not_start_says_why() -> None:
    code = "raise SystemExit('no such luck')"
    with Stage() as stage, pytest.raises(RuntimeError, match="sleeper did not start: no such luck"):
        stage.start("sleeper", [sys.executable, "-c", code], servers.free_port())


@pytest.mark.slow
def test_copies_have_equal_pixels_and_different_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PHOTOS", raising=False)
    monkeypatch.setattr("benchmarks.pictures._RACY_S", 0)
    pictures = gather(tmp_path / "pictures")
    for name in ("photo.jpg", "alpha.png"):
        files = [pictures.folder / copy for copy in pictures.copies(name)[:2]]
        assert len({file.read_bytes() for file in files}) == 2
        with Image.open(pictures.folder / name) as true, Image.open(files[1]) as copy:
            assert true.tobytes() == copy.tobytes()


def test_an_answer_of_the_wrong_size_is_refused() -> None:
    target = io.BytesIO()
    Image.new("RGB", (4, 3)).save(target, "PNG")
    check(target.getvalue(), "png", (4, 3))
    with pytest.raises(RuntimeError, match=r"asked for png \(4, 4\), got PNG \(4, 3\)"):
        check(target.getvalue(), "png", (4, 4))
    with pytest.raises(RuntimeError, match="got PNG"):
        check(target.getvalue(), "jpeg", (4, 3))
