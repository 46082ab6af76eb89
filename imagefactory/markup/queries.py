"""The parameters of a picture's URL, as the helpers get them and as a query by canonical names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from ..config.values import parameter
from ..errors import BadParameter, nearest
from ..urls.parameters import NAMES, OURS
from ..urls.writing import in_order

__all__ = ["SIZES", "Query", "as_query", "encoded", "merged", "plain"]

Query = dict[str, str]  # values by canonical names, in the order of the table of parameters

SIZES = frozenset({"scalex", "scaley", "size", "resize", "dpr"})
# A crop that says one of a kind inherits none of it.
_KINDS = (SIZES, frozenset({"gravity", "fp"}))


def as_query(parameters: Mapping[str, Any]) -> Query:
    """*parameters* as text by canonical names, in canonical order. Raises BadParameter."""
    query: Query = {}
    for name, value in parameters.items():
        if value is None:
            continue
        canonical = NAMES.get(name)
        if canonical is None:
            raise BadParameter(name, f"there is no parameter {name!r}{nearest(name, NAMES)}")
        if canonical in OURS:
            raise BadParameter(name, f"{name} is written by the helpers themselves")
        if canonical in query:
            raise BadParameter(name, f"{name} is given twice; give it once")
        try:
            parts = [*value] if isinstance(value, list | tuple) else [value]
            query[canonical] = ",".join(plain(parameter(part)) for part in parts)
        except ValueError as error:
            raise BadParameter(name, f"{name}: {error}") from error
    return in_order(query)


def merged(base: Query, own: Query) -> Query:
    """*own*, and what *base* says of other things."""
    hidden = set(own).union(*(kind for kind in _KINDS if kind & own.keys()))
    if "preset" in own:  # it has a size, as a rule
        hidden |= SIZES
    return in_order({name: value for name, value in base.items() if name not in hidden} | own)


def plain(text: object) -> str:
    """*text* as text. Markup is taken for what it shows: it is escaped where it is written."""
    if isinstance(text, Markup):
        return text.unescape()
    return str(text)


def encoded(query: Query, encoding: str) -> Query:
    """*query* with *encoding*, unless that is empty."""
    return in_order({**query, "encoding": encoding}) if encoding else query
