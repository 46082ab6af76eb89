"""What fails below the cache never reaches a visitor: each call of the system, once and for good."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import ERRORS, Faults, why_not
from support.torture.calls import SCENES, Case, Stage, staging
from support.torture.tally import Tally

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


# --- the library ------------------------------------------------------------------------------------------


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    (tmp_path / "cache").mkdir()
    return Faults(tmp_path / "cache", tmp_path / "control")


def run(faults: Faults, code: str) -> str:
    """What a Python process with *faults* prints, whose variable ``folder`` is that below which they are."""
    start = f"import os, sqlite3, time; folder = {str(faults.folder)!r}\n"
    command = [*faults.wrapper(), sys.executable, "-c", start + code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


WRITE = """
for place in (folder, os.path.dirname(folder)):
    try:
        number = os.open(place + '/a', os.O_RDWR | os.O_CREAT)
        print(os.write(number, b'12345678'), end=' ')
        os.fsync(number)
        os.rename(place + '/a', place + '/b')
        print('done', end=' ')
    except OSError as error:
        print(error.errno, end=' ')
"""


@pytest.mark.parametrize(
    ("error", "nth", "calls", "said"),
    [
        ("EIO", 1, ("open",), "5 8 done"),
        ("EIO", 2, ("open",), "8 done 8 done"),
        ("ENOSPC", 1, ("write",), "28 8 done"),
        ("short", 1, (), "4 done 8 done"),
        ("ESTALE", 1, ("sync",), "8 116 8 done"),
        ("EACCES", 1, ("rename",), "8 13 8 done"),
        ("EIO", 4, ("open", "write", "sync", "rename"), "8 5 8 done"),
    ],
)
def test_the_nth_call_below_the_folder_fails_and_no_other(
    faults: Faults, error: str, nth: int, calls: tuple[str, ...], said: str
) -> None:
    faults.arm(error, nth, calls=calls)
    assert run(faults, WRITE) == said
    assert faults.injected == (1 if said != "8 done 8 done" else 0)
    faults.disarm()
    assert run(faults, WRITE) == "8 done 8 done"


@pytest.mark.parametrize("error", ERRORS)
def test_sqlite_is_among_what_fails(faults: Faults, error: str) -> None:
    code = """
try:
    connection = sqlite3.connect(folder + '/db')
    connection.execute('CREATE TABLE t (x)')
    connection.commit()
    print('done')
except sqlite3.OperationalError as error:
    print('failed')
"""
    faults.arm(error, for_good=True)
    assert run(faults, code) == "failed"
    assert faults.injected >= 1


def test_a_clock_is_moved_while_the_process_runs(faults: Faults) -> None:
    code = "print(time.time(), time.localtime().tm_year, time.monotonic())"
    faults.move_clock(-1e9)
    wall_s, year, monotonic_s = run(faults, code).split()
    assert abs(float(wall_s) - (time.time() - 1e9)) < 60
    assert int(year) == time.localtime(time.time() - 1e9).tm_year
    assert abs(float(monotonic_s) - time.monotonic()) < 60


# --- a server ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    tally = Tally("calls")
    with staging(tmp_path_factory.mktemp("calls"), tally) as stage:
        yield stage
    assert tally.found == []  # also after what it said at its end, and a look at the cache


@pytest.mark.parametrize("scene", SCENES)
def test_whatever_call_fails_answers_are_right_and_all_is_well_afterwards(stage: Stage, scene: str) -> None:
    """A sample; `make torture ONLY=calls N=0` has each call and each error."""
    dice = random.Random(scene)
    number = stage.play(Case(scene, "EIO", 0, False))
    for error in ERRORS:
        for for_good in (False, True):
            stage.play(Case(scene, error, dice.randint(1, number), for_good))
    assert stage.tally.found == []
    assert stage.tally.notes["faults"] > 0


@pytest.mark.parametrize("error", ["EIO", "ESTALE", "EACCES", "EMFILE"])
def test_a_large_object_that_fails_at_an_open_is_sent_all_the_same(stage: Stage, error: str) -> None:
    """It is opened twice where the view sends it: by the store, and by send_from_directory."""
    large = "/picture/large.png?scalex=500&encoding=png"
    stage.recover()
    while stage.ask(large) != "hit":
        pass
    for nth in (1, 2, 3):
        stage.faults.arm(error, nth, calls=("open",))
        assert stage.ask(stage.again(large)) in ("hit", "bypass")
        stage.faults.disarm()
        stage.recover()
    assert stage.tally.found == []
