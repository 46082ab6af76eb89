"""The access log has one valid line for each request, whatever is asked and whatever the disk does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from support.serving import eventually, serving, write_config

from imagefactory.errors import ConfigError
from imagefactory.servers import access_log
from imagefactory.servers.access_log import AccessLog, check_target
from imagefactory.upkeep.warm.access_logs import LogEntry, read_log
from imagefactory.web.http.clients import Proxies

KEYS = ["time", "client", "method", "path", "query", "status", "bytes", "seconds"]
KEYS += ["cache", "encoding", "referer", "user_agent"]
HITS = [
    ("Content-Type", "image/webp"),
    ("Content-Length", "1234"),
    ("X-Cache", "hit"),
    ("Set-Cookie", "id=SECRET"),
]
ODD = 'a"\\\n\r\t\x00\x1b[31m\x7f\x85\u2028\u2029\xe9\U0001f600\ud800'
is_full_there = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
Parts = Iterable[tuple[str, Any]]


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is written before the test says so."""
    monkeypatch.setattr(access_log, "_PAUSE_S", 1e6)


def app_of(status: str = "200 OK", headers: Parts = HITS, body: Any = (b"x",)) -> Callable[..., Any]:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response(status, list(headers))
        return body

    return app


def ask(log: AccessLog, **environ: str) -> Any:
    common = {"REMOTE_ADDR": "192.0.2.1", "REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": ""}
    return log({**common, **environ}, lambda status, headers, *error: None)


def lines_of(file: Path) -> list[dict[str, Any]]:
    """The objects in *file*; each line has to be ASCII, and JSON that has no key twice."""
    data = file.read_bytes()
    assert data.isascii() and data[-1:] in (b"", b"\n")
    assert not re.search(rb"[\x00-\x09\x0b-\x1f]", data)

    def once(pairs: Parts) -> dict[str, Any]:
        pairs = list(pairs)
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    return [json.loads(line, object_pairs_hook=once) for line in data.decode().splitlines()]


def logged(
    tmp_path: Path, trusted: Iterable[str] = (), app: Callable[..., Any] | None = None, **environ: str
) -> dict[str, Any]:
    file = tmp_path / "access.log"
    log = AccessLog(app or app_of(), str(file), Proxies(list(trusted)))
    ask(log, **environ)
    log.flush()
    (line,) = lines_of(file)
    assert list(line) == KEYS
    return line


# --- a line -----------------------------------------------------------------------------------------------


def test_a_line_tells_of_a_request_and_its_answer(tmp_path: Path) -> None:
    before = time.time()
    line = logged(
        tmp_path,
        ["192.0.2.1"],
        PATH_INFO="/picture/caf\xc3\xa9.jpg",
        QUERY_STRING="scalex=100&encoding=auto",
        HTTP_X_FORWARDED_FOR="6.6.6.6, 198.51.100.7",
        HTTP_REFERER="https://example.com/",
        HTTP_USER_AGENT="curl/8.0",
        HTTP_AUTHORIZATION="Bearer SECRET",
        HTTP_COOKIE="id=SECRET",
    )
    assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z", line["time"])
    earliest, latest = (  # gmtime() of now takes a clock that is some milliseconds behind
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s)) for at_s in (before, time.time())
    )
    assert earliest <= line["time"] <= f"{latest}.999Z"
    assert isinstance(line["seconds"], float) and 0 <= line["seconds"] < 60
    assert {key: value for key, value in line.items() if key not in ("time", "seconds")} == {
        "client": "198.51.100.7",
        "method": "GET",
        "path": "/picture/caf\xe9.jpg",
        "query": "scalex=100&encoding=auto",
        "status": 200,
        "bytes": 1234,
        "cache": "hit",
        "encoding": "webp",
        "referer": "https://example.com/",
        "user_agent": "curl/8.0",
    }


