"""What is counted in a process is written down once, whatever the processes do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from imagefactory.engine.counters import Tally
from imagefactory.storage.live_processes import Sessions


def test_notes_are_summed_up_and_taken_once() -> None:
    tally = Tally()
    tally.use("a")
    tally.use("a", 2)
    tally.use("b")
    tally.add("requests hit")
    tally.add("requests hit", 2.5)
    assert tally.take() == ({"a": 3, "b": 1}, {"requests hit": 3.5})
    assert tally.take() == ({}, {})


def test_who_counts_by_himself_is_asked_first() -> None:
    tally = Tally()
    tally.feeders.append(lambda: tally.add("fed"))
    assert tally.take()[1] == {"fed": 1}


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0, "0.005"), (0.005, "0.005"), (0.0051, "0.01"), (30, "30.0"), (31, "+Inf")]
)
def test_a_duration_goes_into_the_first_bucket_that_is_as_large(seconds: float, bucket: str) -> None:
    tally = Tally()
    tally.observe("render_seconds decode jpeg", seconds)
    names = {"render_seconds decode jpeg sum": seconds, f"render_seconds decode jpeg {bucket}": 1}
    assert tally.take()[1] == names


def test_no_note_is_lost_between_threads() -> None:
    tally = Tally()
    total = 0

    def note() -> None:
        for _ in range(20_000):
            tally.use("a")

    threads = [threading.Thread(target=note) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        total += tally.take()[0].get("a", 0)
    assert total + tally.take()[0].get("a", 0) == 80_000


# --- sessions ----------------------------------------------------------------------------------------------


BEGIN = """
import sys
from pathlib import Path
from imagefactory.storage.live_processes import Sessions
sessions = Sessions(Path(sys.argv[1]))
print(sessions.begin(), flush=True)
sessions.tell({"waiting": 7})
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
    sessions = Sessions(tmp_path)
    with start(tmp_path) as one:
        assert sessions.told() == [{"waiting": 7}]
        with start(tmp_path):
            assert len(sessions.told()) == 2
        one.send_signal(signal.SIGKILL)
        one.wait()
        assert sessions.told() == []


@pytest.mark.parametrize(
    "text", ['{"a": "x", "b": [1], "c": NaN, "d": 1e999, "waiting": 7}', "[" * 3900, "[1]", "{"]
)
def test_what_is_no_number_was_not_told(tmp_path: Path, text: str) -> None:
    """A disk that fails may give back anything, and the numbers are summed and drawn."""
    with start(tmp_path):
        next(tmp_path.iterdir()).write_text(text)
        assert Sessions(tmp_path).told() in ([], [{"waiting": 7}])
        assert bool(Sessions(tmp_path).told()) == ("waiting" in text)


def test_who_ends_leaves_nothing(tmp_path: Path) -> None:
    with start(tmp_path):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_who_dies_is_found_once(tmp_path: Path) -> None:
    with start(tmp_path) as one, start(tmp_path):
        one.send_signal(signal.SIGKILL)
        one.wait()
        sessions = Sessions(tmp_path)
        assert sessions.begin() == 1
        assert sessions.begin() == 0
        sessions.tell({"waiting": 1})
        assert {frozenset(told.items()) for told in sessions.told()} == {
            frozenset({("waiting", 7)}),
            frozenset({("waiting", 1)}),
        }
        sessions.end()
    assert list(tmp_path.iterdir()) == []


def test_a_child_has_a_session_of_its_own(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    sessions.begin()
    child = os.fork()
    if not child:
        try:
            sessions.end()  # not the parent's
            sessions.begin()
            sessions.tell({"waiting": 3})
            os._exit(0 if len(sessions.told()) == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    sessions.tell({"waiting": 1})
    assert sessions.told() == [{"waiting": 1}]
    sessions.end()


def test_a_folder_that_can_not_be_written_is_told_by_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        Sessions(tmp_path / "file").begin()
    Sessions(tmp_path / "file").tell({"waiting": 1})
    assert Sessions(tmp_path / "file").told() == []
