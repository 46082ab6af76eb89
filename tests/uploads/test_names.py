"""Which names pictures may be brought under, and where the files of a form come to lie."""

from __future__ import annotations

import pytest

from imagefactory.errors import BadParameter
from imagefactory.storage.originals import check_path
from imagefactory.uploads.names import joined, path_of, placed, safe_name

NOON_S = 1_767_182_400.0  # 2025-12-31 12:00 UTC


@pytest.mark.parametrize(
    "path",
    [
        "tom.jpg",
        "cats/tom.jpg",
        "a/b/c/d.png",
        "Grüße aus Köln.jpg",
        "猫.webp",
        "v1.2.final.jpg",
        "100% (1).jpg",
        "console.jpg",
        "a'b.jpg",
        "x" * 196 + ".jpg",
    ],
)
def test_a_path_that_any_disk_takes_is_taken_as_it_is(path: str) -> None:
    assert path_of(path) == path
    check_path(path)


HOSTILE = [
    ("../../x.jpg", "no dot at its end"),
    ("a/../x.jpg", "no dot at its end"),
    ("..", "no dot at its end"),
    ("/x.jpg", "not empty"),
    ("a//x.jpg", "not empty"),
    ("", "not empty"),
    ("a/", "not empty"),
    (".htaccess.jpg", "hidden"),
    (".uploads/tmp/x.jpg", "hidden"),
    ("a.php.jpg", ".php"),
    ("a.PHP5.jpg", ".php5"),
    ("x.html", ".html"),
    ("x.svg.png", ".svg"),
    ("CON", "device"),
    ("con.jpg", "device"),
    ("cats/LPT1.png", "device"),
    ("nul.tar.jpg", "device"),
    ("NUL .jpg", "device"),
    ("conout$.jpg", "device"),
    ("x" * 300 + ".jpg", "200 bytes"),
    ("猫" * 80 + ".jpg", "200 bytes"),
    ("/".join(["x" * 190] * 5) + ".jpg", "900 bytes"),
    ("photo\u202egpj.exe.jpg", "U+202E"),
    ("\u200etom.jpg", "U+200E"),
    ("tom\u200b.jpg", "U+200B"),
    ("tom\x00.jpg", "U+0000"),
    ("tom\n.jpg", "U+000A"),
    ("tom\x7f.jpg", "U+007F"),
    ("tom\ufffd.jpg", "U+FFFD"),
    ("tom\udc80.jpg", "U+DC80"),
    ("a\\b.jpg", "character \\"),
    ("a:b.jpg", "character :"),
    ("a*.jpg", "character *"),
    ("tom.jpg.", "no dot at its end"),
    (" tom.jpg", "no space"),
    ("tom.jpg ", "no space"),
    ("\xa0tom.jpg", "no space"),
    ("\u3164.jpg", "U+3164"),
    ("tom\u2800.jpg", "U+2800"),
    ("a /b.jpg", "no space"),
    ("Gru\u0308ße.jpg", "NFC"),
]


@pytest.mark.parametrize(("path", "says"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_path_that_leads_elsewhere_hides_or_runs_is_refused(path: str, says: str) -> None:
    with pytest.raises(BadParameter) as caught:
        path_of(path)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("tom.jpg", "tom.jpg"),
        ("C:\\fakepath\\tom.jpg", "tom.jpg"),
        ("holiday/2025/tom.jpg", "tom.jpg"),
        ("holiday\\tom.jpg", "tom.jpg"),
        (" tom.jpg ", "tom.jpg"),
        ("what?.jpg", "what_.jpg"),
        ("a:b<c>.jpg", "a_b_c_.jpg"),
        ("Gru\u0308ße.jpg", "Grüße.jpg"),
        ("IMG_0001", "IMG_0001"),
    ],
)
def test_the_name_of_a_file_of_a_form_is_made_safe(given: str, name: str) -> None:
    assert safe_name(given) == name


@pytest.mark.parametrize(
    "given",
    [
        "../../x.jpg",
        "..\\x.jpg",
        "/etc/x.jpg",
        "a.php.jpg",
        "CON",
        ".x.jpg",
        "x" * 300,
        "a\u202eb.jpg",
        "a\x00.jpg",
    ],
)
def test_a_name_that_is_an_attack_is_no_name_to_be_mended(given: str) -> None:
    with pytest.raises(BadParameter):
        safe_name(given)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("keep", "tom.jpg"),
        ("sha256", "ab" * 32 + ".jpg"),
        ("{date}/{name}", "2025-12-31/tom.jpg"),
        ("{year}/{month}/{day}/{sha256}", "2025/12/31/" + "ab" * 32 + ".jpg"),
        ("in/x-{name}", "in/x-tom.jpg"),
    ],
)
def test_the_config_says_where_a_file_of_a_form_lies(pattern: str, path: str) -> None:
    assert placed(pattern, "tom.jpg", "ab" * 32, "jpeg", NOON_S) == path


def test_a_name_without_a_suffix_gets_that_of_its_format() -> None:
    assert placed("keep", "IMG_0001", "0" * 64, "heif", NOON_S) == "IMG_0001.heic"


def test_all_lies_below_the_folder_of_the_config() -> None:
    assert joined(".", "a.jpg") == "a.jpg"
    assert joined("members/new", "a.jpg") == "members/new/a.jpg"