@pytest.mark.parametrize(
    ("method", "status", "headers", "expected"),
    [
        ("GET", "200 OK", HITS, (200, 1234, "hit", "webp")),
        ("HEAD", "200 OK", HITS, (200, 0, "hit", "webp")),
        ("GET", "206 PARTIAL CONTENT", [("Content-Length", "5")], (206, 5, "", "")),
        ("GET", "304 NOT MODIFIED", [("X-Cache", "hit"), ("Content-Length", "9")], (304, 0, "hit", "")),
        ("OPTIONS", "204 NO CONTENT", [("Content-Length", "9")], (204, 0, "", "")),
        ("GET", "200 OK", [("Content-Type", "text/html; charset=utf-8")], (200, 0, "", "")),
        ("GET", "200 OK", [("Content-Type", "image/svg+xml; charset=utf-8")], (200, 0, "", "svg+xml")),
        ("GET", "404 NOT FOUND", [("Content-Length", "x")], (404, 0, "", "")),
        ("GET", "", [], (0, 0, "", "")),
        ("GET", "OK", [], (0, 0, "", "")),
    ],
)
def test_what_was_answered(tmp_path: Path, method: str, status: str, headers: Parts, expected: Any) -> None:
    line = logged(tmp_path, app=app_of(status, headers), REQUEST_METHOD=method)
    assert (line["status"], line["bytes"], line["cache"], line["encoding"]) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a\nb", "/a\nb"),
        ('/a"b', '/a"b'),
        ("/\xe2\x80\xa8\xc2\x85", "/\u2028\x85"),
        ("/\xff\xc3", "/\ufffd\ufffd"),
        ("/\x00\x1b\r\t\\", "/\x00\x1b\r\t\\"),
        ("/\xf0\x9f\x98\x80", "/\U0001f600"),
        ("/\u2028\ud800", "/??"),  # what a server must not hand over
        ("", ""),
    ],
)
def test_a_path_is_text_and_one_line(tmp_path: Path, path: str, expected: str) -> None:
    assert logged(tmp_path, PATH_INFO=path)["path"] == expected


@pytest.mark.parametrize(
    "name", ["QUERY_STRING", "HTTP_REFERER", "HTTP_USER_AGENT", "REQUEST_METHOD", "REMOTE_ADDR"]
)
def test_whatever_is_sent_stays_on_its_line(tmp_path: Path, name: str) -> None:
    values = logged(tmp_path, **{name: ODD}).values()
    assert ODD in values


@pytest.mark.parametrize(("trusted", "at_most"), [([], 5500), (["192.0.2.1"], 7500)])
def test_what_strangers_send_is_cut(tmp_path: Path, trusted: list[str], at_most: int) -> None:
    """Also while it waits in memory."""
    file = tmp_path / "access.log"
    log = AccessLog(app_of(), str(file), Proxies(trusted))
    ask(
        log,
        PATH_INFO="/" + "p" * 70_000,
        QUERY_STRING="q" * 70_000,
        REQUEST_METHOD="M" * 70_000,
        HTTP_REFERER="r" * 70_000,
        HTTP_USER_AGENT="u" * 70_000,
        HTTP_X_FORWARDED_FOR="1" * 70_000,
    )
    (row,) = log._writers[os.getpid()].waiting
    assert sum(len(part) for part in row if isinstance(part, str)) < at_most
    log.flush()
    (line,) = lines_of(file)
    names = ("path", "query", "method", "referer", "user_agent")
    assert [len(line[name]) for name in names] == [2048, 2048, 32, 512, 512]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("s=SECRET", "s=***"),
        ("scalex=1&s=SECRET&k=web&e=9", "scalex=1&s=***&k=web&e=9"),
        ("token=SECRET&token=SECRET", "token=***&token=***"),
        ("%73=SECRET", "%73=***"),
        ("tok%65n=SECRET", "tok%65n=***"),
        ("%54OKEN=SECRET", "%54OKEN=***"),
        ("+s+=SECRET", "+s+=***"),
        ("S=SECRET", "S=***"),
        ("s=SEC=RET=", "s=***"),
        ("s=", "s="),
        ("s", "s"),
        ("&&=&s=SECRET&", "&&=&s=***&"),
        ("size=1x1&tokens=2&ss=3", "size=1x1&tokens=2&ss=3"),
        ("a=%zz&%ff=1", "a=%zz&%ff=1"),
    ],
)
def test_secrets_are_masked_and_nothing_else(tmp_path: Path, query: str, expected: str) -> None:
    line = logged(tmp_path, QUERY_STRING=query, HTTP_REFERER=f"https://example.com/?{query}")
    assert (line["query"], line["referer"]) == (expected, f"https://example.com/?{expected}")


