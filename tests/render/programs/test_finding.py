"""Where programs are found, and which version they are of."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagefactory.render.programs import finding
from imagefactory.render.programs.finding import extra_of, found, read_folders, version

HELPERS = {"imagefactory-pdf": "pdf", "imagefactory-svg": "svg", "imagefactory-raw": "raw"}
LIBRARIES = {"imagefactory-pdf": "pypdfium2", "imagefactory-svg": "resvg_py", "imagefactory-raw": "rawpy"}
FOLDER = Path(finding.__file__).parent


def script(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", HELPERS)
def test_a_helper_is_a_script_of_ours_in_this_python(name: str) -> None:
    pytest.importorskip(LIBRARIES[name])
    assert found(name) == (sys.executable, "-I", str(FOLDER / f"{HELPERS[name]}.py"))
    assert Path(found(name)[-1]).is_file()


def without(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    """As if *libraries* were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(finding, "find_spec", lambda name: None if name in libraries else find(name))


@pytest.mark.parametrize("name", HELPERS)
def test_a_helper_without_its_library_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, LIBRARIES[name])
    assert found(name) == ()


def test_ffmpeg_is_that_of_the_extra_before_that_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("imageio_ffmpeg")
    own = script(tmp_path, "ffmpeg", "echo mine")
    monkeypatch.setenv("PATH", str(tmp_path))
    (path,) = found("ffmpeg")
    assert "imageio_ffmpeg/binaries/ffmpeg-" in path
    assert os.access(path, os.X_OK)
    without(monkeypatch, "imageio_ffmpeg")
    assert found("ffmpeg") == (str(own),)


def test_any_other_name_is_looked_for_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = script(tmp_path, "drawer", "")
    assert found("drawer") == ()
    monkeypatch.setenv("PATH", f"{tmp_path}")
    assert found("drawer") == (str(path),)
    assert found(str(path)) == (str(path),)
    path.chmod(0o644)
    assert found("drawer") == found(str(path)) == found("") == ()


def test_a_name_relative_to_the_current_folder_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path, "drawer", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ".:")
    assert found("./drawer") == found("drawer") == ()


@pytest.mark.parametrize(
    ("name", "extra"),
    [("ffmpeg", "video"), *HELPERS.items(), ("cjpeg", ""), ("/usr/bin/ffmpeg", ""), ("", "")],
)
def test_the_extra_that_brings_it(name: str, extra: str) -> None:
    assert extra_of(name) == extra


def test_a_helper_reads_python_and_itself_and_not_the_project() -> None:
    start = (sys.executable, "-I", str(FOLDER / "pdf.py"))
    folders = read_folders(start)
    assert {sys.prefix, sys.base_prefix, str(FOLDER), str(Path(sys.executable).parent)} <= set(folders)
    root = FOLDER.parents[2]
    assert not any(root.is_relative_to(folder) for folder in folders)


def test_a_program_reads_its_folder_and_that_of_the_file_it_links_to(tmp_path: Path) -> None:
    (tmp_path / "opt").mkdir()
    (tmp_path / "bin").mkdir()
    target = script(tmp_path / "opt", "tool-2", "")
    (tmp_path / "bin" / "tool").symlink_to(target)
    assert read_folders((str(tmp_path / "bin" / "tool"),)) == (str(tmp_path / "bin"), str(tmp_path / "opt"))
    assert read_folders(()) == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("echo tool 1.2; echo more", "tool 1.2"),
        ("echo tool 1.2 >&2; exit 3", "tool 1.2"),
        ("echo; echo '  tool 1.2'", "tool 1.2"),
        ("echo $1 $2", "-v x"),
        ("echo $PATH", "/nowhere"),
        ("exit 1", ""),
        ("kill -9 $$", ""),
        ("printf 'tool \\377'", "tool \ufffd"),
        ("/bin/cat", ""),
    ],
)
def test_the_version_is_the_first_line(tmp_path: Path, text: str, line: str) -> None:
    start = (str(script(tmp_path, "tool", text)),)
    assert version(start, ("-v", "x"), {"PATH": "/nowhere"}) == line


@pytest.mark.slow
def test_a_long_version_is_cut(tmp_path: Path) -> None:
    tool = script(tmp_path, "tool", f"echo {'x' * 5000}")
    assert version((str(tool),), (), {}) == "x" * 200


@pytest.mark.slow
def test_what_cannot_be_run_has_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tool").write_bytes(b"\x7fELF, not")
    (tmp_path / "tool").chmod(0o755)
    assert version((str(tmp_path / "tool"),), (), {}) == ""
    assert version((str(tmp_path / "none"),), (), {}) == ""
    assert version(("a\0b",), (), {}) == ""
    monkeypatch.setattr(finding, "_VERSION_TIMEOUT_S", 0.2)
    assert version((str(script(tmp_path, "sleeper", "exec /bin/sleep 60")),), (), {}) == ""


@pytest.mark.slow
def test_a_server_process_imports_no_library_of_a_program() -> None:
    code = """
import sys
from imagefactory.render.programs.finding import found, read_folders
for name in ("ffmpeg", "imagefactory-pdf", "imagefactory-svg", "imagefactory-raw"):
    read_folders(found(name))
heavy = ("PIL", "numpy", "imageio_ffmpeg", "pypdfium2", "resvg_py", "rawpy")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
