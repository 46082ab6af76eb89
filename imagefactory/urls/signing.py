"""Signatures of URLs: made by the site that writes them, checked before anything else is looked at.

A signature is HMAC-SHA256 (RFC 2104) in URL-safe base64 without padding, 43 characters, over

    imagefactory1
    <decoded path below the prefix>
    <parameters>

the parameters under their canonical names with percent-decoded values, as ``name=value``, sorted and joined
by ``&``; with ``e`` and ``k``, without ``s`` and ``v``. That is one text for one meaning, as no name has
``=`` or ``&`` in it, and no value ``&``.

A policy makes one signature do for a whole srcset. It stands in ``s`` before the signature,
``s=ladder1600.avif.webp.<signature>``, and in the text as ``s=ladder1600.avif.webp`` in the place of
``scalex`` and ``encoding``, which are free within it.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from ..errors import Expired, Unsigned, WrongSignature
from .parameters import NAMES

__all__ = ["Policy", "Signer"]

Pairs = Sequence[tuple[str, str]]

_OWN = ("s", "e", "k")
_POLICY = re.compile(r"(upto|ladder)([1-9][0-9]{0,5})((?:\.[a-z0-9]+)*)", re.ASCII)
_WIDTH = re.compile("[1-9][0-9]{0,5}", re.ASCII)
_TIME = re.compile("[0-9]{1,12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Policy:
    """What one signature allows: every ``scalex`` up to *width*, or with *is_ladder* those of the ladder up
    to it and *width* itself; in each of *encodings*, or as signed where there are none."""

    width: int
    encodings: tuple[str, ...] = ()
    is_ladder: bool = False

    def text(self) -> str:
        """The policy as it stands in ``s``; ``parse`` reads it back."""
        return ".".join([f"{'ladder' if self.is_ladder else 'upto'}{self.width}", *self.encodings])

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The policy that has this text, if one has."""
        match = _POLICY.fullmatch(text)
        return match and cls(int(match[2]), tuple(match[3].split(".")[1:]), match[1] == "ladder")

    def covers(self, pairs: Iterable[tuple[str, str]], ladder: Sequence[int]) -> bool:
        """Whether the canonical *pairs* stay within it. Nothing does that a browser's header may widen."""
        values = dict(pairs)
        if values.get("dpr", "").lower() == "auto":
            return False
        width = values.get("scalex", "")
        if _WIDTH.fullmatch(width) is None or int(width) > self.width:
            return False
        if self.is_ladder and int(width) not in (*ladder, self.width):
            return False
        return not self.encodings or values.get("encoding") in self.encodings

    def fixed(self, pairs: Pairs) -> Pairs:
        """The pairs that are not free, and the policy instead of the others."""
        free = ("scalex", "encoding") if self.encodings else ("scalex",)
        return [*((name, value) for name, value in pairs if name not in free), ("s", self.text())]


class Signer:
    """Signs with the first of *keys* (id -> secret), and checks with all of them; *ladder* is what policies
    mean by it."""

    def __init__(self, keys: Mapping[str, str], ladder: Sequence[int] = ()) -> None:
        self._keys = {key: secret.encode() for key, secret in keys.items()}
        self._ladder = tuple(ladder)

    def sign(
        self, path: str, pairs: Pairs, expires_s: int | None = None, policy: Policy | None = None
    ) -> list[tuple[str, str]]:
        """The pairs to put behind *pairs* in the query: ``e`` where it ends at unix time *expires_s*, ``k``
        and ``s``. *path* is the decoded one below the prefix.

        With a *policy* they do for all that it covers, whatever ``scalex`` and ``encoding`` say here. Raises
        ValueError for parameters that can't be signed: with ``&`` or a line break, or ``s``, ``e`` or ``k``;
        and for an end that has more than 12 digits or lies before 1970.
        """
        if expires_s is not None and not 0 <= expires_s < 10**12:
            raise ValueError("a signed URL ends at a unix time in seconds, of 12 digits at most")
        if any(name in _OWN for name, _ in pairs):
            raise ValueError("s, e and k are written by the signer")
        key = next(iter(self._keys))
        own = [("k", key)] if expires_s is None else [("e", str(int(expires_s))), ("k", key)]
        signed = _canonical([*pairs, *own])
        text = _text(path, policy.fixed(signed) if policy else signed)
        if text is None:
            raise ValueError("a signed URL has no & and no line break in a value, and no = in a name")
        signature = _signature(self._keys[key], text)
        return [*own, ("s", f"{policy.text()}.{signature}" if policy else signature)]

    def check(self, path: str, pairs: Pairs, now_s: float) -> int | None:
        """The unix time when the URL of *path* with *pairs* ends, None if it does not.

        Raises Unsigned, WrongSignature, Expired. It takes the same time for every signature of one URL.
        """
        own: dict[str, str] = {}
        for name, value in pairs:
            if name in _OWN and name in own:
                raise WrongSignature(f"{name} is given twice")
            if name in _OWN:
                own[name] = value
        if "s" not in own:
            raise Unsigned
        head, dot, given = own["s"].rpartition(".")
        signed = _canonical(pairs)
        policy = Policy.parse(head)
        if policy is not None and not policy.covers(signed, self._ladder):
            raise WrongSignature("its policy does not cover this width or encoding")
        text = _text(path, policy.fixed(signed) if policy else signed)
        if (policy is None and dot) or text is None:
            raise WrongSignature
        keys = [self._keys.get(own["k"], b"")] if "k" in own else list(self._keys.values())
        is_right = False
        for key in keys:
            expected = _signature(key, text).encode()
            is_right |= key != b"" and hmac.compare_digest(given.encode("utf-8", "replace"), expected)
        if not is_right:
            raise WrongSignature
        if "e" not in own:
            return None
        if _TIME.fullmatch(own["e"]) is None:
            raise WrongSignature("e is no unix time")
        if now_s >= int(own["e"]):
            raise Expired(int(own["e"]))
        return int(own["e"])


def _canonical(pairs: Pairs) -> Pairs:
    """What is signed of *pairs*, under canonical names."""
    return [(NAMES.get(name, name), value) for name, value in pairs if name not in ("s", "v")]


def _text(path: str, pairs: Pairs) -> bytes | None:
    """The text that is signed; None where it could mean two things."""
    if any(re.search("[=&\n]", name) or re.search("[&\n]", value) for name, value in pairs) or "\n" in path:
        return None
    parameters = "&".join(sorted(f"{name}={value}" for name, value in pairs))
    return f"imagefactory1\n{path}\n{parameters}".encode("utf-8", "surrogatepass")


def _signature(key: bytes, text: bytes) -> str:
    return urlsafe_b64encode(hmac.digest(key, text, "sha256")).rstrip(b"=").decode()
