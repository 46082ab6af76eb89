"""The wheel, installed and not editable, has all that a server needs."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from support.drawing import quarters
from support.serving import ROOT, serving, workers_of, write_config


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as the wheel installs it, made of the files that git knows."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    packaging = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
    for name in files.decode().split("\0"):
        if name.startswith("imagefactory/") or name in packaging:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run([*pip, *wheel], check=True, capture_output=True, cwd=folder)
    (found,) = folder.glob("*.whl")
    target = folder / "installed"
    install = ["install", "--no-deps", "--no-index", "--target", str(target), str(found)]
    subprocess.run([*pip, *install], check=True, capture_output=True, cwd=folder)
    return target


def test_a_page_the_script_and_a_picture_from_a_worker_process(installed: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    quarters().save(pictures / "tom.jpg")
    config = write_config(tmp_path, pictures, tmp_path / "cache", render={"processes": 1})
    code = f"import sys; sys.path.insert(0, {str(installed)!r}); from imagefactory.cli import main; main()"
    program = [sys.executable, "-c", code, "serve", "--port", "0"]
    with serving(config, program=program, cwd=tmp_path) as server:
        page = server.get("/")
        assert (page.status, b"tom.jpg" in page.body) == (200, True)
        script = (installed / "imagefactory/web/pages/static/imagefactory.js").read_bytes()
        reply = server.get(f"/-/imagefactory.{hashlib.sha256(script).hexdigest()[:12]}.js")
        assert (reply.status, reply.body) == (200, script)
        picture = server.get("/picture/tom.jpg?scalex=50&encoding=webp")
        assert (picture.status, picture.cache, picture.body[8:12]) == (200, "miss", b"WEBP")
        (worker,) = workers_of(server)
        command = Path(f"/proc/{worker}/cmdline")
        assert not command.exists() or str(installed) in command.read_text()


def test_the_ready_tables_and_the_scripts_of_programs(installed: Path) -> None:
    here = ROOT / "imagefactory"
    wanted = [*here.glob("cli/ready/*.toml"), *here.glob("render/programs/*.py")]
    assert len(wanted) >= 10
    for path in wanted:
        assert (installed / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
