"""``imagefactory programs``: what there is, ready tables, and one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.drawing import quarters
from support.toys import Toys, toy

from imagefactory.cli import main


def run(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    names = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEFACTORY_")}
    return subprocess.run(
        [sys.executable, "-m", "imagefactory", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=names | environ,
        check=False,
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a config for toy films, and a film."""
    return site_of(tmp_path, **Toys(tmp_path / "toys").tables())


def site_of(folder: Path, **tables: Mapping[str, Any]) -> Path:
    """A film in *folder*, and a config with *tables*."""
    lines = []
    for name, table in tables.items():
        lines.append(f"[programs.{name}]")
        for key, value in table.items():
            if isinstance(value, dict):
                inside = ", ".join(f"{each} = {json.dumps(item)}" for each, item in value.items())
                lines.append(f"{key} = {{ {inside} }}")
            else:
                lines.append(f"{key} = {json.dumps(value)}")
    (folder / "config.toml").write_text("\n".join(lines) + "\n")
    (folder / "film.toy").write_text(toy(40, 30))
    return folder


def test_nothing_is_configured_and_much_is_ready(tmp_path: Path) -> None:
    done = run(tmp_path, "programs")
    assert done.returncode == 0
    assert "no programs: write one with --write NAME" in done.stdout
    for name in ("video", "pdf", "svg", "raw", "imagemagick", "cjpeg"):
        assert f"\n    {name} " in done.stdout


def test_the_list_says_what_was_found(site: Path) -> None:
    found = json.loads(run(site, "programs", "--json").stdout)
    rows = {row["name"]: row for row in found["programs"]}
    assert rows["film"]["version"] == "toy 1.0"
    assert (rows["film"]["role"], rows["film"]["sandbox"], rows["film"]["problem"]) == ("decode", "none", "")
    assert "video" in found["ready"]


def test_a_missing_program_is_exit_1_and_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[programs.x]\ncommand = ["no-such-program", "{in}"]\n')
    done = run(tmp_path, "programs")
    assert done.returncode == 1
    assert "x: decode, not found: install no-such-program, or write its path" in done.stdout
    (tmp_path / "pictures").mkdir()
    served = run(tmp_path, "serve", "--port", "0")
    assert served.returncode == 2
    assert "programs.x.command: there is no program 'no-such-program' on PATH" in served.stderr


