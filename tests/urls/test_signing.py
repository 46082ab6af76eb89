"""Signed URLs: what a signature covers; nothing else gets a picture, a render or a place in the cache."""

from __future__ import annotations

import hashlib
import hmac
import string
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from flask.testing import FlaskClient
from support.asking import Counting
from support.clock import Clock
from support.drawing import quarters
from werkzeug.test import TestResponse

from imagefactory import create_app
from imagefactory.errors import Expired, Unsigned, WrongSignature
from imagefactory.factory import Parts
from imagefactory.urls.signing import Policy, Signer

KEYS = {"web": "correct horse battery", "old": "staple of sixteen chars"}
NOW_S = 1_800_000_000
PAIRS = [("scalex", "100"), ("encoding", "webp")]
ALPHABET = string.ascii_letters + string.digits + "-_"


def test_the_vector_of_the_documentation() -> None:
    text = "imagefactory1\ncats/tom jä.jpg\ne=1800003600&encoding=webp&k=web&scalex=640"
    expected = hmac.new(b"correct horse battery", text.encode(), hashlib.sha256).digest()
    pairs = [("w", "640"), ("format", "webp"), ("v", "0123456789ab")]
    own = Signer(KEYS).sign("cats/tom jä.jpg", pairs, NOW_S + 3600)
    assert own[:2] == [("e", "1800003600"), ("k", "web")]
    assert own[2] == ("s", urlsafe_b64encode(expected).rstrip(b"=").decode())
    assert own[2][1] == "qYyUAb9D5qCqVODIRhRTwx0nu3S8OK4T3RzqIJmyjF4"


def test_a_signature_holds_for_every_order_and_spelling_of_its_parameters() -> None:
    own = Signer(KEYS).sign("a.jpg", PAIRS)
    for pairs in ([*PAIRS, *own], [*own, *PAIRS[::-1]], [("fm", "webp"), *own, ("v", "x"), ("w", "100")]):
        assert Signer(KEYS).check("a.jpg", pairs, NOW_S) is None


def test_a_signature_by_an_older_key_holds_until_that_key_is_taken_away() -> None:
    old = {"old": KEYS["old"]}
    pairs = [*PAIRS, *Signer(old).sign("a.jpg", PAIRS)]
    Signer(KEYS).check("a.jpg", pairs, NOW_S)
    with pytest.raises(WrongSignature):
        Signer({"web": KEYS["web"]}).check("a.jpg", pairs, NOW_S)


def test_a_url_ends_at_its_time() -> None:
    pairs = [*PAIRS, *Signer(KEYS).sign("a.jpg", PAIRS, NOW_S)]
    assert Signer(KEYS).check("a.jpg", pairs, NOW_S - 0.001) == NOW_S
    with pytest.raises(Expired, match="this URL ended at unix time 1800000000"):
        Signer(KEYS).check("a.jpg", pairs, NOW_S)


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (Policy(1600), "upto1600"),
        (Policy(1600, ("avif", "webp")), "upto1600.avif.webp"),
        (Policy(3000, ("jpeg",), True), "ladder3000.jpeg"),
    ],
)
def test_a_policy_is_read_back(policy: Policy, text: str) -> None:
    assert policy.text() == text
    assert Policy.parse(text) == policy


@pytest.mark.parametrize(
    "text", ["", "upto", "upto0", "upto01", "upto1600.", "ladder1.a-b", "to5", "upto1600\n"]
)
def test_what_is_no_policy_is_none(text: str) -> None:
    assert Policy.parse(text) is None


