"""How often a token and an address may ask, with the library ``limits``; in the memory of each process."""

from __future__ import annotations

import math
import os
import time
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from ...errors import MissingExtra, TooMany

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import MovingWindowRateLimiter

__all__ = ["Rates", "network_of"]


class Rates:
    """At most *rate* requests, such as ``600/minute``, of each who asks; with an empty one no limit."""

    def __init__(self, rate: str) -> None:
        self._rate = rate
        self._process = 0
        self._limiter: MovingWindowRateLimiter | None = None
        self._item: RateLimitItem | None = None

    def count(self, *who: str) -> None:
        """Note a request of *who*. Raises TooMany, MissingExtra."""
        if not self._rate:
            return
        if self._process != os.getpid():
            self._open()
        limiter, item = self._limiter, self._item
        if limiter is None or item is None or limiter.hit(item, *who):
            return
        reset_s = limiter.get_window_stats(item, *who).reset_time
        raise TooMany(self._rate, max(1, math.ceil(reset_s - time.time())))

    def _open(self) -> None:
        try:
            from limits import parse
            from limits.strategies import MovingWindowRateLimiter

            from .rate_storage import WindowStorage
        except ImportError as error:
            raise MissingExtra("uploads") from error
        self._limiter, self._item = MovingWindowRateLimiter(WindowStorage()), parse(self._rate)
        self._process = os.getpid()


def network_of(address: str) -> str:
    """What one client has of addresses: all of a /64 of IPv6 belong to one."""
    try:
        found = ip_address(address)
    except ValueError:
        return address[:64]
    return str(IPv6Address(int(found) >> 64 << 64)) if isinstance(found, IPv6Address) else address
