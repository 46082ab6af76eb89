"""What a decoder wrote is a variant like any other to all that looks after a cache."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.asking import Buffered, problems
from support.drawing import at_rest
from support.filling import run
from support.serving import write_config
from support.toys import Toys, toy

from imagefactory import create_app
from imagefactory.config import Config
from imagefactory.storage.disk import DiskStore
from imagefactory.workers.pool import Pool

TOKEN = "0123456789abcdef"
URLS = ("clip.toy?t=4&scalex=100", "clip.toy?t=4&scalex=50&encoding=webp", "clip.toy?preview=2&fps=2")
# The film as it is where nothing is asked for (its header), at second 4, and the four frames of the preview.
BASES, VARIANTS = 3, 3


@pytest.fixture
def toys(tmp_path: Path) -> Toys:
    return Toys(tmp_path / "toys")


@pytest.fixture
def app(configure: Callable[..., Config], pictures: Path, toys: Toys) -> Iterator[Flask]:
    """A site with films."""
    (pictures / "clip.toy").write_text(toy())
    at_rest(pictures / "clip.toy")
    pool = Pool(1, 20)
    app = create_app(configure(programs=toys.tables(), admin={"token": TOKEN}), pool)
    app.test_client_class = Buffered
    yield app
    pool.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A visitor who has asked for all of ``URLS``."""
    client = app.test_client()
    assert ask(client) == ["miss"] * VARIANTS
    return client


@pytest.fixture
def config(tmp_path: Path, pictures: Path) -> Path:
    """A config.toml for the same cache, for commands."""
    return write_config(tmp_path, pictures, tmp_path / "cache")


def ask(client: FlaskClient) -> list[str]:
    return [client.get(f"/picture/{url}").headers["X-Cache"] for url in URLS]


def told(config: Path, *arguments: str) -> Any:
    done = run(config, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.usefixtures("client")
def test_stats_have_them_as_an_encoding(config: Path) -> None:
    found = told(config, "stats")
    assert found["by_encoding"]["ppm"]["variants"] == BASES
    assert found["variants"] == found["objects"] == BASES + VARIANTS
    assert "ppm" in run(config, "stats").stdout


@pytest.mark.usefixtures("client")
def test_verify_finds_nothing_wrong(config: Path) -> None:
    found = told(config, "verify")
    assert (found["checked"], found["problems"]) == (BASES + VARIANTS, [])


def test_a_new_index_has_them(client: FlaskClient, config: Path, tmp_path: Path, toys: Toys) -> None:
    runs = toys.runs()
    shutil.rmtree(tmp_path / "cache" / "index")
    assert told(config, "rebuild")["variants"] == BASES + VARIANTS
    assert problems(DiskStore(tmp_path / "cache", 2**40)) == []
    assert ask(client) == ["hit"] * VARIANTS
    other = client.get("/picture/clip.toy?t=4&scalex=30")
    assert (other.status_code, toys.runs()) == (200, runs)  # of the base that was there


def test_they_are_evicted_and_made_again(
    client: FlaskClient, config: Path, monkeypatch: pytest.MonkeyPatch, toys: Toys
) -> None:
    runs = len(toys.runs())
    monkeypatch.setenv("IMAGEFACTORY_CACHE__MAX_BYTES", "1")
    assert told(config, "evict")["variants"] == BASES + VARIANTS
    assert ask(client) == ["miss"] * VARIANTS
    assert len(toys.runs()) > runs


def test_a_purge_by_command_leaves_nothing(client: FlaskClient, config: Path, tmp_path: Path) -> None:
    assert told(config, "purge", "clip.toy")["variants"] == BASES + VARIANTS
    assert [*(tmp_path / "cache" / "objects").rglob("*.*")] == []
    assert ask(client) == ["miss"] * VARIANTS


def test_the_dashboard_shows_a_film(client: FlaskClient) -> None:
    """Its thumbnail is one that browsers show, and no link leads to a base, which has no URL."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert "clip.toy" in client.get("/-/", headers=headers).text
    page = client.get("/-/picture/clip.toy", headers=headers)
    assert (page.status_code, "base" in page.text) == (200, True)
    assert "encoding=ppm" not in page.text
    thumbnail = client.get("/-/thumbnail/clip.toy", headers=headers)
    assert (thumbnail.status_code, thumbnail.mimetype) == (200, "image/webp")