# --- the middleware ---------------------------------------------------------------------------------------


def test_the_body_goes_on_as_it_is(tmp_path: Path) -> None:
    """A server looks whether it is its own wrapper of a file."""
    body = object()
    told = []
    log = AccessLog(app_of(body=body), str(tmp_path / "access.log"), Proxies())
    environ = {"REMOTE_ADDR": "::1", "REQUEST_METHOD": "GET", "PATH_INFO": "/"}
    assert log(environ, lambda *all_: told.append(all_)) is body
    assert told == [("200 OK", HITS)]


def test_an_error_of_the_app_goes_on_and_is_logged(tmp_path: Path) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", HITS)
        raise RuntimeError("a bug")

    file = tmp_path / "access.log"
    log = AccessLog(app, str(file), Proxies())
    with pytest.raises(RuntimeError, match="a bug"):
        ask(log)
    log.flush()
    assert [line["status"] for line in lines_of(file)] == [500]


def test_the_path_is_the_one_that_was_asked(tmp_path: Path) -> None:
    """Also where an app below moves it on."""

    def app(environ: Any, start_response: Any) -> Any:
        environ["PATH_INFO"] = "/moved"
        return app_of()(environ, start_response)

    assert logged(tmp_path, app=app, PATH_INFO="/asked")["path"] == "/asked"


def test_a_request_that_no_server_makes_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "access.log"
    log = AccessLog(app_of(headers=[("Content-Length", 5)]), str(file), Proxies())
    assert ask(log) == (b"x",)
    assert ask(log, HTTP_REFERER=None) == (b"x",)
    log.flush()
    assert [line.get("dropped") for line in lines_of(file)] == [1]
    assert len(caplog.records) == 2


def test_the_thread_writes_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "_PAUSE_S", 0.01)
    file = tmp_path / "access.log"
    log = AccessLog(app_of(), str(file), Proxies())
    ask(log)
    assert eventually(lambda: file.exists() and lines_of(file), 30)


def test_a_fork_writes_its_own_lines_only(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    log = AccessLog(app_of(), str(file), Proxies())
    ask(log, PATH_INFO="/parent")
    child = os.fork()
    if child == 0:
        try:
            ask(log, PATH_INFO="/child")
            log.flush()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert [line["path"] for line in lines_of(file)] == ["/child"]
    log.flush()
    assert [line["path"] for line in lines_of(file)] == ["/child", "/parent"]


# --- trouble ----------------------------------------------------------------------------------------------


def test_what_is_too_much_is_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "_WAITING", 3)
    file = tmp_path / "access.log"
    log = AccessLog(app_of(), str(file), Proxies())
    for number in range(10):
        ask(log, PATH_INFO=f"/{number}")
    log.flush()
    log.flush()
    ask(log, PATH_INFO="/again")
    log.flush()
    lines = lines_of(file)
    assert [(line.get("dropped"), line.get("path")) for line in lines] == [
        (7, None),
        (None, "/0"),
        (None, "/1"),
        (None, "/2"),
        (None, "/again"),
    ]
    assert list(lines[0]) == ["time", "dropped"]


def test_what_threads_drop_at_once_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "_WAITING", 0)
    monkeypatch.setattr(access_log, "_PAUSE_S", 0.001)
    file = tmp_path / "access.log"
    log = AccessLog(app_of(), str(file), Proxies())

    def ask_often(number: int) -> None:
        for _ in range(500):
            ask(log)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask_often, range(8)))
    log.flush()
    assert sum(line["dropped"] for line in lines_of(file)) == 4000


@is_full_there
def test_a_full_disk_loses_lines_and_says_so_once_it_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "access.log"
    file.symlink_to("/dev/full")
    log = AccessLog(app_of(), str(file), Proxies())
    for _ in range(3):
        assert ask(log) == (b"x",)
        log.flush()
    file.unlink()
    log.flush()
    assert [line.get("dropped") for line in lines_of(file)] == [3]
    ask(log)
    log.flush()
    assert [line.get("status") for line in lines_of(file)] == [None, 200]
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert caplog.messages == [
        f"the access log {file} can't be written, lines are lost: No space left on device",
        f"the access log {file} is written again",
    ]


