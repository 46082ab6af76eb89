"""What a program can reach in each kind of sandbox: the table of docs/programs.md, by one that tries."""

from __future__ import annotations

import os
import socket
import stat
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from support.runs import Runs, python, shell, use

from imagefactory.render.programs import kernel, private_folder, sandbox

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="there are sandboxes on Linux alone"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]

# A program prints the names of what it could do. Its arguments: a folder, ports, the process of the tests.
_TRIES = r"""
import os, socket, sys
source, folder, tcp, udp, process, descriptor = sys.argv[1:]

def inward(family, kind, address):
    with socket.socket(family, kind) as each:
        each.settimeout(5)
        each.connect(address)
        each.send(b"x")

def write(path):
    with open(path, "r+b") as file:
        file.write(b"!")

def create(path):
    with open(path, "x"): pass

def link(path):
    os.symlink(path, os.environ["TMPDIR"] + "/link")
    open(os.environ["TMPDIR"] + "/link").close()

tries = {
    "read its source": lambda: open(source).close(),
    "read /etc/passwd": lambda: open("/etc/passwd").close(),
    "read another picture": lambda: open(folder + "/other.jpg").close(),
    "read it by a link": lambda: link(folder + "/other.jpg"),
    "list the pictures": lambda: os.listdir(folder),
    "see the size of a picture": lambda: os.stat(folder + "/other.jpg"),
    "change its source": lambda: write(source),
    "change it by a descriptor": lambda: write("/proc/self/fd/" + descriptor),
    "cut another picture": lambda: os.truncate(folder + "/other.jpg", 1),
    "write beside the pictures": lambda: create(folder + "/new"),
    "connect by TCP": lambda: inward(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", int(tcp))),
    "send by UDP": lambda: inward(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", int(udp))),
    "connect to a socket by its path": lambda: inward(socket.AF_UNIX, socket.SOCK_STREAM, folder + "/socket"),
    "signal the server": lambda: os.kill(int(process), 0),
    "read the server's environment": lambda: open(f"/proc/{process}/environ", "rb").close(),
    "write a temporary file": lambda: create(os.environ["TMPDIR"] + "/new"),
}
for name, attempt in tries.items():
    try:
        attempt()
        print(name)
    except OSError:
        pass
"""
# In bubblewrap, in Landlock, without.
_TABLE = {
    "read its source": "yyy",
    "read /etc/passwd": "--y",
    "read another picture": "--y",
    "read it by a link": "--y",
    "list the pictures": "--y",
    "see the size of a picture": "-yy",
    "change its source": "--y",
    "change it by a descriptor": "--y",
    "cut another picture": "--y",
    "write beside the pictures": "--y",
    "connect by TCP": "--y",
    "send by UDP": "--y",
    "connect to a socket by its path": "--y",
    "signal the server": "--y",
    "read the server's environment": "--y",
    "write a temporary file": "yyy",
}
_COLUMNS = {"bubblewrap": 0, "landlock": 1, "none": 2}


def test_the_table_of_the_documentation_is_this_one() -> None:
    text = (Path(__file__).parents[3] / "docs" / "programs.md").read_text()
    word = {"y": "yes", "-": "no"}
    rows = [" | ".join([f"| {name}", *map(word.get, kinds)]) + " |" for name, kinds in _TABLE.items()]
    assert "\n".join(rows) in text


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(made.temporary))
    return made


@pytest.mark.parametrize("kind", _COLUMNS)
@pytest.mark.parametrize("inward", ["file", "pipe"])
def test_a_program_reaches_what_the_table_says(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, kind: str, inward: str
) -> None:
    use(kind, monkeypatch)
    if kind == "landlock" and kernel.landlock_version() < 6:
        pytest.skip("an older Landlock refuses less")
    folder = runs.source.parent
    (folder / "other.jpg").write_bytes(b"another")
    with (
        socket.socket() as tcp,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as path,
    ):
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        monkeypatch.chdir(folder)
        path.bind("socket")
        for each in (tcp, path):
            each.listen()
        descriptor = "0" if inward == "pipe" else "3"
        ports = (str(each.getsockname()[1]) for each in (tcp, udp))
        wanted = python(_TRIES, "{in}", str(folder), *ports, str(os.getpid()), descriptor, input=inward)
        could = set(runs.run(wanted).decode().splitlines())
        udp.setblocking(False)
        with suppress(BlockingIOError):
            could -= {"send by UDP"}  # in bubblewrap it can, to itself
            udp.recv(1)
            could |= {"send by UDP"}
    expected = {name for name, kinds in _TABLE.items() if kinds[_COLUMNS[kind]] == "y"}
    assert could == expected
    assert (runs.source.read_bytes() == b"P6 source") == (kind != "none")


