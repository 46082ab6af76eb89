"""The example site as a process, started by its command, with drawings of any size and a folder of its own.

with example(tmp_path, width=480, IMAGEFACTORY_LIMITS__LADDER="[160, 480]") as server: ...
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.serving import Server, serving

__all__ = ["COMMAND", "ROOT", "example"]

ROOT = Path(__file__).parents[2]
COMMAND = "python examples/app.py"


@contextmanager
def example(folder: Path, width: int, **environ: str) -> Iterator[Server]:
    """The example, on a free port, while the block runs. Its drawings are *width* pixels wide."""
    wrapper = ["env", f"EXAMPLE_DATA={folder}", *(f"{name}={value}" for name, value in environ.items())]
    options = ["--port", "0", "--width", str(width)]
    program = [sys.executable, *COMMAND.split()[1:]]
    with serving(folder / "none", options, wrapper, ROOT, program) as server:
        yield server
