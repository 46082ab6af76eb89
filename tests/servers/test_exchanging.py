"""A folder and a link to the outside that change places while a server is asked for both."""

from __future__ import annotations

from pathlib import Path

from support.exchanging import exchange


def test_nothing_from_outside_is_ever_served_or_known(tmp_path: Path) -> None:
    """`python -m support.exchanging` is the same with 10,000 exchanges; before sources were opened beneath
    their folder, 3,000 showed 30 and 48 pictures from outside."""
    found = exchange(tmp_path, 2000, seed=1)
    assert found.faults == []
    assert found.exchanges == 2000
    for kind in ("original", "variant", "about"):
        assert found.answers[f"{kind} 200"] > 0, found.answers
        assert found.answers[f"{kind} 404"] > 0, found.answers
