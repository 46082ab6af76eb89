"""A long answer of a program is sent while it is made; a late failure cuts it and keeps nothing."""

from __future__ import annotations

import http.client
import sys
import time
from pathlib import Path

import pytest
from support.drawing import at_rest
from support.serving import eventually, left_in_tmp, serving, write_config

# One process each: it is this process that remembers what failed.
SERVERS = {
    "waitress": [],
    "granian": ["--server", "granian", "--workers", "1"],
    "gunicorn": ["--server", "gunicorn", "--workers", "1"],
}
_HEAD, _TAIL = b"\xff\xd8\xff\xe0" + b"a" * 100_000, b"b" * 100_000
# Writes the beginning, waits for the file "go" (20 s at most), then the end, or fails.
_LONG = f"""
import sys, time
from pathlib import Path
sys.stdout.buffer.write({_HEAD[:4]!r} + b"a" * 100_000)
sys.stdout.flush()
here = Path(__file__).parent
for _ in range(2000):
    if (here / "go").exists():
        break
    time.sleep(0.01)
if b"bad" in open(sys.argv[1], "rb").read():
    sys.exit(5)
sys.stdout.buffer.write(b"b" * 100_000)
"""


@pytest.fixture
def config(tmp_path: Path, pictures: Path) -> Path:
    (tmp_path / "long.py").write_text(_LONG)
    for name in ("good", "bad"):
        (pictures / f"{name}.odd").write_text(name * 100)
        at_rest(pictures / f"{name}.odd")
    table = {
        "role": "whole",
        "command": [sys.executable, "-I", str(tmp_path / "long.py"), "{in}"],
        "sources": [".odd"],
        "encodings": ["jpeg"],
        "stream": True,
        "sandbox": "none",
    }
    return write_config(tmp_path, pictures, tmp_path / "cache", **{"programs.long": table})


def begun(port: int, name: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """The answer for *name*, of which the first 100,000 bytes are there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", f"/picture/{name}.odd?encoding=jpeg")
    response = connection.getresponse()
    assert response.status == 200, response.read()
    return connection, response


@pytest.mark.parametrize("name", SERVERS)
def test_the_first_bytes_come_before_the_last_are_made(name: str, config: Path, tmp_path: Path) -> None:
    with serving(config, SERVERS[name]) as server:
        connection, response = begun(server.port, "good")
        assert response.read(100_004) == _HEAD
        assert response.getheader("Content-Length") is None
        assert response.getheader("Cache-Control") == "no-store"
        (tmp_path / "go").touch()
        assert response.read() == _TAIL
        connection.close()
        with server.client() as client:
            again = client.get("/picture/good.odd?encoding=jpeg")
        assert (again.status, again.cache, again.body) == (200, "hit", _HEAD + _TAIL)
        assert again.headers["content-length"] == "200004"


@pytest.mark.parametrize("name", SERVERS)
def test_a_late_failure_cuts_the_connection(name: str, config: Path, tmp_path: Path) -> None:
    with serving(config, SERVERS[name]) as server:
        connection, response = begun(server.port, "bad")
        assert response.read(100_004) == _HEAD
        (tmp_path / "go").touch()
        with pytest.raises((http.client.HTTPException, OSError)):
            response.read()
        connection.close()
        with server.client() as client:
            again = client.get("/picture/bad.odd?encoding=jpeg")
            assert again.status == 422
        assert [*(tmp_path / "cache" / "objects").rglob("*.jpg")] == []
        assert eventually(lambda: left_in_tmp(tmp_path / "cache") == [])


def test_who_leaves_ends_nothing(config: Path, tmp_path: Path) -> None:
    with serving(config) as server:
        connection, response = begun(server.port, "good")
        response.read(10)
        connection.close()
        (tmp_path / "go").touch()
        with server.client() as client:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                again = client.get("/picture/good.odd?encoding=jpeg")
                if again.cache == "hit":
                    break
                time.sleep(0.1)
        assert again.body == _HEAD + _TAIL
