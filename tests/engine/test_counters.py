"""What is counted in a process is written down once, whatever the processes do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from imagefactory.engine.counters import Counters
from imagefactory.storage.live_processes import LiveProcesses


def test_notes_are_summed_up_and_taken_once() -> None:
    counters = Counters()
    counters.use("a")
    counters.use("a", 2)
    counters.use("b")
    counters.add("requests hit")
    counters.add("requests hit", 2.5)
    assert counters.take() == ({"a": 3, "b": 1}, {"requests hit": 3.5})
    assert counters.take() == ({}, {})


def test_who_counts_by_himself_is_asked_first() -> None:
    counters = Counters()
    counters.feeders.append(lambda: counters.add("fed"))
    assert counters.take()[1] == {"fed": 1}


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0, "0.005"), (0.005, "0.005"), (0.0051, "0.01"), (30, "30.0"), (31, "+Inf")]
)
def test_a_duration_goes_into_the_first_bucket_that_is_as_large(seconds: float, bucket: str) -> None:
    counters = Counters()
    counters.observe("render_seconds decode jpeg", seconds)
    names = {"render_seconds decode jpeg sum": seconds, f"render_seconds decode jpeg {bucket}": 1}
    assert counters.take()[1] == names


def test_no_note_is_lost_between_threads() -> None:
    counters = Counters()
    total = 0

    def note() -> None:
        for _ in range(20_000):
            counters.use("a")

    threads = [threading.Thread(target=note) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        total += counters.take()[0].get("a", 0)
    assert total + counters.take()[0].get("a", 0) == 80_000


# --- processes ---------------------------------------------------------------------------------------------


BEGIN = """
import sys
from pathlib import Path
from imagefactory.storage.live_processes import LiveProcesses
processes = LiveProcesses(Path(sys.argv[1]))
print(processes.begin(), flush=True)
processes.report({"waiting": 7})
print("told", flush=True)
sys.stdin.read()
"""


def start(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    assert process.stdout.readline() == "told\n"
    return process


def test_a_process_tells_of_itself_while_it_lives(tmp_path: Path) -> None:
    processes = LiveProcesses(tmp_path)
    with start(tmp_path) as one:
        assert processes.reports() == [{"waiting": 7}]
        with start(tmp_path):
            assert len(processes.reports()) == 2
        one.send_signal(signal.SIGKILL)
        one.wait()
        assert processes.reports() == []


@pytest.mark.parametrize(
    "text", ['{"a": "x", "b": [1], "c": NaN, "d": 1e999, "waiting": 7}', "[" * 3900, "[1]", "{"]
)
def test_what_is_no_number_was_not_told(tmp_path: Path, text: str) -> None:
    """A disk that fails may give back anything, and the numbers are summed and drawn."""
    with start(tmp_path):
        next(tmp_path.iterdir()).write_text(text)
        assert LiveProcesses(tmp_path).reports() in ([], [{"waiting": 7}])
        assert bool(LiveProcesses(tmp_path).reports()) == ("waiting" in text)


def test_who_ends_leaves_nothing(tmp_path: Path) -> None:
    with start(tmp_path):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_who_dies_is_found_once(tmp_path: Path) -> None:
    with start(tmp_path) as one, start(tmp_path):
        one.send_signal(signal.SIGKILL)
        one.wait()
        processes = LiveProcesses(tmp_path)
        assert processes.begin() == 1
        assert processes.begin() == 0
        processes.report({"waiting": 1})
        assert {frozenset(told.items()) for told in processes.reports()} == {
            frozenset({("waiting", 7)}),
            frozenset({("waiting", 1)}),
        }
        processes.end()
    assert list(tmp_path.iterdir()) == []


def test_a_child_has_a_session_of_its_own(tmp_path: Path) -> None:
    processes = LiveProcesses(tmp_path)
    processes.begin()
    child = os.fork()
    if not child:
        try:
            processes.end()  # not the parent's
            processes.begin()
            processes.report({"waiting": 3})
            os._exit(0 if len(processes.reports()) == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    processes.report({"waiting": 1})
    assert processes.reports() == [{"waiting": 1}]
    processes.end()


def test_a_folder_that_can_not_be_written_is_told_by_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        LiveProcesses(tmp_path / "file").begin()
    LiveProcesses(tmp_path / "file").report({"waiting": 1})
    assert LiveProcesses(tmp_path / "file").reports() == []
