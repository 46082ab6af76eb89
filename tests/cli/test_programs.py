"""``imagefactory programs``: what there is, ready tables, and one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.toys import Toys, toy


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
    toys = Toys(tmp_path / "toys")
    lines = []
    for name, table in toys.tables().items():
        lines.append(f"[programs.{name}]")
        for key, value in table.items():
            if isinstance(value, dict):
                inside = ", ".join(f"{each} = {json.dumps(item)}" for each, item in value.items())
                lines.append(f"{key} = {{ {inside} }}")
            else:
                lines.append(f"{key} = {json.dumps(value)}")
    (tmp_path / "config.toml").write_text("\n".join(lines) + "\n")
    (tmp_path / "film.toy").write_text(toy(40, 30))
    return tmp_path


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
    wrong = run(site, "programs", "test", "film", "film.toy", "t=x")
    assert (wrong.returncode, "is not a number" in wrong.stderr) == (2, True)
    assert run(site, "programs", "test", "film", "film.toy", "nonsense").returncode == 2
