"""Imports go from lower layers to upper ones, and each library has its one importer."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import imagefactory

PACKAGE = Path(imagefactory.__file__).parent
# From the top of docs/architecture.md down: a file imports from its own layer and from those above.
LAYERS = [
    ["version", "errors", "config", "formats", "colours", "folders", "globs", "readers", "tags", "units"],
    [
        "recipe",
        "geometry",
        "hints",
        "parameters",
        "request",
        "signing",
        "negotiation",
        "jobs",
        "variants",
        "charts",
    ],
    ["access", "admin", "clients", "conditions", "crowd", "hooks", "logreading", "memo", "rules"],
    ["tally", "troubles", "wire"],
    ["sources", "claims", "database", "index", "objects", "removals", "sessions", "store", "render"],
    ["worker", "pool", "renderers", "upkeep", "keeper", "register", "generator", "readings"],
    ["candidates", "explain", "responses"],
    ["accesslog", "fastpath", "markup", "metrics", "ops", "scripts", "sending"],
    ["dashboard", "playground", "views", "servers"],
    ["cli", "__init__", "__main__"],
]
IMPORTERS = {
    "PIL": {"render"},
    "pillow_heif": {"render"},
    "pyjpegxl": {"render"},
    "cykooz_resizer": {"render"},
    "deflate": {"render"},
    "diskcache": {"database"},
    "flask": {"dashboard", "ops", "playground", "scripts", "sending", "views"},
    "jinja2": {"dashboard", "playground"},
    "markupsafe": {"candidates", "markup", "playground", "scripts"},
    "prometheus_client": {"metrics"},
    "waitress": {"servers"},
    "granian": {"servers"},
    "gunicorn": {"servers"},
    "click": {"cli"},
    "tqdm": {"cli"},
}


def imports(path: Path) -> set[str]:
    """Top-level names of libraries, and names of our own files as ``.name``; of a folder, what leaves it."""
    if path.is_dir():
        found = set().union(*(imports(file) for file in path.glob("*.py")))
        return found - {f".{file.stem}" for file in path.glob("*.py")}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            module = node.module or ""
            is_own = module.startswith("imagefactory")
            found.add("." + module.split(".")[-1] if is_own else module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {f".{name.split('.')[0]}" for name in names}
    return found


FOLDERS = [PACKAGE / name for name in ("cli", "render", "servers", "upkeep")]
FILES = {path.stem: imports(path) for path in [*PACKAGE.glob("*.py"), *FOLDERS]}


def test_every_file_has_its_layer() -> None:
    assert sorted(FILES) == sorted(name for layer in LAYERS for name in layer)


def test_imports_go_upward() -> None:
    rank = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    wrong = [
        f"{name} imports {other}"
        for name, found in FILES.items()
        for other in found
        if other.startswith(".") and rank[other[1:]] > rank[name]
    ]
    assert wrong == []


def test_each_library_has_one_importer() -> None:
    found = {
        library: {name for name, imported in FILES.items() if library in imported} for library in IMPORTERS
    }
    assert found == IMPORTERS


def test_importing_the_package_loads_no_decoder_and_no_server() -> None:
    code = "import sys, imagefactory; print([m for m in ('PIL', 'waitress', 'tqdm') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
