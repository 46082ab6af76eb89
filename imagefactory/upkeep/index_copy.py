"""A copy of the index, to look at without writing anything into the cache: opening diskcache does."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from ..errors import StorageError
from ..storage.folders import PRIVATE, make_folder

__all__ = ["copy_index"]


def copy_index(cache: Path, target: Path) -> None:
    """Copy the index of the cache in the folder *cache* into a cache in the folder *target*, which has none;
    nothing where there is none. Servers may go on. Raises StorageError."""
    path = cache / "index" / "cache.db"
    if not path.exists():
        return
    # Without its log nobody has it open, and SQLite need not make one to find that out.
    is_open = path.with_name("cache.db-wal").exists()
    make_folder(target / "index", PRIVATE)
    address = f"file:{quote(str(path))}?mode=ro{'' if is_open else '&immutable=1'}"
    try:
        with (
            closing(sqlite3.connect(address, uri=True)) as source,
            closing(sqlite3.connect(target / "index" / "cache.db")) as copy,
        ):
            source.backup(copy)
    except sqlite3.Error as error:
        raise StorageError("index", f"the index can't be read: {error}") from error
