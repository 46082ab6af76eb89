"""Preconditions and ranges: which status a request for a known body gets, and which of its bytes.

They are judged once the variant's entity tag, date and length are known and the answer would be a 200
(RFC 9110 §13.2.1). The fast path and the view send what the verdict says. Werkzeug 3.1.9 gets eight of these
rules wrong, and its ``parse_date`` raises OverflowError for some dates. No Flask, no clock and no file here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["Verdict", "content_range", "judge"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The status, and for a 206 the bytes to send: *start* inclusive, *stop* exclusive; 0 and 0 otherwise."""

    status: int
    start: int = 0
    stop: int = 0


_WHOLE = Verdict(200)
_NOT_MODIFIED = Verdict(304)
_FAILED = Verdict(412)
_UNSATISFIABLE = Verdict(416)

# RFC 9110 §8.8.3: W/ is case-sensitive; a tag may hold commas, and no spaces. §5.6.1.2: empty members of a
# list are to be accepted. Possessive repeats (*+) keep the match linear in hostile text.
_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*+"'
_TAGS = re.compile(rf"[ \t,]*+(?:{_TAG}[ \t]*+(?:,[ \t,]*+|\Z))*+")
_OPAQUE = re.compile(r'(W/)?("[^"]*+")')

# RFC 9110 §14.1.2, one range only; the RFC's own example has a space after the "=". ASCII digits, unlike \d.
_RANGE = re.compile(r"bytes=[ \t,]*+([0-9]*+)-([0-9]*+)[ \t,]*+", re.IGNORECASE | re.ASCII)
_HUGE = 10**18  # more than any file holds

# RFC 9110 §5.6.7: the one form that we write, and the two that a recipient has to read as well. email.utils
# and Werkzeug also read "+0200", missing seconds and the first of a list, which §13.1.3 says to ignore.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH, _CLOCK = rf"(?P<month>{'|'.join(_MONTHS)})", r"(?P<h>[0-9]{2}):(?P<m>[0-9]{2}):(?P<s>[0-9]{2})"
_DAY, _WEEKDAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)", "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_DATES = (
    re.compile(rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_CLOCK} GMT"),
    re.compile(rf"{_WEEKDAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_CLOCK} GMT"),
    re.compile(rf"{_DAY} {_MONTH} (?P<day>[ 0-9][0-9]) {_CLOCK} (?P<year>[0-9]{{4}})"),
)


def judge(
    environ: Mapping[str, object], etag: str, last_modified_s: int, length: int, now_s: float
) -> Verdict:
    """200, 206, 304, 412 or 416 for a GET or HEAD request, in the order of RFC 9110 §13.2.2.

    *etag* is the strong tag with its quotes, *last_modified_s* what Last-Modified says, *length* that of the
    whole body in bytes. Raises nothing, whatever the headers hold. Other methods are to be answered before.
    """
    # Steps 1 and 2. §13.1.4: If-Unmodified-Since is ignored beside If-Match, and when it is no valid date.
    if (tags := _header(environ, "HTTP_IF_MATCH")) is not None:
        if not _names(tags, etag, is_strong=True):
            return _FAILED
    elif (text := _header(environ, "HTTP_IF_UNMODIFIED_SINCE")) is not None:
        date_s = _date_s(text, now_s)
        if date_s is not None and last_modified_s > date_s:
            return _FAILED

    # Steps 3 and 4. §13.1.3: If-Modified-Since is ignored beside If-None-Match, also if that matches nothing.
    if (tags := _header(environ, "HTTP_IF_NONE_MATCH")) is not None:
        if _names(tags, etag, is_strong=False):
            return _NOT_MODIFIED
    elif (text := _header(environ, "HTTP_IF_MODIFIED_SINCE")) is not None and (
        # Equal, where §13.1.3 says "earlier or equal": a source's mtime goes backwards under cp -p and rsync,
        # and a picture replaced by one with an older date would be "not modified" for ever.
        _date_s(text, now_s) == last_modified_s
    ):
        return _NOT_MODIFIED

    # Step 5. §14.2: GET is the only method with ranges. §13.1.5: If-Range without Range is ignored.
    asked = _header(environ, "HTTP_RANGE")
    if asked is None or environ.get("REQUEST_METHOD") != "GET":
        return _WHOLE
    if_range = _header(environ, "HTTP_IF_RANGE")
    if if_range is not None and not _is_unchanged(if_range, etag, last_modified_s, now_s):
        return _WHOLE
    return _part(asked, length)