def test_a_ready_table_is_added_to_the_file_that_is_there(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("# mine\n[server]\nport = 9 # here\n\n[programs]\n")
    config.chmod(0o640)
    done = run(tmp_path, "programs", "--write", "video")
    assert done.returncode in (0, 1), done.stderr
    text = config.read_text()
    assert text.startswith("# mine\n[server]\nport = 9 # here\n\n[programs]\n\n")
    assert {"video", "video_exact", "video_sprite"} <= tomllib.loads(text)["programs"].keys()
    assert config.stat().st_mode & 0o777 == 0o640
    again = run(tmp_path, "programs", "--write", "video")
    assert again.returncode == 2
    assert "has [programs.video] already; nothing was written" in again.stderr
    assert config.read_text() == text
    assert [each.name for each in tmp_path.iterdir()] == ["config.toml"]


def test_a_table_goes_into_a_new_file_and_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.toml").symlink_to(tmp_path / "real" / "config.toml")
    done = run(tmp_path, "programs", "--write", "svg", IMAGEFACTORY_CONFIG="link.toml")
    assert "svg" in (tmp_path / "real" / "config.toml").read_text(), done.stderr
    assert (tmp_path / "link.toml").is_symlink()


def test_nothing_is_written_into_what_is_no_config(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[server\n")
    done = run(tmp_path, "programs", "--write", "video")
    assert (done.returncode, config.read_text()) == (2, "[server\n")
    assert "nothing was written" in done.stderr
    unknown = run(tmp_path, "programs", "--write", "vido")
    assert unknown.returncode == 2
    assert "there is no ready table 'vido', did you mean 'video'?" in unknown.stderr


def test_several_tables_are_added_together_or_none(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[programs.svg]\ncommand = ['x', '{in}']\n")
    before = config.read_bytes()
    done = run(tmp_path, "programs", "--write", "cjpeg", "--write", "svg")
    assert (done.returncode, config.read_bytes()) == (2, before)
    assert "it has [programs.svg] already; nothing was written" in done.stderr
    config.unlink()
    done = run(
        tmp_path, "programs", "--write", "cjpeg", "--write", "svg", "--write", "cjpeg", PATH="/nowhere"
    )
    assert done.returncode == 1
    assert "its program 'cjpeg' is not there yet: apt install libjpeg-turbo-progs" in done.stderr
    assert [*tomllib.loads(config.read_text())["programs"]] == ["cjpeg", "svg"]


def test_all_ready_tables_stand_in_one_config(tmp_path: Path) -> None:
    names = json.loads(run(tmp_path, "programs", "--json").stdout)["ready"]
    done = run(tmp_path, "programs", *(word for name in names for word in ("--write", name)))
    assert done.returncode in (0, 1), done.stderr
    assert len(tomllib.loads((tmp_path / "config.toml").read_text())["programs"]) > len(names)
    assert run(tmp_path, "programs", "--json").returncode in (0, 1)


@pytest.mark.parametrize("before", ["\ufeff[server]\r\nport = 9\r\n", "[programs]\n[server]\nport = 9"])
def test_what_stands_in_the_file_stays_byte_for_byte(tmp_path: Path, before: str) -> None:
    config = tmp_path / "config.toml"
    config.write_bytes(before.encode())
    assert run(tmp_path, "programs", "--write", "video").returncode in (0, 1)
    after = config.read_bytes()
    assert after.startswith(before.encode().rstrip())
    lines = after.count(b"\n")
    assert after.count(b"\r\n") == (lines if "\r" in before else 0)
    assert run(tmp_path, "config", "--json").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_the_file_keeps_its_owner(tmp_path: Path) -> None:
    """A server reads a file with secrets as its own user, or by its group."""
    config = tmp_path / "config.toml"
    config.write_text("")
    config.chmod(0o640)
    os.chown(config, 1234, 2345)
    run(tmp_path, "programs", "--write", "video")
    found = config.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (1234, 2345, 0o640)
    assert found.st_size > 100


@pytest.mark.parametrize("place", ["nowhere/config.toml", "."])
def test_a_config_that_can_not_be_written_is_told(tmp_path: Path, place: str) -> None:
    done = run(tmp_path, "--config", place, "programs", "--write", "svg")
    assert done.returncode == 2
    assert "there is no folder" in done.stderr or "can't be read: Is a directory" in done.stderr
    assert [*tmp_path.iterdir()] == []


def test_a_run_says_everything(site: Path) -> None:
    done = run(site, "programs", "test", "film", "film.toy", "t=5", "-o", "made.ppm", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["command"].endswith("in={in} time=5'") or said["command"].endswith("time=5")
    assert (said["bytes"], said["width"], said["height"]) == (40 * 30 * 3 + 13, 40, 30)
    assert (said["sandbox"], said["version"]) == ("none", "toy 1.0")
    assert (site / "made.ppm").read_bytes().startswith(b"P6\n40 30\n255\n")


def test_a_run_that_fails_says_why(site: Path) -> None:
    (site / "bad.toy").write_text("TOY nonsense\n")
    done = run(site, "programs", "test", "film", "bad.toy")
    assert done.returncode == 1
    assert "the program 'film' ended with exit code 1" in done.stdout
    assert "status         422" in done.stdout
    assert "Error" in done.stdout  # the end of what the program said
    assert run(site, "programs", "test", "flim", "film.toy").stderr.endswith("did you mean 'film'?\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["t=x"], "is not a number"),
        (["nonsense"], "'nonsense' is no parameter of programs; there are "),
        (["pages=2"], "did you mean 'page'?"),
        (["page=2"], "[programs.film] takes no page; it takes t"),
        (["scalex=20"], "takes no scalex; it takes t; sizes are made of what it gives"),
        (["sprite=99x99"], "sprite"),
        (["exact=1", "preview=3"], "can't be had together"),
    ],
)
def test_what_a_program_can_t_be_asked_is_exit_2(site: Path, words: list[str], told: str) -> None:
    files = ["--config", str(site / "config.toml"), "programs", "test", "film", str(site / "film.toy")]
    done = CliRunner().invoke(main, [*files, *words])
    assert (done.exit_code, done.stdout) == (2, "")
    assert told in done.stderr


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["t=5"], "time=5"),
        (["t=5", "exact=1"], "time=5 exact=1"),
        (["t=auto"], "time=7"),
        (["preview=3", "fps=2", "t=10"], "time=10 frames=6 fps=2"),
    ],
)
def test_a_run_is_by_the_table_that_a_server_takes(site: Path, words: list[str], command: str) -> None:
    done = run(site, "programs", "test", "film", "film.toy", *words, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["command"].endswith(f"in={{in}}' {command}")
    assert said["status"] == 200


def test_a_scalable_source_is_made_in_its_ratio(tmp_path: Path) -> None:
    site_of(tmp_path, scale=Toys(tmp_path / "toys").table("width", "height"))
    said = json.loads(run(tmp_path, "programs", "test", "scale", "film.toy", "scalex=80", "--json").stdout)
    assert said["command"].endswith(" width=80 height=60")
    assert (said["width"], said["height"]) == (80, 60)


def test_a_program_of_whole_answers_gets_bounds_and_an_encoder_pixels(tmp_path: Path) -> None:
    toys = Toys(tmp_path / "toys")
    common = {"encodings": ["jpeg"], "sandbox": "none"}
    whole = {"role": "whole", "sources": [".toy"], **common}
    whole["command"] = toys.command("{in}", "{width}x{height}", script="whole.py")
    encoder = {"role": "encode", "input": "pipe", **common}
    encoder["command"] = toys.command("{quality}", script="encoder.py")
    site_of(tmp_path, whole=whole, encoder=encoder)
    done = run(tmp_path, "programs", "test", "whole", "film.toy", "scalex=80", "--json", "-o", "a.jpg")
    assert " 80x" in json.loads(done.stdout)["command"]
    assert b" whole 80x" in (tmp_path / "a.jpg").read_bytes()
    quarters().save(tmp_path / "tom.png")
    said = json.loads(run(tmp_path, "programs", "test", "encoder", "tom.png", "quality=7", "--json").stdout)
    assert (said["status"], said["command"].endswith(" 7"), said["bytes"] > 10) == (200, True, True)
    broken = run(tmp_path, "programs", "test", "encoder", "film.toy")
    assert (broken.returncode, "this is no picture that it could encode" in broken.stdout) == (1, True)


def test_pixels_that_can_t_be_read_are_a_failure_and_are_kept(tmp_path: Path) -> None:
    """The head of a PPM is not enough: the server reads all of it next."""
    script = "printf 'P6\\n40 30\\n255\\nfew'"
    site_of(
        tmp_path, cut={"command": ["/bin/sh", "-c", script, "{in}"], "sources": [".toy"], "sandbox": "none"}
    )
    done = run(tmp_path, "programs", "test", "cut", "film.toy", "-o", "cut.ppm")
    assert (done.returncode, "status         422" in done.stdout) == (1, True)
    assert (tmp_path / "cut.ppm").read_bytes() == b"P6\n40 30\n255\nfew"


def test_a_file_for_which_no_server_runs_it_is_told(site: Path) -> None:
    (site / "film.avi").write_text(toy(40, 30))
    done = run(site, "programs", "test", "film", "film.avi")
    assert done.returncode == 0
    assert "for this name and these first bytes a server takes no program" in done.stdout
    assert "note" not in run(site, "programs", "test", "film", "film.toy").stdout
