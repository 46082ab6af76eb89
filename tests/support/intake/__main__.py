"""The options of ``make intake``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from .exactness import exactness
from .forms import parser
from .full import full
from .kills import kills
from .memory import memory
from .report import Report
from .speed import hits, rate
from .truncation import truncation

__all__ = ["KINDS", "main"]

# A kind is called with an empty folder, how much to do (100: all of it), the seed, and where to say what it
# found.
KINDS: dict[str, Callable[[Path, int, int, Report], None]] = {
    "truncation": truncation,
    "memory": memory,
    "rate": rate,
    "parser": parser,
    "exactness": exactness,
    "kills": kills,
    "full": full,
    "hits": hits,
}


def main() -> int:
    """Run as the arguments say; the exit code."""
    parser = argparse.ArgumentParser(prog="make intake", description="A real server that takes pictures in.")
    parser.add_argument("--number", type=int, default=100, metavar="N", help="100: all of it; at least 1")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--only", default="", metavar="KIND[,KIND]", help=", ".join(KINDS))
    options = parser.parse_args()
    chosen = [name for name in options.only.split(",") if name] or list(KINDS)
    if unknown := set(chosen) - set(KINDS):
        parser.error(f"there is no kind {unknown.pop()!r}, only {', '.join(KINDS)}")
    print(f"number {options.number}, seed {options.seed}", flush=True)
    faults = 0
    for name in chosen:
        report, began = Report(name), time.monotonic()
        with tempfile.TemporaryDirectory(prefix="imagefactory-intake-") as folder:
            KINDS[name](Path(folder).resolve(), options.number, options.seed, report)
        report.say(f"{len(report.faults)} faults, {time.monotonic() - began:.0f} s")
        faults += len(report.faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
