"""Imports go downward between folders, nothing goes in a circle, and each library has its importers."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import imagefactory

PACKAGE = Path(imagefactory.__file__).parent
# As in docs/architecture.md, from the top down: a folder imports from the rows below its own. "" are the
# files that lie beside the folders.
ROOMS = [
    [""],
    ["cli"],
    ["servers"],
    ["web"],
    ["web/pages"],
    ["web/http"],
    ["markup", "monitoring"],
    ["factory"],
    ["uploads"],
    ["tasks"],
    ["upkeep/purge", "upkeep/warm"],
    ["upkeep"],
    ["engine", "catalog"],
    ["storage", "workers", "urls"],
    ["render", "config"],
    ["render/programs"],
    ["model", "common"],
    ["errors", "version"],
]
# Files beside the folders that have a row of their own.
BESIDE = {"factory", "errors", "version"}
# What an older deploy/gunicorn.conf.py imports: outside of the rows.
OLD_NAMES = {PACKAGE / "renderers.py", PACKAGE / "servers" / "shares.py"}
IMPORTERS = {
    "PIL": {"render"},
    "pillow_heif": {"render/decoders.py"},
    "pyjpegxl": {"render/jxl.py"},
    "cykooz_resizer": {"render/resizing.py"},
    "deflate": {"render/libdeflate.py"},
    "pypdfium2": {"render/programs/pdf.py"},
    "resvg_py": {"render/programs/svg.py"},
    "rawpy": {"render/programs/raw.py"},
    "diskcache": {"storage/database.py"},
    "sqlalchemy": {"catalog"},
    "limits": {"web/http/rates.py", "web/http/rate_storage.py"},
    "flask": {"web", "web/http", "web/pages"},
    "jinja2": {"web/pages/page.py"},
    "markupsafe": {"markup", "web/pages"},
    "prometheus_client": {"monitoring/prometheus.py"},
    "waitress": {"servers/waitress.py", "servers/waitress_channel.py", "servers/waitress_parser.py"},
    "granian": {"servers/granian.py"},
    "gunicorn": {"servers/gunicorn.py"},
    "click": {"cli"},
    "tqdm": {"cli/progress.py"},
}


def imports(path: Path) -> tuple[set[Path], set[str]]:
    """The files of ours that a file imports, and the top-level names of libraries."""
    own, libraries = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            libraries |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            libraries.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            start = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for alias in node.names:
                places = [start / f"{alias.name}.py", start / alias.name / "__init__.py"]
                places += [start.with_suffix(".py"), start / "__init__.py"]
                own.add(next(place for place in places if place.exists()))
    return own, libraries


FILES = {path: imports(path) for path in sorted(PACKAGE.rglob("*.py")) if path not in OLD_NAMES}


def room(path: Path) -> str:
    """The folder of a file below the package, or its own name where it has a row beside the folders."""
    folder = path.parent.relative_to(PACKAGE).as_posix()
    if folder == ".":
        return path.stem if path.stem in BESIDE else ""
    return folder


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """A circle in *graph*, if there is one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_folder_has_its_row() -> None:
    assert {room(path) for path in FILES} == {name for row in ROOMS for name in row}


def test_the_table_of_the_architecture_has_the_same_order() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (`[^|]+) \|", text.partition("## The rooms")[2].partition("## ")[0], re.MULTILINE)
    told = [name.removesuffix("/").removesuffix(".py") for row in rows for name in re.findall("`(.+?)`", row)]
    row_of = {name: number for number, names in enumerate(ROOMS) for name in names}
    assert set(told) == set(row_of) - {""}
    assert [row_of[name] for name in told] == sorted(row_of[name] for name in told)


def test_imports_go_downward() -> None:
    row = {name: number for number, names in enumerate(ROOMS) for name in names}
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {other.relative_to(PACKAGE)}"
        for path, (own, _) in FILES.items()
        for other in own
        if room(other) != room(path) and row[room(other)] <= row[room(path)]
    ]
    assert wrong == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle({str(path): map(str, own) for path, (own, _) in FILES.items()}) == []


def test_no_folders_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path, (own, _) in FILES.items():
        graph.setdefault(room(path), set()).update({room(other) for other in own} - {room(path)})
    assert circle(graph) == []


def test_the_factory_alone_knows_which_store_there_is() -> None:
    asks = re.compile(r"(isinstance|cast)\([^\n]*(DiskStore|MemoryStore)")
    assert [path.name for path in FILES if asks.search(path.read_text())] == ["factory.py"]


def test_the_check_finds_what_is_wrong() -> None:
    assert circle({"a": ["b"], "b": ["c"], "c": ["a"]})
    assert not circle({"a": ["b", "c"], "b": ["c"]})


@pytest.mark.parametrize("library", IMPORTERS)
def test_each_library_has_its_importers(library: str) -> None:
    found = {path.relative_to(PACKAGE) for path, (_, libraries) in FILES.items() if library in libraries}
    places = {place for place in IMPORTERS[library] if place.endswith(".py")}
    assert {
        path.as_posix() if path.as_posix() in places else path.parent.as_posix() for path in found
    } == IMPORTERS[library]


def test_init_files_are_empty_but_for_public_names() -> None:
    full = {
        room(path)
        for path, _ in FILES.items()
        if path.name == "__init__.py" and len(ast.parse(path.read_text()).body) > 1
    }
    assert full == {"", "cli", "config", "markup"}


def test_the_package_shows_its_architecture_on_one_screen() -> None:
    names = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(names) <= 24


def test_importing_the_package_loads_no_decoder_and_no_server() -> None:
    code = "import sys, imagefactory; print([m for m in ('PIL', 'waitress', 'tqdm') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_names_that_hosts_and_deployments_import_stay() -> None:
    """Those of version 0.1, also of its ``deploy/gunicorn.conf.py``."""
    code = """
from imagefactory import ImageFactory, Pictures, __version__, create_app
from imagefactory.cli import main
from imagefactory.config import load
from imagefactory.markup import Pictures as Same
from imagefactory.renderers import cores
from imagefactory.servers.gunicorn import hear
from imagefactory.servers.shares import take_turns, with_share
assert Same is Pictures
app = create_app({"render": {"processes": -1}, "cache": {"mode": "memory"}})
state = app.extensions["imagefactory"]
assert isinstance(state, ImageFactory)
assert state.generator.answer and isinstance(state.pictures, Pictures) and state.config.http
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
