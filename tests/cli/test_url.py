"""``imagefactory url``: what it prints is what answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.drawing import quarters
from support.serving import write_config

from imagefactory import create_app
from imagefactory.cli import main

KEYS = {"signing.keys": {"web": "x" * 16}}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    """The command with *arguments*, and sections of the config by name."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    quarters().save(pictures / "tom.jpg")
    (pictures / "notes.jpg").write_text("no picture")
    (pictures / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much of a picture")

    def run(*arguments: str, **sections: dict[str, object]) -> Result:
        config = write_config(tmp_path, pictures, tmp_path / "cache", **sections)  # type: ignore[arg-type]
        run.config = config  # type: ignore[attr-defined]
        return CliRunner().invoke(main, ["--config", str(config), "url", *arguments])

    return run


def test_it_prints_a_url_whose_answers_are_immutable(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("pictures/tom.jpg", "fm=webp", "w=50")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("/picture/tom.jpg?scalex=50&encoding=webp&v=")
    app = create_app(str(run.config))  # type: ignore[attr-defined]
    reply = app.test_client().get(result.stdout.strip(), buffered=True)
    assert reply.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_it_touches_no_cache(run: Callable[..., Result], tmp_path: Path) -> None:
    assert run("tom.jpg", "w=50").exit_code == 0
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("sections", [{"limits": {"sizes": "signed"}}, {"http": {"private": ["tom.*"]}}, {}])
def test_it_signs(run: Callable[..., Result], sections: dict[str, dict[str, object]]) -> None:
    options = [] if sections else ["--sign"]
    result = run("tom.jpg", "w=50", *options, "--expires", "1h", "--json", **sections, **KEYS)
    url = json.loads(result.stdout)["url"]
    client = create_app(str(run.config)).test_client()  # type: ignore[attr-defined]
    assert client.get(url, buffered=True).status_code == 200
    assert client.get(url.replace("scalex=50", "scalex=51"), buffered=True).status_code == 403
    age = client.get(url, buffered=True).headers["Cache-Control"].rpartition("=")[2]
    assert 3000 < int(age) <= 3600


def test_the_base_url_of_a_cdn_comes_first(run: Callable[..., Result]) -> None:
    result = run("tom.jpg", http={"base_url": "https://img.example/x"})
    assert result.stdout == "https://img.example/x/picture/tom.jpg\n"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["no.jpg"], 1, "no.jpg: there is no picture at this address"),
        (["notes.jpg"], 1, "notes.jpg: there is no picture at this address"),
        (["cut.jpg"], 1, "cut.jpg: there is no picture at this address"),
        (["../tom.jpg"], 1, "there is no picture at this address"),
        (["tom.jpg", "quality=120"], 2, "quality=120 is above the limit of 100"),
        (["tom.jpg", "scalx=9"], 2, "there is no parameter 'scalx', did you mean 'scalex'?"),
        (["tom.jpg", "expires=9"], 2, "there is no parameter 'expires'"),
        (["tom.jpg", "9"], 2, "'9' is not PARAM=VALUE, each once; write scalex=640"),
        (["tom.jpg", "w=9", "w=8"], 2, "'w=8' is not PARAM=VALUE, each once"),
        (["tom.jpg", "w=9", "width=8"], 2, "width is given twice; give it once"),
        (["tom.jpg", "s=9"], 2, "s"),
        (["tom.jpg", "--sign"], 2, "signing.keys: a signature needs a key"),
    ],
)
def test_a_mistake_is_said(run: Callable[..., Result], arguments: list[str], code: int, text: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert text in result.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--expires", "1h"], "add --sign"),
        (["--sign", "--expires", "soon"], "--expires: 'soon' is not a time"),
        (["--sign", "--expires", ""], "--expires: '' is not a time"),
        (["--sign", "--expires", "99999999w"], "the longest is 100000000000, which are 165343 weeks"),
    ],
)
def test_an_expiry_is_for_what_is_signed(run: Callable[..., Result], options: list[str], text: str) -> None:
    result = run("tom.jpg", "w=9", *options, **KEYS)
    assert (result.exit_code, text in result.stderr) == (2, True)
