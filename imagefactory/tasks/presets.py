"""The job of a picture that came in: its variants in the presets of the config, and its placeholder.

All is made by ``Generator.answer`` as for a visitor, one after the other; what is there already costs a look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..catalog.jobs import JobRow
from ..engine.answer import Answer
from ..engine.generator import Generator
from ..engine.identify import Identifier
from ..engine.maker import Maker
from ..engine.resolve import Resolver
from ..errors import (
    BadParameter,
    BeingWritten,
    Busy,
    NotFound,
    RequestError,
    SourceChanged,
    Unavailable,
    Undecodable,
)
from ..model.source import Header, Source
from ..upkeep.warm.orders import Wish
from ..upkeep.warm.plans import Plans
from ..upkeep.warm.replay import expand

__all__ = ["PresetsKind"]

_GONE = "the file is not there any more"
_OTHER = "the file is another one by now"


@dataclass(slots=True)
class _Tally:
    """What came of the wishes so far. *later* is the first that may work when it is tried again."""

    rendered: int = 0
    variants: int = 0
    bytes: int = 0
    failed: list[Mapping[str, str]] = field(default_factory=list)
    later: Unavailable | None = None

    def refuse(self, wish: Wish, error: RequestError) -> None:
        """*wish* can't be made."""
        preset, encoding = wish.query.partition("=")[2], wish.request.encoding
        said = {"preset": preset, "encoding": encoding, "error": error.code, "detail": str(error)}
        self.failed.append(said)


class _Skipped(Exception):
    """There is nothing to do any more; the text says why."""


class PresetsKind:
    """A ``Kind``: the subject of a job is ``<digest> <path>``. Makes the variants that *presets* mean for the
    picture, all presets of the config where they are (); one with ``encoding=auto`` in each encoding that
    most browsers ask for, and in the one for all others. *markup* gives the HTML for the picture at a path.

    The result has the number of its *variants* that are stored now, how many of them were *rendered* by this
    attempt, the *bytes* of all, the *markup*, and as *failed* what can't be made: one impossible preset keeps
    no other from being made. It is ``{"skipped": why}`` where the file at the path has gone, or has another
    digest. Raises Undecodable for a broken picture; Unavailable where a variant is to be tried again.
    """

    def __init__(
        self,
        generator: Generator,
        resolver: Resolver,
        identifier: Identifier,
        maker: Maker,
        presets: Sequence[str],
        markup: Callable[[str], str],
    ) -> None:
        self._generator = generator
        self._resolver = resolver
        self._identifier = identifier
        self._maker = maker
        self._presets = tuple(presets)
        self._markup = markup

    def __call__(self, job: JobRow, report: Callable[[int, int], None]) -> Mapping[str, object]:
        digest, _, path = job.subject.partition(" ")
        try:
            tally = self._make_all(path, digest, report)
            self._make_placeholder(path, digest)
        except NotFound:
            return {"skipped": _GONE}
        except _Skipped as reason:
            return {"skipped": str(reason)}
        if tally.later is not None:
            raise tally.later
        return {
            "variants": tally.variants,
            "rendered": tally.rendered,
            "bytes": tally.bytes,
            "markup": str(self._markup(path)),
            "failed": tally.failed,
        }

    def _make_all(self, path: str, digest: str, report: Callable[[int, int], None]) -> _Tally:
        """Make all variants; those that fail keep no other from being made."""
        tally = _Tally()
        wishes = self._wishes(self._header(path, digest), tally)
        for number, wish in enumerate(wishes):
            report(number, len(wishes))
            try:
                answer = self._stored(path, digest, wish)
            except NotFound:
                raise
            except Busy:  # the next one would find no place either, and visitors need it
                raise
            except Unavailable as error:
                tally.later = tally.later or error
            except RequestError as error:
                tally.refuse(wish, error)
            else:
                tally.variants += 1
                tally.rendered += answer.result == "miss"
                tally.bytes += answer.bytes
        report(len(wishes), len(wishes))
        return tally

    def _wishes(self, header: Header, tally: _Tally) -> Sequence[Wish]:
        """What the presets mean for a picture with *header*, each variant once: the encodings of a size
        after each other, so that it is decoded once."""
        wishes: list[Wish] = []
        for name in self._presets or self._resolver.presets:
            try:
                request = self._resolver.operators_request([("preset", name)])
            except BadParameter as error:  # not in the config
                tally.failed.append(
                    {"preset": name, "encoding": "", "error": error.code, "detail": str(error)}
                )
            else:
                wishes += expand(request, f"preset={name}")
        plan = Plans(self._resolver).get(header, wishes)
        for wish, reason in plan.refused:
            tally.refuse(wish, reason)
        return plan.wishes

    def _stored(self, path: str, digest: str, wish: Wish) -> Answer:
        """The variant, which is stored now."""
        answer = self._generator.answer(path, wish.request)
        if answer.source.digest != digest:
            raise _Skipped(_OTHER)
        if not answer.is_stable:
            raise BeingWritten
        if answer.result == "bypass":
            raise Unavailable("the variants of the picture can't be stored at the moment")
        return answer

    def _make_placeholder(self, path: str, digest: str) -> None:
        """Have it made where no render of the variants has."""
        source = self._source(path, digest)
        if source.placeholder:
            return
        try:
            self._maker.make_placeholder(source)
        except SourceChanged as error:
            raise BeingWritten from error
        except Unavailable:
            raise
        except RequestError:  # no variant fails for it
            pass

    def _header(self, path: str, digest: str) -> Header:
        source = self._source(path, digest)
        if source.header is None:
            raise Undecodable(source.problem or "it is in no known format")
        return source.header

    def _source(self, path: str, digest: str) -> Source:
        source = self._identifier.source(path)
        if source.digest != digest:
            raise _Skipped(_OTHER)
        return source
