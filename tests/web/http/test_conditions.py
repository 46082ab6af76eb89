"""Preconditions and ranges follow RFC 9110 §13.2.2 and §14, also where Werkzeug 3.1.9 does not."""

from __future__ import annotations

import calendar
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.web.http.conditions import Verdict, content_range, judge

ETAG = '"0123456789abcdef"'
LENGTH = 1000
MODIFIED_S = 784_111_777
MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"
NOW_S = 1_800_000_000.5  # in 2027

NAMES = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "Range", "If-Range")


def environ(headers: dict[str, str]) -> dict[str, object]:
    """What a WSGI server makes of the headers; a key ``method`` among them stands for the method."""
    named = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers.items()}
    return {"REQUEST_METHOD": named.pop("HTTP_METHOD", "GET"), "PATH_INFO": "/picture/a.jpg", **named}


def verdict(headers: dict[str, str], length: int = LENGTH, now_s: float = NOW_S) -> Verdict:
    return judge(environ(headers), ETAG, MODIFIED_S, length, now_s)


HEAD = {"method": "HEAD"}
RANGE = {"Range": "bytes=0-99"}

# id, request headers, status, start, stop
TABLE = [
    ("plain GET", {}, 200, 0, 0),
    ("plain HEAD", {**HEAD}, 200, 0, 0),
    # what Werkzeug 3.1.9 answers otherwise
    ("werkzeug: Range with a matching If-None-Match", {**RANGE, "If-None-Match": ETAG}, 304, 0, 0),
    ("werkzeug: Range with a failing If-Match", {**RANGE, "If-Match": '"other"'}, 412, 0, 0),
    ("werkzeug: HEAD with Range", {**HEAD, **RANGE}, 200, 0, 0),
    ("werkzeug: unknown unit", {"Range": "lines=0-9"}, 200, 0, 0),
    ("werkzeug: suffix longer than the body", {"Range": "bytes=-1001"}, 206, 0, 1000),
    ("werkzeug: If-Match: *", {"If-Match": "*"}, 200, 0, 0),
    ("werkzeug: failing If-Unmodified-Since", {"If-Unmodified-Since": EARLIER}, 412, 0, 0),
    ("werkzeug: weak If-Range", {**RANGE, "If-Range": "W/" + ETAG}, 200, 0, 0),
    # If-Match: strong comparison
    ("If-Match same", {"If-Match": ETAG}, 200, 0, 0),
    ("If-Match in a list", {"If-Match": f'"a", {ETAG}'}, 200, 0, 0),
    ("If-Match weak", {"If-Match": "W/" + ETAG}, 412, 0, 0),
    ("If-Match weak and strong", {"If-Match": f"W/{ETAG}, {ETAG}"}, 200, 0, 0),
    ("If-Match other", {"If-Match": '"a", "b"'}, 412, 0, 0),
    ("If-Match on HEAD", {**HEAD, "If-Match": '"a"'}, 412, 0, 0),
    ("If-Match * with space", {"If-Match": " * "}, 200, 0, 0),
    ("If-Match empty", {"If-Match": ""}, 412, 0, 0),
    ("If-Match without quotes", {"If-Match": ETAG.strip('"')}, 412, 0, 0),
    ("If-Match * in a list", {"If-Match": f"*, {ETAG}"}, 412, 0, 0),
    ("If-Match beats If-Unmodified-Since", {"If-Match": ETAG, "If-Unmodified-Since": EARLIER}, 200, 0, 0),
    ("failing If-Match, true date", {"If-Match": '"a"', "If-Unmodified-Since": LATER}, 412, 0, 0),
    ("If-Match before If-None-Match", {"If-Match": '"a"', "If-None-Match": ETAG}, 412, 0, 0),
    ("If-Match true, then If-None-Match", {"If-Match": ETAG, "If-None-Match": ETAG}, 304, 0, 0),
    ("If-Match true, then Range", {"If-Match": ETAG, **RANGE}, 206, 0, 100),
    # If-Unmodified-Since
    ("If-Unmodified-Since same", {"If-Unmodified-Since": MODIFIED}, 200, 0, 0),
    ("If-Unmodified-Since later", {"If-Unmodified-Since": LATER}, 200, 0, 0),
    ("If-Unmodified-Since earlier, Range", {"If-Unmodified-Since": EARLIER, **RANGE}, 412, 0, 0),
    ("If-Unmodified-Since empty", {"If-Unmodified-Since": ""}, 200, 0, 0),
    ("If-Unmodified-Since invalid", {"If-Unmodified-Since": "yesterday"}, 200, 0, 0),
    ("If-Unmodified-Since list", {"If-Unmodified-Since": f"{EARLIER}, {EARLIER}"}, 200, 0, 0),
    ("If-Unmodified-Since before 304", {"If-Unmodified-Since": EARLIER, "If-None-Match": ETAG}, 412, 0, 0),
    # If-None-Match: weak comparison
    ("If-None-Match same", {"If-None-Match": ETAG}, 304, 0, 0),
    ("If-None-Match on HEAD", {**HEAD, "If-None-Match": ETAG}, 304, 0, 0),
    ("If-None-Match weak", {"If-None-Match": "W/" + ETAG}, 304, 0, 0),
    ("If-None-Match small w", {"If-None-Match": "w/" + ETAG}, 200, 0, 0),
    ("If-None-Match *", {"If-None-Match": "*"}, 304, 0, 0),
    ("If-None-Match '*' in quotes is a tag", {"If-None-Match": '"*"'}, 200, 0, 0),
    ("If-None-Match other", {"If-None-Match": '"a"'}, 200, 0, 0),
    ("If-None-Match list", {"If-None-Match": f'"a", W/"b" ,\t{ETAG}'}, 304, 0, 0),
    ("If-None-Match list without spaces", {"If-None-Match": f'"a",{ETAG},"b"'}, 304, 0, 0),
    ("If-None-Match empty members", {"If-None-Match": f", ,{ETAG},,"}, 304, 0, 0),
    ("If-None-Match comma in a tag", {"If-None-Match": f'"a,b", {ETAG}'}, 304, 0, 0),
    ("If-None-Match ours inside a longer tag", {"If-None-Match": '"a,0123456789abcdef"'}, 200, 0, 0),
    ("If-None-Match empty tag", {"If-None-Match": f'"", {ETAG}'}, 304, 0, 0),
    ("If-None-Match latin-1 tag", {"If-None-Match": f'"\xe9\xff", {ETAG}'}, 304, 0, 0),
    ("If-None-Match empty", {"If-None-Match": ""}, 200, 0, 0),
    ("If-None-Match only commas", {"If-None-Match": ",,"}, 200, 0, 0),
    ("If-None-Match without quotes", {"If-None-Match": ETAG.strip('"')}, 200, 0, 0),
    ("If-None-Match open quote", {"If-None-Match": f'{ETAG}, "a'}, 200, 0, 0),
    ("If-None-Match without comma", {"If-None-Match": f'"a"{ETAG}'}, 200, 0, 0),
    ("If-None-Match junk beside ours", {"If-None-Match": f"{ETAG}, junk"}, 200, 0, 0),
    ("If-None-Match space in a tag", {"If-None-Match": f'"a b", {ETAG}'}, 200, 0, 0),
    ("If-None-Match space after W/", {"If-None-Match": f"W/ {ETAG}"}, 200, 0, 0),
    ("If-None-Match many quotes", {"If-None-Match": '"' * 99_999}, 200, 0, 0),
    ("If-None-Match many commas", {"If-None-Match": ", " * 99_999 + "x"}, 200, 0, 0),
    ("If-None-Match many tags", {"If-None-Match": '"a" , ' * 99_999 + "x"}, 200, 0, 0),
    # If-Modified-Since: only the equal date, as mtimes go backwards
    ("If-Modified-Since same", {"If-Modified-Since": MODIFIED}, 304, 0, 0),
    ("If-Modified-Since same, HEAD", {**HEAD, "If-Modified-Since": MODIFIED}, 304, 0, 0),
    ("If-Modified-Since same, Range", {**RANGE, "If-Modified-Since": MODIFIED}, 304, 0, 0),
    ("If-Modified-Since earlier", {"If-Modified-Since": EARLIER}, 200, 0, 0),
    ("If-Modified-Since later", {"If-Modified-Since": LATER}, 200, 0, 0),
    ("If-None-Match beats the date", {"If-Modified-Since": MODIFIED, "If-None-Match": '"a"'}, 200, 0, 0),
    ("empty If-None-Match, too", {"If-Modified-Since": MODIFIED, "If-None-Match": ""}, 200, 0, 0),
    ("date of RFC 850", {"If-Modified-Since": "Sunday, 06-Nov-94 08:49:37 GMT"}, 304, 0, 0),
    ("date of asctime", {"If-Modified-Since": "Sun Nov  6 08:49:37 1994"}, 304, 0, 0),
    ("date with spaces around", {"If-Modified-Since": f"\t{MODIFIED} "}, 304, 0, 0),
    ("date empty", {"If-Modified-Since": ""}, 200, 0, 0),
    ("date twice", {"If-Modified-Since": f"{MODIFIED}, {MODIFIED}"}, 200, 0, 0),
    ("date in another zone", {"If-Modified-Since": "Sun, 06 Nov 1994 09:49:37 +0100"}, 200, 0, 0),
    ("date in no zone", {"If-Modified-Since": "Sun, 06 Nov 1994 08:49:37"}, 200, 0, 0),
    ("date with an unknown day", {"If-Modified-Since": "Son, 06 Nov 1994 08:49:37 GMT"}, 200, 0, 0),
    ("date 31 Feb", {"If-Modified-Since": "Sun, 31 Feb 1994 08:49:37 GMT"}, 200, 0, 0),
    ("date at 25 o'clock", {"If-Modified-Since": "Sun, 06 Nov 1994 25:49:37 GMT"}, 200, 0, 0),
    ("date in the year 0", {"If-Modified-Since": "Sun, 06 Nov 0000 08:49:37 GMT"}, 200, 0, 0),
    ("date in Arabic digits", {"If-Modified-Since": "Sun, 0\u0666 Nov 1994 08:49:37 GMT"}, 200, 0, 0),
    # two that Werkzeug's parse_date raises OverflowError for
    ("date in a long year", {"If-Modified-Since": "Sun, 06 Nov 99999999999 08:49:37 GMT"}, 200, 0, 0),
    ("date in a long zone", {"If-Modified-Since": "Sun, 06 Nov 1994 08:49:37 +99999999999999"}, 200, 0, 0),
    # Range
    ("first bytes", {"Range": "bytes=0-99"}, 206, 0, 100),
    ("one byte", {"Range": "bytes=0-0"}, 206, 0, 1),
    ("last byte", {"Range": "bytes=999-999"}, 206, 999, 1000),
    ("all bytes", {"Range": "bytes=0-"}, 206, 0, 1000),
    ("rest", {"Range": "bytes=500-"}, 206, 500, 1000),
    ("suffix", {"Range": "bytes=-100"}, 206, 900, 1000),
    ("suffix as long as the body", {"Range": "bytes=-1000"}, 206, 0, 1000),
    ("last beyond the end is cut", {"Range": "bytes=900-1000"}, 206, 900, 1000),
    ("last far beyond the end", {"Range": "bytes=900-" + "9" * 5000}, 206, 900, 1000),
    ("suffix of thousands of digits", {"Range": "bytes=-" + "9" * 5000}, 206, 0, 1000),
    ("thousands of zeros", {"Range": f"bytes={'0' * 5000}7-{'0' * 6000}8"}, 206, 7, 9),
    ("first beyond the end", {"Range": "bytes=1000-"}, 416, 0, 0),
    ("first and last beyond the end", {"Range": "bytes=1000-2000"}, 416, 0, 0),
    ("first of thousands of digits", {"Range": "bytes=" + "9" * 5000 + "-"}, 416, 0, 0),
    ("both of thousands of digits", {"Range": f"bytes={'9' * 5000}-{'9' * 5001}"}, 416, 0, 0),
    ("suffix of nothing", {"Range": "bytes=-0"}, 416, 0, 0),
    ("suffix of nothing, twice", {"Range": "bytes=-00"}, 416, 0, 0),
    ("unit in capitals", {"Range": "BYTES=0-99"}, 206, 0, 100),
    ("space after =, as the RFC writes it", {"Range": "bytes= 0-99"}, 206, 0, 100),
    ("empty members", {"Range": "bytes=, ,0-99 ,\t"}, 206, 0, 100),
    ("spaces around the value", {"Range": " bytes=0-99\t"}, 206, 0, 100),
    ("space before =", {"Range": "bytes =0-99"}, 200, 0, 0),
    ("spaces around the dash", {"Range": "bytes=0 - 99"}, 200, 0, 0),
    ("last before first", {"Range": "bytes=99-0"}, 200, 0, 0),
    ("last before first, both beyond", {"Range": "bytes=2000-1999"}, 200, 0, 0),
    ("no numbers", {"Range": "bytes=-"}, 200, 0, 0),
    ("no range", {"Range": "bytes="}, 200, 0, 0),
    ("only commas", {"Range": "bytes=,,"}, 200, 0, 0),
    ("no dash", {"Range": "bytes=5"}, 200, 0, 0),
    ("no =", {"Range": "bytes"}, 200, 0, 0),
    ("empty", {"Range": ""}, 200, 0, 0),
    ("minus twice", {"Range": "bytes=--5"}, 200, 0, 0),
    ("signs", {"Range": "bytes=+1-5"}, 200, 0, 0),
    ("underscores", {"Range": "bytes=1_0-50"}, 200, 0, 0),
    ("Arabic digits", {"Range": "bytes=\u0660-\u0665"}, 200, 0, 0),
    ("superscript digits", {"Range": "bytes=0-\xb2"}, 200, 0, 0),
    ("hexadecimal", {"Range": "bytes=0x0-0xf"}, 200, 0, 0),
    ("a line's end", {"Range": "bytes=0-99\n"}, 200, 0, 0),
    ("long s in the unit", {"Range": "byte\u017f=0-99"}, 200, 0, 0),
    ("two ranges", {"Range": "bytes=0-0,-1"}, 200, 0, 0),
    ("two ranges, none fits", {"Range": "bytes=2000-,3000-"}, 200, 0, 0),
    ("two headers joined", {"Range": "bytes=0-1, bytes=2-3"}, 200, 0, 0),
    ("thousands of ranges", {"Range": "bytes=" + "0-," * 99_999 + "0-"}, 200, 0, 0),
    ("thousands of spaces", {"Range": "bytes=" + " " * 99_999 + "x"}, 200, 0, 0),
    ("HEAD with an unsatisfiable Range", {**HEAD, "Range": "bytes=5000-"}, 200, 0, 0),
    ("unsatisfiable, but not modified", {"Range": "bytes=5000-", "If-None-Match": ETAG}, 304, 0, 0),
    # If-Range
    ("If-Range same tag", {**RANGE, "If-Range": ETAG}, 206, 0, 100),
    ("If-Range other tag", {**RANGE, "If-Range": '"a"'}, 200, 0, 0),
    ("If-Range list of tags", {**RANGE, "If-Range": f"{ETAG}, {ETAG}"}, 200, 0, 0),
    ("If-Range *", {**RANGE, "If-Range": "*"}, 200, 0, 0),
    ("If-Range empty", {**RANGE, "If-Range": ""}, 200, 0, 0),
    ("If-Range same date", {**RANGE, "If-Range": MODIFIED}, 206, 0, 100),
    ("If-Range earlier date", {**RANGE, "If-Range": EARLIER}, 200, 0, 0),
    ("If-Range later date", {**RANGE, "If-Range": LATER}, 200, 0, 0),
    ("If-Range junk", {**RANGE, "If-Range": "junk"}, 200, 0, 0),
    ("If-Range without Range", {"If-Range": '"a"'}, 200, 0, 0),
    ("If-Range true, unsatisfiable", {"Range": "bytes=5000-", "If-Range": ETAG}, 416, 0, 0),
    ("If-Range false, unsatisfiable", {"Range": "bytes=5000-", "If-Range": '"a"'}, 200, 0, 0),
    ("If-Range after If-None-Match", {**RANGE, "If-Range": ETAG, "If-None-Match": ETAG}, 304, 0, 0),
]


