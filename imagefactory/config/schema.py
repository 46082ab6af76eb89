"""Each key of config.toml with its type, its default as config.toml would write it, and its parser.

The comments in config.toml tell what each key does.

Why no library: a third of this was written with msgspec 0.23 and with pydantic 2.14. Of ten typical
mistakes 2 and 3 got an error as good as ours. msgspec says "Expected `int` <= 65535" and names no wrong key
in a table; neither says "did you mean", or which variable it was. 120 lines of values.py would go, but a
translation of the library's errors would come, and the parsers of sizes, proxies, globs and secrets stay.
Import takes 44 ms; with msgspec beside it 56, with pydantic 123, with pydantic-settings 179 (processor time,
median of 20).
"""

# ruff: noqa: RUF009 -- `setting(...)` is a dataclass field that type checks against its parser, not a default

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .intake import Catalog, Tasks, Uploads
from .programs import ProgramTable
from .settings import ARGUMENT, NAME, setting
from .showing import masked_repr
from .values import (
    MAX_SIDE,
    ORIGIN,
    base_url,
    flag,
    folder,
    glob,
    header_value,
    log_file,
    matching,
    one_of,
    or_empty,
    parameter,
    prefixes,
    proxy,
    secret,
    section,
    several,
    size,
    steps,
    table,
    text,
    url,
    whole,
)

__all__ = ["TAG_HEADERS", "Config"]

MAX_AGE_S = 315_360_000  # ten years
# The headers of CDNs that name tags, and what stands between two tags in them.
TAG_HEADERS = {"Cache-Tag": ",", "Surrogate-Key": " ", "Edge-Cache-Tag": ",", "xkey": " "}


HEADER = (r"[A-Za-z0-9_-]{1,64}", "1 to 64 of A-Z, a-z, 0-9, _ and -")
KEY_ID = (r"[A-Za-z0-9_-]{1,32}", "1 to 32 of A-Z, a-z, 0-9, _ and -")


@dataclass(frozen=True, slots=True)
class Paths:
    """Folders, absolute in a `Config` that was loaded. Pictures and cache need not exist yet."""

    pictures: Path = setting("pictures", folder)
    cache: Path = setting("cache_dir", folder)
    follow_links: str = setting("inside", one_of("inside", "listed", "none"))
    link_roots: tuple[Path, ...] = setting([], several(folder))


@dataclass(frozen=True, slots=True)
class Server:
    """``[server]``: where the stand-alone server listens, and whom it believes."""

    host: str = setting("127.0.0.1", matching("[!-~]+", "a host name or IP address"))
    port: int = setting(8080, whole(0, 65_535))
    threads: int = setting(64, whole(1, 10_000))
    trusted_proxies: tuple[str, ...] = setting([], several(proxy))
    access_log: str = setting("", log_file)
    log_level: str = setting("info", one_of("debug", "info", "warning", "error"))
    playground: bool = setting(True, flag)


@dataclass(frozen=True, slots=True)
class Http:
    """``[http]``: addresses and headers."""

    prefixes: tuple[str, ...] = setting(["/picture", "/images"], prefixes)
    originals: bool = setting(True, flag)
    max_age_s: int = setting(3600, whole(0, MAX_AGE_S))
    stale_while_revalidate_s: int = setting(0, whole(0, MAX_AGE_S))
    strict: bool = setting(False, flag)
    accel: str = setting("off", one_of("off", "x-accel-redirect", "x-sendfile"))
    accel_prefix: str = setting(
        "/_imagefactory/", matching("/([!-~]*/)?", "a path that starts and ends with '/'")
    )
    access_control_allow_origin: str = setting(
        "", or_empty(matching(rf"\*|{ORIGIN}", "'*' or one origin such as https://example.com"))
    )
    cross_origin_resource_policy: str = setting(
        "", or_empty(one_of("same-origin", "same-site", "cross-origin"))
    )
    timing_allow_origin: str = setting(
        "", or_empty(matching(rf"\*|{ORIGIN}( *, *{ORIGIN})*", "'*' or origins separated by commas"))
    )
    cache_tags: str = setting("", or_empty(one_of(*TAG_HEADERS)))
    private: tuple[str, ...] = setting([], several(glob))
    explain: bool = setting(False, flag)
    base_url: str = setting("", or_empty(base_url))
    client_hints: bool = setting(False, flag)
    save_data: bool = setting(False, flag)
    save_data_quality: int = setting(50, whole(1, 100))


