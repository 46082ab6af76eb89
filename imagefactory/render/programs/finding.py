"""Where a program of the config lies, and which version of it that is.

``config`` and the command ``programs`` ask here at the start of a process. No library of a program is
imported: their packages take 0.1 s, and a server process never decodes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

__all__ = ["extra_of", "found", "read_folders", "version"]

_HERE = Path(__file__).parent
# Our helpers: the name in a command, the library that its script imports, the extra that installs it.
_HELPERS = {
    "imagefactory-pdf": ("pdf.py", "pypdfium2", "pdf"),
    "imagefactory-svg": ("svg.py", "resvg_py", "svg"),
    "imagefactory-raw": ("raw.py", "rawpy", "raw"),
}
_VERSION_TIMEOUT_S = 10
_LONGEST_VERSION = 200


def found(name: str) -> tuple[str, ...]:
    """How the program *name* (the first word of a command) is started; empty where there is none.

    A helper of ours needs its library to be installed. ``ffmpeg`` is that of the package imageio-ffmpeg, if
    installed, else that on PATH: the extra is asked for by name, and is newer than what distributions have.
    """
    if name in _HELPERS:
        script, library, _ = _HELPERS[name]
        # -I: neither PYTHONPATH nor the folder of the script, which has files named as libraries could be
        return (sys.executable, "-I", str(_HERE / script)) if find_spec(library) else ()
    path = (_packaged_ffmpeg() if name == "ffmpeg" else "") or shutil.which(name)
    # Relative to the folder in which a server was started, a name with a slash would be another program.
    return (path,) if path and Path(path).is_absolute() else ()


def extra_of(name: str) -> str:
    """The extra of this package that brings the program *name*, or an empty text."""
    return "video" if name == "ffmpeg" else _HELPERS[name][2] if name in _HELPERS else ""


def read_folders(start: Sequence[str]) -> tuple[str, ...]:
    """The folders that what ``found`` gave has to read, beside those of the system: for a helper Python, its
    packages and the helpers; for any other program its own folder, and the one to which a link leads."""
    if not start:
        return ()
    folders = [os.path.dirname(start[0]), os.path.dirname(os.path.realpath(start[0]))]  # noqa: PTH120
    if len(start) > 1 and Path(start[-1]).parent == _HERE:
        folders += [sys.prefix, sys.base_prefix, str(_HERE)]
    return tuple(sorted(set(folders)))


def version(start: Sequence[str], arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """The first line that ``start + arguments`` prints, to its standard output or else its standard error; at
    most 200 characters. Empty where the program can't be run, prints nothing, or takes more than 10 s."""
    try:
        done = subprocess.run(  # noqa: S603  the operator's own command, without a shell
            [*start, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=dict(environment),
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    text = (done.stdout.strip() or done.stderr.strip()).decode(errors="replace")
    return text.partition("\n")[0].strip()[:_LONGEST_VERSION]


def _packaged_ffmpeg() -> str:
    """The binary in the package imageio-ffmpeg. Its own function imports more and runs the binary first."""
    spec = find_spec("imageio_ffmpeg")
    if spec is None or spec.origin is None:
        return ""
    binaries = sorted((Path(spec.origin).parent / "binaries").glob("ffmpeg-*"))
    return next((str(path) for path in binaries if os.access(path, os.X_OK)), "")