@pytest.mark.parametrize(("name", "headers", "status", "start", "stop"), TABLE, ids=[row[0] for row in TABLE])
def test_request_gets_the_verdict_of_rfc_9110(name, headers, status, start, stop):
    assert verdict(headers) == Verdict(status, start, stop)


def test_names_of_the_table_are_unique():
    assert len({row[0] for row in TABLE}) == len(TABLE)


@pytest.mark.parametrize("asked", ["bytes=0-", "bytes=0-0", "bytes=5-", "bytes=-1", "bytes=-0"])
def test_range_of_an_empty_body_is_ignored(asked):
    """§14.2 allows it, and no Content-Range could say which bytes of none a 206 carries."""
    assert verdict({"Range": asked}, length=0) == Verdict(200)


@pytest.mark.parametrize(("age_s", "status"), [(-5, 200), (0, 200), (0.9, 200), (1, 206), (2, 206)])
def test_if_range_trusts_a_date_once_it_is_a_second_old(age_s, status):
    """§8.8.2.2: within that second the body may have changed twice."""
    assert verdict({**RANGE, "If-Range": MODIFIED}, now_s=MODIFIED_S + age_s).status == status


@pytest.mark.parametrize("year", [2077, 1978, 2027, 2000, 1999])
def test_year_of_two_digits_is_at_most_50_years_ahead(year):
    """§5.6.7, seen from 2027."""
    modified_s = calendar.timegm((year, 1, 2, 3, 4, 5))
    asked = f"Friday, 02-Jan-{year % 100:02} 03:04:05 GMT"
    assert judge(environ({"If-Modified-Since": asked}), ETAG, modified_s, LENGTH, NOW_S).status == 304


