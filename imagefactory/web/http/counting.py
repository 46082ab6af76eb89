"""What is counted of each request: by the view and by the fast path, in the same words."""

from __future__ import annotations

from ...engine.answer import Answer
from ...engine.counters import Counters

__all__ = ["count_answer", "count_reply"]


def count_reply(counters: Counters, result: str, status: int) -> None:
    """Count a reply without a picture, as ``requests <result> - <status>``; an error's result is its code."""
    counters.add(f"requests {result} - {status}")


def count_answer(counters: Counters, answer: Answer, status: int, sent: int, times: int = 1) -> None:
    """Count *answer*, given *times* times with *status* and *sent* bytes of its body each.

    ``requests <result> <encoding> <status>``; ``bytes_sent <encoding>``. Of variants that were sent whole
    also ``bytes_of_variants <encoding>``, and ``bytes_of_sources <encoding>``: what the originals would have
    taken instead. An original counts as the result ``original``.
    """
    if not times:
        return
    encoding = answer.media_type.removeprefix("image/")
    result = "original" if answer.variant is None else answer.result
    counters.add(f"requests {result} {encoding} {status}", times)
    if answer.variant is not None:
        counters.use(answer.variant.key.text(), times)
        if sent == answer.bytes:
            counters.add(f"bytes_of_variants {encoding}", times * sent)
            counters.add(f"bytes_of_sources {encoding}", times * answer.source.stamp.size)
    if sent:
        counters.add(f"bytes_sent {encoding}", times * sent)
