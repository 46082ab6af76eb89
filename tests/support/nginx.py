"""A real nginx with a file of deploy/, its ports and folders changed, in front of a server."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .serving import Client, Reply, eventually

__all__ = ["DEPLOY", "NGINX", "Front", "free_port", "nginx"]

DEPLOY = Path(__file__).parents[2] / "deploy"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class Front:
    """An nginx on a port of this machine."""

    port: int

    def get(self, target: str, method: str = "GET", **headers: str) -> Reply:
        """Its answer, on a connection of its own."""
        with Client("127.0.0.1", self.port) as client:
            return client.get(target, method, **headers)


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


@contextmanager
def nginx(
    name: str, folder: Path, upstream: int, cache: Path, wrapper: tuple[str, ...] = ()
) -> Iterator[Front]:
    """An nginx that runs with deploy/*name* in *folder*, in front of the port *upstream*."""
    folder.mkdir()
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # www-data may not enter the tests' folders
    text = (DEPLOY / name).read_text()
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    for pattern, replacement in (
        (r"user www-data;", user),
        (r"worker_processes auto;", "worker_processes 1;"),
        (r"pid /run/nginx.pid;", f"pid {folder}/pid;"),
        (r"error_log \S+ warn;", f"error_log {folder}/error.log warn;"),
        (r"\nhttp {", "\nhttp { " + places),
        (r"listen 80;", f"listen 127.0.0.1:{port};"),
        (r"server 127\.0\.0\.1:8080;", f"server 127.0.0.1:{upstream};"),
        (r"alias /srv/imagefactory/cache/objects/;", f"alias {cache}/objects/;"),
        (r"/var/cache/(nginx/imagefactory|imagefactory-crowds) ", f"{folder}/cache "),
    ):
        text, count = re.subn(pattern, replacement, text)
        assert count == 1 or (count == 0 and ("alias" in pattern or "/var/cache" in pattern)), pattern
    conf = folder / "nginx.conf"
    conf.write_text(text)
    command = [str(NGINX), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(conf)]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=20, check=False)
    assert tested.returncode == 0, tested.stderr
    assert "warn" not in tested.stderr
    process = subprocess.Popen([*wrapper, *command, "-g", "daemon off;"], stdin=subprocess.DEVNULL)
    try:
        assert eventually(lambda: is_open(port))
        yield Front(port)
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
    assert not re.search(r"\[(crit|alert|emerg)\]", (folder / "error.log").read_text())


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
