"""Originals that are no pictures of ours: films, PDFs and SVGs as they are, and harmless."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from support.clips import Stubs

FILM = "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; sandbox allow-same-origin"
PDF = "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'"
SVG = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; sandbox"
KINDS = [
    ("clip.mp4", "video/mp4", FILM),
    ("doc.pdf", "application/pdf", PDF),
    ("drawing.svg", "image/svg+xml", SVG),
]
Films = Callable[..., FlaskClient]


@pytest.fixture
def films(site: Films, tmp_path: Path, pictures: Path) -> Films:
    stubs = Stubs(tmp_path / "programs", pictures)
    stubs.film(more=bytes(200_000))  # more than is answered from memory
    stubs.document()
    stubs.drawing()
    return lambda **sections: site(programs=stubs.tables(), **sections)


@pytest.mark.parametrize(("name", "media_type", "policy"), KINDS)
def test_an_original_is_sent_as_it_is(
    films: Films, pictures: Path, name: str, media_type: str, policy: str
) -> None:
    client, data = films(), (pictures / name).read_bytes()
    for _ in range(3):  # the view, and the fast path
        answer = client.get(f"/picture/{name}")
        assert (answer.status_code, answer.data) == (200, data)
        assert dict(answer.headers) == {
            "ETag": answer.headers["ETag"],
            "Cache-Control": "public, max-age=3600",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": policy,
            "X-Cache": "hit",
            "Last-Modified": answer.headers["Last-Modified"],
            "Content-Type": media_type,
            "Content-Length": str(len(data)),
            "Accept-Ranges": "bytes",
            "Content-Disposition": f"inline; filename={name}",
        }
        part = client.get(f"/picture/{name}", headers={"Range": "bytes=3-6"})
        assert (part.status_code, part.data) == (206, data[3:7])
        assert part.headers["Content-Range"] == f"bytes 3-6/{len(data)}"
        assert part.headers["Content-Security-Policy"] == policy


@pytest.mark.parametrize(("name", "media_type", "policy"), KINDS)
def test_what_is_drawn_of_it_is_a_picture(films: Films, name: str, media_type: str, policy: str) -> None:
    answer = films().get(f"/picture/{name}?scalex=40")
    assert answer.mimetype == "image/jpeg"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


@pytest.mark.parametrize(("name", "media_type", "policy"), KINDS)
def test_without_originals_there_are_its_pictures_only(
    films: Films, name: str, media_type: str, policy: str
) -> None:
    client = films(http={"originals": False})
    assert client.get(f"/picture/{name}?scalex=40").status_code == 200
    for query in ("", "?download=", "?v=0123456789ab", "?enlarge=0"):
        assert client.get(f"/picture/{name}{query}").status_code == 404, query


@pytest.mark.parametrize("accel", ["x-accel-redirect", "x-sendfile"])
@pytest.mark.parametrize("name", ["clip.mp4", "doc.pdf"])
def test_a_web_server_in_front_sends_no_originals(
    films: Films, pictures: Path, name: str, accel: str
) -> None:
    client = films(http={"accel": accel})
    for _ in range(3):
        answer = client.get(f"/picture/{name}")
        assert answer.data == (pictures / name).read_bytes()
        assert not {"X-Accel-Redirect", "X-Sendfile"} & {*answer.headers.keys()}
