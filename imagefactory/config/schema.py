"""config.toml and the environment become one frozen, checked `Config`.

The first stop of every journey: the doors (`create_app`, the Flask extension, the command line) load it once
and pass its sections down. In this file: the schema (each key with its
default and its parser), loading, showing.
"""

# ruff: noqa: RUF009 -- `setting(...)` is a dataclass field that type checks against its parser, not a default

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

from ..errors import ConfigError
from .values import (
    MAX_SIDE,
    ORIGIN,
    Parser,
    Variable,
    base_url,
    flag,
    folder,
    glob,
    header_value,
    key_text,
    log_file,
    matching,
    one_of,
    or_empty,
    parameter,
    plain,
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

__all__ = ["TAG_HEADERS", "Config", "load", "from_mapping", "as_toml", "as_dict"]

T = TypeVar("T")

PREFIX = "IMAGEFACTORY_"
MAX_AGE_S = 315_360_000  # ten years
# The headers of CDNs that name tags, and what stands between two tags in them.
TAG_HEADERS = {"Cache-Tag": ",", "Surrogate-Key": " ", "Edge-Cache-Tag": ",", "xkey": " "}


# --- the schema: each key with its type, its default as config.toml would write it, and its parser


def setting(default: object, parse: Parser[T], is_secret: bool = False) -> T:
    """A dataclass field. Typed as what *parse* returns, so that mypy compares it with the annotation."""
    return field(default_factory=lambda: parse(default), metadata={"parse": parse, "is_secret": is_secret})


def masked_repr(self: Signing | Admin) -> str:
    """A repr without what is secret: it may end up in a log."""
    shown_fields = ", ".join(f"{name}={value!r}" for name, value in as_data(self, secrets=False).items())
    return f"{type(self).__name__}({shown_fields})"


NAME = (r"[a-z0-9][a-z0-9_-]{0,63}", "1 to 64 of a-z, 0-9, _ and -, and starts with a letter or digit")
HEADER = (r"[A-Za-z0-9_-]{1,64}", "1 to 64 of A-Z, a-z, 0-9, _ and -")
ARGUMENT = (r"[^\x00]+", "an argument of a command; write ['/usr/local/bin/purge-cdn', '--now']")
KEY_ID = (r"[A-Za-z0-9_-]{1,32}", "1 to 32 of A-Z, a-z, 0-9, _ and -")


@dataclass(frozen=True, slots=True)
class Paths:
    """Two folders, absolute in a `Config` that was loaded; they need not exist yet."""

    pictures: Path = setting("pictures", folder)
    cache: Path = setting("cache_dir", folder)


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
    share_decodes: bool = setting(False, flag)


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

    jpeg: Jpeg = setting({}, section(Jpeg))
    webp: Webp = setting({}, section(Webp))
    avif: Avif = setting({}, section(Avif))
    jxl: Jxl = setting({}, section(Jxl))


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
    """Everything that config.toml can say; the comments there tell what each key does."""

    paths: Paths = setting({}, section(Paths))
    server: Server = setting({}, section(Server))
    http: Http = setting({}, section(Http))
    limits: Limits = setting({}, section(Limits))
    cache: Cache = setting({}, section(Cache))
    render: Render = setting({}, section(Render))
    encodings: Encodings = setting({}, section(Encodings))
    presets: Mapping[str, Mapping[str, str]] = setting({}, table(*NAME, table(*NAME, parameter)))
    signing: Signing = setting({}, section(Signing))
    admin: Admin = setting({}, section(Admin))


# --- loading


def load(
    path: Path | None = None,
    environ: Mapping[str, str] = MappingProxyType({}),
    defaults: Mapping[str, Mapping[str, object]] | None = None,
) -> Config:
    """The config in *path*, else in the file that IMAGEFACTORY_CONFIG names, else in ./config.toml if any.

    Without any file it is the defaults, in the current folder. Relative paths in a file are relative to its
    folder (a symbolic link's own, not its target's). Raises ConfigError for every mistake.
    """
    named = path or environ.get(f"{PREFIX}CONFIG")
    file = Path(named or "config.toml").absolute()
    values = read_file(file) if named or file.exists() else {}
    return from_mapping(values, file.parent, environ, defaults)


def read_file(file: Path) -> Mapping[str, object]:
    """The tables of the TOML *file*. Raises ConfigError where it can't be read or is no TOML."""
    try:
        # utf-8-sig: some editors write a byte order mark, which tomllib refuses
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        problem = f"this file can't be read: {error.strerror}"
    except UnicodeDecodeError as error:
        problem = f"this file is not UTF-8: {error.reason} at byte {error.start}"
    except (ValueError, RecursionError) as error:  # tomllib's error, and int's for a number without end
        problem = f"this file is not TOML: {error}"
    raise ConfigError(str(file), problem)


def from_mapping(
    values: Mapping[str, object],
    base: Path,
    environ: Mapping[str, str] = MappingProxyType({}),
    defaults: Mapping[str, Mapping[str, object]] | None = None,
) -> Config:
    """The config in *values*, sections of keys as in config.toml, with paths relative to *base*.

    A variable IMAGEFACTORY_SECTION__KEY of *environ* goes before *values*, these before *defaults*, these
    before the schema's. Raises ConfigError; its key is the variable's name where the mistake is in one.
    """
    tree: dict[str, object] = dict(values)
    for name, keys in (defaults or {}).items():
        given = tree.get(name, {})
        if isinstance(given, Mapping):
            tree[name] = {**keys, **given}
    variables = {
        tuple(name.removeprefix(PREFIX).lower().split("__")): name
        for name in sorted(environ)
        if name.startswith(PREFIX) and "__" in name.removeprefix(PREFIX)
    }
    for keys_down, name in variables.items():
        set_nested(tree, keys_down, Variable(environ[name]))
    try:
        config = section(Config, "section")(tree)
        paths = Paths((base / config.paths.pictures).absolute(), (base / config.paths.cache).absolute())
        config = replace(config, paths=paths)
        if config.server.access_log not in ("", "-"):
            log = str((base / config.server.access_log).absolute())
            config = replace(config, server=replace(config.server, access_log=log))
        check_agreement(config)
    except ConfigError as error:
        dotted = {".".join(map(key_text, keys)): name for keys, name in variables.items()}
        culprits = [name for key, name in dotted.items() if f"{key}.".startswith(f"{error.key}.")]
        raise ConfigError((culprits or [error.key])[0], error.problem) from None
    return config


def set_nested(tree: dict[str, object], keys: tuple[str, ...], value: Variable) -> None:
    """Puts *value* into *tree*; the tables on the way are copied, for they are the caller's."""
    for key in keys[:-1]:
        below = plain(tree.get(key))
        copy: dict[str, object] = dict(below) if isinstance(below, Mapping) else {}
        tree[key] = copy
        tree = copy
    tree[keys[-1]] = value


def check_agreement(config: Config) -> None:
    """Raises ConfigError where two keys contradict each other."""
    try:
        pictures, cache = config.paths.pictures.resolve(), config.paths.cache.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
        raise ConfigError("paths", f"these folders can't be followed: {error}") from error
    if pictures == cache or pictures in cache.parents or cache in pictures.parents:
        where = f"{str(cache)!r} and the pictures folder {str(pictures)!r}"
        raise ConfigError("paths.cache", f"{where} may not be the same or lie one inside the other")
    if config.server.access_log not in ("", "-"):
        try:
            log = Path(config.server.access_log).resolve()
        except (OSError, RuntimeError) as error:
            raise ConfigError("server.access_log", f"this file can't be followed: {error}") from error
        if not {pictures, cache}.isdisjoint((log, *log.parents)):
            problem = f"{str(log)!r} may not lie in the pictures folder or the cache"
            raise ConfigError("server.access_log", problem)
    if "$" in str(config.paths.cache):
        raise ConfigError(
            "paths.cache", f"{str(config.paths.cache)!r} has a $, which diskcache would replace"
        )
    if config.http.accel == "x-sendfile" and not str(config.paths.cache).isascii():
        raise ConfigError("http.accel", "'x-sendfile' needs a cache folder with an ASCII name")
    if config.limits.sizes == "signed" and not config.signing.keys:
        raise ConfigError("limits.sizes", "'signed' needs a key; write id = \"secret\" in [signing.keys]")
    if config.http.private and not config.signing.keys:
        raise ConfigError("http.private", 'this needs a key; write id = "secret" in [signing.keys]')
    if config.limits.sizes == "presets" and not config.presets:
        raise ConfigError("limits.sizes", "'presets' needs one; write a section [presets.NAME]")


# --- showing


def as_data(value: object, secrets: bool) -> Any:
    """The value as dicts, lists, texts, numbers and booleans; without *secrets* each secret is ``***``."""
    if is_dataclass(value):
        return {
            each.name: as_data(getattr(value, each.name), secrets)
            if secrets or not each.metadata["is_secret"]
            else masked(getattr(value, each.name))
            for each in fields(value)
        }
    if isinstance(value, Mapping):
        return {name: as_data(item, secrets) for name, item in value.items()}
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def masked(value: str | Mapping[str, str]) -> object:
    """``***`` for a secret, also within a table; empty for none."""
    if isinstance(value, Mapping):
        return {name: masked(item) for name, item in value.items()}
    return "***" if value else ""


def as_dict(config: Config) -> dict[str, Any]:
    """The config as JSON has it, secrets masked."""
    return cast(dict[str, Any], as_data(config, secrets=False))


def as_toml(config: Config, secrets: bool = False) -> str:
    """The config as config.toml has it; with *secrets* loading it gives an equal `Config`."""
    return "\n".join(toml_tables("", as_data(config, secrets))).lstrip() + "\n"


def toml_tables(name: str, values: dict[str, Any]) -> list[str]:
    """The lines of the table *name*, then of the tables below it. No name needs quotes: see NAME, KEY_ID."""
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    lines = [
        # JSON's texts, numbers, booleans and lists are TOML's too, but for the one character U+007F
        f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
        for key, value in values.items()
        if key not in tables
    ]
    if lines or not tables:
        lines = ["", f"[{name}]", *lines]
    for key, below in tables.items():
        lines += toml_tables(f"{name}.{key}".lstrip("."), below)
    return lines
