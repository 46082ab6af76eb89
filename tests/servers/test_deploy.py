"""The files in deploy/ as they are, but for ports and folders: a real nginx in front of a real server."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image
from support.drawing import quarters
from support.nginx import DEPLOY, NGINX, Front, free_port, nginx
from support.serving import Reply, Server, eventually, is_able_to_trace, serving, write_config

from imagefactory.servers.gunicorn import bound_reads
from imagefactory.servers.serving import SERVERS

needs_nginx = pytest.mark.skipif(NGINX is None, reason="there is no nginx here")

WHOLE = "/picture/tom.jpg?scalex=100"
AUTO = "/picture/tom.jpg?scalex=100&encoding=auto"
LARGE = "/picture/noise.png?scalex=1400"
MANY = {"access_control_allow_origin": "*", "cross_origin_resource_policy": "cross-origin"}
# What differs with each answer, and what each of the two says of itself.
OWN = {"date", "server", "connection", "server-timing", "x-cache-status"}


def compared(reply: Reply, *without: str) -> tuple[int, dict[str, str], bytes]:
    headers = {name: value for name, value in reply.headers.items() if name not in OWN.union(without)}
    return reply.status, headers, reply.body


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A folder, its pictures, its cache. The pictures' date is not that of their objects."""
    folder = tmp_path_factory.mktemp("deployed")
    pictures, cache = folder / "pictures", folder / "cache"
    pictures.mkdir()
    quarters().save(pictures / "tom.jpg", quality=95)
    Image.effect_noise((1500, 1000), 90).save(pictures / "noise.png")
    for path in pictures.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return folder, pictures, cache


@pytest.fixture(scope="module")
def direct(places: tuple[Path, Path, Path]) -> Iterator[Server]:
    """A server without anything in front."""
    with serving(write_config(*places, http=MANY)) as server:
        yield server


ETAG = "the right one"  # stands for the picture's ETag in the tables below
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
QUESTIONS = [
    (WHOLE, "GET", {}, 200),
    (WHOLE, "HEAD", {}, 200),
    (LARGE, "GET", {}, 200),
    (WHOLE, "GET", {"If_None_Match": ETAG}, 304),
    (WHOLE, "GET", {"If_None_Match": '"no"'}, 200),
    (WHOLE, "HEAD", {"If_None_Match": ETAG}, 304),
    (WHOLE, "GET", {"If_Modified_Since": DATE}, 304),
    (WHOLE, "GET", {"If_Modified_Since": "Tue, 14 Nov 2023 22:13:19 GMT"}, 200),
    (WHOLE, "GET", {"If_None_Match": '"no"', "If_Modified_Since": DATE}, 200),
    (LARGE, "GET", {"Range": "bytes=1000-500000"}, 206),
    (WHOLE, "GET", {"Range": "bytes=-7"}, 206),
    (WHOLE, "GET", {"Range": "bytes=5-99", "If_Range": ETAG}, 206),
    (WHOLE, "GET", {"Range": "bytes=5-99", "If_Range": '"no"'}, 200),
    (WHOLE, "GET", {"Range": "bytes=5-99", "If_Range": DATE}, 206),
    (WHOLE, "GET", {"Range": "bytes=5-99", "If_None_Match": ETAG}, 304),
    (WHOLE, "GET", {"Range": "bytes=5-9,20-30"}, 200),
    (AUTO, "GET", {"Accept": "image/avif,image/webp,*/*"}, 200),
    (AUTO, "GET", {"Accept": "image/webp,*/*"}, 200),
    (AUTO, "GET", {"Accept": "*/*"}, 200),
    (AUTO, "HEAD", {"Accept": "image/webp"}, 200),
    ("/picture/tom.jpg?scalex=60&dl=%C3%BC.jpg", "GET", {}, 200),
    ("/picture/tom.jpg", "GET", {}, 200),
    ("/picture/tom.jpg", "GET", {"Range": "bytes=1-3"}, 206),
    ("/picture/no.jpg?scalex=100", "GET", {}, 404),
    ("/picture//tom.jpg", "GET", {}, 404),
    ("/picture/tom.jpg?quality=120", "GET", {}, 400),
    (WHOLE, "POST", {}, 405),
    (WHOLE, "OPTIONS", {}, 204),
    ("/healthz", "GET", {}, 200),
    (WHOLE, "GET", {"If_Match": '"no"'}, 412),
    (WHOLE, "GET", {"If_Unmodified_Since": "Tue, 14 Nov 2023 22:13:19 GMT"}, 412),
    (WHOLE, "GET", {"Range": "bytes=9000000-"}, 416),
]
# nginx would judge these two by an object that has another date and no ETag: the server answers them itself.
JUDGED_TWICE = [
    (WHOLE, "GET", {"If_Match": ETAG}, 200),
    (WHOLE, "GET", {"If_Unmodified_Since": DATE}, 200),
]


