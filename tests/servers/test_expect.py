"""``Expect: 100-continue`` (RFC 9110 §10.1.1) over a real socket: every server answers."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from support.drawing import quarters
from support.serving import ROOT, STARTS, Server, serving, write_config

NAMES = ["waitress", "granian", "gunicorn"]
TOKEN = "a word of sixteen letters"
TARGET = "/picture/tom.jpg?scalex=50"
BODY = json.dumps({"paths": ["tom.jpg"], "dry_run": True}).encode()
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Server]]:
    folder = tmp_path_factory.mktemp("expect")
    (folder / "pictures").mkdir()
    quarters().save(folder / "pictures" / "tom.jpg")
    config = write_config(
        folder, folder / "pictures", folder / "cache", render={"processes": -1}, admin={"token": TOKEN}
    )
    with ExitStack() as stack, ThreadPoolExecutor(len(NAMES)) as pool:
        contexts = [serving(config, STARTS[name][0], cwd=ROOT, program=STARTS[name][1]) for name in NAMES]
        found = list(pool.map(lambda context: context.__enter__(), contexts))
        for context in contexts:
            stack.push(context.__exit__)
        yield dict(zip(NAMES, found, strict=True))


class Talk:
    """A connection to *server*, on which each silence of ten seconds is an error."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection((server.host, server.port), timeout=10)
        self.data = b""

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def say(self, first: str, *headers: str, body: bytes = b"") -> None:
        lines = [first, "Host: localhost", *headers]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def head(self) -> str:
        """The next header block, 100 Continue or the answer's own."""
        while b"\r\n\r\n" not in self.data:
            got = self.socket.recv(65536)
            assert got, self.data
            self.data += got
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        return head.decode()

    def answer(self) -> int:
        """The status of the next answer that is final; its body is read."""
        head = self.head()
        while head.startswith("HTTP/1.1 100"):
            head = self.head()
        length = re.search(r"(?i)^content-length: *(\d+)", head, re.MULTILINE)
        while length and len(self.data) < int(length[1]):
            got = self.socket.recv(65536)
            assert got
            self.data += got
        self.data = self.data[int(length[1]) :] if length else b""
        return int(head.split()[1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["100-continue", "100-Continue"])
@pytest.mark.parametrize("length", [(), ("Content-Length: 0",)], ids=["no length", "a length of 0"])
def test_an_expectation_without_a_body_is_answered(
    servers: Mapping[str, Server], name: str, value: str, length: tuple[str, ...]
) -> None:
    with Talk(servers[name]) as talk:
        for _ in range(2):
            talk.say(f"GET {TARGET} HTTP/1.1", f"Expect: {value}", *length)
            assert talk.answer() == 200
        talk.say(f"GET {TARGET} HTTP/1.1")
        assert talk.answer() == 200


@pytest.mark.parametrize("name", NAMES)
def test_a_body_that_waits_for_the_100_is_asked_for(servers: Mapping[str, Server], name: str) -> None:
    headers = [f"Authorization: Bearer {TOKEN}", "Content-Type: application/json", "Expect: 100-continue"]
    with Talk(servers[name]) as talk:
        for _ in range(2):
            talk.say("POST /-/purge HTTP/1.1", *headers, f"Content-Length: {len(BODY)}")
            assert talk.head().startswith("HTTP/1.1 100")
            talk.socket.sendall(BODY)
            assert talk.answer() == 200
        talk.say("POST /-/purge HTTP/1.1", *headers, "Transfer-Encoding: chunked")
        assert talk.head().startswith("HTTP/1.1 100")
        talk.socket.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))
        assert talk.answer() == 200


@pytest.mark.parametrize("name", NAMES)
def test_a_body_that_does_not_wait_is_read(servers: Mapping[str, Server], name: str) -> None:
    headers = [f"Authorization: Bearer {TOKEN}", "Content-Type: application/json", "Expect: 100-continue"]
    with Talk(servers[name]) as talk:
        for _ in range(2):
            talk.say("POST /-/purge HTTP/1.1", *headers, f"Content-Length: {len(BODY)}", body=BODY)
            assert talk.answer() == 200


def test_an_expectation_behind_another_request_waits_for_its_turn(servers: Mapping[str, Server]) -> None:
    """The 100 comes after the answer to what was asked before."""
    headers = [f"Authorization: Bearer {TOKEN}", "Content-Type: application/json", "Expect: 100-continue"]
    with Talk(servers["waitress"]) as talk:
        talk.say(f"GET {TARGET} HTTP/1.1", "Expect: 100-continue")
        talk.say("POST /-/purge HTTP/1.1", *headers, f"Content-Length: {len(BODY)}")
        assert talk.answer() == 200
        assert talk.head().startswith("HTTP/1.1 100")
        talk.socket.sendall(BODY)
        talk.say(f"GET {TARGET} HTTP/1.1", "Expect: 100-continue")
        assert [talk.answer(), talk.answer()] == [200, 200]


def test_a_body_that_is_too_large_is_refused_and_not_asked_for(servers: Mapping[str, Server]) -> None:
    with Talk(servers["waitress"]) as talk:
        talk.say("POST /-/purge HTTP/1.1", "Expect: 100-continue", "Content-Length: 99999999")
        assert talk.head().startswith("HTTP/1.1 413")


@pytest.mark.parametrize("value", ["something-else", "100-continue, x", "100-continue;q=1", "1", "é"])
@pytest.mark.parametrize("name", ["waitress", "gunicorn"])
def test_an_expectation_that_is_not_known_is_refused(
    servers: Mapping[str, Server], name: str, value: str
) -> None:
    """granian, which is hyper, ignores it: §10.1.1 allows that."""
    with Talk(servers[name]) as talk:
        talk.say(f"GET {TARGET} HTTP/1.1", f"Expect: {value}")
        assert talk.answer() == 417


@pytest.mark.parametrize("value", ["", ",", " ,, "])
def test_an_expectation_of_nothing_is_none(servers: Mapping[str, Server], value: str) -> None:
    with Talk(servers["waitress"]) as talk:
        talk.say(f"GET {TARGET} HTTP/1.1", f"Expect: {value}")
        assert talk.answer() == 200


@pytest.mark.parametrize("value", ["100-continue", "something-else"])
def test_a_client_of_http_1_0_expects_nothing(servers: Mapping[str, Server], value: str) -> None:
    with Talk(servers["waitress"]) as talk:
        talk.say(f"GET {TARGET} HTTP/1.0", f"Expect: {value}")
        assert talk.head().split()[1] == "200"
