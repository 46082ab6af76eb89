"""Which files a process has open (Linux)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["open_below"]


def open_below(place: Path, pid: int | str = "self") -> list[str]:
    """The paths of what the process *pid* has open at *place* and below it, once for each descriptor."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            found.append(str(descriptor.readlink()))
    return sorted(path for path in found if f"{path}/".startswith(f"{place}/"))
