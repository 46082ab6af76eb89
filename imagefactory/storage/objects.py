"""The object store: one immutable file per rendered body, put in place by rename.

A file's path says source, recipe, encoding and body digest, so a damaged object is
found by hashing and a lost index can be made anew by walking:

    objects/<aa>/<source digest>/<recipe>.<first 32 hex of the body digest>.<suffix>
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from io import FileIO
from pathlib import Path

from ..errors import StorageError
from ..model.formats import KNOWN_ENCODINGS
from ..model.job import Rendered
from ..model.recipe import parse
from ..model.variant import Key, Variant
from .body import Body
from .folders import OPEN, make_folder, sync_folder
from .temp_files import Temp

__all__ = ["DiskObjects"]

_FILE_MODE = 0o640  # a web server in the owner's group may read objects (X-Accel-Redirect)
_MAX_SEEN = 100_000


_BY_SUFFIX = {row.suffix: row.name for row in KNOWN_ENCODINGS.values()}
_NAME = re.compile(
    r"([0-9a-f]{2})/([0-9a-f]{64})/([a-z0-9,._-]{1,180})\.([0-9a-f]{32})\.(" + "|".join(_BY_SUFFIX) + ")"
)

_Mark = tuple[int, int, int]


class DiskObjects:
    """The objects below *root*."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # Which (inode, size, mtime_ns) of an object this process has hashed, by its name.
        self._seen: dict[str, _Mark] = {}

    def name(self, key: Key, body: str) -> str:
        """The path below ``root`` of the object with *body* (sha256 in hex) for *key*."""
        suffix = KNOWN_ENCODINGS[key.encoding].suffix
        return f"{key.digest[:2]}/{key.digest}/{key.recipe}.{body[:32]}.{suffix}"

    def named(self, name: str) -> tuple[Key, str] | None:
        """Key and first 32 hex digits of the body for which ``name`` gives *name*; None if there are none."""
        match = _NAME.fullmatch(name)
        if match is None or match[1] != match[2][:2] or not _is_recipe(match[3]):
            return None
        return Key(match[2], match[3], _BY_SUFFIX[match[5]]), match[4]

    def open(self, variant: Variant) -> FileIO | None:
        """The object of *variant*, open for reading; None if it is not there, whole and unaltered.

        It is hashed when this process first opens it, and again when its inode, size or mtime changed.
        Raises StorageError when it can't be read for another reason than that it is gone.
        """
        name = self.name(variant.key, variant.body)
        try:
            file = _ObjectFile(f"{self.root}/{name}")  # a third of the time of Path.open
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError("objects", f"an object can't be read: {error.strerror}") from error
        try:
            if self._is_right(name, variant, file):
                file.on_failure = partial(self._seen.pop, name, None)
                return file
        except OSError as error:
            file.close()
            raise StorageError("objects", f"an object can't be read: {error.strerror}") from error
        file.close()
        return None

    def _is_right(self, name: str, variant: Variant, file: FileIO) -> bool:
        status = os.fstat(file.fileno())
        if status.st_size != variant.bytes:
            return False
        if self._seen.get(name) == _mark(status):
            return True
        if hashlib.file_digest(file, "sha256").hexdigest() != variant.body:
            return False
        file.seek(0)
        self._see(name, _mark(status))
        return True

    def _see(self, name: str, mark: _Mark) -> None:
        """Remember that the file at *name* has the right bytes while it has *mark*."""
        if len(self._seen) >= _MAX_SEEN:
            self._seen.clear()
        self._seen[name] = mark

    def body(self, variant: Variant) -> Body | None:
        """The bytes of *variant*, as ``open`` gives them."""
        file = self.open(variant)
        if file is None:
            return None
        return Body(file=file, root=self.root, name=self.name(variant.key, variant.body))

    def has(self, variant: Variant) -> bool:
        """Whether ``open`` would give a file."""
        file = self.open(variant)
        if file is not None:
            file.close()
        return file is not None

    def publish(self, temp: Temp, key: Key, rendered: Rendered) -> Variant:
        """Make *temp*, which holds what was *rendered*, the object of *key*, durably: fsync, rename, fsync of
        the folder.

        Returns the variant, for the index row that comes after. Raises StorageError, also when the bytes are
        not those that the renderer made, or none.
        """
        try:
            status = os.fstat(temp.number)
            with open(temp.number, "rb", closefd=False) as file:
                file.seek(0)
                body = hashlib.file_digest(file, "sha256").hexdigest()
            if status.st_size == 0 or rendered.digest not in ("", body):
                raise StorageError("objects", "a render is not in its file as it was made")
            variant = Variant(key, body, status.st_size, rendered.width, rendered.height)
            name = self.name(key, body)
            path = self.root / name
            os.fchmod(temp.number, _FILE_MODE)
            os.fsync(temp.number)
            for _ in range(3):
                try:
                    self._make_folder(path.parent)
                    temp.path.rename(path)
                    break
                except FileNotFoundError:  # a purge took the empty folder away
                    continue
            else:
                raise StorageError("objects", "the folder of an object vanishes again and again")
            sync_folder(path.parent)
        except OSError as error:
            raise StorageError("objects", f"an object can't be stored: {error.strerror}") from error
        self._see(name, _mark(status))
        return variant

    def _make_folder(self, folder: Path) -> None:
        """Make *folder* and its parents, each entry durable."""
        if folder.is_dir():
            return
        if folder != self.root.parent:
            self._make_folder(folder.parent)
        make_folder(folder, OPEN)
        sync_folder(folder.parent)

    def remove(self, key: Key, body: str) -> bool:
        """Remove one object, and its folder if that is empty now. Whether it is gone, by us or before."""
        path = self.root / self.name(key, body)
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:
            return False
        with suppress(OSError):
            path.parent.rmdir()
        return True

    def inode(self, name: str) -> int:
        """The inode of the file at *name* below ``root``, 0 where there is none."""
        try:
            return os.lstat(f"{self.root}/{name}").st_ino
        except OSError:
            return 0

    def bodies(self, key: Key) -> list[str]:
        """The body digests, as far as names tell them (32 hex), of the objects that lie there for *key*."""
        pattern = re.compile(
            rf"{re.escape(key.recipe)}\.([0-9a-f]{{32}})\.{KNOWN_ENCODINGS[key.encoding].suffix}"
        )
        folder = self.root / key.digest[:2] / key.digest
        try:
            names = os.listdir(folder)  # noqa: PTH208  # names are all that is wanted
        except OSError:
            return []
        return [match[1] for name in names if (match := pattern.fullmatch(name))]

    def inspect(self, key: Key, body: str) -> tuple[str, int] | None:
        """The sha256 in hex of the object's bytes and how many there are; None if it is not there, or its
        bytes are not those that *body*, the 32 hex digits of its name, stand for. Raises StorageError."""
        name = self.name(key, body)
        try:
            with FileIO(f"{self.root}/{name}") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                status = os.fstat(file.fileno())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError("objects", f"an object can't be read: {error.strerror}") from error
        if not digest.startswith(body) or status.st_size == 0:
            return None
        self._see(name, _mark(status))
        return digest, status.st_size

    def by_folder(self) -> Iterator[list[str]]:
        """The paths below ``root`` of all that lies there, a list for each source, in order.

        What is no folder where one should be comes in a list of its own. Raises StorageError.
        """
        for outer in _names(self.root):
            for inner in _names(self.root / outer, [""]):
                folder = f"{outer}/{inner}".rstrip("/")
                yield [f"{folder}/{name}".rstrip("/") for name in _names(self.root / folder, [""])]

    def walk(self) -> Iterator[Path]:
        """The paths of all objects."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                yield Path(folder, name)


class _ObjectFile(FileIO):
    """An object, open for reading. *on_failure* is called when it can't be read: the next one who opens it
    hashes it first, finds that out, and has it made again."""

    on_failure: Callable[[], object] | None = None

    def read(self, size: int | None = -1) -> bytes:
        try:
            return super().read(-1 if size is None else size)
        except OSError:
            if self.on_failure:
                self.on_failure()
            raise


def _mark(status: os.stat_result) -> _Mark:
    return status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(10_000)
def _is_recipe(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _names(folder: Path, otherwise: list[str] | None = None) -> list[str]:
    """The names in *folder*, in order; *otherwise* where it is no folder."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208  # names are all that is wanted
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        return otherwise or []
    except OSError as error:
        raise StorageError("objects", f"a folder of objects can't be read: {error.strerror}") from error
