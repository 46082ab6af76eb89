"""config.toml and the environment become one frozen, checked `Config`.

The first stop of every journey: the doors (`create_app`, the Flask extension, the command line) load it once
and pass its sections down. In this file: readers (each turns one value into what it means, or says what is
wrong with it), the schema (each key with its default and its reader), loading, showing.
"""

# ruff: noqa: RUF009 -- `setting(...)` is a dataclass field that type checks against its reader, not a default

from __future__ import annotations

import ipaddress
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from imagefactory.errors import BadParameter, ConfigError, nearest
from imagefactory.globs import compile_glob
from imagefactory.tags import TAG_HEADERS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    S = TypeVar("S", bound=DataclassInstance)

__all__ = ["Config", "load", "from_mapping", "as_toml", "as_dict", "parse_bytes"]

T = TypeVar("T")
Reader = Callable[[object], T]

PREFIX = "IMAGEFACTORY_"
MAX_BYTES = 2**63 - 1  # what SQLite can count
MAX_AGE_S = 315_360_000  # ten years
MAX_SIDE = 65_535
MIN_SECRET = 16
UNITS = {"": 1, "b": 1} | {
    f"{letter}{i}b": base**power
    for i, base in (("", 1000), ("i", 1024))
    for power, letter in enumerate("kmgt", start=1)
}
ORIGIN = r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"


# --- readers: each takes a value as TOML or Flask has it; a ValueError says what is wrong, `at` adds the key


@dataclass(frozen=True, slots=True)
class Variable:
    """The value of an environment variable, whose meaning depends on what its key wants."""

    text: str

    def value(self) -> object:
        """What TOML reads in it, else its text."""
        try:
            match tomllib.loads(f"value = {self.text}"):
                case {"value": value, **others} if not others:
                    return value
        except (ValueError, RecursionError):
            pass
        return self.text


def plain(value: object) -> object:
    """*value*, or what TOML reads in it where it is a variable's."""
    return value.value() if isinstance(value, Variable) else value


def shown(value: object) -> str:
    """The value for an error text: short, on one line, and without what is inside of a table."""
    written = "a table" if isinstance(value, Mapping) else repr(value)
    return written if len(written) <= 80 else f"{written[:77]}..."


def text_or_none(value: object) -> str | None:
    """The text, or None if it is no text; a variable's 2026 stays text though TOML reads a number in it."""
    found = plain(value)
    if isinstance(value, Variable) and not isinstance(found, str):
        found = value.text
    if not isinstance(found, str) or any("\ud800" <= letter <= "\udfff" for letter in found):
        return None  # lone surrogates are what the environment makes of bytes that are not UTF-8
    return str(found)


def text(value: object) -> str:
    """Text that is UTF-8."""
    found = text_or_none(value)
    if found is None:
        raise ValueError(f"{shown(plain(value))} is not text; write text in quotes, as UTF-8")
    return found


def matching(pattern: str, what: str) -> Reader[str]:
    """Text that the whole *pattern* matches; *what* completes "... is not"."""

    def read(value: object) -> str:
        found = text(value)
        if not re.fullmatch(pattern, found):
            raise ValueError(f"{shown(found)} is not {what}")
        return found

    return read


def or_empty(read: Reader[str]) -> Reader[str]:
    """What *read* takes, or nothing."""
    return lambda value: "" if text_or_none(value) == "" else read(value)


def one_of(*words: str) -> Reader[str]:
    """One of *words*, in this case."""

    def read(value: object) -> str:
        found = text_or_none(value)
        if found not in words:
            near = nearest(found or "", words)
            raise ValueError(f"{shown(plain(value))} is not one of {', '.join(words)}{near}")
        return found

    return read


def secret(value: object) -> str:
    """A text that nobody guesses. No error shows it."""
    found = text_or_none(value)
    if found is None or len(found) < MIN_SECRET:
        what = "this is not text" if found is None else f"this one has {len(found)}"
        raise ValueError(f"a secret is a text of {MIN_SECRET} characters or more, {what}")
    return found


def header_value(value: object) -> str:
    """What a header may have as its value. No error shows it: it may be a secret."""
    found = text_or_none(value)
    if found is None or not re.fullmatch(r"[ -~]+", found):
        raise ValueError("the value of a header is a text of printable ASCII characters, and not empty")
    return found


def flag(value: object) -> bool:
    """True or false."""
    found = plain(value)
    if not isinstance(found, bool):
        raise ValueError(f"{shown(found)} is not true or false")
    return found


