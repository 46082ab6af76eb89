"""``imagefactory catalog``: sync, duplicates, list, check."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.drawing import at_rest, quarters

from imagefactory.cli import main

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command of a site with three pictures, two of which are the same, and one that is none."""
    folder = tmp_path / "pictures"
    (folder / "cats").mkdir(parents=True)
    quarters(40, 30).save(folder / "cats" / "tom.jpg")
    shutil.copy(folder / "cats" / "tom.jpg", folder / "Copy of Tom.jpg")
    quarters(30, 50).save(folder / "flag.png")
    (folder / "notes.txt").write_text("no picture")
    for path in folder.rglob("*.*"):
        at_rest(path)
    config = tmp_path / "config.toml"
    config.write_text(f'[catalog]\nurl = "sqlite:///{tmp_path}/c.db"\n[render]\nprocesses = -1\n')

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["--config", str(config), "catalog", *arguments])

    return invoke


def values(result: Result) -> dict[str, object]:
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_sync_says_what_it_did(run: Run, tmp_path: Path) -> None:
    done = run("sync")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("3 added, 0 changed, 0 removed, 0 unchanged, 0 failed in ")
    (tmp_path / "pictures" / "flag.png").unlink()
    again = values(run("sync", "--json"))
    assert again.pop("seconds", None) is not None
    assert again == {
        "added": 0,
        "changed": 0,
        "removed": 1,
        "unchanged": 2,
        "failures": 0,
        "failed": [],
        "is_whole": True,
    }


def test_a_file_that_could_not_be_brought_in_is_exit_1_and_named(run: Run, tmp_path: Path) -> None:
    """Its name does not take over the terminal."""
    broken = tmp_path / "pictures" / "bad\x9b2J\u202e.jpg"
    broken.write_bytes((tmp_path / "pictures" / "flag.png").read_bytes()[:20])
    at_rest(broken)
    done = run("sync")
    assert done.exit_code == 1
    assert done.stdout.startswith("bad\ufffd2J\ufffd.jpg: ")
    assert done.stderr == "Error: 1 file could not be brought in\n"
    done = run("sync", "--json")
    assert done.exit_code == 1
    assert done.stdout.isascii()
    assert json.loads(done.stdout)["failed"][0]["path"] == broken.name


def test_an_empty_folder_takes_a_word_to_empty_the_catalog(run: Run, tmp_path: Path) -> None:
    run("sync")
    shutil.rmtree(tmp_path / "pictures")
    done = run("sync")
    assert (done.exit_code, done.stderr) == (1, "Error: the folder of pictures can't be read\n")
    (tmp_path / "pictures").mkdir()
    done = run("sync")
    assert done.exit_code == 1
    assert "there is no file in the folder of pictures; is its disk mounted?" in done.stderr
    assert run("sync", "--empty").stdout.startswith("0 added, 0 changed, 3 removed")


def test_duplicates_are_named(run: Run) -> None:
    assert run("duplicates").stdout == "0 duplicates\n"
    run("sync")
    done = run("duplicates")
    assert done.exit_code == 0
    digest, *paths, last = done.stdout.splitlines()
    assert (len(digest), paths, last) == (64, ["  Copy of Tom.jpg", "  cats/tom.jpg"], "1 duplicate")
    assert values(run("duplicates", "--json")) == {
        "duplicates": [{"sha256": digest, "paths": ["Copy of Tom.jpg", "cats/tom.jpg"]}]
    }


