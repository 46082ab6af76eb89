"""The parent of several server processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a process that gets others' children")

# As process 1 of a container, it gets the children of those that die.
_PARENT = """
import ctypes, os, signal, sys, time
from pathlib import Path
from imagefactory.servers.prefork import run

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
first = Path(sys.argv[1])

def work(tell, is_wanted):
    tell()
    try:
        first.touch(exist_ok=False)
    except FileExistsError:
        time.sleep(0.5)
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)
    if not os.fork():
        time.sleep(0.2)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)

run(1, work, lambda: None)
"""


def test_children_of_a_worker_that_died_do_not_end_the_server(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PARENT, str(tmp_path / "first")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("another one begins")) == (0, 1), done.stderr