def test_a_program_sees_its_own_processes_alone(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    use("bubblewrap", monkeypatch)
    seen = runs.run(shell("for each in /proc/[0-9]*; do echo $each; done")).decode().split()
    assert len(seen) <= 3


def test_memory_that_a_program_can_fill_is_bounded(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bubblewrap files in /tmp are in memory, and nothing else of it can be written."""
    use("bubblewrap", monkeypatch)
    script = """
for place in / /dev /dev/shm /usr; do touch $place/a && echo $place; done 2> /dev/null
for name in a b c d; do head -c 900000 /dev/zero > /tmp/$name; done 2> /dev/null
cat /tmp/* | wc -c"""
    assert int(runs.run(shell(script, output_bytes=10**6))) <= 1.1 * 10**6


@pytest.mark.parametrize(("kind", "can"), [("bubblewrap", False), ("landlock", False), ("none", True)])
def test_folders_to_read_are_those_of_the_table(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, can: bool
) -> None:
    use(kind, monkeypatch)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "font").write_text("font")
    wanted = shell(f"cat {tmp_path}/data/font || echo no")
    assert (runs.run(wanted) == b"font") == can
    assert runs.run(replace(wanted, read=(str(tmp_path / "data"),))) == b"font"


def test_a_program_without_a_sandbox_has_its_limits(runs: Runs) -> None:
    wanted = shell("ls -d / && cat /proc/self/limits", sandbox="none", output_bytes=12345)
    assert b" 12346 " in runs.run(wanted)


@pytest.mark.parametrize("kind", ["bubblewrap", "landlock"])
def test_a_sandbox_may_be_required(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    use(kind, monkeypatch)
    if kind == "landlock" and kernel.landlock_version() < 3:
        pytest.skip("an older Landlock lets files be cut")
    assert sandbox.problem("required") == sandbox.problem("auto") == sandbox.problem("none") == ""


def test_what_requires_a_sandbox_is_refused_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "available", lambda: "none")
    monkeypatch.setattr(sandbox, "_why_no_bubblewrap", lambda: "is not installed")
    assert sandbox.problem("required") == (
        "'required' needs bubblewrap, or Linux 6.2 with Landlock; "
        "here is no sandbox, limits only (bubblewrap is not installed)"
    )
    assert sandbox.problem("auto") == sandbox.problem("none") == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not installed"),
        ("exit 0", ""),
        ("echo no user namespaces >&2; exit 1", "does not work: no user"),
    ],
)
def test_bubblewrap_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, why: str) -> None:
    """It may be installed and forbidden, as in a container."""
    bwrap = tmp_path / "bwrap"
    bwrap.write_text(f"#!/bin/sh\n{text}\n")
    bwrap.chmod(0o755 if text else 0o644)
    monkeypatch.setenv("PATH", str(tmp_path))
    for each in (sandbox.available, sandbox._bubblewrap, sandbox._why_no_bubblewrap):
        each.cache_clear()
    try:
        assert sandbox._why_no_bubblewrap().startswith(why)
        assert (sandbox.available() == "bubblewrap") == (why == "")
    finally:
        for each in (sandbox.available, sandbox._bubblewrap, sandbox._why_no_bubblewrap):
            each.cache_clear()


def test_a_folder_of_any_depth_is_removed(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    (place / "link").symlink_to(tmp_path)
    below = os.open(place, os.O_RDONLY)
    for number in range(3000):
        os.mkdir("deeper", dir_fd=below)
        inner = os.open("deeper", os.O_RDONLY, dir_fd=below)
        if number % 1000 == 0:
            os.fchmod(inner, 0)
        os.close(below)
        below = inner
    os.close(below)
    (tmp_path / "kept").touch()
    private_folder.clear(str(place))
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("make", ["link", "folder", "pipe"])
def test_what_is_no_file_is_not_taken(tmp_path: Path, make: str) -> None:
    place = tmp_path / "result"
    (tmp_path / "secret").write_text("secret")
    {"link": lambda: place.symlink_to("secret"), "folder": place.mkdir, "pipe": lambda: os.mkfifo(place)}[
        make
    ]()
    target = os.memfd_create("target")
    assert not private_folder.take(str(place), target)
    assert os.fstat(target).st_size == 0
    assert stat.S_ISREG(os.fstat(target).st_mode)
    os.close(target)
