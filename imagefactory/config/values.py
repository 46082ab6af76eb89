"""What the values of config.toml and the environment mean, one parser for each kind of value.

A parser takes a value as TOML or Flask has it and returns what it means. Where it means nothing, a ValueError
says what would be right; `with_key` adds the key. The schema names the parser of each key.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

from ..common.globs import compile_glob
from ..common.units import parse_bytes
from ..errors import BadParameter, ConfigError, nearest, shown
from .deleted import deleted_from, warn_once

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    S = TypeVar("S", bound=DataclassInstance)

__all__ = [
    "MAX_SIDE",
    "ORIGIN",
    "Parser",
    "Variable",
    "url",
    "with_key",
    "base_url",
    "flag",
    "folder",
    "glob",
    "header_value",
    "key_text",
    "log_file",
    "matching",
    "one_of",
    "or_empty",
    "parameter",
    "plain",
    "prefix",
    "prefixes",
    "proxy",
    "secret",
    "section",
    "several",
    "size",
    "steps",
    "table",
    "text",
    "whole",
    "within",
]

T = TypeVar("T")
Parser = Callable[[object], T]

MAX_BYTES = 2**63 - 1  # what SQLite can count
MAX_SIDE = 65_535
MIN_SECRET = 16
ORIGIN = r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"


# --- values as they come


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


def text_or_none(value: object) -> str | None:
    """The text, or None if it is no text; a variable's 2026 stays text though TOML reads a number in it."""
    found = plain(value)
    if isinstance(value, Variable) and not isinstance(found, str):
        found = value.text
    if not isinstance(found, str) or any("\ud800" <= letter <= "\udfff" for letter in found):
        return None  # lone surrogates are what the environment makes of bytes that are not UTF-8
    return str(found)


# --- parsers of one value


def text(value: object) -> str:
    """Text that is UTF-8."""
    found = text_or_none(value)
    if found is None:
        raise ValueError(f"{shown(plain(value))} is not text; write text in quotes, as UTF-8")
    return found


def matching(pattern: str, what: str) -> Parser[str]:
    """Text that the whole *pattern* matches; *what* completes "... is not"."""

    def parse(value: object) -> str:
        found = text(value)
        if not re.fullmatch(pattern, found):
            raise ValueError(f"{shown(found)} is not {what}")
        return found

    return parse


def or_empty(parse: Parser[str]) -> Parser[str]:
    """What *parse* takes, or nothing."""
    return lambda value: "" if text_or_none(value) == "" else parse(value)


def one_of(*words: str) -> Parser[str]:
    """One of *words*, in this case."""

    def parse(value: object) -> str:
        found = text_or_none(value)
        if found not in words:
            near = nearest(found or "", words)
            raise ValueError(f"{shown(plain(value))} is not one of {', '.join(words)}{near}")
        return found

    return parse


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


def whole(low: int, high: int) -> Parser[int]:
    """A whole number from *low* to *high*."""

    def parse(value: object) -> int:
        found = plain(value)
        if not isinstance(found, int) or isinstance(found, bool):
            raise ValueError(f"{shown(found)} is not a whole number; write one from {low} to {high}")
        return within(found, low, high)

    return parse


def size(low: int) -> Parser[int]:
    """A number of bytes, *low* or more, as ``parse_bytes`` takes it."""
    return lambda value: within(parse_bytes(cast(str | int, plain(value))), low, MAX_BYTES)


def folder(value: object) -> Path:
    """The folder as it is written; `from_mapping` makes it absolute."""
    return Path(matching(r"[^\x00-\x1f\x7f]+", "a folder")(str(value) if isinstance(value, Path) else value))


def log_file(value: object) -> str:
    """A file's path as it is written, ``-`` for standard output, or nothing; made absolute like a folder."""
    found = str(value) if isinstance(value, Path) else value
    return or_empty(matching(r"[^\x00-\x1f\x7f]+", "a file, or '-' for standard output"))(found)


def several(parse: Parser[T], at_least: int = 0) -> Parser[tuple[T, ...]]:
    """A list of *at_least* values, each of which *parse* takes."""

    def parse_all(value: object) -> tuple[T, ...]:
        found = plain(value)
        if not isinstance(found, list | tuple):
            raise ValueError(f"{shown(found)} is not a list; write [{shown(found)}]")
        if len(found) < at_least:
            raise ValueError(f"the list is empty; it needs {at_least} or more")
        return tuple(parse(item) for item in found)

    return parse_all


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


def url(value: object) -> str:
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


# --- parsers of tables, whose errors name the key


def key_text(name: str) -> str:
    """*name* as a part of a key in an error: short, and on one line."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) else shown(name)


def with_key(name: str, parse: Parser[T], value: object) -> T:
    """What *parse* makes of *value*; an error gets its key on the way out, one name at each level."""
    try:
        return parse(value)
    except ConfigError as error:
        raise ConfigError(f"{key_text(name)}.{error.key}", error.problem) from None
    except ValueError as error:
        raise ConfigError(key_text(name), str(error)) from None


def entries(value: object) -> dict[str, object]:
    """The entries of a table."""
    found = plain(value)
    if not isinstance(found, Mapping):  # the value stays unsaid: it may be a secret
        raise ValueError("this is not a table; write { key = value } or a [section]")
    return {str(name): item for name, item in found.items()}


def table(pattern: str, what: str, parse: Parser[T]) -> Parser[Mapping[str, T]]:
    """A read-only mapping whose names match *pattern*; *what* completes "a name is"."""

    def parse_all(value: object) -> Mapping[str, T]:
        found = entries(value)
        for name in found:
            if not re.fullmatch(pattern, name):
                raise ConfigError(key_text(name), f"a name is {what}")
        return MappingProxyType({name: with_key(name, parse, item) for name, item in found.items()})

    return parse_all


def section(kind: type[S], dotted: str) -> Parser[S]:
    """A *kind* with a value for each key that is there, and the default for each that is not.

    *dotted* is the section's own key, empty for the whole file. Its deleted keys are ignored with a warning.
    """
    parsers: dict[str, Parser[object]] = {each.name: each.metadata["parse"] for each in fields(kind)}

    def parse(value: object) -> S:
        deleted = deleted_from(dotted)
        values: dict[str, object] = {}
        for name, item in entries(value).items():
            if name in deleted:
                warn_once(deleted[name])
            elif name in parsers:
                values[name] = with_key(name, parsers[name], item)
            else:
                near = nearest(name, parsers) or f"; there are {', '.join(parsers)}"
                raise ConfigError(key_text(name), f"unknown {'key' if dotted else 'section'}{near}")
        return kind(**values)

    return parse
