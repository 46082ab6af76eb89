"""What the generator answers: a variant or an original, and how it came about."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..model.formats import KNOWN_ENCODINGS
from ..model.job import Rendered
from ..model.source import Source
from ..model.variant import Variant
from ..storage.body import Body
from .resolve import Wanted

__all__ = ["Answer", "stored_answer", "unstored_answer"]


Chunks = Iterable[bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """A variant or an original to send.

    *result* is hit, miss (rendered for this request), coalesced (rendered for another one meanwhile) or
    bypass (right, but not stored). *body* is there where the bytes are in memory; else ``Finder.open`` gives
    it, and a 304 needs none. *is_stable* is false where the source would not hold still. *epoch* is
    that of the store before the look-up, None where the answer may not be remembered. With a *stream* it is
    still made, and these are its bytes: their number, the tag and the variant are not known yet.
    """

    source: Source
    etag: str
    bytes: int
    media_type: str
    suffix: str
    result: str = "hit"
    version: str = ""
    variant: Variant | None = None
    body: Body | None = None
    is_stable: bool = True
    epoch: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    stream: Chunks | None = None


def stored_answer(source: Source, wanted: Wanted, variant: Variant) -> Answer:
    """The answer with *variant*, which lies in the cache."""
    encoding = KNOWN_ENCODINGS[variant.key.encoding]
    return Answer(
        source,
        variant.etag,
        variant.bytes,
        encoding.media_type,
        encoding.suffix,
        version=wanted.version,
        variant=variant,
    )


def unstored_answer(source: Source, wanted: Wanted, rendered: Rendered, data: bytes) -> Answer:
    """The answer with what was *rendered* into *data* and is not stored."""
    body = hashlib.sha256(data).hexdigest()
    variant = Variant(wanted.key, body, len(data), rendered.width, rendered.height)
    return replace(
        stored_answer(source, wanted, variant), body=Body(data), result="bypass", seconds=rendered.seconds
    )