def test_the_list_has_what_is_asked_for(run: Run) -> None:
    assert run("list").stdout == ""
    run("sync")
    lines = run("list").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["Copy of Tom.jpg", "cats/tom.jpg", "flag.png"]
    assert lines[2].split()[1:3] == ["30x50", "PNG"]
    assert lines[2].endswith("ready")

    def paths(*options: str) -> list[object]:
        found = values(run("list", "--json", *options))["pictures"]
        assert isinstance(found, list)
        return [each["path"] for each in found]

    digest = json.loads(run("duplicates", "--json").stdout)["duplicates"][0]["sha256"]
    assert paths("--q", "TOM jpg") == paths("--sha256", digest.upper()) == ["Copy of Tom.jpg", "cats/tom.jpg"]
    assert paths("--q", "cats") == paths("--sha256", digest, "--q", "cats/") == ["cats/tom.jpg"]
    assert paths("--state", "pending") == []
    assert len(paths("--state", "ready")) == 3
    assert paths("--limit", "1", "--after", "cats/tom.jpg") == ["flag.png"]


def test_the_list_says_where_it_goes_on(run: Run) -> None:
    run("sync")
    done = run("list", "--limit", "2")
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == 'there are more: --after "cats/tom.jpg"\n'
    found = values(run("list", "--limit", "2", "--json"))
    assert found["next"] == "cats/tom.jpg"
    assert values(run("list", "--limit", "3", "--json"))["next"] == ""
    assert run("list", "--limit", "0").exit_code == 2


def test_json_has_the_keys_of_an_upload(run: Run) -> None:
    run("sync")
    found = values(run("list", "--json", "--q", "flag"))["pictures"]
    assert isinstance(found, list)
    assert list(found[0]) == [
        *("path", "sha256", "stored_sha256", "stored_bytes", "width", "height", "format", "state", "added_s")
    ]


def test_check_is_exit_1_where_they_differ(run: Run, tmp_path: Path) -> None:
    run("sync")
    assert run("check").stdout == "3 rows: 0 missing, 0 gone, 0 changed, 0 altered, 0 unreadable\n"
    assert run("check", "--hash").exit_code == 0
    (tmp_path / "pictures" / "flag.png").rename(tmp_path / "pictures" / "flag 2.png")
    with closing(sqlite3.connect(tmp_path / "c.db")) as other:
        other.execute("UPDATE imagefactory_pictures SET stamp = replace(stamp, ' racy', '')")
        other.execute("UPDATE imagefactory_pictures SET digest = 'x' WHERE path = 'cats/tom.jpg'")
        other.commit()
    done = run("check")
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "flag 2.png has no row",
        "flag.png has a row and no file",
        "3 rows: 1 missing, 1 gone, 0 changed, 0 altered, 0 unreadable",
    ]
    assert done.stderr == "Error: 2 differences; imagefactory catalog sync makes it right\n"
    done = run("check", "--hash", "--json")
    assert done.exit_code == 1
    found = values(done)
    assert (found["altered"], found["rows"]) == (1, 3)
    assert {"kind": "altered", "path": "cats/tom.jpg"} in found["differences"]  # type: ignore[operator]
    run("sync")
    assert run("check", "--hash").stderr == "Error: 1 difference\n"


@pytest.mark.parametrize("command", ["sync", "duplicates", "list", "check"])
def test_without_a_catalog_it_says_what_to_write(tmp_path: Path, command: str) -> None:
    (tmp_path / "config.toml").write_text("")
    done = CliRunner().invoke(main, ["--config", str(tmp_path / "config.toml"), "catalog", command])
    assert done.exit_code == 2
    assert 'write\n\n[catalog]\nurl = "sqlite:////var/lib/imagefactory/catalog.db"' in done.stderr


@pytest.mark.parametrize("command", ["sync", "duplicates", "list", "check"])
def test_a_catalog_that_can_not_be_used_is_exit_1(run: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "c.db").write_text("this is no database" * 100)
    done = run(command)
    assert done.exit_code == 1
    text = "Error: the catalog of pictures can't be used at the moment (file is not a database)\n"
    assert done.stderr.endswith(text)


def test_a_mistake_in_the_url_is_exit_2(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[catalog]\nurl = "sqlite://"\n')
    done = CliRunner().invoke(main, ["--config", str(tmp_path / "config.toml"), "catalog", "list"])
    assert done.exit_code == 2
    assert "catalog.url: names no file" in done.stderr
