"""The example site as a process, started by its command, with drawings of any size and a folder of its own.

with example(tmp_path, width=480, IMAGEFACTORY_LIMITS__LADDER="[160, 480]") as server: ...
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving import Server, serving

__all__ = ["COMMAND", "ROOT", "example"]

ROOT = Path(__file__).parent.parent
COMMAND = "python examples/app.py"


@contextmanager
def example(folder: Path, width: int, **environ: str) -> Iterator[Server]:
    """The example, on a free port, while the block runs. Its drawings are *width* pixels wide."""
    drawing = [sys.executable, "examples/draw.py", str(folder / "pictures"), "--width", str(width)]
    subprocess.run(drawing, cwd=ROOT, check=True)
    wrapper = ["env", f"EXAMPLE_DATA={folder}", *(f"{name}={value}" for name, value in environ.items())]
    program = [sys.executable, *COMMAND.split()[1:]]
    with serving(folder / "none", ["--port", "0"], wrapper, ROOT, program) as server:
        yield server
