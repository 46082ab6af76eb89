"""Fails system calls of a running process below one folder, and moves its clock.

    faults = Faults(cache, tmp_path / "control")
    with serving(config, wrapper=faults.wrapper()) as server:
        faults.arm("EIO", nth=3)  # the third call below the cache from now on, of any process of the server
        ...
        faults.disarm()

``faults.c`` is put before libc by LD_PRELOAD, so SQLite's calls are among them. It is built with cc at the
first use: ``why_not`` says why it can't be.
"""

from __future__ import annotations

import atexit
import errno
import mmap
import shutil
import struct
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["CALLS", "ERRORS", "Faults", "library", "why_not"]

# In the order of ``enum call``.
CALLS = (
    *("open", "read", "write", "sync", "rename", "link", "unlink", "mkdir"),
    *("truncate", "stat", "list", "lock", "chmod", "space"),
)
# A refused lock is asked for alone: SQLite takes it for a busy one and tries again for ten seconds.
_WITHOUT_LOCK = tuple(call for call in CALLS if call != "lock")
# ``short``: a write takes half of its bytes and says so, and those after it have no space.
ERRORS = ("ENOSPC", "EIO", "ESTALE", "EACCES", "EMFILE", "short")
_FIELDS = ("is_armed", "calls", "error", "nth", "for_good", "count", "injected", "clock_ns")
_SIZE = 8


@cache
def library() -> Path:
    """The library, built. Raises OSError and subprocess.CalledProcessError where it can't be."""
    folder = Path(tempfile.mkdtemp(prefix="imagefactory-faults-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    built = folder / "faults.so"
    source = Path(__file__).with_suffix(".c")
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O2", "-o", str(built), str(source), "-ldl"],
        check=True,
        capture_output=True,
        text=True,
    )
    return built


@cache
def why_not() -> str:
    """Why there can be no faults here, in words; empty if they can."""
    if sys.platform != "linux":
        return "faults are injected by LD_PRELOAD and /proc, which Linux has"
    try:
        library()
    except OSError:
        return "there is no C compiler (cc)"
    except subprocess.CalledProcessError as error:
        return f"cc does not build faults.c: {error.stderr[:300]}"
    return ""


class Faults:
    """Faults for the processes started with ``wrapper``, and their children, at calls for what lies in
    *folder*; *control* is a file of ours outside of it."""

    def __init__(self, folder: Path, control: Path) -> None:
        self.folder = folder.resolve()
        self.control = control
        control.write_bytes(bytes(_SIZE * len(_FIELDS)))
        with control.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def environ(self) -> dict[str, str]:
        """The variables for a process that shall have them."""
        return {
            "LD_PRELOAD": str(library()),
            "FAULTS_CONTROL": str(self.control),
            "FAULTS_FOLDER": str(self.folder),
        }

    def wrapper(self) -> list[str]:
        """What to put before a command line."""
        return ["env", *(f"{name}={value}" for name, value in self.environ().items())]

    def arm(
        self, error: str, nth: int = 1, *, calls: tuple[str, ...] = _WITHOUT_LOCK, for_good: bool = False
    ) -> None:
        """From now on the *nth* of these *calls* fails with *error*, and with *for_good* all after it. With
        nth 0 none does, and they are counted."""
        if error == "short":
            calls = ("write",)
        self.disarm()
        self._set("calls", sum(1 << CALLS.index(call) for call in calls))
        self._set("error", 0 if error == "short" else getattr(errno, error))
        self._set("nth", nth or 2**62)
        self._set("for_good", for_good)
        self._set("count", 0)
        self._set("injected", 0)
        self._set("is_armed", 1)

    def disarm(self) -> None:
        """All works again."""
        self._set("is_armed", 0)

    def move_clock(self, seconds: float) -> None:
        """The time of day is *seconds* ahead of the machine's (or behind); file systems and monotonic clocks
        go on as they do."""
        self._set("clock_ns", int(seconds * 1e9))

    @property
    def count(self) -> int:
        """The calls since ``arm``."""
        return self._get("count")

    @property
    def injected(self) -> int:
        """Those of them that failed."""
        return self._get("injected")

    def _get(self, name: str) -> int:
        found: tuple[Any, ...] = struct.unpack_from("=q", self._map, _FIELDS.index(name) * _SIZE)
        return int(found[0])

    def _set(self, name: str, value: int) -> None:
        struct.pack_into("=q", self._map, _FIELDS.index(name) * _SIZE, int(value))