@pytest.mark.parametrize(
    ("pairs", "is_covered"),
    [
        ({"scalex": "320", "encoding": "avif"}, True),
        ({"w": "1000", "fm": "webp"}, True),  # not a step, but its last width
        ({"scalex": "321", "encoding": "avif"}, False),
        ({"scalex": "1280", "encoding": "avif"}, False),
        ({"scalex": "0", "encoding": "avif"}, False),
        ({"scalex": "320.4", "encoding": "avif"}, False),
        ({"encoding": "avif"}, False),
        ({"scalex": "320"}, False),
        ({"scalex": "320", "encoding": "jpeg"}, False),
        ({"scalex": "320", "encoding": "AVIF"}, False),
        ({"scalex": "320", "encoding": "avif", "blur": "3"}, False),
        ({"scalex": "320", "encoding": "avif", "dpr": "5"}, False),
    ],
)
def test_one_signature_covers_a_srcset_and_no_more(pairs: dict[str, str], is_covered: bool) -> None:
    signer = Signer(KEYS, ladder=(320, 640, 1280))
    own = signer.sign("a.jpg", [("quality", "70")], policy=Policy(1000, ("avif", "webp"), is_ladder=True))
    asked = [("quality", "70"), *pairs.items(), *own]
    if is_covered:
        signer.check("a.jpg", asked, NOW_S)
    else:
        with pytest.raises(WrongSignature):
            signer.check("a.jpg", asked, NOW_S)


def test_a_plain_signature_is_no_policy_and_a_policy_no_wider_one() -> None:
    signer = Signer(KEYS)
    ((_, key), (_, plain)) = signer.sign("a.jpg", PAIRS)
    ((_, _), (_, narrow)) = signer.sign("a.jpg", PAIRS, policy=Policy(100, ("webp",)))
    signer.check("a.jpg", [*PAIRS, ("k", key), ("s", narrow)], NOW_S)
    mac = narrow.rpartition(".")[2]
    for forged in (
        f"upto100.webp.{plain}",
        mac,
        f"upto900.webp.{mac}",
        f"upto100.webp.avif.{mac}",
        f".{plain}",
    ):
        with pytest.raises(WrongSignature):
            signer.check("a.jpg", [*PAIRS, ("k", key), ("s", forged)], NOW_S)


@pytest.mark.parametrize(
    "pairs", [[("download", "a&b")], [("a=b", "c")], [("x\ny", "")], [("s", "x")], [("e", "1")]]
)
def test_what_could_mean_two_things_is_not_signed(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError, match="sign"):
        Signer(KEYS).sign("a.jpg", pairs)


@pytest.mark.parametrize("end_s", [-1, 10**12])
def test_an_end_that_check_would_refuse_is_not_signed(end_s: int) -> None:
    with pytest.raises(ValueError, match="12 digits"):
        Signer(KEYS).sign("a.jpg", PAIRS, end_s)
    Signer(KEYS).check("a.jpg", [*PAIRS, *Signer(KEYS).sign("a.jpg", PAIRS, 10**12 - 1)], NOW_S)


def test_a_value_cannot_become_a_parameter() -> None:
    signer = Signer(KEYS)
    own = signer.sign("a.jpg", [("download", "x"), ("scalex", "10")])
    with pytest.raises(WrongSignature):
        signer.check("a.jpg", [("download", "x&scalex=10"), *own], NOW_S)


def test_without_a_signature_it_is_unsigned() -> None:
    with pytest.raises(Unsigned, match="needs a signed URL"):
        Signer(KEYS).check("a.jpg", PAIRS, NOW_S)


# --- at the doors -------------------------------------------------------------------------------------------


class Site:
    """A stand-alone app whose pictures need a signature, and what it rendered and stored."""

    def __init__(self, tmp_path: Path, renderer: Counting, **sections: dict[str, Any]) -> None:
        folder = tmp_path / "pictures"
        (folder / "members").mkdir(parents=True)
        for name in ("tom.jpg", "tim.jpg", "members/eve.jpg"):
            quarters().save(folder / name)
        self.cache = tmp_path / "cache"
        config = {"paths": {"pictures": str(folder), "cache": str(self.cache)}, "signing": {"keys": KEYS}}
        self.clock = Clock(now_s=float(NOW_S))
        app = create_app({**config, **sections}, renderer, self.clock)
        self.parts: Parts = app.extensions["imagefactory"].parts
        self.counting = renderer
        self.client: FlaskClient = app.test_client()
        self.signer = Signer(KEYS)

    def url(self, path: str, pairs: list[tuple[str, str]], ends_s: int | None = None) -> str:
        return f"/picture/{path}?{urlencode([*pairs, *self.signer.sign(path, pairs, ends_s)])}"

    def get(self, url: str) -> TestResponse:
        return self.client.get(url, buffered=True)

    def objects(self) -> int:
        return sum(path.is_file() for path in (self.cache / "objects").rglob("*"))


