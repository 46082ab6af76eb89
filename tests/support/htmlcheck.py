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
from typing import Any

import html5lib

__all__ = ["problems"]

# HTML allows sizes=auto on a <source> that a lazy <img> follows, wherever that is (4.8.4.2.2); the checker of
# 26.9.27 wants the <img> right behind it, and complains of all <source>s but the last one.
_FALSE_ALARM = "The “sizes” attribute value starting with “auto” is only valid for lazy-loaded images."

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
    found = [m for m in messages if m["type"] == "error" and not _is_false(m)]
    return [f"line {m.get('lastLine')}: {m['message']}" for m in found]


def _is_false(message: dict[str, Any]) -> bool:
    is_source = message.get("extract", "")[message.get("hiliteStart", 0) :].startswith("<source")
    return is_source and message["message"].startswith(_FALSE_ALARM)
