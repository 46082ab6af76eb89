"""Finds what is there: a variant by its row, an original by its stamp; and opens it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import BinaryIO

from ..errors import NotFound, StorageError, Unavailable
from ..model.formats import ENCODINGS, default_encoding, media_type_of
from ..model.source import Source, Stamp
from ..storage.body import Body
from ..storage.protocols import Contents, Store
from .answer import Answer, stored_answer
from .gate import Hashing
from .health import Health
from .resolve import Wanted

__all__ = ["Finder"]


class Finder:
    """Finds in *store* and *sources*, and notes in *health* what fails. Originals are hashed when *hashing*
    lets them. *may_give_originals*: they are open."""

    def __init__(
        self, sources: Contents, store: Store, health: Health, hashing: Hashing, *, may_give_originals: bool
    ) -> None:
        self._sources = sources
        self._store = store
        self._health = health
        self._hashing = hashing
        self._may_give_originals = may_give_originals
        self._epoch = 0

    def find(self, source: Source, wanted: Wanted) -> Answer | None:
        """The variant if it has a row; whether its object is sound shows when it is opened."""
        epoch = self._store.notices.epoch()
        if epoch != self._epoch:
            self._epoch = epoch
            self._store.follow()
        try:
            variant = self._store.index.variants.get(wanted.key)
        except StorageError as error:
            self._health.note(error)
            return None
        return replace(stored_answer(source, wanted, variant), epoch=epoch) if variant else None

    def original(self, source: Source) -> Answer:
        """The source itself, if it is a picture and originals are open. Raises NotFound."""
        if source.header is None or not self._may_give_originals:
            raise NotFound
        media_type = media_type_of(source.header)
        stem, _, suffix = source.path.rpartition("/")[2].rpartition(".")
        if not stem:  # a name without a suffix
            suffix = ENCODINGS[default_encoding(source.header)].suffix
        etag, epoch = f'"{source.digest[:32]}"', self._store.notices.epoch()
        return Answer(source, etag, source.stamp.size, media_type, suffix, epoch=epoch)

    def open(self, answer: Answer, *, may_hash: bool = True) -> Body | None:
        """The bytes of *answer*; None if they are gone or not the right ones: then ask the generator once
        more, with *must_open*. An original with another stamp is hashed, or where that may not be is None.
        Raises NotFound, TooLarge and Unavailable for an original."""
        if answer.body is not None:
            return answer.body
        if answer.variant is None:
            return self._open_original(answer.source, may_hash)
        try:
            return self._store.objects.body(answer.variant)
        except StorageError as error:
            self._health.note(error)
            return None

    def _open_original(self, source: Source, may_hash: bool) -> Body | None:
        file, stamp = self._sources.open(source.path)
        if stamp == source.stamp and not source.is_racy:
            return Body(file=file)
        try:
            if may_hash and self._has_digest(file, stamp, source.digest):
                return Body(file=file)
        except BaseException:
            file.close()
            raise
        file.close()
        return None

    def _has_digest(self, file: BinaryIO, stamp: Stamp, digest: str) -> bool:
        """Whether the bytes of *file*, which had *stamp* when it was opened, are those of *digest*."""
        try:
            with self._hashing.turn(stamp.size):
                found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            file.seek(0)
            return found == digest and Stamp.of(os.fstat(file.fileno())) == stamp
        except OSError as error:
            raise Unavailable("the picture can't be read at the moment") from error