def within(number: int, low: int, high: int) -> int:
    """*number*, which is to lie from *low* to *high*. Raises ValueError."""
    if number < low:
        raise ValueError(f"{number} is below the limit of {low}")
    if number > high:
        raise ValueError(f"{number} is above the limit of {high}")
    return number


def whole(low: int, high: int) -> Reader[int]:
    """A whole number from *low* to *high*."""

    def read(value: object) -> int:
        found = plain(value)
        if not isinstance(found, int) or isinstance(found, bool):
            raise ValueError(f"{shown(found)} is not a whole number; write one from {low} to {high}")
        return within(found, low, high)

    return read


def parse_bytes(text: str | int) -> int:
    """The number of bytes in a size such as ``500 MB`` (10^6) or ``10 GiB`` (2^30); raises ValueError.

    Units are B, kB, MB, GB, TB, KiB, MiB, GiB and TiB in any case; no unit means a whole number of bytes.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    size = re.fullmatch(r"([0-9]{1,20}(\.[0-9]{1,20})?) *([kmgt]?i?b|)", str(text).strip().lower())
    if size and (size[3] or not size[2]) and size[3] in UNITS:
        return int(Decimal(size[1]) * UNITS[size[3]])
    form = "write bytes or a number with a unit, such as 500 MB or 10 GiB"
    raise ValueError(f"{shown(text)} is not a size; {form}")


def size(low: int) -> Reader[int]:
    """A number of bytes, *low* or more, as ``parse_bytes`` takes it."""
    return lambda value: within(parse_bytes(cast(str | int, plain(value))), low, MAX_BYTES)


def folder(value: object) -> Path:
    """The folder as it is written; `from_mapping` makes it absolute."""
    return Path(matching(r"[^\x00-\x1f\x7f]+", "a folder")(str(value) if isinstance(value, Path) else value))


def log_file(value: object) -> str:
    """A file's path as it is written, ``-`` for standard output, or nothing; made absolute like a folder."""
    found = str(value) if isinstance(value, Path) else value
    return or_empty(matching(r"[^\x00-\x1f\x7f]+", "a file, or '-' for standard output"))(found)


def several(read: Reader[T], at_least: int = 0) -> Reader[tuple[T, ...]]:
    """A list of *at_least* values, each of which *read* takes."""

    def read_all(value: object) -> tuple[T, ...]:
        found = plain(value)
        if not isinstance(found, list | tuple):
            raise ValueError(f"{shown(found)} is not a list; write [{shown(found)}]")
        if len(found) < at_least:
            raise ValueError(f"the list is empty; it needs {at_least} or more")
        return tuple(read(item) for item in found)

    return read_all


def steps(value: object) -> tuple[int, ...]:
    """The ladder: sorted, without doubles."""
    return tuple(sorted(set(several(whole(1, MAX_SIDE), at_least=1)(value))))


def prefix(value: object) -> str:
    """The start of our URLs' paths, without a slash at its end."""
    found = text(value)
    if not re.fullmatch(r"(/(?!\.(/|$))[A-Za-z0-9._-]+)+/?", found) or ".." in found:
        form = "'/' and a name of ASCII letters, digits, - _ and ., such as '/picture'"
        raise ValueError(f"{shown(found)} is not a prefix; write {form}")
    return found.rstrip("/")


def prefixes(value: object) -> tuple[str, ...]:
    """One prefix or more, none of them twice."""
    found = several(prefix, at_least=1)(value)
    for each in found:
        if found.count(each) > 1:
            raise ValueError(f"{shown(each)} is there twice")
    return found


def base_url(value: object) -> str:
    """What stands before the prefix in a URL that our helpers write, without a slash at its end."""
    what = "the origin of a CDN, perhaps with a path, such as https://img.example"
    return matching(rf"{ORIGIN}(/(?!\.)[A-Za-z0-9._~-]+)*/?", what)(value).rstrip("/")


def proxy(value: object) -> str:
    """An IP address or network, or ``*`` for all."""
    found = text(value)
    try:
        if found != "*":
            ipaddress.ip_network(found)
    except ValueError:
        form = "write one such as 10.0.0.1 or 10.0.0.0/8, or '*' for all"
        raise ValueError(f"{shown(found)} is not an IP address or network; {form}") from None
    return found


def address(value: object) -> str:
    """A URL with a host. No error shows what may be a password in it."""
    found = matching(r"https?://[!-~]+", "an address such as https://cdn.example/purge")(value)
    try:
        parts = urlsplit(found)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_host = False
    if "@" in re.split("[/?#]", found)[2]:
        raise ValueError("no user name and password here; write them as a header, in purge_headers")
    if not has_host:
        raise ValueError(f"{shown(found)} has no host, or no port from 1 to 65535")
    return found


