"""The index: which sources are known, which variants exist, and what was counted.

Four tables in one database, a file for each. Keys are text, values are JSON text with a checksum over key and
value; a row with a wrong checksum is a miss.
"""

from __future__ import annotations

from pathlib import Path

from .completeness import Completeness
from .counts import DiskCounts
from .database import Database
from .source_rows import DiskSourceRows
from .variant_rows import DiskVariantRows

__all__ = ["DiskIndex"]


class DiskIndex:
    """The tables of the database in the folder *path*; see ``Database`` for how it is opened, and for what
    is raised."""

    def __init__(self, path: Path, lock_path: Path, aside: Path) -> None:
        self.database = Database(path, lock_path, aside)
        self.sources = DiskSourceRows(self.database)
        self.variants = DiskVariantRows(self.database)
        self.counts = DiskCounts(self.database)
        self.completeness = Completeness(self.database)
