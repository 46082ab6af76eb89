"""What is wrong with a page: by the Nu Html Checker where it is installed, else by html5lib's strict parser.

The checker is the npm package ``vnu-jar`` and wants Java; it is looked for at ``$VNU_JAR`` and in
``node_modules``. The parser sees misnested and unclosed elements, not wrong attributes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import html5lib

__all__ = ["problems"]

_JAR = Path("node_modules", "vnu-jar", "build", "dist", "vnu.jar")


def problems(html: bytes) -> list[str]:
    """A line for each error in *html*."""
    jar = Path(os.environ.get("VNU_JAR", _JAR))
    java = shutil.which("java")
    if java and jar.is_file():
        return _by_checker(java, jar, html)
    parser = html5lib.HTMLParser()
    parser.parse(html)
    return [f"line {line}: {code} {values}" for (line, _), code, values in parser.errors]


def _by_checker(java: str, jar: Path, html: bytes) -> list[str]:
    done = subprocess.run(
        [java, "-jar", str(jar), "--format", "json", "-"], input=html, capture_output=True, timeout=60
    )
    messages = json.loads(done.stderr)["messages"]
    return [f"line {m.get('lastLine')}: {m['message']}" for m in messages if m["type"] == "error"]
