"""An external program gets its source, gives its output, and leaves nothing behind, however it ends."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from support.runs import KINDS, Runs, has, named, program, python, shell, use

from imagefactory.errors import ProgramStopped
from imagefactory.model.program import Program
from imagefactory.render.programs import running, sandbox, verdict

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="these look into /proc"),
    # A test process has threads of pytest-xdist; a render worker has one.
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    use(request.param, monkeypatch)
    return str(request.param)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """Afterwards there is no process, file or descriptor that was not there before."""
    sandbox.available()
    made = Runs(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(made.temporary))
    gc.collect()
    before = made.left()
    yield made
    until = time.monotonic() + 5  # what other threads of this process hold for a moment is none of it
    while (after := made.left()) != before and time.monotonic() < until:
        gc.collect()
        time.sleep(0.05)
    assert after.pop("descriptors") <= before.pop("descriptors")
    assert after == before


# --- what goes in and comes out ---------------------------------------------------------------------------


@pytest.mark.parametrize("inward", ["file", "pipe"])
@pytest.mark.parametrize("outward", ["file", "pipe"])
def test_a_program_reads_the_source_and_writes_the_target(
    runs: Runs, kind: str, inward: str, outward: str
) -> None:
    script = ("cat {in}" if inward == "file" else "cat") + (" > {out}" if outward == "file" else "")
    assert runs.run(shell(script, input=inward, output=outward), "ppm") == b"P6 source"


@pytest.mark.parametrize("script", ["exec cat {in}", "cat {in}", "(cat {in} | cat)", "sh -c 'cat {in}'"])
def test_the_source_is_there_for_what_a_script_starts(runs: Runs, kind: str, script: str) -> None:
    assert runs.run(shell(script)) == b"P6 source"


@pytest.mark.parametrize("inward", ["file", "pipe"])
def test_the_source_may_be_in_memory_alone(runs: Runs, kind: str, inward: str) -> None:
    source, target = os.memfd_create("source"), os.memfd_create("target")
    os.write(source, b"pixels")
    running.run(shell("cat {in}" if inward == "file" else "cat", input=inward), {}, source, target, "")
    assert os.pread(target, 100, 0) == b"pixels"
    os.close(source)
    os.close(target)


def test_the_target_may_be_open_for_writing_alone(runs: Runs, kind: str, tmp_path: Path) -> None:
    source = os.open(runs.source, os.O_RDONLY)
    target = os.open(tmp_path / "target", os.O_WRONLY | os.O_CREAT)
    running.run(shell("cp {in} {out}", output="file"), {}, source, target, "ppm")
    assert (tmp_path / "target").read_bytes() == b"P6 source"
    os.close(source)
    os.close(target)


def test_values_stand_where_their_placeholders_were(runs: Runs, kind: str) -> None:
    wanted = program("/bin/echo", "{width}x{height}", "-t{time}", "$HOME `id` {quality};{quality}")
    assert runs.run(wanted, width="30", height="20", time="1.5", quality="80") == (
        b"30x20 -t1.5 $HOME `id` 80;80\n"
    )


def test_a_result_file_has_the_suffix_of_its_format(runs: Runs, kind: str) -> None:
    echo = shell("printf '\\377\\330\\377 ' > {out}; echo {out} >> {out}", output="file")
    assert runs.run(echo, "jpeg").endswith(b"/result.jpg\n")


@pytest.mark.skipif(not shutil.which("gcc"), reason="there is no compiler")
def test_a_program_may_know_names_of_files_alone(runs: Runs, kind: str, tmp_path: Path) -> None:
    code = tmp_path / "backwards.c"
    code.write_text("""
        #include <stdio.h>
        int main(int count, char **names) {
            FILE *in = fopen(names[1], "rb"), *out = fopen(names[2], "w+b");
            long size;
            if (!in || !out || fseek(in, 0, SEEK_END)) return 1;
            for (size = ftell(in); size--; ) { fseek(in, size, SEEK_SET); fputc(fgetc(in), out); }
            return fclose(out) != 0;
        }""")
    subprocess.run(["gcc", "-o", tmp_path / "backwards", code], check=True)
    wanted = program(str(tmp_path / "backwards"), "{in}", "{out}", output="file")
    assert runs.run(wanted) == b"ecruos 6P"


def test_a_program_sees_an_environment_of_its_own(
    runs: Runs, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the server")
    seen = runs.run(shell("env; pwd", environment={"OMP_NUM_THREADS": "1"})).decode().splitlines()
    assert {line.partition("=")[0] for line in seen} == {
        *("PATH", "LANG", "HOME", "TMPDIR", "PWD", "OMP_NUM_THREADS", "/")
    }


def test_a_program_can_write_temporary_files(runs: Runs, kind: str) -> None:
    assert runs.run(shell('cp {in} "$TMPDIR/a" && cat "$TMPDIR/a"')) == b"P6 source"


def test_a_program_has_no_other_files_open(runs: Runs, kind: str) -> None:
    os.set_inheritable(number := os.open("/dev/null", os.O_RDONLY), True)
    script = "for n in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/self/fd/$n ] && echo $n; done; true"
    # In bubblewrap the source is a file, and has no descriptor.
    expected = ["0", "1", "2"] if kind == "bubblewrap" else ["0", "1", "2", "3"]
    assert runs.run(shell(script)).decode().split() == expected
    os.close(number)


def test_a_program_has_no_signals_ignored_or_blocked(runs: Runs, kind: str) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN), signal.pthread_sigmask(signal.SIG_BLOCK, {10})
    try:
        seen = runs.run(shell("exec grep -E 'Sig(Blk|Ign)' /proc/self/status")).split()
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.pthread_sigmask(signal.SIG_SETMASK, before[1])
    ours = sum(1 << number - 1 for number in signal.valid_signals())  # not those that glibc keeps to itself
    assert [int(each, 16) & ours for each in (seen[1], seen[3])] == [0, 0]


def test_the_limits_of_a_program_are_its_own(runs: Runs, kind: str) -> None:
    wanted = shell("exec cat /proc/self/limits", timeout_s=30, memory_bytes=10**9, output_bytes=10**6)
    limits = {line[:26].strip(): line[26:68].split() for line in runs.run(wanted).decode().splitlines()}
    assert limits["Max cpu time"] == ["20", "21"]
    assert limits["Max address space"] == [str(10**9)] * 2
    assert limits["Max file size"] == [str(10**6 + 1)] * 2
    assert limits["Max open files"] == ["256"] * 2
    assert limits["Max core file size"] == ["0"] * 2


def test_the_processor_time_of_all_processes_is_told(runs: Runs, kind: str) -> None:
    code = """
