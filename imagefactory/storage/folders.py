"""Folders of the cache: their modes do not depend on the umask of whoever made them first."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["OPEN", "PRIVATE", "make_folder", "sync_folder"]

# A web server in the owner's group may come as far as the objects, and nobody else anywhere.
OPEN = 0o750
PRIVATE = 0o700


def make_folder(path: Path, mode: int) -> None:
    """Make the folder *path* with *mode*, and its missing parents with mode 0750; one that exists stays as
    it is. Raises OSError."""
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_folder(path.parent, OPEN)
    with suppress(FileExistsError):
        path.mkdir()
        path.chmod(mode)


def sync_folder(folder: Path) -> None:
    """Make what was renamed into *folder* durable. Raises OSError."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
