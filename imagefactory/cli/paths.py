"""Which picture an argument means."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

from ..config import Config
from .common import Failure

__all__ = ["picture_path"]

_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|//")


def picture_path(text: str, config: Config) -> str:
    """The path below the pictures folder that *text* means; empty for the folder itself.

    ``cats/tom.jpg``, the same behind the folder's name (``pictures/cats/tom.jpg``, as a shell completes it)
    or as an absolute path, or a picture's URL, with or without host, whose query means nothing here. Whether
    there is such a picture is not looked at. Raises Failure for a URL that is none of a picture.
    """
    root = config.paths.pictures
    text = os.fsencode(text).decode("utf-8", "replace")  # a name that is no UTF-8 is no picture's
    if _ORIGIN.match(text) is None:
        if f"{text}/".startswith(f"{root}/"):
            return text[len(str(root)) :].strip("/")
        if not text.startswith("/"):
            path = text.removeprefix("./").rstrip("/")
            path = "" if path == "." else path
            first, _, rest = path.partition("/")
            is_folder = first in (root.name, "pictures")
            return rest if is_folder and not (root / path).exists() else path
    path = unquote(urlsplit(text).path)
    for prefix in config.http.prefixes:
        if f"{path}/".startswith(f"{prefix}/"):
            return path[len(prefix) :].strip("/")
    shown = " or ".join(config.http.prefixes)
    raise Failure(f"{text} is neither a picture's URL, which begins with {shown}, nor below {root}", 2)