@pytest.fixture
def site(tmp_path: Path, renderer: Counting) -> Callable[..., Site]:
    return lambda **sections: Site(tmp_path, renderer, **sections)


SIGNED = {"limits": {"sizes": "signed"}}


def test_a_signed_url_gets_its_picture_also_again_and_as_the_original(site: Callable[..., Site]) -> None:
    web = site(**SIGNED)
    url = web.url("tom.jpg", PAIRS)
    assert [web.get(url).headers["X-Cache"] for _ in range(3)] == ["miss", "hit", "hit"]
    assert web.get(web.url("tom.jpg", [])).mimetype == "image/jpeg"
    assert web.get("/picture/tom.jpg").json["error"] == "unsigned"  # type: ignore[index]


def test_the_signature_is_no_part_of_the_cache_key(site: Callable[..., Site]) -> None:
    web = site(**SIGNED)
    web.get(web.url("tom.jpg", PAIRS))
    assert web.get(web.url("tom.jpg", PAIRS, NOW_S + 9)).headers["X-Cache"] == "hit"
    assert web.objects() == 1


def _attacks(url: str, other: str) -> list[tuple[str, str]]:
    base, _, query = url.partition("?")
    pairs = parse_qsl(query)
    signature = dict(pairs)["s"]
    rest = [(name, value) for name, value in pairs if name != "s"]

    def with_signature(text: str) -> str:
        return f"{base}?{urlencode([*rest, ('s', text)])}"

    found = []
    for at, letter in enumerate(signature):  # every bit of every letter: also the unused ones of the last
        for bit in range(8):
            flipped = chr(ord(letter) ^ 1 << bit)
            found.append(
                (f"bit {bit} of {at}", with_signature(signature[:at] + flipped + signature[at + 1 :]))
            )
    last = ALPHABET.index(signature[-1])
    found += [(f"last {n}", with_signature(signature[:-1] + ALPHABET[n])) for n in range(64) if n != last]
    found += [(f"first {n}", with_signature(signature[:n])) for n in range(len(signature))]
    found += [("upper", with_signature(signature.upper())), ("lower", with_signature(signature.lower()))]
    found += [("padding", with_signature(signature + "=")), ("space", with_signature(signature + " "))]
    found += [("twice", url + f"&s={signature}"), ("twice first", url + "&s="), ("e twice", url + "&e=1&e=2")]
    found += [("more", url + "&blur=3"), ("unknown too", url + "&utm=1"), ("alias", url + "&w=100")]
    found += [("value", url.replace("scalex=100", "scalex=101")), ("name", url.replace("scalex=", "scaley="))]
    found += [("left out", url.replace("encoding=webp&", "")), ("key", url.replace("k=web", "k=old"))]
    found += [("unknown key", url.replace("k=web", "k=none")), ("empty key", url.replace("k=web", "k="))]
    found += [
        ("later", url.replace(f"e={NOW_S + 9}", f"e={NOW_S + 99}")),
        ("endless", url.replace("e=", "x=")),
    ]
    found += [("path", url.replace("tom.jpg", "tim.jpg")), ("no such path", url.replace("tom.jpg", "no.jpg"))]
    found += [("of another", f"{base}?{urlencode([*rest, ('s', dict(parse_qsl(other))['s'])])}")]
    found += [("non-ASCII", with_signature("ä" * 43)), ("bytes", f"{base}?{urlencode(rest)}&s=%ff%fe")]
    found += [("none", f"{base}?{urlencode(rest)}"), ("null", with_signature("\0" * 43))]
    found += [("surrogate", f"{base}?{urlencode(rest)}&s=%ed%a0%80"), ("long", with_signature("A" * 5000))]
    return found


def test_no_attack_on_a_signature_gets_a_picture_a_render_or_a_place_in_the_cache(
    site: Callable[..., Site],
) -> None:
    web = site(**SIGNED)
    url = web.url("tom.jpg", PAIRS, NOW_S + 9)
    attacks = _attacks(url, web.url("tim.jpg", PAIRS, NOW_S + 9).partition("?")[2])
    assert len(attacks) > 450
    for name, attack in attacks:
        reply = web.get(attack)
        assert reply.status_code == 403, (name, attack)
        assert reply.headers["Cache-Control"] == "no-store"
    assert (web.counting.renders, web.counting.probes, web.objects()) == (0, 0, 0)
    assert web.get(url).status_code == 200


