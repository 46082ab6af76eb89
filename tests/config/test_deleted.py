"""A deleted key is still read: it is ignored, with one warning in a process."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from imagefactory import create_app
from imagefactory.cli import main
from imagefactory.config import Config, as_dict, as_toml, from_mapping, load
from imagefactory.config.deleted import DELETED, warn_once
from imagefactory.errors import ConfigError

TOLD = "the config key render.share_decodes is gone, and ignored: it saved nothing; remove it"


@pytest.fixture(autouse=True)
def as_in_a_new_process() -> Iterator[None]:
    warn_once.cache_clear()
    yield
    warn_once.cache_clear()


def sections(kind: Any, above: str = "") -> list[str]:
    """The dotted names of all sections whose keys the schema lists."""
    found = []
    for each in dataclasses.fields(kind):
        value = getattr(kind, each.name)
        if dataclasses.is_dataclass(value):
            found += [above + each.name, *sections(value, f"{above}{each.name}.")]
    return found


@pytest.mark.parametrize("value", [True, False, "nonsense", {"a": 1}])
def test_a_deleted_key_in_a_mapping_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, value: object
) -> None:
    values = {"render": {"share_decodes": value, "queue": 3}}
    assert from_mapping(values, tmp_path) == from_mapping({"render": {"queue": 3}}, tmp_path)
    assert values == {"render": {"share_decodes": value, "queue": 3}}, "the caller's dict was changed"
    assert caplog.messages == [TOLD]
    assert [(each.name, each.levelname) for each in caplog.records] == [
        ("imagefactory.config.deleted", "WARNING")
    ]


def test_a_deleted_key_in_a_file_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[render]\nshare_decodes = true\nqueue = 3\n")
    assert load(file) == from_mapping({"render": {"queue": 3}}, tmp_path)
    assert caplog.messages == [TOLD]


@pytest.mark.parametrize("text", ["true", "1", "not TOML"])
def test_a_deleted_key_in_a_variable_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    environ = {"IMAGEFACTORY_RENDER__SHARE_DECODES": text}
    assert load(None, environ) == load()
    assert caplog.messages == [TOLD]


def test_ten_configs_of_a_process_bring_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        create_app({"render": {"share_decodes": True}, "paths": {"pictures": str(tmp_path / "pictures")}})
    assert caplog.messages == [TOLD]


def test_each_deleted_key_has_its_own_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(DELETED, "tricks", "write [render]")
    from_mapping({"render": {"share_decodes": True}, "tricks": {"a": 1}}, tmp_path)
    told = "the config key tricks is gone, and ignored: write [render]"
    assert sorted(caplog.messages) == sorted([TOLD, told])


@pytest.mark.parametrize("section", ["", *sections(from_mapping({}, Path("/")))])
def test_every_section_ignores_its_deleted_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, section: str
) -> None:
    key = f"{section}.old".lstrip(".")
    monkeypatch.setitem(DELETED, key, "remove it")
    values: dict[str, Any] = {"old": 1}
    for name in reversed(section.split(".") if section else []):
        values = {name: values}
    assert from_mapping(values, tmp_path) == from_mapping({}, tmp_path)
    assert caplog.messages == [f"the config key {key} is gone, and ignored: remove it"]


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("queu", "unknown key, did you mean 'queue'?"),
        ("share_decode", "unknown key; there are processes, queue, timeout_s, memory_bytes"),
        ("zzz", "unknown key; there are processes, queue, timeout_s, memory_bytes"),
    ],
)
def test_a_typo_beside_a_deleted_key_is_still_a_mistake(tmp_path: Path, key: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping({"render": {"share_decodes": True, key: 1}}, tmp_path)
    assert str(caught.value) == f"render.{key}: {problem}"


def test_a_deleted_key_is_not_shown(tmp_path: Path) -> None:
    config: Config = from_mapping({"render": {"share_decodes": True}}, tmp_path)
    assert "share_decodes" not in as_toml(config) + str(as_dict(config)) + repr(config)


def test_a_warning_stays_out_of_what_commands_print(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[render]\nshare_decodes = true\n")
    result = CliRunner().invoke(main, ["--config", str(file), "config"])
    assert (result.exit_code, result.stdout.count("share_decodes")) == (0, 0)
    process = subprocess.run(
        [sys.executable, "-m", "imagefactory", "--config", str(file), "config", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(process.stdout)["render"]["queue"] == 32
    assert process.stderr == f"{TOLD}\n"