@pytest.mark.parametrize("how", ["no folder", "a folder"])
def test_a_log_that_can_t_be_opened_harms_nobody(tmp_path: Path, how: str) -> None:
    file = tmp_path / "logs" / "access.log"
    if how == "a folder":
        file.mkdir(parents=True)
    log = AccessLog(app_of(), str(file), Proxies())
    assert ask(log) == (b"x",)
    log.flush()
    if how == "a folder":
        file.rmdir()
    else:
        file.parent.mkdir()
    log.flush()
    assert [line.get("dropped") for line in lines_of(file)] == [1]


PROGRAM = """
import resource, sys
from imagefactory.servers import access_log
from imagefactory.servers.access_log import AccessLog
from imagefactory.web.http.clients import Proxies
access_log._PAUSE_S = 1e6
def app(environ, start_response):
    start_response("200 OK", [])
    return []
log = AccessLog(app, sys.argv[1], Proxies())
def ask(path):
    log({"REMOTE_ADDR": "::1", "REQUEST_METHOD": "GET", "PATH_INFO": path}, lambda *all_: None)
"""


def run(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        **options,
    )


def test_a_disk_that_gets_full_within_a_line_spoils_that_line_only(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    code = """
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
for number in range(10):
    ask(f"/{number}")
log.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
ask("/after")
log.flush()
"""
    run(code, str(file))
    texts = file.read_text().splitlines()
    torn = [text for text in texts if not text.endswith("}")]
    assert len(torn) == 1
    lines = [json.loads(text) for text in texts if text not in torn]
    told = len(lines) - 2
    assert 1 < told < 9
    assert [line.get("path") for line in lines] == [*(f"/{number}" for number in range(told)), None, "/after"]
    assert lines[told]["dropped"] == 10 - told


def test_processes_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    code = """
sys.stdin.read()
for number in range(3000):
    ask("/" + sys.argv[2] * 100)
    if number % 20 == 0:
        log.flush()
"""
    arguments = [sys.executable, "-c", PROGRAM + code, str(file)]
    processes = [subprocess.Popen([*arguments, name], stdin=subprocess.PIPE) for name in "ab"]
    for process in processes:
        assert process.stdin
        process.stdin.close()
    assert [process.wait(120) for process in processes] == [0, 0]
    paths = [line["path"] for line in lines_of(file)]
    assert sorted(paths) == ["/" + "a" * 100] * 3000 + ["/" + "b" * 100] * 3000


def test_standard_output_and_the_end_of_a_program(tmp_path: Path) -> None:
    """What waits when it ends is written."""
    said = run("for number in range(100): ask(f'/{number}')", "-").stdout
    assert [json.loads(line)["path"] for line in said.splitlines()] == [f"/{number}" for number in range(100)]


def test_a_closed_pipe_harms_nobody() -> None:
    read, write = os.pipe()
    os.close(read)
    code = "ask('/'); log.flush(); ask('/'); print('on', file=sys.stderr)"
    with os.fdopen(write, "wb") as out:
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM + code, "-"],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 0 and "on\n" in process.stderr


@pytest.mark.parametrize("how", ["renamed", "deleted"])
def test_a_log_that_was_rotated_is_begun_anew(tmp_path: Path, how: str) -> None:
    file, old = tmp_path / "access.log", tmp_path / "access.log.1"
    log = AccessLog(app_of(), str(file), Proxies())
    ask(log, PATH_INFO="/1")
    log.flush()
    if how == "renamed":
        file.rename(old)
    else:
        file.unlink()
    ask(log, PATH_INFO="/2")
    log.flush()
    assert [line["path"] for line in lines_of(file)] == ["/2"]
    if how == "renamed":
        assert [line["path"] for line in lines_of(old)] == ["/1"]


