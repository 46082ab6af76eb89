"""What the files at the top of the repository name is there."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = ".venv/bin/"


def hooks() -> list[str]:
    """The commands that .pre-commit-config.yaml runs."""
    return re.findall(r"^ +entry: (.+)$", (ROOT / ".pre-commit-config.yaml").read_text(), re.M)


def test_hooks_are_the_checks_of_make() -> None:
    """And their programs come with the extra that make installs for them."""
    recipe = re.search(r"^check: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert recipe is not None
    assert hooks() == [line.strip().replace("$(BIN)/", BIN) for line in recipe[1].splitlines()]
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extra = re.findall(r"^[a-z0-9-]+", setup["options.extras_require"]["check"], re.M)
    for command in hooks():
        program = command.split()[0]
        assert program.startswith(BIN)
        assert program.removeprefix(BIN) in extra


def test_hooks_download_nothing() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"repo: (.+)", text) == ["local"]
    assert re.findall(r"language: (.+)", text) == ["system"] * len(hooks())


@pytest.mark.parametrize("name", [".pre-commit-config.yaml", "SECURITY.md"])
def test_files_that_are_named_exist(name: str) -> None:
    """Links, and paths with an ending."""
    text = (ROOT / name).read_text()
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    paths = re.findall(r"(?<![\w/.])(?:[\w.-]+/)*[\w-]+\.(?:md|toml|service|cfg|py|conf|yaml)\b", text)
    assert [path for path in {*links, *paths} if not (ROOT / path).exists()] == []


def test_keys_that_security_md_names_exist() -> None:
    """``[section] key``, as config.toml has them."""
    config = (ROOT / "config.toml").read_text()
    named = re.findall(r"\[(\w+)\]`? ?`?(\w+)?", (ROOT / "SECURITY.md").read_text())
    assert named
    for section, key in named:
        assert f"[{section}]" in config
        body = config.split(f"[{section}]")[1].split("\n[")[0]
        assert not key or re.search(rf"^{key} = ", body, re.M), f"[{section}] {key}"
