"""The options of ``make torture``, its kinds, and its table."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .calls import calls
from .kills import kills
from .loads import clocks, deletions, exchanges, flips
from .tally import Tally, table

# A kind is called with an empty folder, a folder of pictures of yours or None, the seed, a number, and where
# to count. Its share is what it does of --number: of 300, 300 kills, 100 deletions, 10,000 exchanges.
Kind = Callable[[Path, Path | None, int, int, Tally], None]
KINDS: dict[str, tuple[Kind, float]] = {
    "kills": (kills, 1),
    "calls": (calls, 1),
    "deletions": (deletions, 1 / 3),
    "flips": (flips, 1 / 3),
    "clocks": (clocks, 1 / 3),
    "exchanges": (exchanges, 100 / 3),
}


def main() -> int:
    """Run as the arguments say; the exit code."""
    parser = argparse.ArgumentParser(description="A real server under all that goes wrong.")
    parser.add_argument("--number", type=int, default=300, metavar="N", help="0: all calls that there are")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--only", default="", metavar="KIND[,KIND]", help=", ".join(KINDS))
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="ask for copies of these pictures, too")
    options = parser.parse_args()
    chosen = [name for name in options.only.split(",") if name] or list(KINDS)
    if unknown := set(chosen) - set(KINDS):
        parser.error(f"there is no kind {unknown.pop()!r}, only {', '.join(KINDS)}")
    print(f"number {options.number}, seed {options.seed}", flush=True)
    tallies = []
    for name in chosen:
        torture, share = KINDS[name]
        tally = Tally(name)
        number = max(1, round(options.number * share)) if options.number else 0
        with tempfile.TemporaryDirectory(prefix="imagefactory-torture-") as folder:
            try:
                torture(Path(folder).resolve(), options.pictures, options.seed, number, tally)
            except NotImplementedError as error:
                print(f"{name} left out: {error}", flush=True)
                continue
        tally.end()
        tallies.append(tally)
        print(f"{name}: {'good' if tally.is_good else 'FAULTS'}, {tally.took_s:.0f} s", flush=True)
        for text in tally.found:
            print(text, flush=True)
    print(table(tallies))
    return 0 if tallies and all(tally.is_good for tally in tallies) else 1


if __name__ == "__main__":
    sys.exit(main())
