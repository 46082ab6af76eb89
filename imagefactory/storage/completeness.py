"""Whether every object has its row: a row of its own says so, for as long as it is certain.

state whole         tag "state"; the inode of the database, or the token of a fill under way
"""

from __future__ import annotations

import secrets
from typing import Any

from .database import Database, Execute, Row, seal

__all__ = ["Completeness"]

_KEY = "state whole"


class Completeness:
    """Whether the index in *database* knows every object."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def is_whole(self) -> bool:
        """Whether every object has its row, as far as is known: false for an index that was begun anew beside
        objects, or that came from somewhere else, and after a process died that may have been about to write
        a row."""
        return bool(self._database.get(_KEY) == self._database.inode_on_disk())

    def set_whole(self, is_whole: bool) -> None:
        """Note whether every object has its row."""

        def work(cache: Any, sql: Execute) -> None:
            value = Row(seal(_KEY, self._database.inode_on_disk() if is_whole else None))
            cache.set(_KEY, value, tag="state", retry=False)

        self._database.write(work)

    def begin_filling(self) -> str:
        """Note that the objects are looked through from now on; a token for ``end_filling``."""
        token = secrets.token_hex(8)
        self._database.put(_KEY, token, "state")
        return token

    def is_filling(self, token: str) -> bool:
        """Whether nothing came between since ``begin_filling`` gave *token*."""
        return bool(self._database.get(_KEY) == token)

    def end_filling(self, token: str) -> bool:
        """The index is whole now, unless something came between: it was replaced, somebody died, or began
        to fill it after us. Whether it is."""

        def work(cache: Any, sql: Execute) -> bool:
            if not self.is_filling(token):
                return False
            cache.set(_KEY, Row(seal(_KEY, self._database.inode_on_disk())), tag="state", retry=False)
            return True

        return self._database.write(work)
