"""Uploads over a real socket: the same from every server, whatever it does with a body by itself."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image
from support.drawing import quarters
from support.serving import ROOT, STARTS, Client, Reply, Server, eventually, serving, write_config

NAMES = ["waitress", "granian", "gunicorn"]
TOKEN = "a token of sixteen characters"
ADMIN = "another of sixteen characters"
BEARER = f"Bearer {TOKEN}"


def jpeg(size: int, colour: str = "red") -> bytes:
    """A JPEG of at least *size* bytes."""
    file = io.BytesIO()
    image = Image.new("RGB", (64, 48), colour)
    image.save(file, "JPEG", comment=os.urandom(60_000))
    data = file.getvalue()
    return data + os.urandom(max(0, size - len(data)))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, tuple[Server, Path]]]:
    root = tmp_path_factory.mktemp("uploads")

    def begin(name: str) -> Server:
        folder = root / name
        (folder / "pictures").mkdir(parents=True)
        quarters().save(folder / "pictures" / "tom.jpg")
        config = write_config(
            folder,
            folder / "pictures",
            folder / "cache",
            render={"processes": 1},
            admin={"token": ADMIN},
            uploads={"token": TOKEN, "min_free": 0, "max_bytes": 3_000_000, "rate": ""},
        )
        return stack.enter_context(serving(config, STARTS[name][0], cwd=ROOT, program=STARTS[name][1]))

    with ExitStack() as stack:
        with ThreadPoolExecutor(len(NAMES)) as pool:
            found = list(pool.map(begin, NAMES))
        yield {name: (server, root / name / "pictures") for name, server in zip(NAMES, found, strict=True)}


def put(client: Client, path: str, data: bytes, **headers: str) -> Reply:
    return client.get(f"/upload/{path}", "PUT", data, **{"Authorization": BEARER, **headers})


def left(pictures: Path) -> list[Path]:
    return [each for each in (pictures / ".uploads" / "tmp").iterdir() if each.is_file()]


@pytest.mark.parametrize("name", NAMES)
def test_a_large_picture_is_stored_and_its_preset_made(
    servers: Mapping[str, tuple[Server, Path]], name: str
) -> None:
    server, pictures = servers[name]
    data = jpeg(2_500_000)
    with server.client() as client:
        answer = put(client, "big/red.jpg", data)
        assert answer.status == 201, answer
        assert (pictures / "big/red.jpg").read_bytes() == data
        job = json.loads(answer.body)["job"]
        again = put(client, "big/red.jpg", data, If_None_Match="*")
        assert again.status == 200
        assert eventually(lambda: json.loads(client.get(f"/-/jobs/{job}").body)["state"] == "done")
        thumb = client.get("/picture/big/red.jpg?scalex=20")
        assert thumb.status == 200
        events = client.get(f"/-/jobs/{job}/events")
        assert (events.status, b'"state": "done"' in events.body) == (200, True)
    assert left(pictures) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_body_that_nobody_may_send_is_refused(
    servers: Mapping[str, tuple[Server, Path]], name: str
) -> None:
    server, pictures = servers[name]
    for path, length, authorization, status in (
        ("/upload/a.jpg", 4_000_000, BEARER, 413),
        ("/upload/a.jpg", 1_000_000, "Bearer wrong", 401),
        ("/upload", 10**12, BEARER, 413),
        ("/picture?scalex=40", 4_000_000, BEARER, 413),
        ("/-/purge", 100_000, f"Bearer {ADMIN}", 413),
    ):
        method = "PUT" if path.endswith(".jpg") else "POST"
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n"
            f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {length}\r\n\r\n"
        )
        if path == "/-/purge":
            head = head.replace("multipart/form-data; boundary=x", "application/json")
        with socket.create_connection((server.host, server.port), timeout=20) as connection:
            connection.sendall(head.encode())
            if path == "/-/purge" and name != "waitress":  # which Werkzeug reads up to its limit
                connection.sendall(bytes(length))
            answer = connection.recv(65536)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), (path, answer)
        assert b"application/json" in answer.lower()
    assert left(pictures) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_body_in_chunks_needs_a_digest(servers: Mapping[str, tuple[Server, Path]], name: str) -> None:
    server, pictures = servers[name]
    data = jpeg(200_000, "blue")
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()

    def chunked(path: str, *headers: str, may_send: bool = True) -> bytes:
        lines = [f"PUT /upload/{path} HTTP/1.1", "Host: x", f"Authorization: {BEARER}", *headers]
        lines += ["Transfer-Encoding: chunked", "Connection: close", "", ""]
        with socket.create_connection((server.host, server.port), timeout=20) as connection:
            connection.sendall("\r\n".join(lines).encode())
            for start in range(0, len(data), 70_000) if may_send else ():
                piece = data[start : start + 70_000]
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            connection.sendall(b"0\r\n\r\n" if may_send else b"")
            return connection.recv(65536)

    assert b" 201 " in chunked("chunks.jpg", f"Content-Digest: sha-256=:{digest}:")[:20]
    assert (pictures / "chunks.jpg").read_bytes() == data
    # waitress puts the chunks together before the app is called, so their end is proven. The others refuse at
    # once; a client that sends on may lose that answer with the connection.
    is_proven = name == "waitress"
    status = b" 201 " if is_proven else b" 411 "
    assert status in chunked("unproven.jpg", may_send=is_proven)[:20]


@pytest.mark.parametrize("name", NAMES)
def test_lines_come_while_a_form_arrives(servers: Mapping[str, tuple[Server, Path]], name: str) -> None:
    server, _ = servers[name]
    first, second = jpeg(70_000, "green"), jpeg(70_000, "navy")
    part = b'--x\r\nContent-Disposition: form-data; name="f"; filename="%s"\r\n\r\n%s\r\n'
    # Seventeen files are under way before the first result is waited for.
    parts = [part % (b"line-%d.jpg" % number, first) for number in range(20)] + [part % (b"last.jpg", second)]
    body = b"".join(parts) + b"--x--\r\n"
    head = (
        f"POST /upload HTTP/1.1\r\nHost: x\r\nAuthorization: {BEARER}\r\nAccept: application/jsonl\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(head.encode())
        held = len(body) - 1000
        connection.sendall(body[:held])
        early = b""
        if name != "waitress":
            while b"line-0.jpg" not in early:
                got = connection.recv(65536)
                assert got, early
                early += got
        connection.sendall(body[held:])
        answer = early
        while got := connection.recv(65536):
            answer += got
    assert b'{"done": true, "stored": 21, "failed": 0}' in answer, answer[-500:]


def test_waitress_asks_for_no_body_that_it_will_refuse(servers: Mapping[str, tuple[Server, Path]]) -> None:
    server, _ = servers["waitress"]
    head = (
        "PUT /upload/a.jpg HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\n"
        "Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n"
    )
    with socket.create_connection((server.host, server.port), timeout=20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_waitress_takes_no_body_that_others_may_see_the_end_of_elsewhere(
    servers: Mapping[str, tuple[Server, Path]],
) -> None:
    """RFC 9112 §6.1: what follows is never taken for a request."""
    server, _ = servers["waitress"]
    behind = b"0\r\n\r\nGET /picture/tom.jpg?scalex=20 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for version, *headers in (
        ("1.1", "Transfer-Encoding: chunked", "Content-Length: 5"),
        ("1.0", "Transfer-Encoding: chunked", "Connection: keep-alive"),
        ("1.1", f"Content-Length: {'9' * 5000}"),
        ("1.1", "Content-Length: 5", "Authorization: Bearer wrong"),
    ):
        lines = [f"PUT /upload/a.jpg HTTP/{version}", "Host: x", f"Authorization: {BEARER}", *headers, "", ""]
        with socket.create_connection((server.host, server.port), timeout=20) as connection:
            connection.sendall("\r\n".join(lines).encode() + behind)
            answer = b""
            while got := connection.recv(65536):
                answer += got
        assert answer.count(b"\r\nContent-Length: ") == 1, answer
        assert answer.split()[1] == (b"401" if "wrong" in headers[-1] else b"400"), answer
    assert "exception" not in server.said()


@pytest.mark.parametrize("name", NAMES)
def test_guesses_of_the_token_are_counted_also_with_a_body(tmp_path: Path, name: str) -> None:
    (tmp_path / "pictures").mkdir()
    config = write_config(
        tmp_path,
        tmp_path / "pictures",
        tmp_path / "cache",
        render={"processes": -1},
        uploads={"token": TOKEN, "min_free": 0, "rate": "3/hour"},
    )
    with serving(config, STARTS[name][0], cwd=ROOT, program=STARTS[name][1]) as server:
        statuses = []
        for _ in range(7):  # of two processes each counts three
            with server.client() as client:
                statuses.append(put(client, "a.jpg", b"x" * 100, Authorization="Bearer wrong").status)
    assert statuses[:3] == [401] * 3
    assert 429 in statuses
