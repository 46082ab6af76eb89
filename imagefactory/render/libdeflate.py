"""libdeflate, of the extra "fast": zlib streams in less time than zlib takes, all of one in memory at once.

This is the one importer of ``deflate``. Both calls let other threads run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

__all__ = ["MAX_BYTES", "compressor", "decompressor"]

# It wants all of a picture in memory, twice; zlib is fed in strips.
MAX_BYTES = 2**26


@cache
def compressor() -> Callable[[bytes | bytearray, int], bytes | bytearray] | None:
    """Takes bytes and a level. None without the extra."""
    try:
        from deflate import zlib_compress
    except ImportError:
        return None
    return zlib_compress


@cache
def decompressor() -> Callable[[bytes | bytearray, int], bytes | bytearray] | None:
    """Takes a zlib stream and the most bytes that may come of it; nothing comes of one that is not sound or
    would be larger. None without the extra."""
    try:
        from deflate import DeflateError, zlib_decompress
    except ImportError:
        return None

    def decompress(data: bytes | bytearray, size: int) -> bytes | bytearray:
        try:
            return zlib_decompress(data, size)
        except DeflateError:
            return b""

    return decompress
