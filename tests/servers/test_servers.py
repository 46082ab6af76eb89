"""Whatever server one takes, the answers are the same, a stop drops nobody, and mistakes are told."""

from __future__ import annotations

import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image
from support.drawing import quarters
from support.serving import (
    CONF,
    ROOT,
    STARTS,
    Reply,
    Server,
    eventually,
    is_able_to_trace,
    left_in_tmp,
    serving,
    write_config,
)

from imagefactory.common.cores import cores
from imagefactory.config import from_mapping
from imagefactory.servers.common import with_share
from imagefactory.servers.gunicorn import settings
from imagefactory.servers.serving import SERVERS

# By name: the options of `imagefactory serve`, or another program.
WHOLE = "/picture/tom.jpg?scalex=100"
# Those of STARTS that `imagefactory serve` starts.
OURS = (*SERVERS, "prefork")
# What a server says of itself and of the connection, and what depends on the moment.
OWN = {"date", "server", "connection", "keep-alive", "via", "server-timing", "x-cache"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "pictures"
    folder.mkdir()
    quarters().save(folder / "tom.jpg", quality=95)
    Image.effect_noise((1500, 1000), 90).save(folder / "noise.png")
    return folder


@pytest.fixture(scope="module")
def servers(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Server]]:
    """All servers at once, with one cache; at the end SIGTERM makes each exit with 0."""
    folder = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack, ThreadPoolExecutor(len(STARTS)) as pool:

        def start(name: str) -> Server:
            options, program = STARTS[name]
            config = write_config(folder, pictures, folder / "cache", render={"processes": 1})
            return stack.enter_context(serving(config, options, cwd=ROOT, program=program))

        running = dict(zip(STARTS, pool.map(start, STARTS), strict=True))
        yield running
        for server in running.values():
            server.tell_to_stop()


