"""The commands: results on stdout, messages on stderr, exit codes that a script can trust."""

from __future__ import annotations

import json
import runpy
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from imagefactory.cli import main
from imagefactory.version import __version__


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    path = tmp_path / "config.toml"
    path.write_text('[admin]\ntoken = "0123456789abcdef-secret"\n[presets.thumb]\nscalex = 240\n')
    return path


def run(*arguments: object, **environ: str) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=environ)


def test_config_prints_toml_that_loads_with_its_secrets_masked(config: Path) -> None:
    result = run("--config", config, "config")
    assert result.exit_code == 0
    values = tomllib.loads(result.stdout)
    assert values["server"]["port"] == 8080
    assert values["paths"]["cache"] == str(config.parent / "cache_dir")
    assert values["admin"]["token"] == "***"
    assert "secret" not in result.output


def test_config_prints_json(config: Path) -> None:
    result = run("--config", config, "config", "--json", IMAGEFACTORY_CACHE__MAX_BYTES="2 GB")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["cache"]["max_bytes"] == 2_000_000_000
    assert "secret" not in result.output


@pytest.mark.parametrize("command", ["config", "serve"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 80", "server.prot: unknown key, did you mean 'port'?"),
        ("[presets.a]\nfit = 'covr'", "presets.a.fit: fit='covr' is not a fit; allowed: inside"),
        ("[paths]\ncache = 'a$HOME'", "has a $, which diskcache would replace"),
        ("[paths]\nlink_roots = ['/']", "paths.link_roots: these need follow_links = 'listed'"),
        (
            "[paths]\nfollow_links = 'listed'\nlink_roots = ['nowhere']",
            "paths.link_roots: there is no folder",
        ),
        ("[server", "config.toml: "),
    ],
)
def test_a_mistake_in_the_config_is_exit_2_and_told_on_stderr(
    config: Path, text: str, message: str, command: str
) -> None:
    config.write_text(text)
    result = run("--config", config, command)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_a_config_that_is_not_there_is_exit_2(tmp_path: Path) -> None:
    result = run("--config", tmp_path / "none.toml", "config")
    assert result.exit_code == 2
    assert "none.toml" in result.stderr


def test_serve_without_a_pictures_folder_is_exit_2(config: Path) -> None:
    (config.parent / "pictures").rmdir()
    result = run("--config", config, "serve")
    assert result.exit_code == 2
    assert f"paths.pictures: there is no folder {config.parent / 'pictures'}" in result.stderr


def test_serve_on_a_port_that_is_taken_is_exit_1(config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "imagefactory", "--config", config, "serve", "--port", str(port)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert result.returncode == 1
    assert f"127.0.0.1:{port}: Address already in use" in result.stderr


@pytest.mark.parametrize("arguments", [["bogus"], ["serve", "--port", "70000"], ["config", "--jsn"]])
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_help_and_version() -> None:
    assert "Image URLs that resize" in run("--help").stdout
    assert run("--version").stdout == f"imagefactory, version {__version__}\n"
    module = subprocess.run(
        [sys.executable, "-m", "imagefactory", "--version"], capture_output=True, text=True
    )
    assert module.stdout == f"imagefactory, version {__version__}\n"


def test_wsgi_py_has_an_app(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEFACTORY_CONFIG", str(config))
    app = runpy.run_path(str(Path(__file__).parents[2] / "wsgi.py"))["app"]
    assert app.test_client().get("/healthz").json["status"] == "ok"


COMMANDS = ("serve", "warm", "purge", "stats", "verify", "rebuild", "evict", "config")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_has_examples_and_then_the_exit_codes(command: str) -> None:
    text = run(command, "--help").stdout
    assert f" imagefactory {command}" in text[text.index("  Examples:\n") : text.index("  Exit codes:\n")]
    assert "2    wrong usage or config" in text


def test_the_list_of_commands_cuts_no_sentence() -> None:
    assert "..." not in run("--help").stdout.partition("\nCommands:\n")[2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_result_that_can_not_be_written_is_one_line_and_exit_1(config: Path) -> None:
    command = [sys.executable, "-m", "imagefactory", "--config", str(config), "config"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")


def test_a_ctrl_c_that_no_command_expects_is_exit_130(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("imagefactory.cli.config.load", die)
    result = run("--config", config, "config")
    assert (result.exit_code, result.stderr) == (130, "Error: stopped\n")
