"""Programs that hang, flood, crash, fork and lie: an error for the visitor, and nothing is left of them.

``make hostile`` does more of it, and measures hits meanwhile.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import pytest
from support.drawing import at_rest
from support.hostile import KINDS, descendants, hostile_site, left_over, misbehave, strays
from support.serving import eventually, serving

STATUSES = dict.fromkeys(KINDS, 422) | {"sleeper": 503, "grandchildren": 503, "spinner": 503, "stopped": 503}
STATUSES |= {"daemon": 200}


@pytest.mark.parametrize("sandbox", ["auto", "none"])
def test_nothing_is_left_of_programs_that_misbehave(tmp_path: Path, sandbox: str) -> None:
    kinds = [*KINDS, *KINDS] if sandbox == "auto" else [each for each in KINDS if each != "bomb"]
    with serving(hostile_site(tmp_path, sandbox)) as server:
        misbehave(server, tmp_path, ["nothing"] * 3)
        with server.client() as client:
            answers = misbehave(server, tmp_path, kinds)
            assert client.get("/picture/tom.jpg?scalex=50").status == 200
        for kind, status in answers:
            expected = {STATUSES[kind]} | ({422, 503} if kind in ("spinner", "memory", "bomb") else set())
            assert status in expected, kind
        assert eventually(lambda: left_over(server, tmp_path)["processes"] == 0, 15)
        assert left_over(server, tmp_path)["files"] == 0
        said = server.said()
    assert "Traceback" not in said
    assert eventually(lambda: strays(tmp_path) == [], 10)


@pytest.mark.parametrize("sandbox", ["auto", "none"])
def test_a_killed_server_leaves_no_program(tmp_path: Path, sandbox: str) -> None:
    """Long before the program's time is over."""
    with serving(hostile_site(tmp_path, sandbox, timeout_s=50)) as server:
        source = tmp_path / "pictures" / "x.evil"
        source.write_text("EVIL grandchildren 1\n")
        at_rest(source)

        def ask() -> None:
            with suppress(OSError):
                server.get("/picture/x.evil?scalex=5")

        thread = threading.Thread(target=ask)
        thread.start()
        assert eventually(lambda: len(strays(tmp_path)) >= 5, 20)
        pids = descendants(server.process.pid)
        server.kill()
        thread.join()
        assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 20)
        assert eventually(lambda: strays(tmp_path) == [], 20)