@pytest.mark.parametrize("modified_s", [0, -1, 951_782_400, 2**31, 32_503_680_000])
def test_date_that_we_wrote_is_read_back(modified_s):
    """The epoch, before it, a leap day, after 2038, the year 3000."""
    asked = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(modified_s))
    assert judge(environ({"If-Modified-Since": asked}), ETAG, modified_s, LENGTH, NOW_S).status == 304


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("bytes=0-99", "bytes 0-99/1000"),
        ("bytes=-1", "bytes 999-999/1000"),
        ("bytes=0-", "bytes 0-999/1000"),
        ("bytes=1000-", "bytes */1000"),
    ],
)
def test_content_range_names_the_last_byte_inclusively(asked, text):
    assert content_range(verdict({"Range": asked}), LENGTH) == text


# Text made of the grammar's own pieces gets past the first character more often than any text does.
PIECES = [ETAG, "W/", '"a"', '"', "*", ",", " ", "\t", "bytes", "=", "-", "0", "7", "999", "1000", "9" * 5000]
PIECES += [MODIFIED, EARLIER, "Sunday, 06-Nov-", "94", " 08:49:37 GMT", "Sun Nov ", "\xb2", "\x00"]
LATIN_1 = st.characters(
    codec="latin-1"
)  # what a WSGI environ holds; all of Unicode is a second slower to draw
VALUES = st.text(LATIN_1) | st.lists(st.sampled_from(PIECES), max_size=9).map("".join)
HEADERS = st.dictionaries(st.sampled_from(NAMES), VALUES)
RANGES = st.tuples(st.integers(0, 60), st.integers(0, 60)).flatmap(
    lambda pair: st.sampled_from([f"bytes={pair[0]}-{pair[1]}", f"bytes={pair[0]}-", f"bytes=-{pair[1]}"])
)


@given(HEADERS, st.sampled_from(["GET", "HEAD"]), st.integers(0, 2000))
def test_any_header_text_gets_a_verdict_and_a_part_is_inside_the_body(headers, method, length):
    found = judge(environ({**headers, "method": method}), ETAG, MODIFIED_S, length, NOW_S)
    assert found.status in (200, 206, 304, 412, 416)
    if found.status == 206:
        assert 0 <= found.start < found.stop <= length
    else:
        assert (found.start, found.stop) == (0, 0)
    if found.status in (206, 416):
        assert method == "GET"
        assert "Range" in headers
        assert content_range(found, length).startswith("bytes ")


@given(RANGES, st.integers(1, 50))
def test_part_is_what_the_numbers_say(asked, length):
    """Against a model that lists the positions one by one."""
    first, last = asked.removeprefix("bytes=").split("-")
    wanted = [
        n for n in range(length) if (int(first) <= n <= int(last or n) if first else n >= length - int(last))
    ]
    is_backwards = bool(first and last) and int(last) < int(first)
    found = verdict({"Range": asked}, length)
    assert list(range(found.start, found.stop)) == wanted
    assert found.status == (200 if is_backwards else 206 if wanted else 416)
