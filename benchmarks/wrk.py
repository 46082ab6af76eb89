"""Hits by wrk (Debian, C, one thread): a Python client would be slower than most of what it measures."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .client import Job, ask

__all__ = ["hits_per_second", "is_installed"]

_SCRIPT = Path(__file__).with_name("rotate.lua")


def is_installed() -> bool:
    return shutil.which("wrk") is not None


def hits_per_second(port: int, paths: Sequence[str], seconds: float, connections: int = 16) -> float:
    """Answers a second to *paths* in rotation. Raises RuntimeError if one was no 200.

    Without wrk our own client asks; it is then the limit of what is fast, and said to be so by the caller.
    """
    if not is_installed():
        job = Job([port], paths, connections, seconds, is_rotating=True)
        answers = ask(job)
        if set(answers.statuses) != {200}:
            raise RuntimeError(f"not only hits: {dict(answers.statuses)}")
        return answers.per_second
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(paths) + "\n")
        file.flush()
        said = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", "-d", f"{max(1, round(seconds))}s", "-s", _SCRIPT,
             f"http://127.0.0.1:{port}", "--", file.name],
            capture_output=True, text=True, check=True, timeout=seconds + 30,
        ).stdout  # fmt: skip
    found = json.loads(said.rpartition("JSON ")[2])
    if found["failed"] or not found["requests"]:
        raise RuntimeError(f"not only hits: {found}")
    return float(found["requests"] / found["seconds"])
