"""Uploads over HTTP: what is taken, what is refused, and that nothing is left of what is refused."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import io
import json
import re
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from PIL import Image
from support.asking import Buffered, Counting
from support.clock import Clock
from support.drawing import quarters
from support.serving import eventually

from imagefactory import ImageFactory
from imagefactory.config import Config
from imagefactory.errors import CatalogUnavailable, ConfigError

TOKEN = "a token of sixteen characters"
ADMIN = "another of sixteen characters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
OPERATOR = {"Authorization": f"Bearer {ADMIN}"}


def encoded(image: Image.Image, encoding: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, encoding, **options)
    return file.getvalue()


JPEG = encoded(quarters(160, 120), quality=90)
PNG = encoded(quarters(60, 40), "PNG")
OTHER = encoded(quarters(120, 160), quality=90)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def proof(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


@pytest.fixture
def taking(site: Callable[..., FlaskClient]) -> Callable[..., FlaskClient]:
    """A client of a site that takes uploads: taking(uploads={"names": "sha256"})."""

    def make(**sections: Any) -> FlaskClient:
        uploads = {"token": TOKEN, "min_free": 0, "rate": "", **sections.pop("uploads", {})}
        return site(uploads=uploads, admin={"token": ADMIN}, tasks={"workers": 0}, **sections)

    return make


@pytest.fixture
def uploads(taking: Callable[..., FlaskClient]) -> FlaskClient:
    return taking()


def put(client: FlaskClient, path: str, data: bytes, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.put(f"/upload/{path}", data=data, headers={**BEARER, **named})


def post(client: FlaskClient, *files: tuple[str, bytes], **headers: str) -> Any:
    data = {"any": [(io.BytesIO(body), name) for name, body in files]}
    return client.post("/upload", data=data, headers={**BEARER, **headers})


def left(pictures: Path) -> list[str]:
    """What lies below the pictures that the fixtures did not draw, without the catalog itself."""
    drawn = {"cats/tom.jpg", "flag.png", "notes.txt", "page.svg"}
    found = {str(each.relative_to(pictures)) for each in pictures.rglob("*") if each.is_file()}
    return sorted(
        each for each in found - drawn if not each.startswith((".uploads/catalog", ".uploads/locks"))
    )


def rows(client: FlaskClient) -> list[str]:
    return [each["path"] for each in client.get("/-/pictures", headers=OPERATOR).json["pictures"]]


# --- PUT


def test_the_first_upload_sweeps_what_a_killed_server_left(uploads: FlaskClient, pictures: Path) -> None:
    """An app that wsgi.py gives to another server has no start of its own."""
    folder = pictures / ".uploads" / "tmp"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "0123456789ab").write_bytes(JPEG)
    assert put(uploads, "rex.jpg", JPEG).status_code == 201
    assert left(pictures) == ["rex.jpg"]


def test_a_picture_is_there_at_once(uploads: FlaskClient, pictures: Path) -> None:
    answer = put(uploads, "dogs/rex.jpg", JPEG)
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/picture/dogs/rex.jpg"
    assert answer.headers["ETag"] == f'"{sha256(JPEG)[:32]}"'
    values = answer.json
    job = values.pop("job")
    assert len(job) >= 20
    assert values == {
        "path": "dogs/rex.jpg",
        "status": 201,
        "sha256": sha256(JPEG),
        "bytes": len(JPEG),
        "stored_sha256": sha256(JPEG),
        "stored_bytes": len(JPEG),
        "width": 160,
        "height": 120,
        "format": "JPEG",
        "url": "/picture/dogs/rex.jpg",
        "removed": [],
    }
    assert uploads.get("/picture/dogs/rex.jpg").data == JPEG
    assert uploads.get("/picture/dogs/rex.jpg?scalex=40").status_code == 200
    assert (pictures / "dogs/rex.jpg").stat().st_mode & 0o777 == 0o644
    assert left(pictures) == ["dogs/rex.jpg"]
    assert (pictures / ".uploads").stat().st_mode & 0o777 == 0o700


def test_the_same_bytes_again_are_no_mistake(uploads: FlaskClient) -> None:
    """An answer may have been lost: then a client sends again, and also with If-None-Match."""
    first = put(uploads, "rex.jpg", JPEG)
    for headers in ({}, {"If_None_Match": "*"}, {"If_Match": f'"{sha256(JPEG)[:32]}"'}):
        again = put(uploads, "rex.jpg", JPEG, **headers)
        assert (again.status_code, again.json["job"]) == (200, first.json["job"])


def test_the_same_picture_elsewhere_is_said(uploads: FlaskClient) -> None:
    put(uploads, "rex.jpg", JPEG)
    answer = put(uploads, "copy.jpg", JPEG)
    assert (answer.status_code, answer.json["same_as"]) == (201, "rex.jpg")


def test_nothing_is_overwritten_unless_asked(uploads: FlaskClient, pictures: Path) -> None:
    put(uploads, "rex.jpg", JPEG)
    answer = put(uploads, "rex.jpg", OTHER)
    assert (answer.status_code, answer.json["error"]) == (412, "exists")
    assert put(uploads, "rex.jpg", OTHER, If_Match='"nothing"').status_code == 412
    assert put(uploads, "rex.jpg", OTHER, If_None_Match="*").status_code == 412
    assert (pictures / "rex.jpg").read_bytes() == JPEG
    answer = put(uploads, "rex.jpg", OTHER, If_Match=f'"{sha256(JPEG)[:32]}"')
    assert (answer.status_code, answer.json["replaced"]) == (200, True)
    assert (pictures / "rex.jpg").read_bytes() == OTHER
    assert uploads.get("/picture/rex.jpg").data == OTHER
    assert left(pictures) == ["rex.jpg"]


def test_a_file_that_was_copied_there_by_hand_is_not_overwritten_either(
    uploads: FlaskClient, pictures: Path
) -> None:
    assert put(uploads, "cats/tom.jpg", JPEG).status_code == 412
    own = (pictures / "cats/tom.jpg").read_bytes()
    assert put(uploads, "cats/tom.jpg", own).status_code == 200
    assert rows(uploads) == ["cats/tom.jpg"]


def test_if_match_names_what_is_there(uploads: FlaskClient) -> None:
    answer = put(uploads, "new.jpg", JPEG, If_Match="*")
    assert (answer.status_code, answer.json["error"]) == (412, "exists")


def test_with_overwrite_the_last_one_stays(taking: Callable[..., FlaskClient], pictures: Path) -> None:
    client = taking(uploads={"overwrite": True})
    put(client, "rex.jpg", JPEG)
    assert put(client, "rex.jpg", OTHER).json["replaced"] is True
    assert (pictures / "rex.jpg").read_bytes() == OTHER
    assert put(client, "rex.jpg", JPEG, If_None_Match="*").status_code == 412


def test_the_folder_of_the_config_is_where_all_lies(taking: Callable[..., FlaskClient]) -> None:
    client = taking(uploads={"folder": "members/new"})
    assert put(client, "rex.jpg", JPEG).json["path"] == "members/new/rex.jpg"


REFUSED: list[tuple[str, str, bytes, Mapping[str, str], int, str]] = [
    ("no suffix", "rex", JPEG, {}, 415, "wrong_type"),
    ("another suffix", "rex.png", JPEG, {}, 415, "wrong_type"),
    ("no picture", "rex.jpg", b"<html><script>alert(1)</script>", {}, 415, "wrong_type"),
    ("nothing", "rex.jpg", b"", {}, 411, "length_required"),
    ("an SVG", "rex.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", {}, 400, "bad_parameter"),
    ("a format that is not taken", "rex.bmp", encoded(quarters(), "BMP"), {}, 415, "wrong_type"),
    ("a broken header", "rex.jpg", JPEG[:20], {}, 422, "undecodable"),
    ("another digest", "rex.jpg", JPEG, {"Content-Digest": proof(OTHER)}, 422, "digest_mismatch"),
    ("no digest", "rex.jpg", JPEG, {"Content-Digest": "sha-256=abc"}, 400, "bad_parameter"),
    ("a short digest", "rex.jpg", JPEG, {"Content-Digest": "sha-256=:YWJj:"}, 400, "bad_parameter"),
    ("packed", "rex.jpg", gzip.compress(JPEG), {"Content-Encoding": "gzip"}, 415, "wrong_type"),
    ("too many bytes", "rex.jpg", JPEG + bytes(2_000_000), {}, 413, "body_too_large"),
    ("too many pixels", "rex.png", encoded(Image.new("1", (4000, 4000)), "PNG"), {}, 422, "too_large"),
    ("up and out", "../../rex.jpg", JPEG, {}, 400, "bad_parameter"),
    ("hidden", ".uploads/tmp/rex.jpg", JPEG, {}, 400, "bad_parameter"),
    ("a program", "rex.php.jpg", JPEG, {}, 400, "bad_parameter"),
    ("a device", "CON", JPEG, {}, 400, "bad_parameter"),
    ("a long name", "x" * 300 + ".jpg", JPEG, {}, 400, "bad_parameter"),
    ("backwards", "rex%E2%80%AEgpj.jpg", JPEG, {}, 400, "bad_parameter"),
    ("no text", "rex%FF.jpg", JPEG, {}, 400, "bad_parameter"),
    ("a folder", "cats", JPEG, {}, 415, "wrong_type"),
    ("below a file", "flag.png/rex.jpg", JPEG, {}, 400, "bad_parameter"),
    ("nowhere", "", JPEG, {}, 405, "method_not_allowed"),
]


@pytest.mark.parametrize(
    ("path", "data", "headers", "status", "error"),
    [row[1:] for row in REFUSED],
    ids=[row[0] for row in REFUSED],
)
def test_what_is_no_picture_for_this_place_leaves_nothing(
    taking: Callable[..., FlaskClient],
    pictures: Path,
    path: str,
    data: bytes,
    headers: Mapping[str, str],
    status: int,
    error: str,
) -> None:
    client = taking(uploads={"max_bytes": 1_000_000}, limits={"max_pixels": 10_000_000})
    answer = client.put(f"/upload/{path}", data=data, headers={**BEARER, **headers})
    assert (answer.status_code, answer.json["error"]) == (status, error)
    assert left(pictures) == []
    assert rows(client) == []


def with_position(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.5), 3: "E", 4: (2.0, 17.0, 40.2)})
    return encoded(image, exif=exif, quality=90)


def test_the_place_where_it_was_taken_is_not_stored(uploads: FlaskClient, pictures: Path) -> None:
    data = with_position(quarters(160, 120))
    assert Image.open(io.BytesIO(data)).getexif().get_ifd(0x8825)
    values = put(uploads, "rex.jpg", data).json
    stored = (pictures / "rex.jpg").read_bytes()
    assert (values["removed"], values["sha256"], values["bytes"]) == (["gps"], sha256(data), len(data))
    assert (values["stored_sha256"], values["stored_bytes"]) == (sha256(stored), len(stored))
    with Image.open(pictures / "rex.jpg") as image:
        assert not image.getexif().get_ifd(0x8825)
        assert image.getexif()[0x010F] == "A camera"
        assert image.tobytes() == Image.open(io.BytesIO(data)).tobytes()
    asked = {"sha256": [sha256(data), sha256(stored)]}
    answer = uploads.post("/upload/check", json=asked, headers=BEARER)
    assert answer.json["present"] == {sha256(data): "rex.jpg", sha256(stored): "rex.jpg"}
    assert put(uploads, "rex.jpg", data).status_code == 200
    assert put(uploads, "rex.jpg", stored).status_code == 200
    assert put(uploads, "rex.jpg", OTHER, If_Match=f'"{sha256(data)[:32]}"').status_code == 200


def test_what_was_copied_there_by_hand_with_its_place_is_not_said_to_be_without(
    uploads: FlaskClient, pictures: Path
) -> None:
    """The row and the answer are those of the file that is there, which an upload does not touch."""
    data = with_position(quarters(160, 120))
    (pictures / "rex.jpg").write_bytes(data)
    for answer in (put(uploads, "rex.jpg", data), post(uploads, ("rex.jpg", data))):
        values = answer.json.get("files", [answer.json])[0]
        assert (values["status"], values["removed"], values["stored_sha256"]) == (200, [], sha256(data))
    assert (pictures / "rex.jpg").read_bytes() == data
    (row,) = uploads.get("/-/pictures", headers=OPERATOR).json["pictures"]
    assert row["stored_sha256"] == sha256(data)


def test_positions_may_be_kept(taking: Callable[..., FlaskClient], pictures: Path) -> None:
    data = with_position(quarters(160, 120))
    assert put(taking(uploads={"strip": "none"}), "rex.jpg", data).json["removed"] == []
    assert (pictures / "rex.jpg").read_bytes() == data


def test_a_picture_that_lacks_pixels_is_refused(uploads: FlaskClient, pictures: Path) -> None:
    for cut in (JPEG[: len(JPEG) * 3 // 4], JPEG[: len(JPEG) // 2] + b"\xff\xd9", PNG[:-30]):
        answer = put(uploads, "cut.png" if cut.startswith(PNG[:4]) else "cut.jpg", cut)
        assert (answer.status_code, answer.json["error"]) == (422, "undecodable")
    assert left(pictures) == []


@pytest.mark.parametrize("is_progressive", [False, True])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_without_its_end_gets_one(
    uploads: FlaskClient, pictures: Path, missing: int, is_progressive: bool
) -> None:
    whole = encoded(quarters(160, 120), quality=90, progressive=is_progressive)
    values = put(uploads, "rex.jpg", whole[:-missing]).json
    assert (values["status"], values["sha256"]) == (201, sha256(whole[:-missing]))
    assert (pictures / "rex.jpg").read_bytes() == whole[:-missing] + b"\xff\xd9"
    assert uploads.get("/picture/rex.jpg?scalex=40").status_code == 200


def test_the_end_of_a_thumbnail_is_not_that_of_the_picture(uploads: FlaskClient, pictures: Path) -> None:
    thumbnail = encoded(quarters(20, 10))
    segment = b"\xff\xe1" + (2 + len(thumbnail)).to_bytes(2, "big") + thumbnail
    cut = JPEG[:2] + segment + JPEG[2:-2]
    assert put(uploads, "rex.jpg", cut).status_code == 201
    assert (pictures / "rex.jpg").read_bytes() == cut + b"\xff\xd9"


def test_what_lies_behind_the_end_of_a_jpeg_stays(uploads: FlaskClient, pictures: Path) -> None:
    put(uploads, "rex.jpg", JPEG + b"a trailer")
    assert (pictures / "rex.jpg").read_bytes() == JPEG + b"a trailer"


def test_no_folder_on_the_way_may_be_a_link(uploads: FlaskClient, pictures: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (pictures / "link").symlink_to(outside)
    answer = put(uploads, "link/rex.jpg", JPEG)
    assert (answer.status_code, "symbolic link" in answer.json["detail"]) == (400, True)
    (pictures / "rex.jpg").symlink_to(outside / "rex.jpg")
    assert put(uploads, "rex.jpg", JPEG).status_code == 400
    assert list(outside.iterdir()) == []


def test_a_second_picture_behind_the_first_reads_as_no_page(uploads: FlaskClient) -> None:
    """A polyglot is stored as it is; what is served of it is an image, and never a page."""
    page = b"<html><script>alert(1)</script></html>"
    poly = encoded(quarters(), "GIF") + page
    assert put(uploads, "poly.gif", poly).status_code == 201
    answer = uploads.get("/picture/poly.gif")
    assert answer.headers["Content-Type"] == "image/gif"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert page not in uploads.get("/picture/poly.gif?scalex=20").data


# --- who may


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {ADMIN}"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {base64.b64encode(f':{TOKEN}'.encode()).decode()}"},
        {"X-Token": TOKEN},
        {"Cookie": f"token={TOKEN}"},
    ],
)
@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("PUT", f"/upload/rex.jpg?token={TOKEN}"),
        ("POST", "/upload"),
        ("POST", "/upload/check"),
        ("POST", "/picture?scalex=40"),
    ],
)
def test_the_token_is_asked_for_before_the_body(
    uploads: FlaskClient, pictures: Path, method: str, url: str, headers: Mapping[str, str]
) -> None:
    unread = {"wsgi.input": _Unread(), "CONTENT_LENGTH": "1000000"}
    answer = uploads.open(url, method=method, headers=headers, environ_overrides=unread)
    assert (answer.status_code, answer.json["error"]) == (401, "unauthorized")
    assert "Bearer" in answer.headers["WWW-Authenticate"]
    assert left(pictures) == []


class _Unread(io.RawIOBase):
    """A body that nobody may touch."""

    def readinto(self, buffer: object) -> int:
        raise AssertionError("the body is read")


@pytest.mark.parametrize("end", ["à", "Å", "é"])
def test_a_token_may_end_with_any_letter(taking: Callable[..., FlaskClient], end: str) -> None:
    """The last bytes of the first two are spaces in Latin-1, which is how WSGI hands them over."""
    token = f"{TOKEN}{end}"
    header = {"Authorization": f"Bearer {token}".encode().decode("latin-1")}
    client = taking(uploads={"token": token})
    assert client.put("/upload/rex.jpg", data=JPEG, headers=header).status_code == 201


@pytest.mark.parametrize(
    "uploads",
    [
        {"folder": "CON"},
        {"folder": "new."},
        {"folder": "members/x.php"},
        {"names": "nul/{name}"},
        {"names": "x.php/{sha256}"},
        {"prefix": "/picture"},
        {"prefix": "/picture/new"},
        {"prefix": "/-/pictures"},
    ],
    ids=str,
)
def test_a_config_by_which_nothing_could_come_is_refused(
    taking: Callable[..., FlaskClient], uploads: Mapping[str, str]
) -> None:
    with pytest.raises(ConfigError, match=r"^uploads"):
        taking(uploads=uploads)


def test_without_a_token_in_the_config_there_is_nothing(client: FlaskClient) -> None:
    assert client.put("/upload/rex.jpg", data=JPEG, headers=BEARER).status_code == 404
    assert client.post("/picture?scalex=40", data=JPEG, headers=BEARER).status_code in (404, 405)
    assert client.get("/-/pictures", headers=OPERATOR).status_code == 404


def test_who_asks_too_often_has_to_wait(taking: Callable[..., FlaskClient], pictures: Path) -> None:
    client = taking(uploads={"rate": "3/minute"})
    assert [put(client, f"{number}.jpg", JPEG).status_code for number in range(5)] == [
        201,
        201,
        201,
        429,
        429,
    ]
    answer = put(client, "x.jpg", JPEG)
    assert answer.json["error"] == "too_many_requests"
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert client.get("/picture/0.jpg?scalex=40").status_code == 200
    assert left(pictures) == ["0.jpg", "1.jpg", "2.jpg"]


def test_guesses_of_the_token_are_counted(taking: Callable[..., FlaskClient]) -> None:
    client = taking(uploads={"rate": "3/minute"})
    guess = {"Authorization": "Bearer wrong"}
    found = [client.put("/upload/a.jpg", data=JPEG, headers=guess).status_code for _ in range(5)]
    assert found == [401, 401, 401, 429, 429]


def test_addresses_behind_a_trusted_proxy_are_counted_each(taking: Callable[..., FlaskClient]) -> None:
    client = taking(uploads={"rate": "2/minute"}, server={"trusted_proxies": ["127.0.0.1"]})
    for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
        headers = {"X-Forwarded-For": address, "Authorization": "Bearer wrong"}
        found = [client.put("/upload/a.jpg", data=JPEG, headers=headers).status_code for _ in range(3)]
        assert found == [401, 401, 429]
    neighbour = {"X-Forwarded-For": "2001:db8::2", "Authorization": "Bearer wrong"}
    assert client.put("/upload/a.jpg", data=JPEG, headers=neighbour).status_code == 429


def test_more_uploads_than_places_are_told_to_come_again(
    taking: Callable[..., FlaskClient], renderer: Counting
) -> None:
    client = taking(uploads={"concurrent": 1})
    found = []
    renderer.on_check = lambda: found.append(put(client, "b.jpg", OTHER))
    assert put(client, "a.jpg", JPEG).status_code == 201
    assert (found[0].status_code, found[0].json["error"]) == (503, "busy")
    assert "Retry-After" in found[0].headers


def test_two_at_once_to_one_name_are_one(
    taking: Callable[..., FlaskClient], renderer: Counting, pictures: Path
) -> None:
    client = taking()
    found = []

    def also() -> None:
        renderer.on_check = lambda: None
        found.append(put(client, "a.jpg", OTHER))

    renderer.on_check = also
    first = put(client, "a.jpg", JPEG)
    assert (found[0].status_code, first.status_code) == (201, 412)
    assert (pictures / "a.jpg").read_bytes() == OTHER


# --- forms


def test_each_file_of_a_form_has_its_own_result(uploads: FlaskClient, pictures: Path) -> None:
    answer = post(uploads, ("a.jpg", JPEG), ("b.jpg", b"no picture"), ("../../c.jpg", JPEG), ("d.png", PNG))
    assert answer.status_code == 200
    values = answer.json
    assert [(each["path"], each["status"]) for each in values["files"]] == [
        ("a.jpg", 201),
        ("b.jpg", 415),
        ("../../c.jpg", 400),
        ("d.png", 201),
    ]
    assert (values["stored"], values["failed"]) == (2, 2)
    assert left(pictures) == ["a.jpg", "d.png"]
    assert rows(uploads) == ["a.jpg", "d.png"]


def test_a_form_without_a_good_file_has_the_worst_status(uploads: FlaskClient) -> None:
    answer = post(uploads, ("b.jpg", b"no picture"), ("../../c.jpg", JPEG))
    assert (answer.status_code, answer.json["failed"]) == (415, 2)


def test_results_come_as_lines_with_a_last_one(uploads: FlaskClient) -> None:
    answer = post(uploads, ("a.jpg", JPEG), ("b.jpg", b"no"), Accept="application/jsonl")
    assert answer.headers["Content-Type"].startswith("application/jsonl")
    lines = [json.loads(line) for line in answer.data.splitlines()]
    assert [line.get("status") for line in lines] == [201, 415, None]
    assert lines[-1] == {"done": True, "stored": 1, "failed": 1}


def test_files_may_be_named_by_their_bytes(taking: Callable[..., FlaskClient]) -> None:
    client = taking(uploads={"names": "{year}/{sha256}"})
    first, second = post(client, ("x.jpg", JPEG), ("y.jpeg", JPEG)).json["files"]
    assert first["path"] == second["path"]
    assert first["path"].partition("/")[2] == f"{sha256(JPEG)}.jpg"
    assert sorted((first["status"], second["status"])) == [200, 201]


def test_what_is_no_file_of_a_form_is_left_out(uploads: FlaskClient) -> None:
    data = {"note": "hello", "empty": (io.BytesIO(b""), ""), "picture": (io.BytesIO(JPEG), "a.jpg")}
    answer = uploads.post("/upload", data=data, headers=BEARER)
    assert [each["path"] for each in answer.json["files"]] == ["a.jpg"]
    answer = uploads.post(
        "/upload", data={"note": "hello"}, content_type="multipart/form-data", headers=BEARER
    )
    assert (answer.status_code, "no file" in answer.json["detail"]) == (400, True)


def test_an_empty_file_of_a_form_is_no_picture(uploads: FlaskClient, pictures: Path) -> None:
    """A name that can't be had is said first, and bytes without a name are a mistake."""
    answer = post(uploads, ("a.jpg", b""), ("../b.jpg", b""), ("c.jpg", JPEG))
    found = [(each["path"], each["status"]) for each in answer.json["files"]]
    assert found == [("a.jpg", 415), ("../b.jpg", 400), ("c.jpg", 201)]
    data = FORM % (b"", JPEG) + b"--x--"
    kind = "multipart/form-data; boundary=x"
    answer = uploads.post("/upload", data=data, content_type=kind, headers=BEARER)
    assert (answer.status_code, "no name" in answer.json["files"][0]["detail"]) == (400, True)
    assert left(pictures) == ["c.jpg"]


