"""External programs: what they make is a picture like any other, made once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image
from support.asking import Buffered, picture, problems
from support.drawing import at_rest
from support.toys import Toys, toy

from imagefactory import create_app
from imagefactory.config import Config
from imagefactory.storage.disk import DiskStore
from imagefactory.workers.pool import Pool


@pytest.fixture
def toys(tmp_path: Path) -> Toys:
    return Toys(tmp_path / "toys")


@pytest.fixture
def site(
    configure: Callable[..., Config], pictures: Path, toys: Toys, pool: Pool
) -> Callable[..., FlaskClient]:
    """Makes a client of a site with these sections, by default with all tables of toy films; renders for
    real."""
    write(pictures, "clip.toy", toy())

    def make(**sections: Any) -> FlaskClient:
        app = create_app(configure(**{"programs": toys.tables(), **sections}), pool)
        app.test_client_class = Buffered
        return app.test_client()

    return make


def write(pictures: Path, name: str, text: str) -> None:
    (pictures / name).write_text(text)
    at_rest(pictures / name)


def blue(image: Image.Image) -> int:
    """The second of a toy film that *image* shows."""
    value = image.convert("RGB").getpixel((image.width * 3 // 4, image.height // 2))[2]
    return (value - 40) // 2


def test_a_film_has_every_size_and_encoding(site: Callable[..., FlaskClient]) -> None:
    client = site()
    for query, kind, size in (
        ("scalex=200", "JPEG", (200, 150)),
        ("scalex=100&encoding=webp", "WEBP", (100, 75)),
        ("size=80x80&fit=cover&encoding=png", "PNG", (80, 80)),
        ("scalex=64&rotate=90&encoding=avif", "AVIF", (64, 85)),
        ("t=3&encoding=png", "PNG", (400, 300)),
    ):
        image = picture(client, f"clip.toy?{query}")
        assert (image.format, image.size) == (kind, size), query


@pytest.mark.usefixtures("sound")
def test_all_sizes_of_a_poster_are_one_run(site: Callable[..., FlaskClient], toys: Toys) -> None:
    client = site(server={"threads": 64})
    urls = [
        f"/picture/clip.toy?t=5&scalex={width}&encoding={encoding}"
        for width in range(40, 360, 40)
        for encoding in ("jpeg", "webp", "avif")
    ]
    with ThreadPoolExecutor(24) as threads:
        statuses = [answer.status_code for answer in threads.map(client.application.test_client().get, urls)]
    assert statuses == [200] * 24
    assert toys.runs() == ["time=0", "time=5"]  # its header, and the poster


def test_each_time_is_a_picture_of_its_own(site: Callable[..., FlaskClient], toys: Toys) -> None:
    client = site()
    assert blue(picture(client, "clip.toy?t=30&scalex=200&encoding=png")) == 30
    assert blue(picture(client, "clip.toy?t=31.5&scalex=200&encoding=png")) == 31
    assert blue(picture(client, "clip.toy?scalex=200&encoding=png")) == 0
    etags = {client.get(f"/picture/clip.toy?t={t}&scalex=200").headers["ETag"] for t in (0, 20, 40)}
    assert len(etags) == 3
    assert blue(picture(client, "clip.toy?t=0&scalex=90&encoding=png")) == 0
    assert toys.runs().count("time=0") == 1


def test_variants_choose_another_table(site: Callable[..., FlaskClient]) -> None:
    client = site()
    assert blue(picture(client, "clip.toy?t=99&exact=1&scalex=100&encoding=png")) == 99
    assert blue(picture(client, "clip.toy?t=auto&scalex=100&encoding=png")) == 7
    moving = picture(client, "clip.toy?preview=6&fps=1&t=10&scalex=100&encoding=png")
    assert (moving.format, moving.n_frames, moving.size) == ("PNG", 6, (100, 75))
    assert moving.info["duration"] == 1000
    assert picture(client, "clip.toy?preview=6&fps=1&scalex=100").format == "WEBP"
    assert picture(client, "clip.toy?preview=3&fps=2&scalex=100&encoding=jpeg").size == (100, 75)


def test_a_run_that_gives_nothing_is_tried_otherwise(site: Callable[..., FlaskClient], toys: Toys) -> None:
    assert blue(picture(site(), "clip.toy?t=70&scalex=100&encoding=png")) == 70
    assert toys.runs()[1:] == ["time=70", "time=70 exact=1"]


def test_another_version_of_a_program_renders_anew(
    site: Callable[..., FlaskClient], toys: Toys, pool: Pool
) -> None:
    client = site()
    url = "/picture/clip.toy?t=2&scalex=100"
    first = client.get(url)
    assert (first.headers["X-Cache"], site().get(url).headers["X-Cache"]) == ("miss", "hit")
    assert len(toys.runs()) == 2
    toys.set_version("toy 2.0")
    assert site().get(url).headers["X-Cache"] == "miss"
    assert len(toys.runs()) == 4


def test_a_cut_is_in_pixels_of_the_film(site: Callable[..., FlaskClient]) -> None:
    image = picture(site(), "clip.toy?t=50&rect=100,0,200,100&encoding=png")
    assert image.size == (200, 100)
    left, right = image.convert("RGB").getpixel((20, 50)), image.convert("RGB").getpixel((180, 50))
    assert left[0] > 200 and right[2] == 140


def test_a_scalable_source_is_made_in_the_size_that_is_needed(
    site: Callable[..., FlaskClient], toys: Toys
) -> None:
    client = site(programs={"drawing": toys.table("width", "height")})
    assert picture(client, "clip.toy?scalex=1000&encoding=png").size == (1000, 750)
    assert picture(client, "clip.toy?scalex=100&encoding=png").size == (100, 75)
    assert picture(client, "clip.toy?scalex=100&rect=0,0,100,100&encoding=png").size == (100, 100)
    assert picture(client, "clip.toy?encoding=png").size == (400, 300)
    sizes = [run.split()[:2] for run in toys.runs()]
    assert sizes == [
        ["width=0", "height=0"],
        ["width=1000", "height=750"],
        ["width=100", "height=75"],
        ["width=400", "height=300"],
    ]


def test_each_page_has_its_own_size(site: Callable[..., FlaskClient], toys: Toys) -> None:
    client = site(programs={"document": toys.table("page", "width", "height")})
    assert picture(client, "clip.toy?scalex=100").size == (100, 75)
    assert picture(client, "clip.toy?page=2&scalex=75").size == (75, 100)
    assert client.get("/picture/clip.toy?page=0&scalex=75").status_code == 400


@pytest.mark.parametrize(
    ("query", "name", "part"),
    [
        ("t=x&scalex=9", "bad_parameter", "t='x' is not a number"),
        ("t=1e3&scalex=9", "bad_parameter", "t='1e3' is not a number"),
        ("t=1 -i /etc/passwd&scalex=9", "bad_parameter", "is not a number"),
        ("sprite=5&scalex=9", "bad_parameter", "write columns x rows, as 5x5"),
        ("sprite=99x99&scalex=9", "bad_parameter", "above the limit of 40"),
        ("preview=3&sprite=2x2", "bad_parameter", "can't be had together"),
        ("preview=60&fps=60", "bad_parameter", "above the limit of 400"),
        ("exact=2&scalex=9", "bad_parameter", "neither 0 nor 1"),
        ("vtt=1", "bad_parameter", "give sprite=5x5 beside it"),
        ("encoding=mp4", "bad_parameter", "made by external programs only"),
    ],
)
def test_what_a_program_can_t_be_asked_is_400(
    site: Callable[..., FlaskClient], query: str, name: str, part: str
) -> None:
    answer = site().get(f"/picture/clip.toy?{query}")
    assert (answer.status_code, answer.json["error"]) == (400, name), answer.text
    assert part in answer.json["detail"]


def test_parameters_of_programs_mean_nothing_to_a_picture(site: Callable[..., FlaskClient]) -> None:
    """Pages get past caches with ?t=1733011200000."""
    client = site()
    plain = client.get("/picture/cats/tom.jpg?scalex=100")
    busted = client.get("/picture/cats/tom.jpg?scalex=100&t=1733011200000&page=x")
    assert busted.headers["ETag"] == plain.headers["ETag"]
    assert client.get("/picture/cats/tom.jpg?t=1").data == client.get("/picture/cats/tom.jpg").data
    strict = site(http={"strict": True})
    assert strict.get("/picture/cats/tom.jpg?scalex=100&t=1").status_code == 400
    answer = strict.get("/picture/clip.toy?scalex=100&page=2")
    assert answer.status_code == 400
    assert "it takes t, " in answer.json["detail"]


def test_a_ladder_of_sizes_is_one_of_seconds(site: Callable[..., FlaskClient], toys: Toys) -> None:
    client = site(limits={"sizes": "ladder"})
    assert {client.get(f"/picture/clip.toy?scalex=160&t={t}").status_code for t in (2, 2.4, 2.999)} == {200}
    assert toys.runs() == ["time=0", "time=2"]


def test_with_presets_only_a_preset_says_the_time(site: Callable[..., FlaskClient], toys: Toys) -> None:
    presets = {"poster": {"scalex": 100, "t": 9}}
    client = site(limits={"sizes": "presets"}, presets=presets)
    assert client.get("/picture/clip.toy?preset=poster&t=3").status_code == 200
    assert toys.runs() == ["time=0", "time=9"]


def test_a_failure_tells_the_log_and_not_the_visitor(
    site: Callable[..., FlaskClient], toys: Toys, caplog: pytest.LogCaptureFixture
) -> None:
    client = site(programs={"document": toys.table("page")})
    for _ in range(2):
        answer = client.get("/picture/clip.toy?page=3&scalex=100")
        assert answer.status_code == 422
        assert "exit code 3" in answer.json["detail"] and "secret" not in answer.text
    assert "there is no page 3 in /secret/place" in caplog.text
    assert toys.runs().count("page=3") == 1  # remembered
    assert client.get("/picture/clip.toy?scalex=100").status_code == 200


def test_a_broken_film_is_read_once(site: Callable[..., FlaskClient], toys: Toys, pictures: Path) -> None:
    write(pictures, "broken.toy", "TOY nothing at all to be seen\n")
    client = site()
    answers = [client.get(f"/picture/broken.toy?scalex={width}") for width in (10, 20, 30)]
    assert [answer.status_code for answer in answers] == [422] * 3
    assert len(toys.runs()) == 1


def test_a_crash_half_way_is_no_picture(site: Callable[..., FlaskClient], pictures: Path) -> None:
    write(pictures, "crash.toy", toy(more="crash"))
    client = site()
    answer = client.get("/picture/crash.toy?scalex=10")
    assert answer.status_code in (422, 503)
    assert "Traceback" not in answer.text


def test_the_original_is_served_as_it_is(site: Callable[..., FlaskClient]) -> None:
    answer = site().get("/picture/clip.toy", headers={"Range": "bytes=0-2"})
    assert (answer.status_code, answer.data) == (206, b"TOY")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert site(http={"originals": False}).get("/picture/clip.toy").status_code == 404


def test_without_its_table_a_film_is_no_picture(site: Callable[..., FlaskClient]) -> None:
    assert site().get("/picture/clip.toy?scalex=100").status_code == 200
    assert site(programs={}).get("/picture/clip.toy?scalex=100").status_code == 404
    assert site(programs={}).get("/picture/clip.toy").status_code == 404
    assert site().get("/picture/clip.toy?scalex=100").headers["X-Cache"] == "hit"


def test_a_suffix_alone_is_a_claim(site: Callable[..., FlaskClient], pictures: Path, toys: Toys) -> None:
    write(pictures, "text.toy", "#EXTM3U\nhttp://127.0.0.1/x\n")
    (pictures / "cats" / "tom.jpg").rename(pictures / "really.toy")
    client = site()
    assert client.get("/picture/text.toy?scalex=100").status_code == 404
    assert client.get("/picture/really.toy?scalex=100").status_code == 200  # a JPEG, by our own pipeline
    assert toys.runs() == []


def test_a_purge_removes_what_a_program_made(
    site: Callable[..., FlaskClient], tmp_path: Path, toys: Toys
) -> None:
    client = site(admin={"token": "0123456789abcdef"})
    client.get("/picture/clip.toy?t=4&scalex=100")
    headers = {"Authorization": "Bearer 0123456789abcdef"}
    assert client.delete("/picture/clip.toy", headers=headers).json["variants"] == 3
    assert [*(tmp_path / "cache" / "objects").rglob("*.*")] == []
    assert client.get("/picture/clip.toy?t=4&scalex=100").headers["X-Cache"] == "miss"
    assert toys.runs().count("time=4") == 2
    assert problems(DiskStore(tmp_path / "cache", 2**40)) == []


def test_memory_mode_has_films_too(site: Callable[..., FlaskClient], tmp_path: Path) -> None:
    client = site(cache={"mode": "memory"})
    assert blue(picture(client, "clip.toy?t=30&scalex=200&encoding=png")) == 30
    assert client.get("/picture/clip.toy?t=30&scalex=200&encoding=png").headers["X-Cache"] == "hit"
    assert not (tmp_path / "cache").exists()


def test_an_encoder_writes_all_of_its_encoding(site: Callable[..., FlaskClient], toys: Toys) -> None:
    encoder = {
        "role": "encode",
        "command": toys.command("{quality}", script="encoder.py"),
        "input": "pipe",
        "encodings": ["jpeg"],
        "sandbox": "none",
    }
    client = site(programs={"toyjpeg": encoder})
    answer = client.get("/picture/cats/tom.jpg?scalex=100&quality=33")
    assert answer.data == b"\xff\xd8\xff\xe0 toy 33 " + str(100 * 75 * 3 + len("P6\n100 75\n255\n")).encode()
    assert picture(client, "cats/tom.jpg?scalex=100&encoding=png").format == "PNG"
    assert toys.runs() == ["encode 33"]
    plain = site(programs={}).get("/picture/cats/tom.jpg?scalex=100&quality=33")
    assert plain.headers["X-Cache"] == "miss" and plain.data != answer.data


def whole(toys: Toys, *words: str, **keys: Any) -> dict[str, Any]:
    return {
        "role": "whole",
        "command": toys.command("{in}", *words, script="whole.py"),
        "sources": [".jpg", ".odd"],
        "encodings": ["jpeg"],
        "sandbox": "none",
        **keys,
    }


def test_a_whole_answer_is_what_the_program_wrote(
    site: Callable[..., FlaskClient], toys: Toys, pictures: Path
) -> None:
    client = site(programs={"whole": whole(toys, "{width}x{height}", "{quality}")})
    start = (pictures / "cats" / "tom.jpg").read_bytes()[:20]
    answer = client.get("/picture/cats/tom.jpg?size=300x200")
    assert answer.data == b"\xff\xd8\xff\xe0 whole 267x200 80" + start
    assert client.get("/picture/cats/tom.jpg?size=300x200").headers["X-Cache"] == "hit"
    # What it can't be asked is our own pipeline's.
    assert picture(client, "cats/tom.jpg?size=30x30&fit=cover").size == (30, 30)
    assert picture(client, "cats/tom.jpg?size=30x30&encoding=png").size == (30, 23)


def test_what_only_a_whole_program_reads_has_no_other_way(
    site: Callable[..., FlaskClient], toys: Toys, pictures: Path
) -> None:
    write(pictures, "thing.odd", "some odd format, with more than twenty bytes")
    client = site(programs={"whole": whole(toys, "{width}x{height}")})
    answer = client.get("/picture/thing.odd?size=30x20")
    assert answer.data == b"\xff\xd8\xff\xe0 whole 30x20some odd format, wit"
    for query, name in (
        ("size=30x20&fit=cover", "fit"),
        ("size=30x20&blur=2", "blur"),
        ("encoding=jpeg", "scalex"),
    ):
        refused = client.get(f"/picture/thing.odd?{query}")
        assert refused.status_code == 400
        assert name in refused.json["detail"], refused.text


def test_a_program_has_as_many_places_as_it_says(
    site: Callable[..., FlaskClient], toys: Toys, tmp_path: Path
) -> None:
    tables = toys.tables()
    tables["film"]["concurrency"] = 1
    client = site(programs=tables)
    with ThreadPoolExecutor(6) as threads:
        urls = [f"/picture/clip.toy?t={t}&scalex=50" for t in range(1, 7)]
        assert {answer.status_code for answer in threads.map(client.application.test_client().get, urls)} == {
            200
        }
    assert len(toys.runs()) == 7


def test_a_film_that_is_being_written_is_tried_again(
    site: Callable[..., FlaskClient], pictures: Path
) -> None:
    (pictures / "new.toy").write_text("TOY 10")
    os.utime(pictures / "new.toy", (time.time(), time.time()))
    client = site()
    answer = client.get("/picture/new.toy?scalex=5")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    write(pictures, "new.toy", toy(20, 20))
    assert picture(client, "new.toy?scalex=5").size == (5, 5)
