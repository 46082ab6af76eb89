"""``[programs.NAME]``: external programs that read, encode or make pictures, as config.toml writes them.

A command is a list of arguments, never a line for a shell. Its placeholders are filled with numbers of ours;
nothing of a URL gets into it as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ConfigError, nearest, shown
from ..model.formats import ENCODINGS, HEAD_BYTES, KNOWN_ENCODINGS
from ..model.program import PLACEHOLDER, PLACEHOLDERS, VARIANTS
from .settings import ARGUMENT, NAME, setting
from .showing import masked_repr
from .values import flag, matching, one_of, or_empty, several, size, table, text, whole

__all__ = ["ProgramTable", "check_programs", "magic_bytes"]

_SUFFIX = (r"\.[a-z0-9]{1,12}(\.[a-z0-9]{1,12})?", "a suffix in lower case, such as '.mp4'")
_VARIABLE = (r"[A-Za-z_][A-Za-z0-9_]{0,63}", "that of an environment variable")
_VALUE = (r"[^\x00]*", "the value of a variable")
# Numbers that a URL may have, beside sizes and quality.
_FREE = ("time", "page", "dpi", "frames", "fps")
_IN, _OUT = "{in}", "{out}"
_DECODED = ("ppm", "png", "jpeg")
_READ_BY_ENCODERS = ("ppm", "png")


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 10**6:
        raise ValueError(f"{shown(value)} is not a number from 0 to 999999")
    return value


def _magic(value: object) -> str:
    """Bytes and where they are: ``ftyp@4``, or an even number of hex digits as ``1a45dfa3@0``."""
    found = text(value)
    match = re.fullmatch(r"([!-?A-~]{2,32})@([0-9]{1,2})", found)
    if match is None or int(match[2]) + len(magic_bytes(found)[1]) > HEAD_BYTES:
        form = f"write bytes and their place within the first {HEAD_BYTES}, such as 'ftyp@4' or '1a45dfa3@0'"
        raise ValueError(f"{shown(found)} is not magic bytes; {form}")
    return found


def magic_bytes(magic: str) -> tuple[int, bytes]:
    """The place of *magic*, and its bytes: four or more hex digits, an even number, are bytes in hex."""
    start, _, at = magic.partition("@")
    is_hex = re.fullmatch("(?:[0-9a-f]{2}){2,}", start) is not None
    return int(at), bytes.fromhex(start) if is_hex else start.encode()


@dataclass(frozen=True, slots=True)
class ProgramTable:
    """``[programs.NAME]``; see docs/programs.md."""

    role: str = setting("decode", one_of("decode", "encode", "whole"))
    command: tuple[str, ...] = setting([], several(matching(*ARGUMENT)))
    fallback: str = setting("", or_empty(matching(*NAME)))
    probe: tuple[str, ...] = setting([], several(matching(*ARGUMENT)))
    sources: tuple[str, ...] = setting([], several(matching(*_SUFFIX)))
    magic: tuple[str, ...] = setting([], several(_magic))
    input: str = setting("file", one_of("file", "pipe"))
    output: str = setting("pipe", one_of("pipe", "file"))
    format: str = setting("ppm", one_of(*_DECODED))
    parameters: Mapping[str, float] = setting({}, table("[a-z]{1,12}", "that of a placeholder", _number))
    timeout_s: int = setting(20, whole(1, 3600))
    memory_bytes: int = setting("2 GB", size(0))
    output_bytes: int = setting("100 MB", size(1))
    concurrency: int = setting(0, whole(0, 256))
    sandbox: str = setting("auto", one_of("auto", "required", "none"))
    environment: Mapping[str, str] = setting({}, table(*_VARIABLE, matching(*_VALUE)), is_secret=True)
    stream: bool = setting(False, flag)
    encodings: tuple[str, ...] = setting([], several(one_of(*KNOWN_ENCODINGS)))
    variants: Mapping[str, str] = setting({}, table("[a-z]{1,12}", "that of a variant", matching(*NAME)))
    __repr__ = masked_repr

    def placeholders(self) -> frozenset[str]:
        """The names in braces in its command."""
        return frozenset(name for each in self.command for name in PLACEHOLDER.findall(each))


def check_programs(tables: Mapping[str, ProgramTable]) -> None:
    """Raise ConfigError where keys of a table contradict each other, or name a table that is not there."""
    for name, found in tables.items():
        try:
            _check_command(found)
            _check_role(found)
            _check_links(name, found, tables)
        except ConfigError as error:
            raise ConfigError(f"programs.{name}.{error.key}", error.problem) from None


def _check_command(found: ProgramTable) -> None:
    if not found.command:
        raise ConfigError(
            "command", "this is missing; write a list such as ['convert', 'jpeg:{in}', 'png:-']"
        )
    for number, argument in enumerate(found.command):
        for name in PLACEHOLDER.findall(argument):
            if number == 0:
                raise ConfigError("command", f"the program itself can't be a placeholder, as {{{name}}} is")
            if name not in PLACEHOLDERS:
                near = nearest(name, PLACEHOLDERS) or f"; there are {', '.join(PLACEHOLDERS)}"
                raise ConfigError("command", f"{{{name}}} is no placeholder{near}")
    used = found.placeholders()
    for key, mark, kind in (("input", _IN, found.input), ("output", _OUT, found.output)):
        if kind == "file" and mark[1:-1] not in used:
            raise ConfigError("command", f"with {key} = 'file' it needs {mark}; or write {key} = 'pipe'")
        if kind == "pipe" and mark[1:-1] in used:
            raise ConfigError("command", f"with {key} = 'pipe' there is no {mark}; or write {key} = 'file'")
    for name in found.parameters:
        if name not in used or name in ("in", "out"):
            raise ConfigError(f"parameters.{name}", "this is no placeholder of the command")


def _check_role(found: ProgramTable) -> None:
    defaults = ProgramTable()
    needs = {"decode": (), "encode": ("encodings",), "whole": ("encodings", "sources")}[found.role]
    has_no = {
        "decode": ("encodings", "stream"),
        "encode": ("sources", "magic", "fallback", "variants", "stream"),
        "whole": ("format", "fallback", "variants"),
    }[found.role]
    for key in needs:
        if not getattr(found, key):
            raise ConfigError(key, f"a program with the role '{found.role}' needs this")
    for key in has_no:
        if getattr(found, key) != getattr(defaults, key):
            raise ConfigError(key, f"a program with the role '{found.role}' has no such key")
    if found.role == "encode":
        if found.format not in _READ_BY_ENCODERS:
            problem = f"an encoder reads one of {', '.join(_READ_BY_ENCODERS)}, not {found.format}"
            raise ConfigError("format", problem)
        for name in found.encodings:
            if name not in ENCODINGS:
                raise ConfigError("encodings", f"{name} is for the role 'whole', or needs an extra")
        if wrong := found.placeholders() & {*_FREE}:
            raise ConfigError("command", f"an encoder has no {{{min(wrong)}}}: it sees finished pixels")
    if "ppm" in found.encodings:
        raise ConfigError("encodings", "ppm is what a decoder makes, and no encoding of a variant")
    if found.stream and found.output == "file":
        raise ConfigError("stream", "this needs output = 'pipe'")


def _check_links(name: str, found: ProgramTable, tables: Mapping[str, ProgramTable]) -> None:
    for word in found.variants:
        if word not in VARIANTS:
            near = nearest(word, VARIANTS) or f"; there are {', '.join(VARIANTS)}"
            raise ConfigError(f"variants.{word}", f"this is no variant{near}")
    for key, other in [
        ("fallback", found.fallback),
        *((f"variants.{w}", n) for w, n in found.variants.items()),
    ]:
        if other and (other not in tables or tables[other].role != "decode"):
            decoders = [each for each, row in tables.items() if row.role == "decode"]
            raise ConfigError(
                key, f"there is no [programs.{other}] with the role 'decode'{nearest(other, decoders)}"
            )
        if other and key != "fallback" and tables[other].variants:
            raise ConfigError(key, f"[programs.{other}] has variants of its own")
    seen, at = {name}, found.fallback
    while at:
        if at in seen:
            raise ConfigError("fallback", f"[programs.{at}] is its own fallback in the end")
        seen.add(at)
        at = tables[at].fallback if at in tables else ""
