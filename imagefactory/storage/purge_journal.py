"""Variants are removed so that a process killed in between leaves nothing for ever: what shall go is written
down first, and whoever finds such a list without its writer finishes it.

An object whose row went, but which stayed itself, would be found by a
rebuild and come back. A list is a file ``tmp/<token>.doomed``, locked by its writer, with the inode and the
name of an object on each line: an object that has the name but another inode was rendered after the list
was written, and stays.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path

from ..errors import StorageError, TimedOut
from ..model.variant import Key
from .claims import FileClaims
from .folders import sync_folder
from .index import DiskIndex
from .notices import EpochFile
from .objects import DiskObjects
from .temp_files import Temp, TempFiles
from .variant_rows import VariantRow

__all__ = ["PurgeJournal"]

_SUFFIX = ".doomed"
_LINE = re.compile(r"([0-9]+) ((?!/)[^\x00\n]+)\n")
_ROWS_AT_ONCE = 500  # in one transaction: others wait for its end
_CLAIMS_AT_ONCE = 200
_FULL = (errno.ENOSPC, errno.EDQUOT)


class PurgeJournal:
    """Removals from the cache of *index*, *objects* and *claims*, written down in *temps*; all processes hear
    of them by *notices*."""

    def __init__(
        self, index: DiskIndex, objects: DiskObjects, temps: TempFiles, claims: FileClaims, notices: EpochFile
    ) -> None:
        self._variants = index.variants
        self._objects = objects
        self._temps = temps
        self._claims = claims
        self._notices = notices

    def remove(
        self, rows: Sequence[VariantRow], names: Mapping[str, int], timeout_s: float
    ) -> list[VariantRow]:
        """Remove *rows*, then the objects at *names* (paths below objects/, with the inode of each); the rows
        that went now. Those that were made anew since they were read stay, and so do their objects.

        The caller has renewed the epoch before he looked for them: who was rendering then throws away what he
        made. Raises StorageError, and TimedOut when an object is being rendered for longer than *timeout_s*:
        then the rest is done by whoever uses the cache next.
        """
        with self._temps.create() as temp:
            path = self._note(temp, names)
            if path is None:
                # The disk is full, and rows can't be deleted then either. Killed here, rows stay without
                # their objects: they are misses, and the next purge takes them away.
                self._unlink(name for name, inode in names.items() if self._objects.inode(name) == inode)
            gone = []
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                gone += self._variants.remove_rows(rows[start : start + _ROWS_AT_ONCE], but_remade=True)
            # A process may have found a row before it went, and remembered it with the epoch of then.
            self._notices.renew()
            self._finish(names, timeout_s)
            if path is not None:
                with suppress(OSError):
                    path.unlink()
        return gone

    def finish(self, timeout_s: float) -> int:
        """Finish what processes began which died; how many lists of theirs there were.

        Raises StorageError, and TimedOut as ``remove`` does.
        """
        count = 0
        for path in self._paths():
            try:
                number = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:
                continue  # finished by another one
            with os.fdopen(number, encoding="utf-8", errors="surrogateescape") as file:
                try:
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    text = file.read()
                except OSError:
                    continue  # its writer lives, or the next one who starts can read it
                # A line without an end was cut: then no row has gone yet.
                found = _LINE.findall(text)
                names = {name: int(inode) for inode, name in found if ".." not in name.split("/")}
                self._finish(names, timeout_s)
                with suppress(OSError):
                    path.unlink()
            count += 1
        return count

    def announced(self) -> dict[str, int]:
        """The names of the objects that somebody is about to remove, with the inode of each: a list stays
        until all of them are gone."""
        found = {}
        for path in self._paths():
            with suppress(OSError):
                text = path.read_text("utf-8", "surrogateescape")
                found.update({name: int(inode) for inode, name in _LINE.findall(text)})
        return found

    def _paths(self) -> list[Path]:
        try:
            return list(self._temps.folder.glob(f"*{_SUFFIX}"))
        except OSError:
            return []

    def _note(self, temp: Temp, names: Mapping[str, int]) -> Path | None:
        """Write *names* down, durably; None if the disk is too full for that. Raises StorageError."""
        path = temp.path.with_suffix(_SUFFIX)
        try:
            with open(temp.number, "w", encoding="utf-8", errors="surrogateescape", closefd=False) as file:
                file.writelines(f"{inode} {name}\n" for name, inode in names.items())
            os.fsync(temp.number)
            temp.path.rename(path)
            sync_folder(path.parent)
        except OSError as error:
            with suppress(OSError):
                path.unlink()
            if error.errno in _FULL:
                with suppress(OSError):
                    os.ftruncate(temp.number, 0)
                return None
            raise StorageError("objects", f"what shall go can't be written down: {error.strerror}") from error
        return path

    def _finish(self, names: Mapping[str, int], timeout_s: float) -> None:
        """Remove the objects at *names* that have their inode still, and rows that name them.

        With the claim of each: nobody is between an object and its row. Where there is a row again, it was
        put there for the object that is to go, by a process that found this without a row.
        """
        busy = []
        left = iter(sorted(names.items()))  # so that a folder is looked at once, when it is empty
        while some := list(islice(left, _CLAIMS_AT_ONCE)):
            with ExitStack() as claims:
                mine = []
                for name, inode in some:
                    named = self._objects.named(name)
                    try:
                        if named is not None:
                            claims.enter_context(self._claims.take(named[0].text(), 0))
                    except TimedOut:
                        busy.append((name, inode))
                        continue
                    mine.append((name, inode, named))
                self._take(mine)
        for name, inode in busy:  # one by one: who waits holds no other claim
            named = self._objects.named(name)
            if named is not None:
                with self._claims.take(named[0].text(), timeout_s):
                    self._take([(name, inode, named)])

    def _take(self, some: Iterable[tuple[str, int, tuple[Key, str] | None]]) -> None:
        """Remove these objects, whose claims are held, and their rows."""
        has_rows = False
        some = [entry for entry in some if self._objects.inode(entry[0]) in (0, entry[1])]
        known = self._variants.keys_of(list({named[0].digest for _, _, named in some if named}))
        for _, _, named in some:
            if named is not None and named[0].text() in known[named[0].digest]:
                key, body = named
                variant = self._variants.get(key)
                if variant is None or variant.body.startswith(body):
                    self._variants.remove(key)
                    has_rows = True
        if has_rows:
            self._notices.renew()
        self._unlink(name for name, _, _ in some)

    def _unlink(self, names: Iterable[str]) -> None:
        """Remove these objects, and their folders where they are empty now. Raises StorageError."""
        root, folders = self._objects.root, set()
        for name in names:
            folders.add(name.rpartition("/")[0])
            try:
                os.unlink(f"{root}/{name}")  # noqa: PTH108  # ten thousand Paths take longer than this
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as error:
                raise StorageError("objects", f"an object can't be removed: {error.strerror}") from error
        for folder in folders - {""}:
            with suppress(OSError):
                os.rmdir(f"{root}/{folder}")  # noqa: PTH106