def test_a_log_is_readable_by_its_group_at_most(tmp_path: Path) -> None:
    logged(tmp_path)
    assert (tmp_path / "access.log").stat().st_mode & 0o137 == 0


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda file: file.parent.rmdir(), "No such file or directory"),
        (lambda file: file.mkdir(), "Is a directory"),
        (os.mkfifo, "No such device or address"),
    ],
)
def test_a_target_that_can_t_be_written_is_told(
    tmp_path: Path, make: Callable[[Path], object], problem: str
) -> None:
    file = tmp_path / "logs" / "access.log"
    file.parent.mkdir()
    make(file)
    with pytest.raises(ConfigError) as caught:
        check_target(str(file))
    assert str(caught.value) == f"server.access_log: {str(file)!r} can't be written: {problem}"


def test_a_target_that_can_be_written_is_made(tmp_path: Path) -> None:
    check_target(str(tmp_path / "access.log"))
    check_target("-")
    assert (tmp_path / "access.log").read_bytes() == b""


def test_a_closed_standard_output_is_told() -> None:
    code = "access_log.check_target('-')"
    process = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" "$@" >&-', sys.executable, "-c", PROGRAM + code, "-"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert "server.access_log: '-' can't be written: there is no standard output" in process.stderr


# --- real servers -----------------------------------------------------------------------------------------

SERVERS = {
    "waitress": (),
    "granian": ("--server", "granian", "--workers", "2"),
    "gunicorn": ("--server", "gunicorn", "--workers", "2"),
}


@pytest.mark.parametrize("name", SERVERS)
def test_each_request_has_its_line(tmp_path: Path, pictures: Path, name: str) -> None:
    """Also those just before the end; and a log that logrotate renamed goes on in a new file."""
    file = tmp_path / "access.log"
    server = {"access_log": "access.log", "trusted_proxies": ["127.0.0.1"]}
    config = write_config(tmp_path, pictures, tmp_path / "cache", render={"processes": 1}, server=server)
    hit = "/picture/cats/tom.jpg?scalex=100&encoding=webp"
    odd = quote_from_bytes(b'/picture/a\nb"c\xff\x85\xe2\x80\xa8')
    with serving(config, SERVERS[name]) as server, server.client() as client:
        for _ in range(100):
            assert client.get(hit).status == 200
        assert eventually(lambda: len(lines_of(file)) == 101, 30)
        file.rename(tmp_path / "access.log.1")
        for _ in range(100):
            client.get(hit, X_Forwarded_For="6.6.6.6, 203.0.113.9")
        etag = client.get(hit).headers["etag"]
        assert client.get(hit, If_None_Match=etag).status == 304
        assert client.get(hit, "HEAD").status == 200
        for _ in range(5):
            original = client.get("/picture/flag.png")
            assert client.get("/picture/nothing.png?s=SECRET").status == 404
            assert client.get(odd + "?%22%0A&%74oken=SECRET").status == 404
        assert server.stop() == 0
    lines = [line for path in (tmp_path / "access.log.1", file) for line in lines_of(path)]
    assert all(list(line) == KEYS for line in lines)
    hits = [line for line in lines if line["path"] == "/picture/cats/tom.jpg"]
    assert len(hits) == 203
    assert {line["encoding"] for line in hits if line["status"] == 200} == {"webp"}
    assert sum(line["client"] == "203.0.113.9" for line in hits) == 100
    assert sum(line["cache"] == "hit" for line in hits) == 202
    assert [(line["status"], line["bytes"]) for line in hits].count((304, 0)) == 1
    assert [(line["method"], line["bytes"]) for line in hits].count(("HEAD", 0)) == 1
    assert len({line["bytes"] for line in hits}) == 2
    others = [(line["path"], line["query"], line["status"]) for line in lines if line not in hits]
    assert sorted(others) == sorted(
        [
            ("/picture/flag.png", "", 200),
            ("/picture/nothing.png", "s=***", 404),
            ('/picture/a\nb"c\ufffd\ufffd\u2028', "%22%0A&%74oken=***", 404),
        ]
        * 5
        + [("/-/is-it-there", "", 404)]
    )
    assert [line["bytes"] for line in lines if line["path"] == "/picture/flag.png"] == [
        len(original.body)
    ] * 5
    read = read_log(json.dumps(line) for line in lines)
    assert len(list(read)) == len(lines) == 219 and read.skipped == 0


