"""What a guard by globs hides: never less than the globs mean."""

from __future__ import annotations

import re
import unicodedata
from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagefactory.common.globs import Guard, compile_glob
from imagefactory.errors import BadParameter

# Letters whose case or normal form changes their number, and what globs are made of.
_LETTERS = "aAzZßẞſKKİıÅÅåéǅΐΣς" + unicodedata.normalize("NFD", "éÅ") + "0._- "
names = st.text(st.sampled_from(_LETTERS), min_size=1, max_size=6)
globs = st.text(st.sampled_from(_LETTERS + "*?[]!-"), min_size=1, max_size=8)


@given(globs, names)
@example("?.a", "ß.a")
@example("[!a-z]*", "Z")
@example("[Z-a]", "Z")
@example("[!A-Z]", "a")
def test_what_a_glob_means_is_guarded(glob: str, name: str) -> None:
    """By the words of Python's fnmatch, within one folder, and in every spelling of a whole path."""
    try:
        guard = Guard([f"members/{glob}"])
    except BadParameter:
        return  # the server does not start
    if fnmatchcase(name, glob):
        assert guard.guards(f"members/{name}")
        assert guard.guards(f"MEMBERS/{name}")


@given(
    names.filter(lambda name: not re.search(r"[*?\[]", name)), st.sampled_from(["NFC", "NFD"]), st.booleans()
)
def test_every_spelling_of_a_name_is_guarded(name: str, form: str, is_folded: bool) -> None:
    other = unicodedata.normalize(form, name.casefold() if is_folded else name)  # type: ignore[arg-type]
    assert Guard([name]).guards(other)
    assert Guard([other]).guards(name)


@pytest.mark.parametrize(
    ("glob", "path", "is_guarded"),
    [
        ("members/**", "members/a/b.jpg", True),
        ("members/**", "Members/A.JPG", True),
        ("members/**", "members.jpg", False),
        ("members/?.jpg", "members/ß.jpg", True),
        ("members/?.jpg", "members/ẞ.jpg", True),
        ("members/?.jpg", "MEMBERS/ß.jpg", True),
        ("members/?.jpg", "members/ss.jpg", False),
        ("straße/*", "STRASSE/a.jpg", True),
        ("q/[!a-z]*.jpg", "q/Z.jpg", True),
        ("q/[!a-z]*.jpg", "q/z.jpg", False),
        ("q/[!A-Z].jpg", "q/a.jpg", True),
        ("q/[+--].jpg", "q/,.jpg", True),
        ("q/[Z-a].jpg", "q/Z.jpg", True),
        ("caf\u00e9/*", "cafe\u0301/a.jpg", True),
        ("cafe\u0301/*", "caf\u00e9/a.jpg", True),
        ("caf?/*", "cafe\u0301/a.jpg", True),
        ("caf??/*", "caf\u00e9/a.jpg", True),
        ("caf\u00e9/*", "cafe/a.jpg", False),
    ],
)
def test_a_guard_hides_and_does_no_more(glob: str, path: str, is_guarded: bool) -> None:
    assert Guard([glob]).guards(path) == is_guarded
    assert Guard(["other", glob]).guards(path) == is_guarded


def test_without_globs_nothing_is_guarded() -> None:
    assert not Guard([]).guards("a.jpg")


@pytest.mark.parametrize("path", ["members/ss.jpg", "MEMBERS/a.jpg", "cafe\u0301"])
def test_what_a_purge_names_is_taken_as_it_is_written(path: str) -> None:
    """More than was named would be lost; what is left out shows in the numbers of the answer."""
    assert not any(
        compile_glob(glob).fullmatch(path) for glob in ("members/ß.jpg", "members/*.png", "caf\u00e9")
    )