def glob(value: object) -> str:
    """A pattern of paths below the pictures folder."""
    found = matching(r"[^/\x00-\x1f\x7f][^\x00-\x1f\x7f]*", "a glob of paths such as 'members/**'")(value)
    try:
        compile_glob(found)
    except BadParameter as error:
        raise ValueError(error.problem) from None
    return found


def parameter(value: object) -> str:
    """A preset's value as the text that it would be in a URL: 240, 1.5, and 1 for true."""
    found = plain(value)
    if isinstance(found, bool):
        return str(int(found))
    if isinstance(value, int | float):  # not of a variable: the colour 1e1 stays 1e1
        return f"{Decimal(str(value)):f}"  # str alone makes 1e-05 of 0.00001, which no URL takes
    written = text_or_none(value)
    if written is None:
        raise ValueError(f"{shown(found)} is not text, a number, true or false")
    return written


def label(name: object) -> str:
    """*name* as a part of a key in an error: short, and on one line."""
    return str(name) if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", str(name)) else shown(name)


def at(name: object, read: Reader[T], value: object) -> T:
    """What *read* makes of *value*; an error gets its key on the way out, one name at each level."""
    try:
        return read(value)
    except ConfigError as error:
        raise ConfigError(f"{label(name)}.{error.key}", error.problem) from None
    except ValueError as error:
        raise ConfigError(label(name), str(error)) from None


def entries(value: object) -> Mapping[object, object]:
    """The entries of a table."""
    found = plain(value)
    if not isinstance(found, Mapping):  # the value stays unsaid: it may be a secret
        raise ValueError("this is not a table; write { key = value } or a [section]")
    return found


def table(pattern: str, what: str, read: Reader[T]) -> Reader[Mapping[str, T]]:
    """A read-only mapping whose names match *pattern*; *what* completes "a name is"."""

    def read_all(value: object) -> Mapping[str, T]:
        found = entries(value)
        for name in found:
            if not re.fullmatch(pattern, str(name)):
                raise ConfigError(label(name), f"a name is {what}")
        return MappingProxyType({str(name): at(name, read, item) for name, item in found.items()})

    return read_all


def section(kind: type[S], word: str = "key") -> Reader[S]:
    """A *kind* with a value for each key that is there, and the default for each that is not."""
    readers: dict[object, Reader[object]] = {each.name: each.metadata["read"] for each in fields(kind)}
    names = [each.name for each in fields(kind)]

    def read(value: object) -> S:
        found = entries(value)
        for name in found:
            if name not in readers:
                near = nearest(str(name), names) or f"; there are {', '.join(names)}"
                raise ConfigError(label(name), f"unknown {word}{near}")
        return kind(**{str(name): at(name, readers[name], item) for name, item in found.items()})

    return read


# --- the schema: each key with its type, its default as config.toml would write it, and its reader


def setting(default: object, read: Reader[T], is_secret: bool = False) -> T:
    """A dataclass field. Typed as what *read* returns, so that mypy compares it with the annotation."""
    return field(default_factory=lambda: read(default), metadata={"read": read, "is_secret": is_secret})


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
    purge_url: str = setting("", or_empty(address))
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
        plant(tree, keys_down, Variable(environ[name]))
    try:
        config = section(Config, "section")(tree)
        paths = Paths((base / config.paths.pictures).absolute(), (base / config.paths.cache).absolute())
        config = replace(config, paths=paths)
        if config.server.access_log not in ("", "-"):
            log = str((base / config.server.access_log).absolute())
            config = replace(config, server=replace(config.server, access_log=log))
        agree(config)
    except ConfigError as error:
        dotted = {".".join(map(label, keys)): name for keys, name in variables.items()}
        culprits = [name for key, name in dotted.items() if f"{key}.".startswith(f"{error.key}.")]
        raise ConfigError((culprits or [error.key])[0], error.problem) from None
    return config


def plant(tree: dict[str, object], keys: tuple[str, ...], leaf: Variable) -> None:
    """Puts *leaf* into *tree*; the tables on the way are copied, for they are the caller's."""
    for key in keys[:-1]:
        below = plain(tree.get(key))
        copy: dict[str, object] = dict(below) if isinstance(below, Mapping) else {}
        tree[key] = copy
        tree = copy
    tree[keys[-1]] = leaf


def agree(config: Config) -> None:
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