@is_full_there
def test_a_server_goes_on_when_the_disk_is_full(tmp_path: Path, pictures: Path) -> None:
    config = write_config(tmp_path, pictures, tmp_path / "cache", server={"access_log": "/dev/full"})
    with serving(config) as server:
        assert server.get("/picture/cats/tom.jpg?scalex=100").status == 200
        assert eventually(lambda: "No space left on device" in server.said(), 30)
        assert server.get("/picture/cats/tom.jpg?scalex=100").status == 200


@pytest.mark.parametrize("name", SERVERS)
def test_a_log_that_can_t_be_written_is_told_at_the_start(tmp_path: Path, pictures: Path, name: str) -> None:
    config = write_config(tmp_path, pictures, tmp_path / "cache", server={"access_log": "logs/access.log"})
    process = subprocess.run(
        [sys.executable, "-m", "imagefactory", "--config", config, "serve", "--port", "0", *SERVERS[name]],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    file = tmp_path / "logs" / "access.log"
    assert process.stderr == (
        f"Error: server.access_log: {str(file)!r} can't be written: No such file or directory\n"
    )
    assert process.returncode == 2


@pytest.mark.parametrize(("level", "is_said"), [("info", True), ("warning", False)])
def test_messages_below_the_level_are_not_said(
    tmp_path: Path, pictures: Path, level: str, is_said: bool
) -> None:
    config = write_config(tmp_path, pictures, tmp_path / "cache", server={"log_level": level})
    with serving(config) as server:
        assert server.stop() == 0
        assert ("stopping: answering what was asked" in server.said()) is is_said


# --- reading ----------------------------------------------------------------------------------------------

COMMON = '192.0.2.1 - - [10/Oct/2026:13:55:36 +0000] "{}" 200 2326'
GET = ("GET", "/picture/tom.jpg", "scalex=1", 200, "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (COMMON.format("GET /picture/tom.jpg?scalex=1 HTTP/1.1"), GET),
        (COMMON.format("GET /picture/tom.jpg?scalex=1 HTTP/1.1") + "\r\n", GET),
        ("\ufeff" + COMMON.format("GET /picture/tom.jpg?scalex=1 HTTP/2") + ' "-" "curl"\n', GET),
        (COMMON.format("GET /picture/tom.jpg?scalex=1 HTTP/2") + ' "https://a/?\\"] \\"" "x \\"GET /', GET),
        (f'v.example:443 {COMMON.format("GET /picture/tom.jpg?scalex=1 HTTP/1.1")} "-" "-" 12 "x"', GET),
        ('::1 - bob] x [10/Oct] "GET /picture/tom.jpg?scalex=1 HTTP/1.0" 200 -', GET),
        ('::1 - \\"] \\"GET [t] "GET /picture/tom.jpg?scalex=1 HTTP/1.0" 200 -', GET),
        ('- - - [-] "GET /a HTTP/1.1" - -', ("GET", "/a", "", 0, "")),
        (COMMON.format("GET http://example.com:80/a?b=://c HTTP/1.1"), ("GET", "/a", "b=://c", 200, "")),
        (COMMON.format("GET https://example.com?b HTTP/1.1"), ("GET", "/", "b", 200, "")),
        (COMMON.format("GET HTTP://[::1] HTTP/1.1"), ("GET", "/", "", 200, "")),
        (COMMON.format("GET //a/b HTTP/1.1"), ("GET", "//a/b", "", 200, "")),
        (COMMON.format("GET /a b.jpg?c d HTTP/1.1"), ("GET", "/a b.jpg", "c d", 200, "")),
        (COMMON.format("GET /a"), ("GET", "/a", "", 200, "")),
        (COMMON.format("GET /a#b?c HTTP/1.1"), ("GET", "/a", "", 200, "")),
        (COMMON.format("HEAD /%C3%A9%2f%zz%ff%00?%41 HTTP/2"), ("HEAD", "/\xe9/%zz\ufffd\0", "%41", 200, "")),
        (COMMON.format(r"GET /\x22\x5C\xC3\xA9?\xE9 HTTP/1.1"), ("GET", '/"\\\xe9', "\xe9", 200, "")),
        (COMMON.format(r"GET /\"\\\t?\q\x HTTP/1.1"), ("GET", '/"\\\t', "qx", 200, "")),
        (COMMON.format("GET /\xe9\udcff?\udcff HTTP/1.1"), ("GET", "/\xe9\ufffd", "\xff", 200, "")),
        ('{"method":"GET","path":"/a b%20","query":"c=%20","status":304,"encoding":"webp","x":[1]}',
         ("GET", "/a b%20", "c=%20", 304, "webp")),
        (' {"method":"GET","path":"/","status":200}\n', ("GET", "/", "", 200, "")),
        ('{"method":"M","path":"/\\ud800","status":1,"encoding":"\\n"}',
         ("M", "/\ufffd\ufffd\ufffd", "", 1, "")),
    ],
)  # fmt: skip
def test_a_line_is_read(line: str, expected: tuple[Any, ...]) -> None:
    reading = read_log([line])
    assert list(reading) == [LogEntry(*expected)]
    assert reading.skipped == 0