def test_a_long_answer_is_packed_on_request(uploads: FlaskClient) -> None:
    files = [(f"{number}.jpg", JPEG) for number in range(5)]
    answer = post(uploads, *files, **{"Accept-Encoding": "br, gzip;q=0.5"})
    assert (answer.headers["Content-Encoding"], answer.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert len(json.loads(gzip.decompress(answer.data))["files"]) == 5
    assert "Content-Encoding" not in post(uploads, *files, **{"Accept-Encoding": "gzip;q=0"}).headers


FORM = b'--x\r\nContent-Disposition: form-data; name="f"; filename="%s"\r\n\r\n%s\r\n'


def test_the_type_of_a_form_may_be_in_any_case(uploads: FlaskClient) -> None:
    """RFC 9110 §8.3.1"""
    answer = uploads.post(
        "/upload",
        data=FORM % (b"a.jpg", JPEG) + b"--x--",
        content_type="Multipart/Form-Data; Boundary=x",
        headers=BEARER,
    )
    assert answer.status_code == 200


BROKEN = {
    "no boundary": ("multipart/form-data", b"x", 415),
    "no form": ("image/jpeg", JPEG, 415),
    "another boundary": ("multipart/form-data; boundary=y", FORM % (b"a.jpg", JPEG) + b"--x--\r\n", 422),
    "no end": ("multipart/form-data; boundary=x", FORM % (b"a.jpg", JPEG[:-9]), 422),
    "headers without an end": ("multipart/form-data; boundary=x", b"--x\r\n" + b"A: b\r\n" * 200_000, 413),
    "a part without a name": ("multipart/form-data; boundary=x", b"--x\r\nA: b\r\n\r\nx\r\n--x--\r\n", 400),
    "ten thousand parts": (
        "multipart/form-data; boundary=x",
        FORM % (b"a.jpg", b"") * 10_000 + b"--x--",
        413,
    ),
    "a long boundary": (f"multipart/form-data; boundary={'x' * 300}", b"x", 415),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_form_leaves_nothing(uploads: FlaskClient, pictures: Path, name: str) -> None:
    content_type, body, status = BROKEN[name]
    answer = uploads.post("/upload", data=body, content_type=content_type, headers=BEARER)
    assert answer.status_code == status, answer.text
    assert left(pictures) == []


def test_a_form_that_breaks_keeps_what_was_whole_before(uploads: FlaskClient, pictures: Path) -> None:
    body = FORM % (b"a.jpg", JPEG) + FORM % (b"b.jpg", OTHER[:-100])
    answer = uploads.post(
        "/upload", data=body, content_type="multipart/form-data; boundary=x", headers=BEARER
    )
    assert answer.status_code == 200
    assert [(each["path"], each["status"]) for each in answer.json["files"]] == [
        ("a.jpg", 201),
        ("b.jpg", 422),
    ]
    assert answer.json["error"] == "truncated"
    assert left(pictures) == ["a.jpg"]


def test_a_request_has_a_bound_of_its_own(taking: Callable[..., FlaskClient], pictures: Path) -> None:
    client = taking(uploads={"max_request_bytes": 10_000, "max_files": 2})
    big = encoded(Image.effect_noise((200, 200), 90), quality=95)
    assert post(client, ("a.jpg", big)).status_code == 413
    answer = post(client, ("a.png", PNG), ("b.png", PNG), ("c.png", PNG))
    assert [each["status"] for each in answer.json["files"]] == [201, 201]
    assert answer.json["error"] == "body_too_large"
    assert left(pictures) == ["a.png", "b.png"]


# --- which are there


def test_a_client_asks_which_are_there_before_it_sends(uploads: FlaskClient) -> None:
    put(uploads, "a.jpg", JPEG)
    asked = {"sha256": [sha256(JPEG), sha256(OTHER), sha256(JPEG).upper()]}
    answer = uploads.post("/upload/check", json=asked, headers=BEARER)
    assert answer.json == {"present": {sha256(JPEG): "a.jpg"}}


@pytest.mark.parametrize(
    "body", [b"x", b"{}", b"[]", b'{"sha256": "x"}', b'{"sha256": ["x"]}', b'{"sha256": [1]}', b"[" * 100_000]
)
def test_what_asks_for_nothing_is_told_how(uploads: FlaskClient, body: bytes) -> None:
    answer = uploads.post("/upload/check", data=body, headers=BEARER)
    assert (answer.status_code, "sha256" in answer.json["detail"]) == (400, True)


def test_at_most_a_thousand_are_asked_for(uploads: FlaskClient) -> None:
    answer = uploads.post("/upload/check", json={"sha256": ["0" * 64] * 1001}, headers=BEARER)
    assert (answer.status_code, "1000" in answer.json["detail"]) == (400, True)
    assert uploads.post("/upload/check", data=bytes(300_000), headers=BEARER).status_code == 413


# --- a picture in, its variant out


def test_a_picture_that_is_sent_comes_back_as_its_variant(
    uploads: FlaskClient, pictures: Path, renderer: Counting
) -> None:
    url = "/picture?scalex=40&encoding=webp"
    first = uploads.post(url, data=JPEG, headers=BEARER)
    assert (first.status_code, first.headers["X-Cache"], first.mimetype) == (200, "miss", "image/webp")
    assert first.headers["Cache-Control"] == "no-store"
    assert Image.open(io.BytesIO(first.data)).size == (40, 30)
    again = uploads.post(url, data=JPEG, headers=BEARER)
    assert (again.headers["X-Cache"], again.data, renderer.renders) == ("hit", first.data, 1)
    put(uploads, "rex.jpg", JPEG)
    assert uploads.get("/picture/rex.jpg?scalex=40&encoding=webp").headers["X-Cache"] == "hit"
    assert left(pictures) == ["rex.jpg"]


@pytest.mark.parametrize(
    ("query", "data", "status"),
    [
        ("?scalex=40", b"no picture", 415),
        ("?scalex=40", JPEG[: len(JPEG) // 2], 422),
        ("?scalex=x", JPEG, 400),
        ("", JPEG, 400),
        ("?scalex=40", b"", 411),
        ("?scalex=40", JPEG + bytes(2_000_000), 413),
    ],
)
def test_what_no_variant_comes_of_says_why(
    taking: Callable[..., FlaskClient], pictures: Path, query: str, data: bytes, status: int
) -> None:
    client = taking(uploads={"max_bytes": 1_000_000})
    assert client.post(f"/picture{query}", data=data, headers=BEARER).status_code == status
    assert left(pictures) == []


def test_a_signed_url_lets_a_browser_send_a_picture(taking: Callable[..., FlaskClient]) -> None:
    client = taking(signing={"keys": {"a": "a secret of sixteen characters"}})
    parts = client.application.extensions["imagefactory"].parts
    signer = parts.access.signer
    pairs = [("scalex", "40")]
    query = "&".join(f"{name}={value}" for name, value in [*pairs, *signer.sign("", pairs, 2_000_000_000)])
    assert client.post(f"/picture?{query}", data=JPEG).status_code == 200
    assert client.post(f"/picture?{query.replace('40', '41')}", data=JPEG).status_code == 403


# --- the catalog over HTTP


def test_the_catalog_is_paged_and_searched(uploads: FlaskClient) -> None:
    for name in ("b.jpg", "a.jpg", "dogs/c.jpg"):
        put(uploads, name, JPEG)
    first = uploads.get("/-/pictures?limit=2", headers=OPERATOR).json
    assert [each["path"] for each in first["pictures"]] == ["a.jpg", "b.jpg"]
    second = uploads.get(f"/-/pictures?limit=2&after={first['next']}", headers=OPERATOR).json
    assert ([each["path"] for each in second["pictures"]], second["next"]) == (["dogs/c.jpg"], "")
    found = uploads.get("/-/pictures?q=DOGS", headers=OPERATOR).json["pictures"]
    assert [each["url"] for each in found] == ["/picture/dogs/c.jpg"]
    assert len(uploads.get(f"/-/pictures?sha256={sha256(JPEG)}", headers=OPERATOR).json["pictures"]) == 3
    for limit in ("0", "1001", "-1", "000001" + "0" * 5000):
        assert uploads.get(f"/-/pictures?limit={limit}", headers=OPERATOR).status_code == 400
    assert uploads.get("/-/pictures?state=odd", headers=OPERATOR).status_code == 400
    assert uploads.get("/-/pictures", headers=BEARER).status_code == 401


def test_a_picture_is_removed_with_its_variants(uploads: FlaskClient, pictures: Path) -> None:
    put(uploads, "rex.jpg", JPEG)
    uploads.get("/picture/rex.jpg?scalex=40")
    assert uploads.delete("/-/pictures/rex.jpg", headers=BEARER).status_code == 401
    assert uploads.delete("/-/pictures/rex.jpg", headers=OPERATOR).status_code == 204
    assert uploads.delete("/-/pictures/rex.jpg", headers=OPERATOR).status_code == 404
    assert uploads.get("/picture/rex.jpg?scalex=40").status_code == 404
    assert uploads.application.extensions["imagefactory"].parts.store.index.variants.count() == 0
    assert (left(pictures), rows(uploads)) == ([], [])
    assert uploads.delete("/-/pictures/../x", headers=OPERATOR).status_code == 404


def test_a_job_is_known_by_its_id_alone(uploads: FlaskClient) -> None:
    token = put(uploads, "rex.jpg", JPEG).json["job"]
    job = uploads.get(f"/-/jobs/{token}").json
    assert (job["id"], job["kind"], job["state"], job["markup"]) == (token, "presets", "queued", "")
    parts = uploads.application.extensions["imagefactory"].parts
    parts.taking.workers.run_until_empty()
    job = uploads.get(f"/-/jobs/{token}").json
    assert (job["state"], "/picture/rex.jpg" in job["markup"]) == ("done", True)
    events = uploads.get(f"/-/jobs/{token}/events")
    assert events.mimetype == "text/event-stream"
    assert json.loads(events.data.split(b"data: ")[1])["state"] == "done"
    assert uploads.get(f"/-/jobs/{token}x").status_code == 404
    assert uploads.post(f"/-/jobs/{token}").status_code == 405


# --- trouble


def test_hits_ask_no_database(uploads: FlaskClient, pictures: Path) -> None:
    put(uploads, "rex.jpg", JPEG)
    uploads.get("/picture/rex.jpg?scalex=40")
    parts = uploads.application.extensions["imagefactory"].parts
    parts.taking.database.close()
    for each in (pictures / ".uploads").glob("catalog.db*"):
        each.unlink()
    (pictures / ".uploads" / "catalog.db").mkdir()
    assert uploads.get("/picture/rex.jpg?scalex=40").headers["X-Cache"] == "hit"
    assert uploads.get("/picture/rex.jpg?scalex=41").status_code == 200
    assert uploads.get("/picture/rex.jpg").status_code == 200


def test_a_database_that_is_locked_is_503_and_nothing_is_half_done(
    uploads: FlaskClient, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagefactory.catalog.database._BUSY_S", 0.2)
    put(uploads, "a.jpg", JPEG)
    uploads.application.extensions["imagefactory"].parts.taking.database.close()
    locker = sqlite3.connect(pictures / ".uploads" / "catalog.db", isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    try:
        answer = put(uploads, "b.jpg", OTHER)
        assert (answer.status_code, answer.json["error"]) == (503, "catalog_unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert left(pictures) == ["a.jpg"]
        assert uploads.get("/picture/a.jpg?scalex=30").status_code == 200
        assert uploads.delete("/-/pictures/a.jpg", headers=OPERATOR).status_code == 503
        assert left(pictures) == ["a.jpg"]
    finally:
        locker.execute("ROLLBACK")
        locker.close()
    assert put(uploads, "b.jpg", OTHER).status_code == 201


@pytest.mark.parametrize("is_there", [False, True])
def test_a_picture_whose_row_is_lost_is_not_there(
    uploads: FlaskClient, pictures: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """The database goes away in the middle: all is as it was before."""
    headers = {}
    if is_there:
        put(uploads, "rex.jpg", JPEG)
        headers = {"If_Match": "*"}
    before = left(pictures)

    def fail(*_: object) -> None:
        raise CatalogUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr("imagefactory.catalog.database.Database.commit", fail)
        assert put(uploads, "rex.jpg", OTHER, **headers).status_code == 503
    assert left(pictures) == before
    if is_there:
        assert (pictures / "rex.jpg").read_bytes() == JPEG
        assert uploads.get("/picture/rex.jpg").data == JPEG
    assert put(uploads, "rex.jpg", OTHER, **headers).status_code == (200 if is_there else 201)


def test_a_disk_without_room_is_507(taking: Callable[..., FlaskClient], pictures: Path) -> None:
    client = taking(uploads={"min_free": 10**18})
    answer = put(client, "a.jpg", JPEG)
    assert (answer.status_code, answer.json["error"]) == (507, "no_space")
    assert "Retry-After" in answer.headers
    assert post(client, ("a.jpg", JPEG)).status_code == 507
    assert left(pictures) == []


def test_what_dead_processes_left_goes_at_the_next_start(
    taking: Callable[..., FlaskClient], pictures: Path
) -> None:
    folder = pictures / ".uploads" / "tmp"
    folder.mkdir(parents=True)
    (folder / "00112233445566778899aabb").write_bytes(b"half a picture")
    client = taking()
    client.get("/picture/cats/tom.jpg?scalex=40")
    assert list(folder.iterdir()) == []


def test_what_is_being_received_is_no_picture(uploads: FlaskClient, pictures: Path) -> None:
    put(uploads, "a.jpg", JPEG)
    (pictures / ".uploads" / "tmp" / "x.jpg").write_bytes(JPEG)
    assert uploads.get("/picture/.uploads/tmp/x.jpg").status_code == 404
    assert uploads.get("/picture/.uploads/catalog.db").status_code == 404


# --- where people look


def test_the_playground_lists_and_finds_what_the_catalog_has(uploads: FlaskClient, pictures: Path) -> None:
    for number in range(70):
        put(uploads, f"dogs/{number:03}.jpg", JPEG)
    first = uploads.get("/").text
    assert ("dogs/000.jpg" in first, "dogs/059.jpg" in first, "dogs/060.jpg" in first) == (True, True, False)
    following = re.search('href="(/[?][^"]*)" rel="next"', first)
    assert following
    second = uploads.get(html.unescape(following[1])).text
    assert ("dogs/059.jpg" in second, "dogs/069.jpg" in second, 'rel="next"' in second) == (
        False,
        True,
        False,
    )
    found = uploads.get("/?q=DOGS+01").text
    assert ("dogs/015.jpg" in found, "dogs/025.jpg" in found) == (True, False)
    assert "No picture" in uploads.get("/?q=cats").text


def test_the_playground_shows_no_private_picture_of_the_catalog(taking: Callable[..., FlaskClient]) -> None:
    client = taking(http={"private": ["dogs/**"]}, signing={"keys": {"a": "a secret of sixteen characters"}})
    put(client, "dogs/rex.jpg", JPEG)
    put(client, "open.jpg", OTHER)
    assert ("rex" in client.get("/").text, "open.jpg" in client.get("/").text) == (False, True)


def test_the_dashboard_shows_what_came_last_and_finds_what_nobody_asked_for(uploads: FlaskClient) -> None:
    put(uploads, "dogs/rex.jpg", JPEG)
    page = uploads.get("/-/", headers=OPERATOR).text
    assert "Latest pictures" in page
    assert "/-/picture/dogs/rex.jpg" in page
    found = uploads.get("/-/?q=REX", headers=OPERATOR).text
    assert ("dogs/rex.jpg" in found, "never" in found) == (True, True)
    assert "No picture has" in uploads.get("/-/?q=nothing", headers=OPERATOR).text
    assert uploads.get("/-/picture/dogs/rex.jpg", headers=OPERATOR).status_code == 200


def test_the_numbers_tell_of_uploads_and_jobs(uploads: FlaskClient) -> None:
    put(uploads, "rex.jpg", JPEG)
    put(uploads, "rex.jpg", OTHER)
    taking = uploads.application.extensions["imagefactory"].parts.taking
    assert eventually(lambda: taking.process)  # the keeper has put the first sync into the queue
    taking.workers.run_until_empty()
    text = uploads.get("/metrics").text
    for line in (
        'imagefactory_uploads_total{result="stored"} 1.0',
        'imagefactory_uploads_total{result="failed"} 1.0',
        'imagefactory_upload_rejected_total{reason="exists"} 1.0',
        f"imagefactory_upload_bytes_total {float(len(JPEG))}",
        'imagefactory_upload_seconds_count{method="put"} 1.0',
        "imagefactory_uploads_in_progress 0.0",
        'imagefactory_jobs{state="queued"} 0.0',
        'imagefactory_jobs_finished_total{kind="presets",result="done"} 1.0',
        'imagefactory_job_seconds_count{kind="presets"} 1.0',
    ):
        assert line in text, line


# --- in an app of someone else's


def test_an_app_of_its_own_has_the_same(
    tmp_path: Path, pictures: Path, renderer: Counting, clock: Clock
) -> None:
    app = Flask(__name__)
    app.test_client_class = Buffered
    app.config["MAX_CONTENT_LENGTH"] = 10
    values = {
        "paths": {"pictures": str(pictures), "cache": str(tmp_path / "cache")},
        "uploads": {"token": TOKEN, "min_free": 0, "prefix": "/bring"},
        "tasks": {"workers": 0},
    }
    ImageFactory(app, values, renderer=renderer, clock=clock)

    @app.post("/upload")
    def own() -> str:
        return f"own {len(request.get_data())}"

    client = app.test_client()
    assert client.put("/bring/a.jpg", data=JPEG, headers=BEARER).status_code == 201
    assert client.get("/picture/a.jpg?scalex=40").status_code == 200
    assert client.post("/upload", data=b"123").text == "own 3"


def test_the_extra_is_named_where_it_is_missing(
    uploads: FlaskClient, monkeypatch: pytest.MonkeyPatch, configure: Callable[..., Config]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sqlalchemy", None)
    answer = put(uploads, "a.jpg", JPEG)
    assert answer.status_code == 501
    assert "flask-imagefactory[uploads]" in answer.json["detail"]
