"""What config.toml says of taking pictures in: ``[uploads]``, ``[catalog]``, ``[tasks]``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .settings import NAME, setting
from .showing import masked_repr
from .values import flag, matching, one_of, or_empty, prefix, secret, several, size, text, whole

__all__ = ["UPLOAD_TYPES", "Catalog", "Tasks", "Uploads"]

# The formats that may be taken in, as ``model.formats.starts_as`` knows them; heic is heif there.
UPLOAD_TYPES = ("jpeg", "png", "webp", "avif", "gif", "tiff", "heic", "bmp", "jpeg2000", "ico")
_FOLDER = (r"\.|[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*(/[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*)*",)
_WORDS = ("name", "date", "year", "month", "day", "sha256")
_RATE = r"[1-9][0-9]{0,8}/(second|minute|hour|day)"


def names(value: object) -> str:
    """How files are named: ``keep``, ``sha256``, or a pattern with a name or a digest in it."""
    found = text(value)
    if found in ("keep", "sha256"):
        return found
    words = re.findall(r"{([^{}]*)}", found)
    unknown = [word for word in words if word not in _WORDS]
    if unknown:
        raise ValueError(f"{{{unknown[0]}}} is not one of {', '.join(f'{{{word}}}' for word in _WORDS)}")
    if not {"name", "sha256"} & set(words):
        raise ValueError("write keep, sha256, or a pattern with {name} or {sha256} such as '{date}/{name}'")
    plain = re.sub(r"{[a-z0-9]+}", "x", found)
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*", plain):
        raise ValueError(f"{found!r} may have letters, digits, - _ . and / beside its {{words}}")
    return found


@dataclass(frozen=True, slots=True)
class Uploads:
    """``[uploads]``: who may bring pictures, and what becomes of them. Off without a *token*."""

    token: str = setting("", or_empty(secret), is_secret=True)
    prefix: str = setting("/upload", prefix)
    folder: str = setting(".", matching(*_FOLDER, "a folder below the pictures, such as 'members/new'"))
    names: str = setting("keep", names)
    overwrite: bool = setting(False, flag)
    max_bytes: int = setting("100 MB", size(1))
    max_files: int = setting(1000, whole(1, 100_000))
    max_request_bytes: int = setting("2 GB", size(1))
    types: tuple[str, ...] = setting(
        ["jpeg", "png", "webp", "avif", "gif", "tiff", "heic"], several(one_of(*UPLOAD_TYPES), at_least=1)
    )
    strip: str = setting("gps", one_of("gps", "none"))
    presets: tuple[str, ...] = setting([], several(matching(*NAME)))
    concurrent: int = setting(16, whole(1, 1000))
    min_free: int = setting("500 MB", size(0))
    rate: str = setting("600/minute", or_empty(matching(_RATE, "a rate such as 600/minute, or empty")))
    __repr__ = masked_repr


@dataclass(frozen=True, slots=True)
class Catalog:
    """``[catalog]``: the database of what is known of each picture. It is on where *url* is set or uploads
    are taken; an empty *url* then means SQLite beside the pictures. The pool keys are SQLAlchemy's."""

    url: str = setting(
        "",
        or_empty(matching(r"[a-z0-9+]+://.*", "a database URL such as sqlite:////var/lib/x.db")),
        is_secret=True,
    )
    pool_size: int = setting(5, whole(1, 1000))
    max_overflow: int = setting(10, whole(0, 1000))
    pool_recycle_s: int = setting(3600, whole(-1, 10**9))
    pool_pre_ping: bool = setting(True, flag)
    pool_timeout_s: int = setting(30, whole(1, 3600))
    __repr__ = masked_repr


@dataclass(frozen=True, slots=True)
class Tasks:
    """``[tasks]``: background work. *workers* are threads of each server process; with 0 only
    ``imagefactory worker`` does it. A task whose worker has not been heard of for *lease_s* seconds is given
    to another one; after *attempts* tries it has failed."""

    workers: int = setting(1, whole(0, 64))
    lease_s: int = setting(120, whole(1, 86_400))
    attempts: int = setting(5, whole(1, 100))