def asked(
    direct: Server, front: Front, target: str, method: str, headers: dict[str, str]
) -> tuple[Reply, Reply]:
    """What the server itself says, as a hit, and what comes from behind nginx."""
    accept = {name: value for name, value in headers.items() if name == "Accept"}
    etag = direct.get(target, **accept).headers.get("etag", "")
    sent = {name: etag if value is ETAG else value for name, value in headers.items()}
    with direct.client() as own:
        return own.get(target, method, **sent), front.get(target, method, **sent)


# --- X-Accel-Redirect -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def accelerated(places: tuple[Path, Path, Path], direct: Server) -> Iterator[Front]:
    folder, _, cache = places
    config = write_config(*places, http={"accel": "x-accel-redirect", **MANY})
    with serving(config) as server, nginx("nginx.conf", folder / "nginx", server.port, cache) as client:
        yield client


@needs_nginx
@pytest.mark.parametrize(("target", "method", "headers", "status"), [*QUESTIONS, *JUDGED_TWICE])
def test_behind_nginx_with_x_accel_every_answer_is_the_servers_own(
    direct: Server, accelerated: Front, target: str, method: str, headers: dict[str, str], status: int
) -> None:
    own, behind = asked(direct, accelerated, target, method, headers)
    assert compared(behind) == compared(own)
    assert behind.status == status
    assert "x-accel-redirect" not in behind.headers


@needs_nginx
def test_the_date_of_an_object_is_not_that_of_the_picture(
    places: tuple[Path, Path, Path], direct: Server, accelerated: Front
) -> None:
    whole = direct.get(LARGE)
    (object_file,) = [
        path for path in (places[2] / "objects").rglob("*.png") if path.read_bytes() == whole.body
    ]
    date = formatdate(object_file.stat().st_mtime, usegmt=True)
    assert accelerated.get(LARGE, If_Modified_Since=date).status == 200


@needs_nginx
@pytest.mark.skipif(not is_able_to_trace(), reason="there is no strace here, or it may not trace")
def test_nginx_sends_an_object_by_sendfile(
    places: tuple[Path, Path, Path], direct: Server, tmp_path: Path
) -> None:
    _, _, cache = places
    output = tmp_path / "trace"
    strace = ("strace", "-D", "-f", "-y", "-o", str(output), "-e", "trace=sendfile")
    length = len(direct.get(LARGE).body)
    config = write_config(*places, http={"accel": "x-accel-redirect"})
    with (
        serving(config) as server,
        nginx("nginx.conf", tmp_path / "nginx", server.port, cache, strace) as front,
    ):
        assert len(front.get(LARGE).body) == length > 1_000_000
    sent = re.findall(r"sendfile\(\d+<[^>]*>, \d+<([^>]*)>, .* = (\d+)", output.read_text())
    assert {Path(path).parent.parent.parent for path, _ in sent} == {cache / "objects"}
    assert sum(int(count) for _, count in sent) == length


