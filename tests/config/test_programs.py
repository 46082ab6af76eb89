"""``[programs.NAME]``: a mistake is a message that names the key and says what would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imagefactory.config import as_toml, from_mapping
from imagefactory.config.programs import magic_bytes
from imagefactory.errors import ConfigError

VIDEO: dict[str, Any] = {"command": ["ffmpeg", "-ss", "{time}", "-i", "file:{in}", "-"], "sources": [".mp4"]}
WHOLE: dict[str, Any] = {
    "role": "whole",
    "command": ["convert", "{in}", "-"],
    "sources": [".jpg"],
    "encodings": ["jpeg"],
}
ENCODE: dict[str, Any] = {
    "role": "encode",
    "command": ["cjpeg", "-quality", "{quality}"],
    "input": "pipe",
    "encodings": ["jpeg"],
}


def config(**tables: dict[str, Any]) -> Any:
    return from_mapping({"programs": tables}, Path("/srv"))


@pytest.mark.parametrize(
    ("table", "key", "part"),
    [
        ({}, "command", "this is missing"),
        (VIDEO | {"comand": []}, "comand", "did you mean 'command'"),
        (VIDEO | {"command": "ffmpeg -i {in}"}, "command", "is not a list"),
        (VIDEO | {"command": ["{in}"]}, "command", "can't be a placeholder, as {in} is"),
        (
            VIDEO | {"command": ["x", "{in}", "{tme}"]},
            "command",
            "{tme} is no placeholder, did you mean 'time'",
        ),
        (VIDEO | {"command": ["x", "{in}", "{in.__class__}"]}, "command", "is no placeholder"),
        (VIDEO | {"command": ["x"]}, "command", "with input = 'file' it needs {in}"),
        (VIDEO | {"input": "pipe"}, "command", "with input = 'pipe' there is no {in}"),
        (VIDEO | {"output": "file"}, "command", "with output = 'file' it needs {out}"),
        (VIDEO | {"command": ["x", "{in}", "{out}"]}, "command", "with output = 'pipe' there is no {out}"),
        (VIDEO | {"role": "decoder"}, "role", "did you mean 'decode'"),
        (VIDEO | {"format": "gif"}, "format", "is not one of ppm, png, jpeg"),
        (VIDEO | {"sources": ["mp4"]}, "sources", "is not a suffix in lower case, such as '.mp4'"),
        (VIDEO | {"magic": ["ftyp"]}, "magic", "such as 'ftyp@4' or '1a45dfa3@0'"),
        (VIDEO | {"magic": ["ftyp@62"]}, "magic", "within the first 64"),
        (VIDEO | {"parameters": {"page": 1}}, "parameters.page", "no placeholder of the command"),
        (VIDEO | {"parameters": {"time": "1"}}, "parameters.time", "is not a number"),
        (VIDEO | {"timeout_s": 0}, "timeout_s", "below the limit of 1"),
        (VIDEO | {"sandbox": "yes"}, "sandbox", "is not one of auto, required, none"),
        (VIDEO | {"environment": {"A=B": "x"}}, "environment.'A=B'", "that of an environment variable"),
        (VIDEO | {"fallback": "other"}, "fallback", "there is no [programs.other] with the role 'decode'"),
        (VIDEO | {"fallback": "whole"}, "fallback", "there is no [programs.whole] with the role 'decode'"),
        (VIDEO | {"fallback": "video"}, "fallback", "is its own fallback in the end"),
        (VIDEO | {"variants": {"exakt": "video"}}, "variants.exakt", "did you mean 'exact'"),
        (VIDEO | {"variants": {"exact": "x"}}, "variants.exact", "there is no [programs.x]"),
        (VIDEO | {"encodings": ["jpeg"]}, "encodings", "the role 'decode' has no such key"),
        (VIDEO | {"stream": True}, "stream", "the role 'decode' has no such key"),
        (WHOLE | {"encodings": []}, "encodings", "the role 'whole' needs this"),
        (WHOLE | {"sources": []}, "sources", "the role 'whole' needs this"),
        (WHOLE | {"format": "png"}, "format", "the role 'whole' has no such key"),
        (WHOLE | {"encodings": ["ppm"]}, "encodings", "ppm is what a decoder makes"),
        (WHOLE | {"encodings": ["jpg"]}, "encodings", "is not one of jpeg"),
        (
            WHOLE | {"command": ["x", "{in}", "{out}"], "output": "file", "stream": True},
            "stream",
            "this needs output = 'pipe'",
        ),
        (ENCODE | {"sources": [".jpg"]}, "sources", "the role 'encode' has no such key"),
        (ENCODE | {"format": "jpeg"}, "format", "an encoder reads one of ppm, png, not jpeg"),
        (ENCODE | {"encodings": ["mp4"]}, "encodings", "mp4 is for the role 'whole'"),
        (ENCODE | {"command": ["x", "{time}"]}, "command", "an encoder has no {time}"),
    ],
)
def test_a_mistake_is_named(table: dict[str, Any], key: str, part: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(video=table, whole=WHOLE)
    assert error.value.key == f"programs.video.{key}"
    assert part in error.value.problem


def test_tables_may_not_lead_in_a_circle() -> None:
    with pytest.raises(ConfigError, match="is its own fallback"):
        config(one=VIDEO | {"fallback": "two"}, two=VIDEO | {"fallback": "one"})
    with pytest.raises(ConfigError, match="has variants of its own"):
        config(one=VIDEO | {"variants": {"exact": "two"}}, two=VIDEO | {"variants": {"exact": "one"}})


def test_programs_need_processes_to_run_in() -> None:
    with pytest.raises(ConfigError, match=r"render\.processes"):
        from_mapping({"programs": {"video": VIDEO}, "render": {"processes": -1}}, Path("/srv"))


def test_the_environment_may_be_secret_and_is_not_shown() -> None:
    found = config(video=VIDEO | {"environment": {"LICENSE": "abc123"}})
    assert "abc123" not in as_toml(found)
    assert "abc123" not in repr(found)
    assert found.programs["video"].environment == {"LICENSE": "abc123"}


@pytest.mark.parametrize(
    ("magic", "found"),
    [
        ("ftyp@4", (4, b"ftyp")),
        ("1a45dfa3@0", (0, b"\x1a\x45\xdf\xa3")),
        ("%PDF-@0", (0, b"%PDF-")),
        ("ab@0", (0, b"ab")),
    ],
)
def test_magic_is_text_or_hex(magic: str, found: tuple[int, bytes]) -> None:
    assert magic_bytes(magic) == found
