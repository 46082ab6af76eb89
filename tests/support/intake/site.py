"""A site that takes pictures in, its real servers, and what there is in its folders."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from support.hostile import descendants
from support.serving import GUNICORN, ROOT, STARTS, Server, serving, write_config

__all__ = ["ADMIN", "SERVERS", "TOKEN", "Site", "Usage", "processes", "workers"]

TOKEN = "token-of-the-runs-of-intake"
ADMIN = "admin-of-the-runs-of-intake"
SERVERS = ("waitress", "gunicorn", "gevent", "granian")
_TICK_S = 0.01  # of /proc: USER_HZ is 100 on all Linux there is
_WORKER = b"imagefactory.workers.worker"


class Site:
    """A site in *folder*, with *sections* of a config beside those that uploads need."""

    def __init__(self, folder: Path, **sections: Mapping[str, object]) -> None:
        self.pictures = folder / "pictures"
        self.pictures.mkdir(parents=True, exist_ok=True)
        self._uploads = self.pictures / ".uploads"
        own: dict[str, Mapping[str, object]] = {
            "uploads": {"token": TOKEN, "rate": "", "min_free": 0},
            "admin": {"token": ADMIN},
            "limits": {"max_source_bytes": "500 MB"},
            "cache": {"min_free": 0},
        }
        merged = {name: {**own.get(name, {}), **sections.get(name, {})} for name in {**own, **sections}}
        self.config = write_config(folder, self.pictures, folder / "cache", **merged)  # type: ignore[arg-type]

    def start(self, kind: str, workers: int = 2) -> Server:
        """A server of *kind*, one of ``SERVERS``, with so many processes."""
        return Server(self.config, *self._command(kind, workers))

    @contextmanager
    def serving(self, kind: str, workers: int = 2) -> Iterator[Server]:
        """The same while the block runs; it has to end in peace."""
        options, wrapper, cwd, program = self._command(kind, workers)
        with serving(self.config, options, wrapper, cwd, program) as server:
            yield server

    def _command(self, kind: str, workers: int) -> tuple[list[str], list[str], Path, list[str]]:
        if kind == "gevent":
            wrapper = ["env", f"WEB_CONCURRENCY={workers}"]
            return [], wrapper, ROOT, [*GUNICORN, "-k", "gevent", "wsgi:app"]
        options = list(STARTS[kind][0])
        if "--workers" in options:
            options[options.index("--workers") + 1] = str(workers)
        return options, [], ROOT, []

    def stored(self) -> dict[str, Path]:
        """The pictures that a visitor may see, by their paths."""
        found = (each for each in self.pictures.rglob("*") if self._uploads not in each.parents)
        return {str(each.relative_to(self.pictures)): each for each in found if each.is_file()}

    def digests(self) -> dict[str, str]:
        """The sha256 of each of them."""
        return {path: hashlib.sha256(file.read_bytes()).hexdigest() for path, file in self.stored().items()}

    def left(self) -> set[str]:
        """What is being received, or was left behind."""
        folder = self._uploads / "tmp"
        return {each.name for each in folder.iterdir()} if folder.is_dir() else set()

    def rows(self, server: Server) -> dict[str, str]:
        """The paths of the catalog and the digests of what was received, as the server gives them."""
        found: dict[str, str] = {}
        after = ""
        with server.client() as client:
            while True:
                reply = client.get(
                    f"/-/pictures?limit=1000&after={quote(after)}", Authorization=f"Bearer {ADMIN}"
                )
                assert reply.status == 200, reply
                page = json.loads(reply.body)
                found |= {each["path"]: each["sha256"] for each in page["pictures"]}
                after = page["next"]
                if not after:
                    return found

    def jobs(self) -> Counter[str]:
        """How many jobs of pictures are in each state."""
        with closing(sqlite3.connect(f"file:{self._uploads}/catalog.db?mode=ro", uri=True)) as database:
            rows = database.execute(
                "select state, count(*) from imagefactory_jobs where kind = 'presets' group by state"
            )
            return Counter(dict(rows))

    def subjects(self) -> set[str]:
        """The paths that have a job."""
        with closing(sqlite3.connect(f"file:{self._uploads}/catalog.db?mode=ro", uri=True)) as database:
            rows = database.execute("select subject from imagefactory_jobs where kind = 'presets'")
            return {subject.partition(" ")[2] for (subject,) in rows}

    def command(self, *arguments: str) -> tuple[int, str]:
        """The exit code of ``imagefactory`` with these arguments, and what it says."""
        program = [sys.executable, "-m", "imagefactory", "--config", str(self.config), *arguments]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


def processes(server: Server) -> list[int]:
    """The processes of *server*, without its render workers."""
    return [pid for pid in _all(server) if _WORKER not in _words(pid)]


def workers(server: Server) -> list[int]:
    """Its render workers."""
    return [pid for pid in _all(server) if _WORKER in _words(pid)]


def _all(server: Server) -> list[int]:
    return [server.process.pid, *descendants(server.process.pid)]


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class Usage:
    """What the processes of *server* use from now on, without its render workers."""

    def __init__(self, server: Server) -> None:
        self._pids = processes(server)
        for pid in self._pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the highest use of memory begins again
        self._cpu_s = self._all_cpu_s()
        self._rss = self.peak()

    def cpu_s(self) -> float:
        """Their processor time, in seconds."""
        return self._all_cpu_s() - self._cpu_s

    def growth(self) -> float:
        """By how many MB their memory has grown, at most."""
        return (self.peak() - self._rss) / 1e6

    def _all_cpu_s(self) -> float:
        return sum(_cpu_ticks(pid) for pid in self._pids) * _TICK_S

    def peak(self) -> int:
        """The most resident bytes that they had."""
        return sum(_peak_bytes(pid) for pid in self._pids)


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