import os, time
if child := os.fork():
    os.waitpid(child, 0)
    print("done")
else:
    os.setsid()
    while time.process_time() < 0.3: pass
"""
    runs.run(python(code))
    assert runs.ran and runs.ran.cpu_s >= 0.3


# --- how it may fail --------------------------------------------------------------------------------------

_FAILURES = {
    "a code": (shell("exit 3"), "ended with exit code 3"),
    "nothing": (shell("true"), "gave nothing"),
    "no file": (shell("true", output="file"), "gave nothing"),
    "another format": (shell("echo GIF"), "gave something that is no png"),
    "another format, after a code": (shell("echo GIF; exit 1"), "ended with exit code 1"),
    "a crash": (shell("kill -SEGV $$"), "crashed (SIGSEGV)"),
    "a crash half way": (shell("printf '\\211PNG'; kill -BUS $$"), "crashed (SIGBUS)"),
    "a crash of what it starts": (shell("sh -c 'kill -ABRT $$'"), "crashed (SIGABRT)"),
    "a flood": (shell("yes", output_bytes=10**6), "made more than 1.00 MB"),
    "a flood that is told": (shell("trap '' XFSZ; yes", output_bytes=10**6), "made more than 1.00 MB"),
    "a flood and no code": (shell("trap '' XFSZ; yes; true", output_bytes=999), "made more than 999 B"),
    "a flood in a file": (
        shell("trap '' XFSZ; yes > {out}; true", output="file", output_bytes=999),
        "made more than 999 B",
    ),
    "a link": (shell("ln -s /etc/passwd {out}", output="file"), "made something else than a file"),
    "a folder": (shell("mkdir {out}", output="file"), "made something else than a file"),
    "a pipe": (shell("mkfifo {out}", output="file"), "made something else than a file"),
    "memory": (
        python("bytearray(10**9)", memory_bytes=4 * 10**8),
        "ended with exit code 1",
    ),
    "many processes": (
        shell("n=0; while [ $n -lt 200 ]; do sleep 5 & n=$((n+1)); done; sleep 5"),
        "started more than 64 processes",
    ),
}


@pytest.mark.parametrize("name", _FAILURES)
def test_a_program_that_fails_is_unprocessable(runs: Runs, kind: str, name: str) -> None:
    wanted, how = _FAILURES[name]
    error = runs.error(wanted, "png")
    assert (type(error).__name__, error.how) == ("ProgramFailed", how)
    assert error.lasts_s == (10 if how.startswith(("crashed", "started")) else 3600)
    assert error.is_empty == (how == "gave nothing")


_STOPS = {
    "time": (shell("sleep 20", timeout_s=1), "took more than 1 second"),
    "stopped by itself": (shell("kill -STOP $$", timeout_s=1), "took more than 1 second"),
    "killed": (shell("kill -KILL $$"), "was ended by SIGKILL"),
    "terminated": (shell("kill -TERM $$"), "was ended by SIGTERM"),
    "gone": (program("/nowhere/cjpeg"), "could not be started: no such file or directory"),
    "no program": (program(__file__), "could not be started: permission denied"),
    "arguments": (program("/bin/echo", "x" * 200_000), "could not be started: argument list too long"),
}


@pytest.mark.parametrize("name", _STOPS)
def test_a_program_that_is_stopped_may_do_another_time(runs: Runs, kind: str, name: str) -> None:
    if name == "arguments" and kind == "bubblewrap":
        pytest.skip("bubblewrap itself can't be started then")
    wanted, how = _STOPS[name]
    error = runs.error(wanted)
    assert (type(error).__name__, error.how, error.lasts_s) == ("ProgramStopped", how, 10)


@pytest.mark.slow
def test_too_much_processor_time_is_proof(runs: Runs, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (running, verdict):
        monkeypatch.setattr(module, "cpu_s", lambda _: 1)
    told = ("ProgramFailed", "took more than 1 second of processor time")
    assert runs.problem(shell("while :; do :; done", timeout_s=60)) == told
    assert runs.problem(shell("trap '' XCPU; while :; do :; done", timeout_s=60)) == told


def test_output_of_just_the_limit_is_taken(runs: Runs, kind: str) -> None:
    assert runs.run(shell("head -c 1000 /dev/zero", output_bytes=1000)) == bytes(1000)


def test_the_end_of_what_it_said_is_kept(runs: Runs, kind: str) -> None:
    """And it never waits for somebody to read it."""
    script = "yes \x1b[31m | head -c 3000000 >&2; printf '\\377 the\\nend\\n' >&2; exit 3"
    said = runs.error(shell(script)).said
    assert said.endswith("� the end")
    assert len(said) <= 2000 and said.isprintable()


def test_a_sandbox_that_can_not_be_set_up_is_not_the_programs_fault(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    use("bubblewrap", monkeypatch)
    made = sandbox.bubblewrapped([], [])
    monkeypatch.setattr(sandbox, "bubblewrapped", lambda *_, **__: [made[0], "--no-such-option"])
    assert runs.problem(shell("echo")) == ("ProgramStopped", "could not be put into its sandbox")


def test_what_bubblewrap_can_not_start_is_told_apart(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    use("bubblewrap", monkeypatch)
    broken = runs.temporary.parent / "script"
    broken.write_text("#!/nowhere/interpreter\n")
    broken.chmod(0o755)
    assert runs.problem(program(str(broken))) == ("ProgramStopped", "could not be put into its sandbox")


def test_a_full_disk_is_not_the_programs_fault(runs: Runs, kind: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], check=False).returncode:
        pytest.skip("only root can have a small disk")
    source = os.open(runs.source, os.O_RDONLY)
    try:
        for script, outward in (("cat /dev/zero", "pipe"), ("head -c 9000000 /dev/zero > {out}", "file")):
            target = os.open(disk / "target", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            with pytest.raises(OSError, match="No space left"):
                running.run(shell(script, output=outward), {}, source, target, "")
            os.close(target)
    finally:
        os.close(source)
        subprocess.run(["umount", disk], check=True)


# --- what is left -----------------------------------------------------------------------------------------

_LINGERERS = {
    "in the background": "{nap} & echo",
    "in a session of its own": "setsid {nap} & echo",
    "as a daemon": "setsid sh -c '({nap} &) ; ({nap} &)'; echo",
    "stopped": "{nap} & kill -STOP $!; echo",
    "deaf": "(trap '' TERM HUP INT; setsid sh -c '{nap}; {nap}') & echo",
}


@pytest.mark.parametrize("name", _LINGERERS)
def test_nothing_that_it_started_stays(runs: Runs, kind: str, name: str) -> None:
    script = _LINGERERS[name].replace("{nap}", runs.nap)
    assert runs.run(shell(script)) == b"\n"
    assert named(runs.nap) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", _LINGERERS)
def test_nothing_stays_when_its_time_is_over(runs: Runs, kind: str, name: str) -> None:
    script = _LINGERERS[name].replace("{nap}", runs.nap)
    assert runs.problem(shell(f"{script}; {runs.nap}", timeout_s=0.3))[0] == "ProgramStopped"
    assert named(runs.nap) == []


@pytest.mark.skipif(not shutil.which("gcc"), reason="there is no compiler")
def test_a_process_that_is_always_another_one_is_caught(runs: Runs, kind: str, tmp_path: Path) -> None:
    code = tmp_path / "comet.c"
    code.write_text("""
        #include <stdio.h>
        #include <unistd.h>
        int main() {
            puts("gone"); fflush(stdout);
            for (int generation = 0; generation < 300000; generation++) {
                if (fork()) _exit(0);
                setsid();
            }
        }""")
    comet = tmp_path / f"comet-{runs.nap[-9:]}"
    subprocess.run(["gcc", "-o", comet, code], check=True)
    assert runs.run(program(str(comet))) == b"gone\n"
    assert named(comet.name) == []


def test_what_it_made_beside_its_result_is_removed(runs: Runs, kind: str) -> None:
    code = """
