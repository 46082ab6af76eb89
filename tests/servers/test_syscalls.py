"""What a server asks of the kernel, by strace: the order of a miss's writes, the silence of a hit."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.drawing import quarters
from support.serving import eventually, is_able_to_trace, serving, write_config

_STATS = {"stat", "lstat", "newfstatat", "statx"}
_WRITES = {
    "write", "writev", "pwrite64", "ftruncate", "fsync", "fdatasync", "rename", "renameat", "renameat2",
    "unlink", "unlinkat", "mkdir", "mkdirat", "link", "linkat", "symlink", "chmod", "fchmod", "fchmodat",
    "utimensat",
}  # fmt: skip
_OPENS = {"open", "openat", "creat"}
_LOCKS = {"flock", "fcntl"}
TARGET = "/picture/tom.jpg?scalex=100"


pytestmark = pytest.mark.skipif(not is_able_to_trace(), reason="there is no strace here, or it may not trace")


@dataclass(frozen=True)
class Call:
    """A system call: its *name*, and its *text* with arguments and result."""

    name: str
    text: str

    def is_on(self, folder: Path) -> bool:
        """Whether one of its arguments is *folder* or lies below it."""
        return re.search(rf'[<"]{re.escape(str(folder))}[/>"]', self.text) is not None

    def is_for_writing(self) -> bool:
        """Whether it changes a file, or opens one in order to."""
        return self.name in _WRITES or (
            self.name in _OPENS and re.search("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", self.text) is not None
        )


def joined(lines: Sequence[str]) -> list[str]:
    """*lines* with the calls in one piece that strace cuts where another thread's call comes between, each
    where it ends."""
    whole: list[str] = []
    begun: dict[str, str] = {}
    for line in lines:
        pid, _, text = line.partition(" ")
        if line.endswith("<unfinished ...>"):
            begun[pid] = line.removesuffix("<unfinished ...>")
        elif (resumed := re.match(r" *<\.\.\. \w+ resumed>(.*)", text)) and pid in begun:
            whole.append(begun.pop(pid) + resumed[1])
        else:
            whole.append(line)
    return whole


def calls_between(lines: Sequence[str], first: str, last: str) -> list[Call]:
    """The calls between the arrival of the requests *first* and *last*, in order of their beginning.

    Of the threads and processes that have to do with requests: the keeper, which writes down every second
    what was used, may do so at any moment. It is the one that looks at no picture and hears no client.
    """
    begin = next(number for number, line in enumerate(lines) if f'"GET {first} ' in line)
    end = next(number for number, line in enumerate(lines) if f'"GET {last} ' in line)
    answering = {line.split()[0] for line in lines if "recvfrom(" in line or "/pictures/tom.jpg" in line}
    found = (re.match(r"(\d+) +(\w+)\((.*)", line) for line in joined(lines[begin + 1 : end]))
    return [
        Call(match[2], match[3])
        for match in found
        if match and match[1] in answering and match[2] != "recvfrom"
    ]


def trace(config: Path, targets: Sequence[str]) -> tuple[list[str], list[str]]:
    """The X-Cache of each of *targets*, asked in this order of a new server with one thread; and the trace.

    Linux only. With -D the process that we started is the server itself, strace runs beside it.
    """
    output = config.with_name("trace")
    names = ",".join(sorted({f"?{name}" for name in _STATS | _WRITES | _OPENS | _LOCKS | {"recvfrom"}}))
    strace = ["strace", "-D", "-f", "-y", "-s", "64", "-o", str(output), "-e", f"trace={names}"]
    with serving(config, ["--threads", "1"], strace) as server, server.client() as client:
        results = [client.get(target).cache for target in targets]
    is_ended = re.compile(rf"^{server.process.pid} +\+\+\+ exited", re.MULTILINE)  # strace pads the numbers
    assert eventually(lambda: is_ended.search(output.read_text(errors="replace")))
    return results, output.read_text(errors="replace").splitlines()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A config, its pictures and its cache. The one picture is old enough to be trusted by its stamp."""
    folder = tmp_path_factory.mktemp("traced")
    pictures, cache = folder / "pictures", folder / "cache"
    pictures.mkdir()
    quarters().save(pictures / "tom.jpg", quality=95)
    time.sleep(2.1)
    return write_config(folder, pictures, cache), pictures, cache


@pytest.fixture(scope="module")
def miss(places: tuple[Path, Path, Path]) -> list[Call]:
    """The calls of a miss, the first request of its process and of the cache."""
    results, lines = trace(places[0], ["/-/begin", TARGET, "/-/end"])
    assert results[1] == "miss"
    return calls_between(lines, "/-/begin", "/-/end")


