"""Cache tags: the names under which a CDN can be told to drop what it has of a picture.

Written into a header of every picture (``[http] cache_tags``), and told to the hooks of a purge. A picture
has its own tag, one for its content, and one for each folder that it lies in:

    /cats/tom.jpg  sha256:0123456789abcdef  /  /cats/
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from urllib.parse import quote

from ..config.schema import TAG_HEADERS

__all__ = ["content_tag", "folder_tag", "picture_tag", "tag_header"]

# Google's CDN takes tags of 120 characters, Akamai's of 128; Cloudflare and Fastly of 1024.
_MAX_TAG = 120
_MAX_HEADER = 1000


def picture_tag(path: str) -> str:
    """The tag of the picture at *path*: ASCII, without blanks and commas, at most 120 characters.

    A longer one becomes ``/~`` and the first 32 hex digits of its sha256.
    """
    tag = f"/{quote(path)}"
    return tag if len(tag) <= _MAX_TAG else f"/~{hashlib.sha256(tag.encode()).hexdigest()[:32]}"


def folder_tag(folder: str) -> str:
    """The tag of all pictures at any depth below *folder*, which has no slash at its end; empty: of all."""
    return picture_tag(f"{folder}/") if folder else "/"


def content_tag(digest: str) -> str:
    """The tag of all copies of a picture, by the sha256 of its bytes in hex."""
    return f"sha256:{digest[:16]}"


@lru_cache(maxsize=4096)
def tag_header(name: str, path: str, digest: str) -> tuple[str, str]:
    """Name and value of the header *name* for the picture at *path* with the sha256 *digest*.

    The value has at most 1000 characters: of a path with more folders than that the middle ones have no tag.
    """
    parts = path.split("/")[:-1]
    folders = [folder_tag("/".join(parts[:depth])) for depth in range(len(parts) + 1)]
    tags = [picture_tag(path), content_tag(digest)]
    while sum(map(len, tags + folders)) + len(tags + folders) - 1 > _MAX_HEADER:
        del folders[len(folders) // 2]
    return name, TAG_HEADERS[name].join(tags + folders)