def content_range(verdict: Verdict, length: int) -> str:
    """The value of Content-Range for a 206 or a 416 (RFC 9110 §14.4); other answers have none."""
    if verdict.status == 416:
        return f"bytes */{length}"
    return f"bytes {verdict.start}-{verdict.stop - 1}/{length}"


def _header(environ: Mapping[str, object], name: str) -> str | None:
    """The value without the whitespace around it, empty if it was sent empty, or None if it was not sent."""
    value = environ.get(name)
    return value.strip(" \t") if isinstance(value, str) else None


def _names(tags: str, etag: str, *, is_strong: bool) -> bool:
    """True if *etag* is in the list *tags*, or the list is ``*`` (RFC 9110 §13.1.1 strong, §13.1.2 weak).

    A malformed list names nothing: the harmless reading, as it can cost a body but never give a false 304.
    """
    if tags in (etag, "*"):  # what clients send
        return True
    if not _TAGS.fullmatch(tags):
        return False
    # §8.8.3.2: weak comparison looks at the opaque part only, strong comparison wants both tags strong
    return any(opaque == etag and not (is_strong and weak) for weak, opaque in _OPAQUE.findall(tags))


def _is_unchanged(if_range: str, etag: str, last_modified_s: int, now_s: float) -> bool:
    """True if If-Range names this very body (RFC 9110 §13.1.5); what is neither tag nor date names none.

    One tag by strong comparison, which with a strong *etag* is equality; or the exact date, once it is a
    second old: before that the body may have changed twice within it (§8.8.2.2).
    """
    return if_range == etag or (_date_s(if_range, now_s) == last_modified_s and now_s - last_modified_s >= 1)


def _part(asked: str, length: int) -> Verdict:
    """206 or 416 for the one range in *asked*, or 200 where the RFC lets or makes us ignore it."""
    match = _RANGE.fullmatch(asked)
    # §14.2: an unknown unit MUST be ignored, an invalid specifier MAY be, and so MAY any Range. Several get
    # the whole body, also if none of them fits: viewers of pictures do not ask for multipart/byteranges.
    if match is None or not any(match.groups()):
        return _WHOLE
    # §14.2: "MAY ignore a Range header field when the selected representation has no content". By §14.1.2 a
    # suffix of it is satisfiable, but Content-Range can't say "no bytes" (§14.4).
    if length == 0:
        return _WHOLE
    first, last = match.groups()
    # §14.1.2: a suffix longer than the body is the whole body, a suffix of 0 bytes is unsatisfiable
    if not first:
        start, stop = max(0, length - _position(last)), length
    else:
        start, stop = _position(first), _position(last) + 1 if last else length
        if last and stop <= start:  # §14.1.1: last before first is invalid
            return _WHOLE
    return Verdict(206, start, min(stop, length)) if start < length else _UNSATISFIABLE


def _position(digits: str) -> int:
    """The number, at most 10**18. §14.1.2: anticipate large numerals; int() refuses more than 4300 digits."""
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= 18 else _HUGE


def _date_s(text: str, now_s: float) -> int | None:
    """The HTTP-date in unix seconds, or None if it is none (RFC 9110 §5.6.7): a list, another zone."""
    match = next((found for form in _DATES if (found := form.fullmatch(text))), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:  # §5.6.7: "more than 50 years in the future" means the last century
        year += 2000 if year + 2000 <= time.gmtime(now_s).tm_year + 50 else 1900
    month = _MONTHS.index(match["month"]) + 1
    clock = int(match["h"]), int(match["m"]), int(match["s"])
    try:
        return int(datetime(year, month, int(match["day"]), *clock, tzinfo=UTC).timestamp())
    except ValueError:  # 31 Feb, 25:00:00, a leap second
        return None
