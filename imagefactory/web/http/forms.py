"""The files of a multipart form (RFC 7578), one after the other, as they arrive.

By Werkzeug's decoder without its file objects: each part is read in pieces by whoever stores it. What has no
file name is a field, and left out. A form is whole when its last boundary has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import (
    NEED_DATA,
    Data,
    Epilogue,
    Event,
    File,
    MultipartDecoder,
)

from ...errors import BadParameter, BodyTooLarge, Truncated, WrongType
from .bodies import Reader

__all__ = ["Part", "boundary_of", "parts"]

# Of what has no end yet: the headers of a part, a preamble. Pieces of 64 kB come into it.
_BUFFER = 256 * 1024
_MAX_HEADERS = 16 * 1024
_FIELDS = 100


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a form: the name that its client gives it, and its bytes, to be read before the next."""

    name: str
    pieces: Iterator[bytes]


def boundary_of(content_type: str) -> bytes:
    """The boundary of a form with this Content-Type. Raises WrongType."""
    kind, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if kind.lower() != "multipart/form-data" or not 1 <= len(boundary) <= 200 or not boundary.isascii():
        raise WrongType(content_type, "multipart/form-data with a boundary")
    return boundary.encode()


def parts(reader: Reader, boundary: bytes, max_files: int) -> Iterator[Part]:
    """The files of the form that *reader* reads. Raises Truncated where it ends before its last boundary,
    BodyTooLarge for more than *max_files* parts or headers without an end, BadParameter for what is no form.
    """
    events = _events(reader, boundary, max_files)
    for event in events:
        if isinstance(event, File):
            yield Part(event.filename or "", _data(events))
        elif isinstance(event, Epilogue):
            return
    raise reader.error or Truncated(reader.got)


def _data(events: Iterable[Event]) -> Iterator[bytes]:
    for event in events:
        if isinstance(event, Data):
            if event.data:
                yield event.data
            if not event.more_data:
                return


def _events(reader: Reader, boundary: bytes, max_files: int) -> Iterator[Event]:
    decoder = MultipartDecoder(boundary, _BUFFER, max_parts=max_files + _FIELDS)
    pieces = iter(reader)
    files = 0
    try:
        while True:
            event = decoder.next_event()
            if event is NEED_DATA:
                piece = next(pieces, None)
                decoder.receive_data(piece)
                continue
            if isinstance(event, File):
                files += 1
                if files > max_files:
                    raise BodyTooLarge(max_files, "a form", "files")
                if sum(map(len, (text for pair in event.headers for text in pair))) > _MAX_HEADERS:
                    raise BodyTooLarge(_MAX_HEADERS, "the head of a file")
            yield event
            if isinstance(event, Epilogue):
                return
    except RequestEntityTooLarge:
        raise BodyTooLarge(_BUFFER, "what is no file in a form") from None
    except ValueError as error:
        if decoder.complete:
            raise Truncated(reader.got) from error
        raise BadParameter("", "the body is no form of multipart/form-data") from error