@needs_nginx
def test_nginx_sends_the_picture_and_not_the_server(places: tuple[Path, Path, Path], direct: Server) -> None:
    """The server's own answer has the path of an object that there is, and no body."""
    with serving(write_config(*places, http={"accel": "x-accel-redirect"})) as server:
        whole = direct.get(LARGE)
        reply = server.get(LARGE)
    named = re.fullmatch(r"/_imagefactory/(.+)", reply.headers["x-accel-redirect"])
    assert named
    assert (places[2] / "objects" / named[1]).read_bytes() == whole.body
    assert reply.body == b""


@needs_nginx
def test_the_objects_are_not_reachable_from_outside(
    places: tuple[Path, Path, Path], accelerated: Front
) -> None:
    assert accelerated.get(WHOLE).status == 200
    objects = [path for path in (places[2] / "objects").rglob("*") if path.is_file()]
    assert objects
    for path in objects:
        inside = path.relative_to(places[2] / "objects")
        for prefix in (
            "/_imagefactory/",
            "/_imagefactory//",
            "/picture/../_imagefactory/",
            "/%5fimagefactory/",
        ):
            reply = accelerated.get(f"{prefix}{inside}")
            assert reply.status == 404, prefix
            assert path.read_bytes() not in reply.body


@needs_nginx
def test_an_object_that_is_removed_before_nginx_opens_it_is_asked_for_again(
    places: tuple[Path, Path, Path], direct: Server, tmp_path: Path
) -> None:
    """A stand-in for the server names an object that is not there, then one that is."""
    direct.get(WHOLE)
    with serving(write_config(*places, http={"accel": "x-accel-redirect"})) as server:
        right = server.get(WHOLE).headers["x-accel-redirect"]
    answers = iter(["/_imagefactory/aa/gone/gone.jpg", right])
    targets = []

    class StandIn(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            targets.append(self.path)
            self.send_response(200)
            self.send_header("X-Accel-Redirect", next(answers))
            self.send_header("Content-Type", "image/jpeg")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as stand_in:
        threading.Thread(target=stand_in.serve_forever, daemon=True).start()
        try:
            with nginx("nginx.conf", tmp_path / "nginx", stand_in.server_port, places[2]) as client:
                reply = client.get(WHOLE)
        finally:
            stand_in.shutdown()
    assert (reply.status, reply.body) == (200, direct.get(WHOLE).body)
    assert targets == [WHOLE, WHOLE]


# --- proxy_cache ------------------------------------------------------------------------------------------


@pytest.fixture
def cached(places: tuple[Path, Path, Path], tmp_path: Path) -> Iterator[tuple[Server, Front]]:
    """A server and an empty nginx in front of it."""
    config = write_config(tmp_path, places[1], places[2], http=MANY)
    with (
        serving(config) as server,
        nginx("nginx-proxy-cache.conf", tmp_path / "nginx", server.port, places[2]) as client,
    ):
        yield server, client


@needs_nginx
def test_behind_a_caching_nginx_every_answer_is_the_servers_own(
    direct: Server, cached: tuple[Server, Front]
) -> None:
    """First as a miss of nginx, then as a hit. Its own words for 412 and 416 are its own."""
    for _ in range(2):
        for target, method, headers, status in [*QUESTIONS, *JUDGED_TWICE]:
            own, behind = asked(direct, cached[1], target, method, headers)
            question = (target, method, headers, behind.headers.get("x-cache-status"))
            assert behind.status == status, question
            if status in (412, 416):
                assert behind.headers.get("content-range") == own.headers.get("content-range"), question
            else:
                # A 304 of nginx has two headers more than it needs, its 206 one less.
                apart = {304: ("last-modified", "content-disposition"), 206: ("accept-ranges",)}.get(
                    status, ()
                )
                assert compared(behind, *apart) == compared(own, *apart), question


@needs_nginx
def test_what_nginx_has_does_not_reach_the_server(cached: tuple[Server, Front]) -> None:
    server, client = cached
    first = client.get(WHOLE)
    server.kill()
    again = client.get(WHOLE)
    assert [first.headers["x-cache-status"], again.headers["x-cache-status"]] == ["MISS", "HIT"]
    assert compared(again, "x-cache") == compared(first, "x-cache")
    assert again.cache == "hit"
    assert client.get(WHOLE, Range="bytes=2-5").body == first.body[2:6]
    assert client.get(WHOLE, If_None_Match=first.headers["etag"]).status == 304


ACCEPTS = [
    ("image/avif,image/webp,image/apng,image/*,*/*;q=0.8", "image/avif"),
    ("text/html,image/avif;q=0.5,*/*", "image/avif"),
    ("IMAGE/AVIF", "image/avif"),
    ("image/avif;q=0.5,image/webp", "image/avif"),
    ("image/webp,image/png,*/*;q=0.8", "image/webp"),
    ("image/avif;q=0,image/webp", "image/webp"),
    ("image/avif; q=0.000, image/webp ;q=0.1", "image/webp"),
    ("image/webp;q=0", "image/jpeg"),
    ("image/*,*/*", "image/jpeg"),
    ("image/avifx,ximage/webp", "image/jpeg"),
    ("", "image/jpeg"),
]


@needs_nginx
@pytest.mark.parametrize("order", [1, -1])
def test_each_client_gets_its_own_encoding_from_one_url(cached: tuple[Server, Front], order: int) -> None:
    """Whoever comes first. Three copies are kept, however many ways there are to write Accept."""
    statuses = []
    for accept, media_type in ACCEPTS[::order]:
        reply = cached[1].get(AUTO, Accept=accept)
        assert (reply.headers["content-type"], reply.headers["vary"]) == (media_type, "Accept"), accept
        assert reply.body[4:12] == b"ftypavif" if media_type == "image/avif" else True
        statuses.append(reply.headers["x-cache-status"])
    assert sorted(statuses) == ["HIT"] * 8 + ["MISS"] * 3


@needs_nginx
@pytest.mark.parametrize("order", [1, -1])
def test_no_client_gets_what_another_one_said_of_itself(
    places: tuple[Path, Path, Path], tmp_path: Path, order: int
) -> None:
    """Who saves bytes and who does not have copies of their own; nobody's width or dpr reaches the server."""
    heeds = {**MANY, "save_data": True, "client_hints": True}
    config = write_config(tmp_path, places[1], places[2], http=heeds)
    with (
        serving(config) as server,
        nginx("nginx-proxy-cache.conf", tmp_path / "nginx", server.port, places[2]) as client,
    ):
        for target in (
            WHOLE,
            "/picture/noise.png?scalex=auto&encoding=auto",
            "/picture/tom.jpg?w=90&dpr=auto",
        ):
            own = [server.get(target).body, server.get(target, Save_Data="on").body]
            hints = {"Sec_CH_Width": "100", "Width": "100", "Sec_CH_DPR": "3", "DPR": "3"}
            for saving, more in [("", {}), ("on", {}), ("off", hints), (" ON ;x", hints), ("only", hints)][
                ::order
            ]:
                is_on = saving.strip(" ;x").lower() == "on"
                assert client.get(target, Save_Data=saving, **more).body == own[is_on], (target, saving)


@needs_nginx
def test_a_crowd_at_nginx_reaches_the_server_once(cached: tuple[Server, Front]) -> None:
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(cached[1].get, "/picture/noise.png?scalex=700&encoding=webp") for _ in range(20)]
        replies = [future.result() for future in asked]
    assert len({reply.body for reply in replies}) == 1
    assert sorted(reply.headers["x-cache-status"] for reply in replies) == ["HIT"] * 19 + ["MISS"]


