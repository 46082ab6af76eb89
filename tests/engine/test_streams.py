"""A stream reads a file that grows, and holds it no longer than somebody reads."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from support.open_files import open_below

from imagefactory.engine.answer import Answer
from imagefactory.engine.streams import Stream
from imagefactory.errors import Unavailable


@pytest.mark.parametrize("has_begun", [True, False])
def test_who_gives_up_leaves_no_file_open(tmp_path: Path, has_begun: bool) -> None:
    """Neither one that it has, nor one that comes later."""
    go, ended = threading.Event(), threading.Event()
    number = os.open(tmp_path / "growing", os.O_RDWR | os.O_CREAT)

    def make(stream: Stream) -> Answer:
        if has_begun:
            stream.begin(number)
        go.wait(20)
        stream.begin(number)
        ended.set()
        raise Unavailable("nothing comes of it")

    stream = Stream("jpeg", make, lambda: None)
    with pytest.raises(Unavailable, match="not begun yet"):
        stream.answer(0.1)
    go.set()
    assert ended.wait(20)
    os.close(number)
    assert open_below(tmp_path) == []
