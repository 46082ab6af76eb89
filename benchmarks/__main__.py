"""``python -m benchmarks``: every section in its order, then the table.

make bench                      all of it, about 20 minutes
make bench-quick                the same table from fewer rounds, within two minutes
make bench ONLY=hits,cold       some sections
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from . import report
from .bench import Bench
from .pictures import gather
from .servers import Stage

__all__ = ["main", "sections"]

SECTIONS = ("hits", "many", "cold", "ladder", "busy", "overload")
_FOLDER = Path(__file__).parent


def sections(text: str) -> list[str]:
    """The sections that *text* names with commas, in the order of the run; all for an empty one."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(names) - set(SECTIONS))
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no section {unknown[0]!r}, but {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if name in names or not names]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if a section failed, 130 after Ctrl-C. Targets that are missed fail nothing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="fewer rounds: within two minutes")
    parser.add_argument("--only", type=sections, default=sections(""), metavar="A,B", help="these sections")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the numbers go")
    parser.add_argument(
        "--write-docs", action="store_true", help="fill docs/benchmarks.md and draw its charts"
    )
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began, failed = time.monotonic(), []
    with Stage() as stage:
        try:
            bench = Bench(stage, gather(stage.folder / "pictures"), options.quick, _say)
            _say(f"pictures: {bench.pictures.said}; load {bench.load:.1f}")
            for name in options.only:
                _say(f"{name}, after {time.monotonic() - began:.0f} s")
                section = importlib.import_module(f".{name}", __package__)
                try:
                    section.run(bench)
                except Exception:  # the numbers of the other sections are not lost
                    failed.append(name)
                    _say(f"  FAILED: {traceback.format_exc()}")
                    stage.stop(*stage.servers)
        except KeyboardInterrupt:
            _say("stopped")
            return 130
    about = report.facts(bench, time.monotonic() - began) | {"failed": failed}
    path = options.json or _FOLDER / "results" / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    report.write_json(path, bench, about)
    print("\n" + report.table(bench.rows) + "\n")
    for text in bench.skipped:
        print(f"skipped: {text}")
    print(f"{about['kind']} run of {about['seconds']} s on {about['cores']} cores; numbers in {path}")
    if options.write_docs:
        report.write_docs(_FOLDER.parent / "docs", bench, about)
    return 1 if failed else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
