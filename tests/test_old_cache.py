"""A cache that an older version has written is served without a render.

``tests/data/cache-0.1.0`` was written by version 0.1.0, before the package had folders: the pictures, the
index, the objects, and the ETags of the answers by URL."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.asking import Buffered, Counting, problems

from imagefactory import create_app
from imagefactory.storage.disk import DiskStore

OLD = Path(__file__).parent / "data" / "cache-0.1.0"
ANSWERS: dict[str, str] = json.loads((OLD / "answers.json").read_text())


@pytest.mark.parametrize("has_index", [True, False])
def test_all_answers_are_hits_with_the_same_bytes(tmp_path: Path, has_index: bool) -> None:
    """Also where the index is lost: the objects alone say what they are."""
    folder = tmp_path / "old"
    shutil.copytree(OLD, folder)
    if not has_index:
        shutil.rmtree(folder / "cache" / "index")
    renderer = Counting()
    paths = {"pictures": str(folder / "pictures"), "cache": str(folder / "cache")}
    app = create_app({"paths": paths}, renderer)
    app.test_client_class = Buffered
    client = app.test_client()
    for url, etag in ANSWERS.items():
        reply = client.get(url)
        assert (reply.status_code, reply.headers["X-Cache"], reply.headers["ETag"]) == (200, "hit", etag), url
    assert renderer.renders == 0
    assert problems(DiskStore(folder / "cache", 2**40)) == []
