"""How a program is kept from what is not its business: by bubblewrap, by Landlock, or by its limits alone.

``running`` asks which of them is there and how to start a program in it. What each of them refuses is a
table in docs/programs.md, which ``tests/render/programs/test_sandbox.py`` checks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from ...model.program import Program
from . import kernel

__all__ = [
    "Kind",
    "available",
    "bubblewrapped",
    "describe",
    "is_closed",
    "kind_for",
    "problem",
    "readable",
    "readable_in_landlock",
]

Kind = Literal["bubblewrap", "landlock", "none"]

# What programs need to start, and what they look for: shared libraries, fonts, the policy of ImageMagick.
# Debian's ffmpeg finds libblas by /etc/alternatives.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
_SETTINGS = (
    *("/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts", "/etc/ImageMagick-6", "/etc/ImageMagick-7"),
    "/var/cache/fontconfig",
)
# What libraries ask about the machine and their process. In bubblewrap there is a /proc of the sandbox's own.
_MACHINE = ("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/sys/devices/system/cpu")
_TRIAL_S = 10
_TMP_BYTES = 2**30


@cache
def available() -> Kind:
    """The best kind of sandbox that works here. It is tried once: bubblewrap may be installed and forbidden,
    as in most containers."""
    if not _why_no_bubblewrap():
        return "bubblewrap"
    return "landlock" if kernel.landlock_version() else "none"


def is_closed(kind: Kind) -> bool:
    """Whether *kind* closes the file system and the network, as ``sandbox = "required"`` wants it.

    Landlock does from its version 3 on: before it, any file could be cut short.
    """
    if kind == "landlock":
        return kernel.landlock_version() >= 3 and kernel.has_seccomp()
    return kind == "bubblewrap"


def kind_for(program: Program) -> Kind:
    """The sandbox that *program* is run in."""
    return "none" if program.sandbox == "none" else available()


def problem(wanted: str) -> str:
    """Why a program for which a sandbox is *wanted* (``auto``, ``required``, ``none``) can't be run here;
    empty if it can."""
    if wanted != "required" or is_closed(available()):
        return ""
    return f"'required' needs bubblewrap, or Linux 6.2 with Landlock; here is {describe()}"


def describe() -> str:
    """The sandbox of this machine, and why there is no better one; one line for people."""
    kind = available()
    if kind == "bubblewrap":
        return "bubblewrap"
    found = (
        f"Landlock, version {kernel.landlock_version()}" if kind == "landlock" else "no sandbox, limits only"
    )
    return f"{found} (bubblewrap {_why_no_bubblewrap()})"


def readable(program: Program) -> tuple[str, ...]:
    """The folders and files that *program* may read, beside its source."""
    start = Path(program.start[0])
    own = {str(folder) for folder in (start.parent, start.resolve().parent) if not _is_below(folder, _SYSTEM)}
    return (*_SYSTEM, *_SETTINGS, *sorted(own), *program.read)


def readable_in_landlock(program: Program) -> tuple[str, ...]:
    """As ``readable``, for Landlock."""
    return (*readable(program), *_MACHINE)


def bubblewrapped(
    arguments: Sequence[str],
    paths: Sequence[str],
    tmp_bytes: int = 0,
    *,
    source: int | None = None,
    is_input: bool = False,
    folder: str = "",
    report: int | None = None,
) -> list[str]:
    """The command that runs *arguments* in bubblewrap, where they see *paths*.

    *source* is a descriptor whose file is there as ``/in``; *is_input* makes it the standard input. *folder*
    is there as ``/out`` and can be written. bubblewrap says to the descriptor *report* how it went.

    The source's own descriptor stays outside: whatever a file was opened for, a program can open
    ``/proc/self/fd/N`` again for writing, where the rights of the file allow it. ``/in`` is read only.
    """
    command = [_bubblewrap(), "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--chdir", "/"]
    command += ["--proc", "/proc", "--dev", "/dev", "--size", str(tmp_bytes or _TMP_BYTES), "--tmpfs", "/tmp"]  # noqa: S108  # its own
    for path in paths:
        if path in _SYSTEM and Path(path).is_symlink():
            command += ["--symlink", str(Path(path).readlink()), path]
        else:
            command += ["--ro-bind-try", path, path]
    if folder:
        command += ["--bind", folder, "/out"]
    if source is not None:
        command += ["--ro-bind-fd", str(source), "/in"]
    command += ["--remount-ro", "/dev", "--remount-ro", "/"]  # they are in memory, and have no bound
    if report is not None:
        command += ["--json-status-fd", str(report)]
    if is_input:
        return [*command, "--", "/bin/sh", "-c", 'exec "$@" </in', "sh", *arguments]
    return [*command, "--", *arguments]


def _is_below(folder: Path, roots: Sequence[str]) -> bool:
    return any(folder.is_relative_to(root) for root in roots)


@cache
def _bubblewrap() -> str:
    return shutil.which("bwrap") or ""


@cache
def _why_no_bubblewrap() -> str:
    """Empty if it works: with a file bound by its descriptor, which versions before 2024-08 can't."""
    if not _bubblewrap():
        return "is not installed"
    number = os.open(__file__, os.O_RDONLY | os.O_CLOEXEC)
    try:
        subprocess.run(  # noqa: S603  # all of it is ours
            bubblewrapped(["/bin/true"], (*_SYSTEM, *_SETTINGS), source=number, is_input=True),
            pass_fds=[number],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TRIAL_S,
            check=True,
            text=True,
            errors="replace",
        )
    except subprocess.CalledProcessError as error:
        return f"does not work: {str(error.stderr).strip()[-200:]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not work: {type(error).__name__}"
    finally:
        os.close(number)
    return ""