@pytest.fixture(scope="module")
def hit(places: tuple[Path, Path, Path], miss: list[Call]) -> list[Call]:
    """The calls of the second hit in a process that did nothing else; the first opens the database."""
    # By another URL for the same variant: the fast path does not know it.
    results, lines = trace(places[0], [TARGET, "/-/begin", f"{TARGET}&other=1", "/-/end"])
    assert (results[0], results[2]) == ("hit", "hit")
    return calls_between(lines, "/-/begin", "/-/end")


@pytest.fixture(scope="module")
def fast_hit(places: tuple[Path, Path, Path], miss: list[Call]) -> list[Call]:
    """The calls of a hit on the fast path, which has the body in its memory."""
    results, lines = trace(places[0], [TARGET, TARGET, "/-/begin", TARGET, "/-/end"])
    assert (results[1], results[3]) == ("hit", "hit")
    return calls_between(lines, "/-/begin", "/-/end")


def test_a_miss_writes_the_file_and_its_name_to_disk_before_the_row(
    places: tuple[Path, Path, Path], miss: list[Call]
) -> None:
    _, _, cache = places
    rename = next(
        number
        for number, call in enumerate(miss)
        if call.name.startswith("rename") and call.is_on(cache / "tmp") and call.is_on(cache / "objects")
    )
    temp, made = (Path(path) for path in re.findall(r'"([^"]+)"', miss[rename].text))
    written = [number for number, call in enumerate(miss) if call.name == "write" and call.is_on(temp)]
    synced = [number for number, call in enumerate(miss) if call.name == "fsync" and call.is_on(temp)]
    folder_synced = [
        number
        for number, call in enumerate(miss)
        if call.name == "fsync" and f"<{made.parent}>" in call.text and number > rename
    ]
    # The source's own row was written before the render began.
    row = [
        number
        for number, call in enumerate(miss)
        if call.name == "pwrite64" and call.is_on(cache / "index/cache.db-wal") and number > written[0]
    ]
    assert written[0] <= written[-1] < synced[0] < rename < folder_synced[0] < row[0]
    assert not [
        call for call in miss[written[0] : row[0]] if call.is_on(cache / "index") and call.name in _WRITES
    ]


def test_new_folders_on_the_way_to_an_object_are_synced_too(
    places: tuple[Path, Path, Path], miss: list[Call]
) -> None:
    _, _, cache = places
    made = [
        Path(match[1])
        for call in miss
        if call.name.startswith("mkdir")
        and (match := re.search(r'"([^"]+)"', call.text))
        and "= 0" in call.text
    ]
    below = [path for path in made if path.is_relative_to(cache / "objects")]
    assert len(below) == 3  # objects, its first two digits, the source
    for path in below:
        assert any(call.name == "fsync" and f"<{path.parent}>" in call.text for call in miss), path


def test_a_miss_never_writes_below_the_pictures(places: tuple[Path, Path, Path], miss: list[Call]) -> None:
    assert not [call for call in miss if call.is_on(places[1]) and call.is_for_writing()]


def test_a_hit_writes_nothing(places: tuple[Path, Path, Path], hit: list[Call]) -> None:
    _, pictures, cache = places
    assert not [call for call in hit if call.is_for_writing() and (call.is_on(cache) or call.is_on(pictures))]


def test_a_hit_takes_no_lock_of_ours(places: tuple[Path, Path, Path], hit: list[Call]) -> None:
    cache = places[2]
    locks = [call for call in hit if call.name in _LOCKS and call.is_on(cache) and "F_GETFD" not in call.text]
    # SQLite's own, shared, on its -shm file; none where another thread has that lock at this moment.
    assert all(call.is_on(cache / "index/cache.db-shm") for call in locks)
    assert not [call for call in locks if "F_WRLCK" in call.text]
    assert not [call for call in hit if call.is_on(cache / "locks")]


def test_a_hit_costs_one_stat_of_the_source_and_one_of_the_epoch(
    places: tuple[Path, Path, Path], hit: list[Call]
) -> None:
    _, pictures, cache = places
    on_source = [call for call in hit if call.is_on(pictures)]
    assert [call.name in _STATS for call in on_source] == [True], on_source
    on_epoch = [call for call in hit if call.is_on(cache / "epoch")]
    assert [call.name in _STATS for call in on_epoch] == [True], on_epoch


def test_a_hit_on_the_fast_path_is_these_two_stats_and_nothing_else(
    places: tuple[Path, Path, Path], fast_hit: list[Call]
) -> None:
    _, pictures, cache = places
    on_disk = [call for call in fast_hit if call.is_on(pictures) or call.is_on(cache)]
    assert [call.name in _STATS for call in on_disk] == [True, True], on_disk
    assert on_disk[0].is_on(pictures / "tom.jpg")
    assert on_disk[1].is_on(cache / "epoch")