HOSTILE = [
    "nothing",
    '"',
    '] "',
    '] "GET /a',
    "{",
    "{}",
    "[]",
    '{"a":' * 100_000,
    '{"a":' + "[" * 100_000,
    '{"method":"GET","path":"/","status":' + "9" * 5000 + "}",
    '{"method":"GET","path":"/","status":true}',
    '{"method":"GET","path":"/","status":200.0}',
    '{"method":"GET","path":"/","status":-1}',
    '{"method":"GET","path":"/","status":200,"query":null}',
    '{"method":"GET","path":"/","status":200,"encoding":1}',
    '{"method":"GET","path":"x","status":200}',
    '{"method":"G T","path":"/","status":200}',
    '{"method":"\\ud800","path":"/","status":200}',
    '{"method":["GET"],"path":"/","status":200}',
    '{"time":"2026-01-31T12:00:00.000Z","dropped":5}',
    COMMON.format("-"),
    COMMON.format(""),
    COMMON.format("GET"),
    COMMON.format("GET "),
    COMMON.format(r"\x16\x03\x01"),
    COMMON.format("OPTIONS * HTTP/1.1"),
    COMMON.format("CONNECT example.com:443 HTTP/1.1"),
    COMMON.format("GET picture HTTP/1.1"),
    COMMON.format("G\xe9T /a HTTP/1.1"),
    COMMON.format("GET /a HTTP/1.1") + "x",
    '- - - [-] "GET /a HTTP/1.1" 2000 -',
    '- - - [-] "GET /a HTTP/1.1" \u0662\u0660\u0660 -',
    '- - - [-] "GET /a HTTP/1.1"',
    '- - - [-] "GET /a HTTP/1.1\\" 200 1',
    "x" * 10_000_000,
    COMMON.format(f"GET /{'a' * 200_000} HTTP/1.1"),
    "\ud800\udfff\0",
]


def test_a_line_that_is_none_is_skipped_and_counted() -> None:
    good = COMMON.format("GET /a HTTP/1.1")
    lines = ["", "\n", " \t\r\n", *(part for line in HOSTILE for part in (line, good))]
    reading = read_log(lines)
    assert [entry.path for entry in reading] == ["/a"] * len(HOSTILE)
    assert reading.skipped == len(HOSTILE)


@pytest.mark.parametrize(
    "repeated",
    [
        "] ",
        '] "',
        '] "\\',
        '"\\',
        '] "a" ',
        "%",
        "%41",
        "\\x41",
        " ",
        "[",
        '] "GET /',
        "://",
        "a",
        "\ud800",
        "{",
    ],
)
def test_no_line_takes_long(repeated: str) -> None:
    """With a match that goes back these take hours."""
    for start in ("", '- [-] "', '- [-] "GET ', '- [-] "GET a', '{"'):
        for end in ("", '" 200 1', '" 200 1x', '"}'):
            list(read_log([start + repeated * (150_000 // len(repeated)) + end]))


def test_what_was_logged_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    log = AccessLog(app_of(), str(file), Proxies())
    ask(log, PATH_INFO='/caf\xc3\xa9\n"\xff', QUERY_STRING="scalex=1&s=SECRET&x=\xff")
    log.flush()
    expected = LogEntry("GET", '/caf\xe9\n"\ufffd', "scalex=1&s=***&x=\xff", 200, "webp")
    assert list(read_log(file.read_text().splitlines())) == [expected]