def test_a_signature_is_checked_before_parameters_and_paths(site: Callable[..., Site]) -> None:
    web = site(**SIGNED)
    for url in (
        "/picture/no.jpg",
        "/picture/../x",
        "/picture/tom.jpg?quality=900",
        "/picture/tom.jpg?w=1&w=2",
    ):
        assert web.get(url).status_code == 403, url


def test_an_expired_url_says_so_also_where_the_fast_path_knew_it(site: Callable[..., Site]) -> None:
    web = site(**SIGNED, http={"max_age_s": 60})
    url = web.url("tom.jpg", PAIRS, NOW_S + 100)
    ages = []
    for passed_s in (0, 0, 39.5, 41, 99.5):
        web.clock.now_s = NOW_S + passed_s
        reply = web.get(url)
        assert reply.status_code == 200
        ages.append(reply.headers["Cache-Control"])
    assert ages == [f"public, max-age={age}" for age in (60, 60, 60, 59, 0)]
    web.clock.now_s = NOW_S + 100
    assert web.get(url).json["error"] == "expired"  # type: ignore[index]


def test_an_expiring_url_is_never_immutable_and_never_served_stale(site: Callable[..., Site]) -> None:
    web = site(**SIGNED, http={"stale_while_revalidate_s": 600})
    source = web.parts.source("tom.jpg")
    request = web.parts.resolver.request([*PAIRS, ("v", "x")])
    version = web.parts.resolver.wanted(source, request, "").version
    pairs = [*PAIRS, ("v", version)]
    assert "immutable" in web.get(web.url("tom.jpg", pairs)).headers["Cache-Control"]
    ending = web.get(web.url("tom.jpg", pairs, NOW_S + 9)).headers["Cache-Control"]
    assert ending == "public, max-age=9"


def test_private_pictures_need_a_signature_and_stay_out_of_shared_caches(site: Callable[..., Site]) -> None:
    web = site(http={"private": ["members/**"]})
    assert web.get("/picture/tom.jpg?scalex=100").headers["Cache-Control"] == "public, max-age=3600"
    for path in ("members/eve.jpg", "MEMBERS/eve.jpg", "members/no.jpg", "members/eve.jpg?scalex=9"):
        assert web.get(f"/picture/{path}").json["error"] == "unsigned", path  # type: ignore[index]
    for pairs in ([], PAIRS):
        for _ in range(2):
            reply = web.get(web.url("members/eve.jpg", pairs))
            assert (reply.status_code, reply.headers["Cache-Control"]) == (200, "private, max-age=3600")


@pytest.mark.parametrize(
    ("private", "path"),
    [("members/?.jpg", "members/ß.jpg"), ("q/[!a-z]*.jpg", "q/Z.jpg"), ("caf\u00e9/*", "cafe\u0301/a.jpg")],
)
def test_a_name_is_private_whatever_becomes_of_its_case(
    site: Callable[..., Site], pictures: Path, private: str, path: str
) -> None:
    web = site(http={"private": [private]})
    (pictures / path).parent.mkdir(exist_ok=True)
    quarters(8, 8).save(pictures / path)
    assert web.get(f"/picture/{path}").json["error"] == "unsigned"  # type: ignore[index]
    assert path not in web.get("/").text
    assert web.get(web.url(path, [])).status_code == 200


def test_where_nobody_must_sign_a_signature_that_is_there_has_to_be_right(site: Callable[..., Site]) -> None:
    web = site()
    assert web.get(web.url("tom.jpg", PAIRS)).status_code == 200
    assert web.get("/picture/tom.jpg?scalex=100&s=x").json["error"] == "wrong_signature"  # type: ignore[index]
    assert web.get("/picture/tom.jpg?scalex=100&k=x&e=1").status_code == 200


def test_secrets_stay_out_of_the_answers_and_the_log(
    site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    web = site(**SIGNED)
    texts = [web.get(url).text for url in ("/picture/tom.jpg", "/picture/tom.jpg?s=x", "/")]
    assert not [secret for secret in KEYS.values() if secret in "".join(texts) + caplog.text]