@dataclass(frozen=True, slots=True)
class Limits:
    """``[limits]``: what may be asked for, in pixels, bytes and numbers."""

    sizes: str = setting("any", one_of("any", "ladder", "presets", "signed"))
    ladder: tuple[int, ...] = setting([160, 240, 320, 480, 640, 800, 960, 1280, 1600, 1920, 2560], steps)
    max_pixels: int = setting(50_000_000, whole(1, 10**12))
    max_source_bytes: int = setting("100 MB", size(1))
    max_side: int = setting(8192, whole(1, MAX_SIDE))
    variants_per_source: int = setting(500, whole(1, 10**6))


@dataclass(frozen=True, slots=True)
class Cache:
    """``[cache]``: where bodies are kept, and how many bytes of them."""

    mode: str = setting("disk", one_of("disk", "memory"))
    max_bytes: int = setting("10 GB", size(1))
    min_free: int = setting("500 MB", size(0))
    salt: str = setting("", text)
    memory_bytes: int = setting("64 MB", size(1))


@dataclass(frozen=True, slots=True)
class Render:
    """``[render]``: the processes that render; *queue* is how many renders may wait."""

    processes: int = setting(0, whole(-1, 256))
    queue: int = setting(32, whole(0, 100_000))
    timeout_s: int = setting(30, whole(1, 3600))
    memory_bytes: int = setting("4 GB", size(0))


@dataclass(frozen=True, slots=True)
class Jpeg:
    """``[encodings.jpeg]``: the quality where none is asked for."""

    quality: int = setting(80, whole(1, 100))


@dataclass(frozen=True, slots=True)
class Webp:
    """``[encodings.webp]``: *method* 0 is the fastest, 6 makes the smallest files."""

    quality: int = setting(80, whole(1, 100))
    method: int = setting(2, whole(0, 6))


@dataclass(frozen=True, slots=True)
class Avif:
    """``[encodings.avif]``: *speed* 10 is the fastest, 0 makes the smallest files."""

    quality: int = setting(65, whole(1, 100))
    speed: int = setting(8, whole(0, 10))


@dataclass(frozen=True, slots=True)
class Jxl:
    """``[encodings.jxl]``: *effort* 1 is the fastest, 9 makes the smallest files."""

    quality: int = setting(79, whole(1, 100))
    effort: int = setting(3, whole(1, 9))


@dataclass(frozen=True, slots=True)
class Encodings:
    """``[encodings]``: the encoders' settings."""

    jpeg: Jpeg = setting({}, section(Jpeg, "encodings.jpeg"))
    webp: Webp = setting({}, section(Webp, "encodings.webp"))
    avif: Avif = setting({}, section(Avif, "encodings.avif"))
    jxl: Jxl = setting({}, section(Jxl, "encodings.jxl"))


@dataclass(frozen=True, slots=True)
class Signing:
    """The secrets by key id."""

    keys: Mapping[str, str] = setting({}, table(*KEY_ID, secret), is_secret=True)
    __repr__ = masked_repr


@dataclass(frozen=True, slots=True)
class Admin:
    """``[admin]``: who may purge over HTTP, and who is told of a purge."""

    token: str = setting("", or_empty(secret), is_secret=True)
    purge_url: str = setting("", or_empty(url))
    purge_headers: Mapping[str, str] = setting({}, table(*HEADER, header_value), is_secret=True)
    purge_command: tuple[str, ...] = setting([], several(matching(*ARGUMENT)))
    __repr__ = masked_repr


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that config.toml can say."""

    paths: Paths = setting({}, section(Paths, "paths"))
    server: Server = setting({}, section(Server, "server"))
    http: Http = setting({}, section(Http, "http"))
    limits: Limits = setting({}, section(Limits, "limits"))
    cache: Cache = setting({}, section(Cache, "cache"))
    render: Render = setting({}, section(Render, "render"))
    encodings: Encodings = setting({}, section(Encodings, "encodings"))
    presets: Mapping[str, Mapping[str, str]] = setting({}, table(*NAME, table(*NAME, parameter)))
    programs: Mapping[str, ProgramTable] = setting({}, table(*NAME, section(ProgramTable, "programs.*")))
    signing: Signing = setting({}, section(Signing, "signing"))
    admin: Admin = setting({}, section(Admin, "admin"))
    uploads: Uploads = setting({}, section(Uploads, "uploads"))
    catalog: Catalog = setting({}, section(Catalog, "catalog"))
    tasks: Tasks = setting({}, section(Tasks, "tasks"))

    @property
    def has_uploads(self) -> bool:
        """Whether pictures are taken in."""
        return bool(self.uploads.token)

    @property
    def has_catalog(self) -> bool:
        """Whether there is a catalog of the pictures."""
        return self.has_uploads or bool(self.catalog.url)
