"""What is counted of each request: by the view and by the fast path, in the same words."""

from __future__ import annotations

from ..engine.counters import Tally
from ..engine.generator import Answer

__all__ = ["count_answer", "count_reply"]


def count_reply(tally: Tally, result: str, status: int) -> None:
    """Count a reply without a picture, as ``requests <result> - <status>``; an error's result is its code."""
    tally.add(f"requests {result} - {status}")


def count_answer(tally: Tally, answer: Answer, status: int, sent: int, times: int = 1) -> None:
    """Count *answer*, given *times* times with *status* and *sent* bytes of its body each.

    ``requests <result> <encoding> <status>``; ``bytes_sent <encoding>``. Of variants that were sent whole
    also ``bytes_of_variants <encoding>``, and ``bytes_of_sources <encoding>``: what the originals would have
    taken instead. An original counts as the result ``original``.
    """
    if not times:
        return
    encoding = answer.media_type.removeprefix("image/")
    result = "original" if answer.variant is None else answer.result
    tally.add(f"requests {result} {encoding} {status}", times)
    if answer.variant is not None:
        tally.use(answer.variant.key.text(), times)
        if sent == answer.bytes:
            tally.add(f"bytes_of_variants {encoding}", times * sent)
            tally.add(f"bytes_of_sources {encoding}", times * answer.source.stamp.size)
    if sent:
        tally.add(f"bytes_sent {encoding}", times * sent)
