"""What judges the answers of a torture finds each kind of fault."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from PIL import Image
from support.drawing import encoded
from support.serving import Reply
from support.torture.pictures import Pictures
from support.torture.tally import Tally, table


def reply(body: bytes, status: int = 200, **headers: str) -> Reply:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    named = {"etag": etag, "content-length": str(len(body)), "x-cache": "hit", **headers}
    return Reply(status, named, body)


@pytest.mark.parametrize(
    ("answer", "problem", "column"),
    [
        (reply(b"body"), "", "hit"),
        (reply(b"body", **{"x-cache": "bypass"}), "", "bypass"),
        (reply(b"body"), "stale", "stale"),
        (reply(b""), "", "empty"),
        (reply(b"body", etag='"other"'), "", "wrong"),
        (reply(b"body", **{"content-length": "5"}), "", "wrong"),
        (reply(b"{}", 500), "", "wrong"),
        (reply(b"{}", 404), "", "wrong"),
        (reply(b"{}", 503), "", "wrong"),
        (reply(b"{}", 503, **{"retry-after": "2"}), "", "refused"),
    ],
)
def test_each_answer_is_counted_for_what_it_is(answer: Reply, problem: str, column: str) -> None:
    tally = Tally("kind")
    tally.check("/picture", answer, lambda body: problem)
    assert tally.counts == {"asked": 1, column: 1}
    assert tally.is_good == (column in ("hit", "bypass", "refused"))
    assert "| kind | 1 |" in table([tally])


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("2026-01-02 INFO fine\n", 0),
        ("2026-01-02 ERROR not fine\n2026-01-02 INFO fine\n2026-01-02 ERROR not fine\n", 2),
        ("2026-01-02 WARNING x\nTraceback (most recent call last):\n  File x\n", 1),
    ],
)
def test_what_a_server_says_is_listened_to(said: str, number: int) -> None:
    tally = Tally("kind")
    tally.listen(said)
    assert tally.counts["error"] == number


def test_a_picture_that_was_replaced_before_it_was_asked_for_is_stale(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path / "pictures", None, random.Random(1))
    red, blue = ((215, 40, 40), b"red"), ((40, 40, 215), b"blue")
    for version in (red, blue, red, blue):
        pictures._versions["a.jpg"] = [version]
        pictures.replace("a.jpg")
    body = {name: encoded(Image.new("RGB", (30, 20), colour), "PNG") for name, (colour, _) in
            {"red": red, "blue": blue, "grey": ((128, 128, 128), b"")}.items()}  # fmt: skip
    now = pictures.moment("a.jpg")
    assert pictures.problem("a.jpg", now, 30, body["blue"]) == ""
    assert pictures.problem("a.jpg", now, 30, body["red"]) == "stale"
    assert pictures.problem("a.jpg", now - 1, 30, body["red"]) == ""
    assert pictures.problem("a.jpg", now, 31, body["blue"]) == "wrong"
    assert pictures.problem("a.jpg", now, 30, body["grey"]) == "wrong"