def compared(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    return reply.status, {name: value for name, value in reply.headers.items() if name not in OWN}, reply.body


# --- the same answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STARTS)
def test_a_picture_is_rendered_once_and_then_a_hit(servers: Mapping[str, Server], name: str) -> None:
    """Also in another process of the server: each request comes on a connection of its own."""
    target = f"/picture/tom.jpg?scalex={200 + list(STARTS).index(name)}"
    results = [servers[name].get(target).cache for _ in range(6)]
    assert results == ["miss"] + ["hit"] * 5


@pytest.mark.parametrize("name", [name for name in STARTS if name != "waitress"])
@pytest.mark.parametrize(
    ("target", "method", "headers", "status"),
    [
        (WHOLE, "GET", {}, 200),
        (WHOLE, "HEAD", {}, 200),
        (WHOLE, "GET", {"If_None_Match": "*"}, 304),
        (WHOLE, "HEAD", {"If_None_Match": "*"}, 304),
        (WHOLE, "GET", {"If_Match": '"no"'}, 412),
        (WHOLE, "GET", {"Range": "bytes=5-99"}, 206),
        (WHOLE, "GET", {"Range": "bytes=-7"}, 206),
        (WHOLE, "HEAD", {"Range": "bytes=5-99"}, 200),
        (WHOLE, "GET", {"Range": "bytes=5-9,20-30"}, 200),
        (WHOLE, "GET", {"Range": "bytes=9000000-"}, 416),
        ("/picture/noise.png?scalex=1400", "GET", {}, 200),
        ("/picture/noise.png?scalex=1400", "GET", {"Range": "bytes=1000-900000"}, 206),
        ("/picture/tom.jpg?scalex=80&encoding=auto", "GET", {"Accept": "image/webp"}, 200),
        ("/picture/tom.jpg?scalex=80&encoding=auto", "GET", {"Accept": "image/png"}, 200),
        ("/picture/tom.jpg?scalex=60&dl=%C3%BC.jpg", "GET", {}, 200),
        ("/picture/tom.jpg", "GET", {}, 200),
        ("/picture/tom.jpg", "GET", {"Range": "bytes=0-0"}, 206),
        ("/picture/no.jpg?scalex=100", "GET", {}, 404),
        ("/picture//tom.jpg", "GET", {}, 404),
        ("/picture/a%2Fb%00.jpg", "GET", {}, 404),
        ("/picture/no.jpg", "HEAD", {}, 404),
        ("/nowhere", "GET", {}, 404),
        ("/picture/tom.jpg?quality=120", "GET", {}, 400),
        ("/picture/tom.jpg?quality=120", "HEAD", {}, 400),
        (WHOLE, "POST", {}, 405),
        (WHOLE, "DELETE", {}, 405),
        (WHOLE, "OPTIONS", {}, 204),
        ("/healthz", "GET", {}, 200),
    ],
)
def test_every_server_gives_the_answer_of_waitress(
    servers: Mapping[str, Server], name: str, target: str, method: str, headers: dict[str, str], status: int
) -> None:
    replies = []
    for server in (servers["waitress"], servers[name]):
        with server.client() as client:
            replies.append(client.get(target, method, **headers))
            assert client.get("/picture/no.jpg").status == 404  # the connection is in step
    assert compared(replies[1]) == compared(replies[0])
    assert replies[0].status == status


@pytest.mark.parametrize("name", STARTS)
def test_head_has_the_length_of_get_and_no_body(servers: Mapping[str, Server], name: str) -> None:
    server = servers[name]
    with server.client() as client:
        whole = client.get(WHOLE)
    with socket.create_connection((server.host, server.port), timeout=20) as connection:
        connection.sendall(f"HEAD {WHOLE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        text = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = text.lower().partition(b"\r\n\r\n")
    assert f"\r\ncontent-length: {len(whole.body)}\r\n".encode() in head + b"\r\n"
    assert body == b""


@pytest.mark.parametrize("name", STARTS)
def test_headers_of_a_proxy_are_not_trusted(servers: Mapping[str, Server], name: str) -> None:
    plain = servers[name].get(WHOLE)
    forged = servers[name].get(
        WHOLE,
        X_Forwarded_For="1.2.3.4",
        X_Forwarded_Proto="https",
        X_Forwarded_Prefix="/evil",
        Script_Name="/x",
    )
    assert compared(forged) == compared(plain)


@pytest.mark.parametrize("name", STARTS)
def test_a_server_writes_no_line_for_each_request(servers: Mapping[str, Server], name: str) -> None:
    before = servers[name].said()
    assert servers[name].get(f"/picture/tom.jpg?scalex={300 + list(STARTS).index(name)}").cache == "miss"
    assert servers[name].get("/picture/no.jpg").status == 404
    assert servers[name].said() == before


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_says_where_it_is_and_nothing_else(servers: Mapping[str, Server], name: str) -> None:
    assert re.fullmatch(r"imagefactory \S+ serves \S+ at http://127.0.0.1:\d+/\n", servers[name].said())


def test_waitress_writes_no_line_for_each_request_that_waits_for_a_thread(
    pictures: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path, pictures, tmp_path / "cache", server={"threads": 1})
    with serving(config) as server, ThreadPoolExecutor(8) as pool:
        before = server.said()
        targets = [f"/picture/noise.png?scalex={width}" for width in range(200, 208)]
        assert {reply.status for reply in pool.map(server.get, targets)} == {200}
        assert server.said() == before


# --- stopping ---------------------------------------------------------------------------------------------

# A render from noise: long enough to be caught half way.
SLOW = "/picture/noise.png?scalex=900&encoding=webp&q=97"
IN_GROUP = [sys.executable, "-c", "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"]


@pytest.mark.parametrize(
    ("number", "to_group"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, True)]
)
@pytest.mark.parametrize("name", OURS)
def test_a_stop_finishes_the_answer_under_way_and_exits_with_0(
    pictures: Path, tmp_path: Path, name: str, number: signal.Signals, to_group: bool
) -> None:
    """By the signal of a supervisor, or of a terminal's Ctrl-C and of systemd, which all processes get."""
    config = write_config(tmp_path, pictures, tmp_path / "cache", **{"encodings.webp": {"method": 6}})
    with (
        serving(config, STARTS[name][0], IN_GROUP) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        under_way = pool.submit(server.get, SLOW)
        assert eventually(lambda: left_in_tmp(tmp_path / "cache"))
        server.was_ended = True
        began = time.monotonic()
        if to_group:
            os.killpg(server.process.pid, number)
        else:
            server.signal(number)
        with pytest.raises(OSError):
            while True:  # it takes no new connections
                socket.create_connection((server.host, server.port), timeout=5).close()
                time.sleep(0.02)
        assert under_way.result().status == 200
        assert server.process.wait(28) == 0
        assert time.monotonic() - began < 28  # nobody had to be killed, which is done after 30 s


# A worker of gunicorn's that is submitting a request, so its thread has the pool's lock, when a stop comes.
SUBMITTING = """
import os, signal, sys
from gunicorn.config import Config
from gunicorn.workers.gthread import ThreadWorker
from imagefactory.servers.gunicorn import hear
worker = ThreadWorker(1, os.getppid(), [], None, 30, Config(), None)
worker.tpool = worker.get_thread_pool()
worker.method_queue.init()
signal.signal(signal.SIGQUIT, worker.handle_quit)
signal.signal(signal.SIGINT, worker.handle_quit)
hear(worker)
with worker.tpool._shutdown_lock:
    signal.raise_signal(int(sys.argv[1]))
    signal.raise_signal(signal.SIGQUIT)
sys.exit(worker.alive)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_worker_of_gunicorn_that_is_stopped_while_it_submits_does_not_wait_for_itself(
    number: signal.Signals,
) -> None:
    subprocess.run([sys.executable, "-c", SUBMITTING, str(int(number))], timeout=20, check=True)


@pytest.mark.parametrize("name", OURS)
def test_when_the_parent_is_killed_its_workers_end(pictures: Path, tmp_path: Path, name: str) -> None:
    with serving(write_config(tmp_path, pictures, tmp_path / "cache"), STARTS[name][0]) as server:
        server.kill()

        def is_gone() -> bool:
            try:
                socket.create_connection((server.host, server.port), timeout=5).close()
            except OSError:
                return True
            return False

        assert eventually(is_gone, seconds=10, pause_s=0.05)


# --- mistakes ---------------------------------------------------------------------------------------------


def serve(tmp_path: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "pictures").mkdir(exist_ok=True)
    config = write_config(tmp_path, tmp_path / "pictures", tmp_path / "cache")
    command = [sys.executable, "-m", "imagefactory", "--config", str(config), "serve", *options]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, env={**os.environ, **environ}, check=False
    )


@pytest.mark.parametrize("name", SERVERS)
def test_a_port_that_is_taken_is_exit_1(tmp_path: Path, name: str) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as granian's own
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = serve(tmp_path, "--server", name, "--port", str(port))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"Error: 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize("name", SERVERS)
def test_a_host_that_is_not_known_is_exit_1(tmp_path: Path, name: str) -> None:
    ended = serve(tmp_path, "--server", name, "--host", "no-such-host.invalid")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(r"Error: no-such-host\.invalid:8080: .*(not known|resolution).*\n", ended.stderr)


@pytest.mark.parametrize("name", ["granian", "gunicorn"])
def test_a_server_that_is_not_installed_is_exit_2_with_the_name_of_its_extra(
    tmp_path: Path, name: str
) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(f"import sys; sys.modules[{name!r}] = None")
    ended = serve(tmp_path, "--server", name, PYTHONPATH=str(blocked))
    assert (ended.returncode, ended.stdout) == (2, "")
    said = f"{name} is not installed; pip install 'flask-imagefactory[{name}]'"
    assert ended.stderr == f"Error: --server: {said}\n"


# --- settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "workers", "given"),
    [
        (0, 1, 0),
        (0, cores(), 1),
        (0, 10 * cores(), 1),
        (3, 4, 3),
        (-1, 4, -1),
    ],
)
def test_render_processes_are_shared_out_unless_the_config_says_how_many(
    tmp_path: Path, asked: int, workers: int, given: int
) -> None:
    config = from_mapping({"render": {"processes": asked}}, tmp_path)
    assert with_share(config, workers).render.processes == given


def test_gunicorn_conf_py_says_what_serve_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("[server]\nthreads = 24\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEB_CONCURRENCY", str(cores()))
    values = runpy.run_path(str(CONF))
    expected = settings(24, cores())
    assert {name: values[name] for name in expected} == expected
    assert values["raw_env"] == ["IMAGEFACTORY_RENDER__PROCESSES=1"]
    intervals: list[float] = []
    heard: list[object] = []
    monkeypatch.setattr(sys, "setswitchinterval", intervals.append)
    monkeypatch.setitem(values["post_worker_init"].__globals__, "hear", heard.append)
    values["post_worker_init"]("the worker")
    assert heard == ["the worker"]
    assert intervals == [0.0005]
    assert values["bind"] == "127.0.0.1:8080"


# --- sendfile ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not is_able_to_trace(), reason="there is no strace here, or it may not trace")
def test_gunicorn_sends_a_whole_picture_by_sendfile(pictures: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, pictures, tmp_path / "cache")
    output = tmp_path / "trace"
    strace = ["strace", "-D", "-f", "-y", "-o", str(output), "-e", "trace=sendfile"]
    with serving(config, ["--server", "gunicorn", "--workers", "1"], strace) as server:
        reply = server.get("/picture/noise.png?scalex=1400")
    assert len(reply.body) > 1_000_000
    sent = re.findall(r"sendfile\(\d+<[^>]*>, \d+<([^>]*)>, .* = (\d+)", output.read_text())
    assert {Path(path).parent.parent.parent for path, _ in sent} == {tmp_path / "cache" / "objects"}
    assert sum(int(count) for _, count in sent) == len(reply.body)
