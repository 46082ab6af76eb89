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
    [
        "version",
        "errors",
        "config",
        "model.formats",
        "urls.css_colours",
        "storage.folders",
        "common.globs",
        "urls.cache_tags",
        "common.units",
    ],
    [
        "model.recipe",
        "model.geometry",
        "urls.client_hints",
        "urls.parameters",
        "urls.query",
        "urls.signing",
        "urls.negotiation",
        "model.job",
        "model.variant",
        "web.pages.page",
    ],
    [
        "urls.access",
        "web.auth",
        "web.clients",
        "web.conditions",
        "web.host_app",
        "engine.gate",
        "common.memo",
        "engine.resolve",
    ],
    ["engine.counters", "engine.health", "workers.messages"],
    [
        "storage.originals",
        "storage.claims",
        "storage.database",
        "storage.index",
        "storage.objects",
        "storage.purge_journal",
        "storage.live_processes",
        "storage.disk",
        "render",
    ],
    [
        "workers.worker",
        "workers.pool",
        "workers.rendering",
        "upkeep",
        "engine.identify",
        "engine.generator",
        "monitoring.numbers",
    ],
    [
        "web.counting",
        "web.explain",
        "web.responses",
        "web.pages.charts",
        "web.pages.forms",
        "web.pages.picture_list",
        "web.pages.thumbnails",
        "web.pages.variant_url",
    ],
    [
        "web.fastpath",
        "markup",
        "monitoring.prometheus",
        "web.flask_response",
    ],
    ["web.routes"],
    ["web.purge", "web.pages.script"],
    ["web.pages.dashboard", "web.pages.playground", "web.picture"],
    ["web.extension"],
    ["web.app", "servers"],
    ["cli", "__init__", "__main__"],
]
IMPORTERS = {
    "PIL": {"render"},
    "pillow_heif": {"render"},
    "pyjpegxl": {"render"},
    "cykooz_resizer": {"render"},
    "deflate": {"render"},
    "diskcache": {"storage.database"},
    "flask": {
        "web.pages.dashboard",
        "web.purge",
        "web.pages.forms",
        "web.pages.page",
        "web.pages.playground",
        "web.pages.script",
        "web.flask_response",
        "web.app",
        "web.extension",
        "web.host_app",
        "web.picture",
        "web.routes",
    },
    "jinja2": {"web.pages.page"},
    "markupsafe": {"markup", "web.pages.playground", "web.pages.script"},
    "prometheus_client": {"monitoring.prometheus"},
    "waitress": {"servers"},
    "granian": {"servers"},
    "gunicorn": {"servers"},
    "click": {"cli"},
    "tqdm": {"cli"},
}


def imports(path: Path) -> set[str]:
    """Top-level names of libraries, and our own files as ``.folder.name``; of a folder, what leaves it."""
    if path.is_dir():
        found = set().union(*(imports(file) for file in path.rglob("*.py")))
        return {name for name in found if not f"{name}.".startswith(f".{name_of(path)}.")}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            folder = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for alias in node.names:
                is_file = (folder / f"{alias.name}.py").exists() or (folder / alias.name).is_dir()
                found.add(f".{name_of(folder / alias.name if is_file else folder)}")
    return found


def name_of(path: Path) -> str:
    """A file as ``folder.name`` below the package; what lies in an old folder is that folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0] if parts and parts[0] in OLD else ".".join(parts)


# What an older deploy/gunicorn.conf.py imports.
OLD_NAMES = {PACKAGE / "renderers.py", PACKAGE / "servers" / "shares.py"}
OLD = ("cli", "config", "markup", "render", "servers", "upkeep")
FOLDERS = [PACKAGE / name for name in OLD]
FILES = {
    name_of(path): imports(path)
    for path in [*PACKAGE.rglob("*.py"), *FOLDERS]
    if not (path.is_file() and path.relative_to(PACKAGE).parts[0] in OLD)
    and (path.name != "__init__.py" or path.parent == PACKAGE)
    and path not in OLD_NAMES
}


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


def test_the_names_that_users_import() -> None:
    """``Pictures`` is for pages without Flask, so it must not load it."""
    code = """
import sys
from imagefactory import Pictures
assert "flask" not in sys.modules
from imagefactory import ImageFactory, __version__, create_app
import imagefactory.cli, imagefactory.markup
from imagefactory.config import load
assert Pictures is imagefactory.markup.Pictures
assert callable(imagefactory.cli.main)
try:
    imagefactory.nonsense
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "module 'imagefactory' has no attribute 'nonsense'\n"
