"""A config, or one section of it, as people and programs read it; secrets are ``***`` unless asked for.

It knows no key: a field of the schema says with ``is_secret`` in its metadata what is masked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["as_dict", "as_toml", "masked_repr"]


def as_dict(config: DataclassInstance) -> dict[str, Any]:
    """The config as JSON has it, secrets masked."""
    return cast(dict[str, Any], as_data(config, secrets=False))


def as_toml(config: DataclassInstance, secrets: bool = False) -> str:
    """The config as config.toml has it; with *secrets* loading it gives an equal `Config`."""
    return "\n".join(toml_tables("", as_data(config, secrets))).lstrip() + "\n"


def masked_repr(self: DataclassInstance) -> str:
    """A ``__repr__`` for a section with secrets, without these: it may end up in a log."""
    shown_fields = ", ".join(f"{name}={value!r}" for name, value in as_dict(self).items())
    return f"{type(self).__name__}({shown_fields})"


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
        return [as_data(item, secrets) for item in value]
    return str(value) if isinstance(value, Path) else value


def masked(value: str | Mapping[str, str]) -> object:
    """``***`` for a secret, also within a table; empty for none."""
    if isinstance(value, Mapping):
        return {name: masked(item) for name, item in value.items()}
    return "***" if value else ""


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