import os, sys
out = sys.argv[1]
with open(out, "w") as file: file.write("P6")
os.chdir(os.path.dirname(out))
os.symlink("/etc", "link")
os.mkfifo("pipe")
for number in range(2000):
    os.mkdir("deeper"); os.chdir("deeper")
    if number % 500 == 0: os.chmod(".", 0o300)
"""
    assert runs.run(python(code, "{out}", output="file")) == b"P6"


def test_a_server_that_hangs_up_ends_it(runs: Runs, kind: str) -> None:
    ours, theirs = socket.socketpair()
    theirs.send(b"the next job")
    hang_up = threading.Timer(0.3, theirs.close)
    hang_up.start()
    script = f"setsid {runs.nap} & {runs.nap}"
    with ours, runs.opened() as (source, target), pytest.raises(ProgramStopped, match="its server"):
        running.run(shell(script), {}, source, target, "", ours.fileno())
    hang_up.join()
    assert named(runs.nap) == []


def _started(runs: Runs, wanted: Program) -> int:
    """A process that runs it, once it runs."""
    worker = os.fork()
    if not worker:
        try:
            runs.run(wanted)
        finally:
            os._exit(0)
    until = time.monotonic() + 20
    while len(named(runs.nap)) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    return worker


def test_a_worker_that_is_killed_leaves_nothing(runs: Runs, kind: str) -> None:
    worker = _started(runs, shell(f"setsid {runs.nap} & {runs.nap}", output="file"))
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    assert runs.await_none()


def test_a_supervisor_that_is_killed_takes_its_program_along(runs: Runs, kind: str) -> None:
    """Also while the sandbox is being set up, and with what left the program's session."""

    def kill_it() -> None:
        until = time.monotonic() + 20
        while not named(runs.nap) and time.monotonic() < until:
            time.sleep(0.001)
        for process in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            os.kill(int(process), signal.SIGKILL)

    for _ in range(10):
        killer = threading.Thread(target=kill_it)
        killer.start()
        told = ("ProgramStopped", "was stopped with its supervisor")
        assert runs.problem(shell(f"setsid {runs.nap} & {runs.nap}")) == told
        killer.join()
        assert named(runs.nap) == []


def test_a_program_that_kills_its_supervisor_leaves_nothing(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "available", lambda: "none")
    script = f"setsid {runs.nap} & (setsid {runs.nap} &); kill -KILL $PPID; exec {runs.nap}"
    assert runs.problem(shell(script)) == ("ProgramStopped", "was stopped with its supervisor")
    assert named(runs.nap) == []


@pytest.mark.slow
def test_two_hundred_hostile_runs_leave_nothing(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [
        *(each for each, _ in _FAILURES.values() if "sleep 5" not in str(each)),
        *(replace(each, timeout_s=0.2) for each, _ in _STOPS.values()),
        *(shell(text.replace("{nap}", runs.nap)) for text in _LINGERERS.values()),
        replace(shell(f"while :; do setsid {runs.nap} & done"), timeout_s=0.2),
        replace(shell("while :; do echo >&2; done"), timeout_s=0.2),
        python("import os, time\nfor _ in range(9): os.fork()\ntime.sleep(5)"),
    ]
    kinds = [kind for kind in KINDS if has(kind)]
    for number in range(200):
        monkeypatch.setattr(sandbox, "available", partial(str, kinds[number % len(kinds)]))
        runs.attempt(wanted[number % len(wanted)])
    assert named(runs.nap) == []
