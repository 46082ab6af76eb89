"""What a purge shall remove: one kind of selection, and the pictures and contents that it means now."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice

from ...common.globs import compile_glob
from ...errors import BadParameter, BeingWritten, NotFound, SourceChanged, TooLarge, Unavailable
from ...model.source import Source
from ...storage.originals import check_path
from ...storage.protocols import SourceRows, Sources, Stamps

__all__ = ["Chosen", "NotOneKind", "Selection", "check", "choose", "is_gone"]

_FEW = 500  # pictures looked up in one statement
_MIN_DIGITS = 12
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Selection:
    """What shall go; one of these and no other.

    *paths* of pictures: all variants of the content that each has now, and of the content it had when it was
    last asked for. *digests*: of sources, in hex, or their first 12 digits or more. *prefix*: a folder.
    *glob*: ``*`` stays in a folder, ``**`` crosses. *older_than_s*: not used for so many seconds. *is_stale*:
    of content that no picture has any more.
    """

    paths: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    prefix: str = ""
    glob: str = ""
    older_than_s: float | None = None
    is_stale: bool = False
    is_all: bool = False


@dataclass(slots=True)
class Chosen:
    """What a selection means: *contents* of each path, or *digests* alone; paths *gone* from the disk."""

    contents: dict[str, frozenset[str]] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    paths: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    @property
    def all_digests(self) -> list[str]:
        """The digests of all that is meant, sorted."""
        return sorted(self.digests.union(*self.contents.values()))


class NotOneKind(BadParameter):
    """Nothing is selected, or several kinds are. *given* are their names in ``Selection``."""

    def __init__(self, given: Sequence[str]) -> None:
        self.given = given
        what = " and ".join(map(_word, given)) or "nothing"
        kinds = ", ".join(_word(each.name) for each in fields(Selection))
        super().__init__("", f"selected: {what}; it has to be one kind of {kinds}")


def _word(name: str) -> str:
    return name.removeprefix("is_").removesuffix("_s")


def check(selection: Selection) -> None:
    """Raise BadParameter unless *selection* is one kind (NotOneKind) and can be."""
    given = [each.name for each in fields(selection) if _is_given(selection, each.name)]
    if len(given) != 1:
        raise NotOneKind(given)
    for text in (*selection.paths, selection.prefix, selection.glob):
        if not _is_text(text):
            raise BadParameter(
                "", f"{text[:200]!r} is not UTF-8, and no picture can be asked for by that name"
            )
    for path in [*selection.paths, *([selection.prefix.removesuffix("/")] if selection.prefix else [])]:
        try:
            check_path(path)
        except NotFound:
            what = "a folder" if selection.prefix else "a picture"
            raise BadParameter(
                "", f"{path[:200]!r} is not the path of {what}, such as cats/tom.jpg"
            ) from None
    for digest in selection.digests:
        if not re.fullmatch(rf"[0-9a-f]{{{_MIN_DIGITS},64}}", digest):
            form = f"the sha256 of a picture in hex, or {_MIN_DIGITS} or more of its first digits"
            raise BadParameter("", f"{digest[:100]!r} is not {form}")
    if selection.glob.startswith("/"):
        raise BadParameter("", f"the glob {selection.glob[:200]!r} starts with '/', and no path does")
    # Also '..', which would have the folders above listed.
    if re.search(r"(^|/)\.|[\x00-\x1f]", selection.glob):
        problem = "has a hidden folder or file, or a control character, and no path does"
        raise BadParameter("", f"the glob {selection.glob[:200]!r} {problem}")
    if selection.older_than_s is not None and selection.older_than_s < 0:
        raise BadParameter("", f"older_than={selection.older_than_s} is below the limit of 0")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates, from bytes that are not UTF-8 or from JSON
        return False
    return True


def _is_given(selection: Selection, name: str) -> bool:
    value = getattr(selection, name)
    return value is not None if name == "older_than_s" else bool(value)


# --- what a selection means


def choose(
    selection: Selection,
    rows: SourceRows,
    sources: Sources,
    cached: Callable[[], Collection[str]],
    report: Callable[[int], object],
) -> Chosen:
    """What *selection* means now, unless it is by last use. *rows* say what *sources* were, *cached* gives
    the digests of all that have variants. *report* is called with the number of pictures looked at. Raises
    BadParameter for the start of a digest that several have, Unavailable when all would seem stale as the
    pictures can't be read."""
    chosen = Chosen()
    if selection.digests:
        known = cached() if any(len(digest) < 64 for digest in selection.digests) else []
        for start in selection.digests:
            chosen.digests.update(_complete(start, known))
    elif selection.is_all:
        chosen.digests.update(cached())
        chosen.gone += [each.path for each in rows.walk() if is_gone(sources, each.path)]
    elif selection.is_stale:
        _choose_stale(rows, sources, cached, chosen, report)
    else:
        paths = dict.fromkeys(selection.paths or _paths(rows, sources, selection))
        for path, known_source, digest in _contents(rows, sources, paths, chosen, report):
            found = {digest} if digest else set()
            if known_source:
                found.add(known_source.digest)
            chosen.contents[path] = frozenset(found)
    return chosen


