"""Runs of external programs: in each sandbox that there is, and counted afterwards."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from imagefactory.errors import ProgramFailed, ProgramStopped
from imagefactory.model.program import Program
from imagefactory.render.programs import kernel, running, sandbox

__all__ = ["KINDS", "Runs", "has", "named", "python", "shell", "use"]

KINDS = ("bubblewrap", "landlock", "none")


def has(kind: str) -> bool:
    """Whether this machine has this kind of sandbox."""
    if kind == "bubblewrap":
        return sandbox.available() == "bubblewrap"
    return kind == "none" or kernel.landlock_version() > 0


def use(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run programs in this kind of sandbox; the test is skipped where there is none."""
    if not has(kind):
        pytest.skip(f"there is no {kind}")
    monkeypatch.setattr(sandbox, "available", lambda: kind)


def program(*command: str, **keys: Any) -> Program:
    return Program("toy", "decode", command[:1], command[1:], "00000000", **keys)


def shell(script: str, **keys: Any) -> Program:
    """A shell that runs *script*, where braces are placeholders."""
    return program("/bin/sh", "-c", script, **keys)


def python(code: str, *arguments: str, **keys: Any) -> Program:
    """The interpreter of the tests that runs *code*; braces in *arguments* are placeholders."""
    start = (sys.executable, "-I", "-S", "-c", code)
    return Program("toy", "decode", start, arguments, "0" * 8, read=(sys.prefix, sys.base_prefix), **keys)


def named(word: str) -> list[int]:
    """The processes with the words *word* in their command."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if word.encode() in (folder / "cmdline").read_bytes().replace(b"\0", b" "):
                found.append(int(folder.name))
    return found


class Runs:
    """Runs programs on a source in *folder*. *nap* is the command of a sleep that no other test has."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source.bin"
        self.source.write_bytes(b"P6 source")
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.nap = f"sleep 20.{secrets.randbelow(10**9):09}"
        self.body = b""
        self.ran: running.Ran | None = None

    def run(self, program: Program, expected: str = "", watched: int | None = None, **values: str) -> bytes:
        """What the program made."""
        with self.opened() as (source, target):
            self.ran = running.run(program, values, source, target, expected, watched)
            self.body = os.pread(target, 10**6, 0)
            assert self.ran.bytes == os.fstat(target).st_size
        return self.body

    def problem(self, program: Program, expected: str = "") -> tuple[str, str]:
        """Which error the program is, and how it went."""
        error = self.error(program, expected)
        return type(error).__name__, error.how

    def attempt(self, program: Program) -> None:
        """Run it, however that ends."""
        with suppress(ProgramFailed, ProgramStopped):
            self.run(program)

    def error(self, program: Program, expected: str = "") -> ProgramFailed | ProgramStopped:
        with pytest.raises((ProgramFailed, ProgramStopped)) as caught:
            self.run(program, expected)
        assert isinstance(caught.value, ProgramFailed | ProgramStopped)
        assert caught.value.blames == "variant"
        return caught.value

    @contextmanager
    def opened(self) -> Iterator[tuple[int, int]]:
        source = os.open(self.source, os.O_RDONLY)
        target = os.memfd_create("target")
        try:
            os.lseek(source, 5, os.SEEK_SET)  # where a caller left it
            yield source, target
        finally:
            os.close(source)
            os.close(target)

    def left(self) -> dict[str, Any]:
        """What is there of runs now."""
        return {
            "processes": named(self.nap),
            "children": Path(f"/proc/self/task/{os.getpid()}/children").read_text(),
            "descriptors": len(list(Path("/proc/self/fd").iterdir())),
            "folders": list(self.temporary.iterdir()),
        }

    def await_none(self) -> bool:
        """Whether the processes are gone in time."""
        until = time.monotonic() + 20
        while named(self.nap) and time.monotonic() < until:
            time.sleep(0.01)
        return not named(self.nap)
