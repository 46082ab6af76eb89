"""Claims: one process, and in it one thread, makes a variant; a holder that died holds nothing."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagefactory.errors import StorageError, TimedOut
from imagefactory.storage.claims import FileClaims

HOLD = """
import sys
from pathlib import Path
from imagefactory.storage.claims import FileClaims
with FileClaims(Path(sys.argv[1])).take(sys.argv[2], 5):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def claims(tmp_path: Path) -> FileClaims:
    return FileClaims(tmp_path / "locks" / "claims")


@contextmanager
def holder(claims: FileClaims, key: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds *key* until its stdin is closed."""
    command = [sys.executable, "-c", HOLD, str(claims.path), key]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(10)


def is_free(claims: FileClaims, key: str) -> bool:
    try:
        with claims.take(key, 0):
            return True
    except TimedOut:
        return False


def test_a_free_key_is_had_at_once(claims: FileClaims) -> None:
    for _ in range(2):
        with claims.take("a", 0) as has_waited:
            assert not has_waited


def test_threads_exclude_each_other(claims: FileClaims) -> None:
    begun, inside, most = 0, 0, 0
    guard = threading.Lock()

    def work(_: int) -> bool:
        nonlocal begun, inside, most
        with guard:
            begun += 1
        with claims.take("a", 10) as has_waited:
            with guard:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with guard:
                inside -= 1
        return has_waited

    with ThreadPoolExecutor(8) as pool:
        with claims.take("a", 10):  # until all of them have come
            waited = [pool.submit(work, number) for number in range(8)]
            while begun < 8:
                time.sleep(0.001)
            time.sleep(0.05)
            assert most == 0
        assert [each.result() for each in waited] == [True] * 8
    assert most == 1


def test_two_objects_for_one_file_exclude_each_other(claims: FileClaims, tmp_path: Path) -> None:
    """Also when one of them goes through a link: closing or confusing descriptors would lose the lock."""
    (tmp_path / "alias").symlink_to(tmp_path)
    others = [FileClaims(claims.path), FileClaims(tmp_path / "alias" / "locks" / "claims")]
    with claims.take("a", 0):
        assert [is_free(other, "a") for other in others] == [False, False]
        with holder(claims, "b"):  # the lock survived the others' tries
            assert not is_free(claims, "b")
    assert all(is_free(other, "a") for other in others)


def test_processes_exclude_each_other(claims: FileClaims) -> None:
    with holder(claims, "a") as process:
        assert not is_free(claims, "a")
        assert process.stdin
        threading.Timer(0.2, process.stdin.close).start()
        with claims.take("a", 10) as has_waited:
            assert has_waited


def test_different_keys_do_not_wait_for_each_other(claims: FileClaims) -> None:
    with holder(claims, "a"):
        for number in range(2000):
            with claims.take(f"key {number}", 0) as has_waited:
                assert not has_waited


def test_two_keys_of_one_process_are_freed_one_by_one(claims: FileClaims) -> None:
    with claims.take("a", 0):
        with claims.take("b", 0):
            pass
        probe = (
            "import sys; from pathlib import Path; from imagefactory.storage.claims import FileClaims\n"
            + (
                "for key in 'ab':\n"
                "    try:\n"
                "        with FileClaims(Path(sys.argv[1])).take(key, 0): print('free')\n"
                "    except Exception as error: print(type(error).__name__)\n"
            )
        )
        command = [sys.executable, "-c", probe, str(claims.path)]
        assert (
            subprocess.run(command, capture_output=True, text=True, check=True).stdout == "TimedOut\nfree\n"
        )


def test_a_killed_process_holds_nothing(claims: FileClaims) -> None:
    with holder(claims, "a") as process:
        assert not is_free(claims, "a")
        process.send_signal(signal.SIGKILL)
        with claims.take("a", 5):
            pass


def test_an_error_frees_the_claim(claims: FileClaims) -> None:
    with pytest.raises(RuntimeError), claims.take("a", 0):
        raise RuntimeError
    assert is_free(claims, "a")


def test_an_oserror_of_the_block_is_not_taken_for_ours(claims: FileClaims) -> None:
    with pytest.raises(FileNotFoundError), claims.take("a", 0):
        raise FileNotFoundError
    assert is_free(claims, "a")


def test_waiting_ends_in_time(claims: FileClaims) -> None:
    with holder(claims, "a"):
        began = time.monotonic()
        with (
            pytest.raises(TimedOut, match="another process is still making this picture"),
            claims.take("a", 0.3),
        ):
            pass
        assert 0.25 < time.monotonic() - began < 20


FORK = """
import os, sys
from pathlib import Path
from imagefactory.storage.claims import FileClaims
from imagefactory.errors import TimedOut

def is_free(key):
    try:
        with claims.take(key, 0):
            return True
    except TimedOut:
        return False

claims = FileClaims(Path(sys.argv[1]))
with claims.take("a", 0):
    child = os.fork()
    if child == 0:
        # Held by the parent; another key is free, and taking it does not end the parent's claim.
        print("child", is_free("a"), is_free("b"), is_free("a"), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    child = os.fork()  # the first child is gone: did it take the parent's claim along?
    if child == 0:
        print("second child", is_free("a"), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
child = os.fork()
if child == 0:
    print("after", is_free("a"), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_forked_child_inherits_no_claim_and_ends_none(claims: FileClaims) -> None:
    command = [sys.executable, "-c", FORK, str(claims.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.splitlines() == ["child False True False", "second child False", "after True"]


LATER = """
import os, sys
from pathlib import Path
from imagefactory.storage.claims import FileClaims

claims = FileClaims(Path(sys.argv[1]))
waiting, released = os.pipe()
with claims.take("a", 0):
    child = os.fork()
    if child == 0:
        os.read(waiting, 1)
        with claims.take("a", 1):
            os._exit(0)
os.write(released, b"x")
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_forked_in_the_middle_of_a_claim_can_take_it_when_it_is_freed(claims: FileClaims) -> None:
    command = [sys.executable, "-c", LATER, str(claims.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.strip() == "0"


LEADER = """
import os, sys, time
from pathlib import Path
from imagefactory.storage.claims import FileClaims
with FileClaims(Path(sys.argv[1])).take("a", 0):
    child = os.fork()
    if child == 0:
        print("forked", os.getpid(), flush=True)
        os.close(1)
        time.sleep(30)
        os._exit(0)
    time.sleep(30)
"""


def test_a_claim_does_not_outlive_a_killed_leader_in_its_forked_worker(claims: FileClaims) -> None:
    command = [sys.executable, "-c", LEADER, str(claims.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        worker = int(process.stdout.readline().split()[1])
        try:
            assert not is_free(claims, "a")
            process.kill()
            process.wait(5)
            with claims.take("a", 5):
                os.kill(worker, 0)  # it lives still
        finally:
            os.kill(worker, signal.SIGKILL)


def test_the_file_is_its_owners_alone_whatever_the_umask(claims: FileClaims) -> None:
    before = os.umask(0o000)
    try:
        with claims.take("a", 0):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(claims.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(claims.path.parent.stat().st_mode) == 0o700
    assert claims.path.stat().st_size == 0


def test_claims_go_on_when_somebody_empties_the_cache_folder(claims: FileClaims) -> None:
    with claims.take("a", 0):
        pass
    shutil.rmtree(claims.path.parent)
    with claims.take("a", 0):
        assert claims.path.exists()
        with holder(claims, "b"):
            assert not is_free(claims, "b")


def test_a_claims_file_that_can_not_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("a file where the folder should be")
    with (
        pytest.raises(StorageError, match="claims can't be locked"),
        FileClaims(tmp_path / "locks" / "claims").take("a", 0),
    ):
        pass