def _choose_stale(
    rows: SourceRows,
    sources: Sources,
    cached: Callable[[], Collection[str]],
    chosen: Chosen,
    report: Callable[[int], object],
) -> None:
    """Choose what no picture has; all pictures are looked at, and hashed where their stamp is a new one."""
    if not sources.is_readable():
        raise Unavailable("the folder of pictures can't be read, and so all variants would seem stale")
    # Before the look at the pictures: what is rendered during it is of a picture that is there.
    chosen.digests.update(cached())
    seen = set()
    for path, _, digest in _contents(rows, sources, sources.walk(), chosen, report):
        seen.add(path)
        chosen.digests.discard(digest or "")
    # Not all that may be shown can be walked to.
    others = (source.path for source in rows.walk() if source.path not in seen)
    for _, _, digest in _contents(rows, sources, others, chosen, report):
        chosen.digests.discard(digest or "")


def _paths(rows: SourceRows, sources: Sources, selection: Selection) -> Iterator[str]:
    """The paths that a prefix or a glob means: of pictures that are there, and of those that were."""
    folder, pattern = selection.prefix.removesuffix("/"), None
    if selection.glob:
        folder = _WILD.split(selection.glob, maxsplit=1)[0].rpartition("/")[0]
        pattern = compile_glob(selection.glob)
    known = (source.path for source in rows.walk(folder))
    for paths in (sources.walk(folder), known):
        for path in paths:
            if pattern.fullmatch(path) if pattern else path != folder:
                yield path


def _contents(
    rows: SourceRows,
    sources: Sources,
    paths: Iterable[str],
    chosen: Chosen,
    report: Callable[[int], object],
) -> Iterator[tuple[str, Source | None, str | None]]:
    """Each path, what is remembered of it, and the digest of what it is now."""
    left = iter(paths)
    while some := list(islice(left, _FEW)):
        known = rows.known(some)
        for path in some:
            try:
                digest = _digest(sources, path, known.get(path))
            except NotFound:
                digest = None
                chosen.gone.append(path)
            except (TooLarge, Unavailable):
                digest = known[path].digest if path in known else None
                chosen.unread.append(path)
            yield path, known.get(path), digest
        report(len(some))


def _digest(sources: Sources, path: str, known: Source | None) -> str:
    """The digest of the picture at *path*; hashed unless it is as it was *known*."""
    for _ in range(3):
        stamp = sources.look(path)
        if known and known.stamp == stamp and not known.is_racy:
            return known.digest
        try:
            return sources.digest(path)[0]
        except SourceChanged:
            continue
    raise BeingWritten


def is_gone(sources: Stamps, path: str) -> bool:
    """Whether there is no picture at *path* any more; not if it only can't be read."""
    try:
        sources.look(path)
    except NotFound:
        return True
    except Unavailable:
        pass
    return False


def _complete(digest: str, known: Collection[str]) -> list[str]:
    """The one of *known* that starts with *digest*, if there is one. Raises BadParameter for several."""
    if len(digest) == 64:
        return [digest]
    found = sorted(each for each in known if each.startswith(digest))
    if len(found) > 1:
        raise BadParameter("digests", f"{digest} is the start of {', '.join(found[:10])}; write more digits")
    return found
