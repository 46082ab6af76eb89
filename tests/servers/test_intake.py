"""Small samples of ``make intake``: uploads that are cut, large, many, hostile; a server that is killed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.intake.__main__ import KINDS
from support.intake.report import Report

SAMPLES = {
    "truncation": 2,
    "memory": 1,
    "rate": 6,
    "parser": 1,
    "exactness": 5,
    "kills": 4,
    "full": 1,
    "hits": 1,
}


def test_each_kind_has_a_sample() -> None:
    assert set(SAMPLES) == set(KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SAMPLES)
def test_no_fault_is_found(tmp_path: Path, kind: str) -> None:
    report = Report(kind)
    KINDS[kind](tmp_path, SAMPLES[kind], 1, report)
    assert report.faults == []


def test_what_should_not_be_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("kind")
    report.same("rows", 1, 1)
    report.expect(True, "no fault")
    assert report.faults == []
    report.same("rows", 1, 2)
    report.expect(False, "a fault")
    assert report.faults == ["rows: 1 instead of 2", "a fault"]
    report.figure("time, ms", 2, most=1.5)
    report.figure("ratio", 2, least=1.5)
    assert "kind: time, ms: 2.00 (wanted: at most 1.5; FALLS SHORT)" in capsys.readouterr().out
