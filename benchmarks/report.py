"""What is left of a run: the table, JSON, and its part of docs/benchmarks.md with the charts."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from .bench import Bench
from .charts import bars
from .rounds import Row

__all__ = ["draw_charts", "facts", "fill_markers", "markdown", "table", "write_docs", "write_json"]

_BEGIN, _END = "<!-- bench: begin -->", "<!-- bench: end -->"
_HEADS = ("what", "ours / other", "ratio", "(lowest-highest)", "target", "", "absolute, as an indication")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.section,
        f"{row.ours} / {row.other}",
        f"{row.ratio:.2f}",
        f"({row.low:.2f}-{row.high:.2f})",
        row.target,
        row.verdict,
        f"{row.our_value:,.4g} / {row.other_value:,.4g} {row.unit}".strip(),
    )


def table(rows: Sequence[Row]) -> str:
    """The table for a terminal."""
    lines = [_HEADS, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown(rows: Sequence[Row]) -> str:
    """The table for the docs; what met no target is in bold."""
    lines = ["| " + " | ".join(_HEADS) + " |", "|" + "---|" * len(_HEADS)]
    for row in rows:
        cells = list(_cells(row))
        if row.verdict == "short":
            cells[5] = f"**{cells[5]}**"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def facts(bench: Bench, seconds: float) -> dict[str, Any]:
    """What a reader has to know of the machine and of the run."""
    found: dict[str, Any] = {"kind": "quick" if bench.is_quick else "full", "seconds": round(seconds)}
    found["load"] = bench.load
    found |= {"cores": os.cpu_count(), "machine": _processor(), "python": platform.python_version()}
    found |= {"pictures": bench.pictures.said, "skipped": bench.skipped}
    for name in ("pillow", "cykooz-resizer", "waitress", "gunicorn", "granian"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _processor() -> str:
    try:
        said = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        said = None
    return said[1] if said else platform.processor()


def write_json(path: Path, bench: Bench, about: Mapping[str, Any]) -> None:
    """All numbers of the run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(row) | {"verdict": row.verdict} for row in bench.rows]
    path.write_text(json.dumps({"about": about, "rows": rows, "details": bench.details}, indent=1) + "\n")


def write_docs(docs: Path, bench: Bench, about: Mapping[str, Any]) -> None:
    """Put the run into benchmarks.md in the folder *docs*, and the charts beside it."""
    charts = draw_charts(bench.details)
    for name, text in charts.items():
        (docs / name).write_text(text)
    said = ", ".join(f"{name} {about[name]}" for name in ("python", "pillow", "cykooz-resizer", "waitress",
                     "gunicorn", "granian") if about[name])  # fmt: skip
    parts = [
        f"A {about['kind']} run of {about['seconds']} s on {about['cores']} cores ({about['machine']}), "
        f"load {about['load']:.1f} before it began; "
        f"{said}; {about['pictures']}.",
        markdown(bench.rows),
        _qualities(bench.details.get("qualities", [])),
        "\n".join(f"![{name.removeprefix('bench-').removesuffix('.svg')}]({name})" for name in charts),
        "\n".join(f"- Not there: {text}" for text in about["skipped"]),
    ]
    page = docs / "benchmarks.md"
    page.write_text(fill_markers(page.read_text(), "\n\n".join(filter(None, parts))))


def _qualities(rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return ""
    lines = ["| encoding | by | quality | SSIM | bytes | bytes of ours / its |", "|---|---|---|---|---|---|"]
    for encoding, name, quality, likeness, count, part in rows:
        shown = "lossless" if encoding == "png" else f"{likeness:.4f}"
        lines.append(f"| {encoding} | {name} | {quality or 'default'} | {shown} | {count:,} | {part:.2f} |")
    return "\n".join(lines)


def fill_markers(text: str, filling: str) -> str:
    """*text* with *filling* between the markers. Raises ValueError when they are not there."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"there is no {_BEGIN} ... {_END} to fill")
    return f"{before}{begin}\n\n{filling}\n\n{end}{after}"


def draw_charts(details: Mapping[str, Any]) -> dict[str, str]:
    """SVGs by file name, of the sections that were run."""
    charts = {}
    if "hits" in details:
        rows = sorted(
            ((name, median(values)) for name, values in details["hits"].items()), key=lambda row: -row[1]
        )
        charts["bench-hits.svg"] = bars("Hits: 200 URLs, 12.5 kB, 16 connections", rows, "/s")
    for encoding, found in details.get("cold", {}).items():
        rows = sorted(((name, median(values)) for name, values in found.items()), key=lambda row: -row[1])
        charts[f"bench-cold-{encoding}.svg"] = bars(
            f"Cold renders to {encoding}, 512 px, at the nearest SSIM", rows, "/s"
        )
    if "ladder_seconds" in details:
        rows = sorted(
            ((n, median(values)) for n, values in details["ladder_seconds"].items()), key=lambda row: row[1]
        )
        charts["bench-ladder.svg"] = bars(
            "8 widths x 3 encodings of one photograph (less is better)", rows, "s"
        )
    return charts