@needs_nginx
def test_a_stale_copy_is_compared_and_not_sent_again(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    config = write_config(tmp_path, places[1], places[2], http={"max_age_s": 1})
    with (
        serving(config) as server,
        nginx("nginx-proxy-cache.conf", tmp_path / "nginx", server.port, places[2]) as client,
    ):
        first = client.get(WHOLE)
        seen: list[Reply] = []

        def is_compared() -> bool:
            seen.append(client.get(WHOLE))
            return "STALE" in [reply.headers["x-cache-status"] for reply in seen[:-1]] and (
                seen[-1].headers["x-cache-status"] == "HIT"
            )

        assert eventually(is_compared, pause_s=0.1)
        assert all(compared(reply, "x-cache") == compared(first, "x-cache") for reply in seen)
        server.kill()
        time.sleep(1.1)
        assert client.get(WHOLE).body == first.body  # better an old picture than none


@needs_nginx
@pytest.mark.parametrize("name", SERVERS)
def test_behind_nginx_a_crowd_that_the_server_sends_away_is_answered(
    places: tuple[Path, Path, Path], tmp_path: Path, name: str
) -> None:
    """Of 16 threads eight are for hits, and two of eight for other pictures."""
    config = write_config(
        *places, http={"accel": "x-accel-redirect"}, render={"processes": 1, "timeout_s": 120}
    )
    options = ("--server", name, "--workers", "1", "--threads", "16")
    target = f"/picture/noise.png?scalex=3000&enlarge=1&encoding=avif&quality={81 + SERVERS.index(name)}"
    with (
        serving(config, options) as server,
        nginx("nginx.conf", tmp_path / "nginx", server.port, places[2]) as front,
        ThreadPoolExecutor(80) as pool,
    ):
        front.get(WHOLE)
        crowd = [pool.submit(front.get, target) for _ in range(60)]
        others = [front.get(f"/picture/tom.jpg?scalex={width}&encoding=png").status for width in (31, 32)]
        assert others == [200, 200]
        assert [front.get(WHOLE).status for _ in range(20)] == [200] * 20
        replies = [each.result() for each in crowd]
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1
    assert sum(reply.cache == "miss" for reply in replies) <= 1


# --- Docker and systemd: what can be checked without them ---------------------------------------------------


def test_the_health_check_of_the_image_tells_a_server_that_answers_from_one_that_does_not(
    direct: Server,
) -> None:
    found = re.search(r"HEALTHCHECK .*\\\n +CMD (\[.*\])", (DEPLOY / "Dockerfile").read_text())
    assert found
    for port, code in ((direct.port, 0), (free_port(), 1)):
        python, *arguments = json.loads(found[1].replace("8080", str(port)))
        assert python == "python"
        ended = subprocess.run([sys.executable, *arguments], capture_output=True, timeout=20, check=False)
        assert ended.returncode == code


def test_the_image_is_built_from_files_that_there_are() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    copied = " ".join(re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE)).split()
    assert "setup.cfg" in copied
    for name in copied:
        assert (DEPLOY.parent / name).exists()
        assert f"!{name}\n" in (DEPLOY / "Dockerfile.dockerignore").read_text()


def test_what_compose_yaml_rewrites_stands_in_nginx_conf() -> None:
    script = re.search(r"sed -e '(.*)'\n", (DEPLOY / "compose.yaml").read_text())
    assert script
    patterns = [pattern for _, pattern in re.findall(r"s([/!])(.+?)\1", script[1])]
    assert len(patterns) == 5
    for pattern in patterns:
        assert len(re.findall(pattern, (DEPLOY / "nginx.conf").read_text(), re.MULTILINE)) == 1, pattern


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "imagefactory.service"
    text = (DEPLOY / "imagefactory.service").read_text()
    unit.write_text(text.replace("/srv/imagefactory/venv/bin/imagefactory", sys.executable))  # it must exist
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_gunicorn_reads_bodies_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its own it has a megabyte of each in memory, three times."""
    unreader = pytest.importorskip("gunicorn.http.unreader").SocketUnreader
    if not hasattr(unreader, "max_body_chunk"):
        pytest.skip("this release reads 8 kB at a time")
    monkeypatch.setattr(unreader, "max_body_chunk", 2**20)
    bound_reads()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(bytes(150_000))
        assert len(unreader(ours).chunk(150_000)) == 64 * 1024
