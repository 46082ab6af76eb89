"""Who may ask for what: which URLs need a signature, and what that says about them.

To be asked before a query is understood, so that a wrong signature learns nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..common.globs import Guard
from ..config import Config
from ..errors import WrongSignature
from .query import PUBLIC, Grant
from .signing import Signer

__all__ = ["Access"]


class Access:
    """The rules of *config*: ``[limits] sizes = "signed"``, ``[http] private``, ``[signing] keys``.

    Wherever there are keys a URL that has a signature needs a right one: what is signed was meant to end, or
    to stay as it is. *signer* is None without keys. *has_originals*: pictures are given as they are, too.
    """

    def __init__(self, config: Config) -> None:
        keys = config.signing.keys
        self.signer = Signer(keys, config.limits.ladder) if keys else None
        self.has_originals = config.http.originals and config.limits.sizes != "presets"
        self._is_all_signed = config.limits.sizes == "signed"
        self._private = Guard(config.http.private)

    def is_private(self, path: str) -> bool:
        """Whether the picture at *path* is for those only who got its URL from the site."""
        return self._private.guards(path)

    def must_sign(self, path: str) -> bool:
        """Whether a URL of *path* needs a signature."""
        return self._is_all_signed or self.is_private(path)

    def check(self, path: str, pairs: Sequence[tuple[str, str]] | None, now_s: float) -> Grant:
        """What the URL with *path* and *pairs* may have; None for a query that is no text.

        Raises Unsigned, WrongSignature, Expired.
        """
        must_sign = self.must_sign(path)
        if self.signer is None or (not must_sign and not any(name == "s" for name, _ in pairs or ())):
            return PUBLIC
        if pairs is None:
            raise WrongSignature
        return Grant(self.signer.check(path, pairs, now_s), self.is_private(path))
