"""In an app of somebody else's our own addresses alone are ours; our own app has /healthz."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, g, render_template_string, url_for
from flask.testing import FlaskClient
from PIL import Image
from support.asking import Buffered, Counting
from support.pages import links_of
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client, TestResponse

from imagefactory import ImageFactory, create_app
from imagefactory.config import Config, from_mapping
from imagefactory.errors import ConfigError

SMALL = "cats/tom.jpg?scalex=100"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("IMAGEFACTORY_"):
            monkeypatch.delenv(name)


@pytest.fixture
def paths(tmp_path: Path, pictures: Path) -> dict[str, dict[str, str]]:
    return {"paths": {"pictures": str(pictures), "cache": str(tmp_path / "cache")}}


@pytest.fixture
def host() -> Flask:
    """An app of somebody else's, with everything that an extension could tread on."""
    app = Flask("host", root_path=str(Path(__file__).parent))
    app.test_client_class = Buffered
    app.add_url_rule("/", "index", lambda: "the host's index")
    app.add_url_rule("/gallery", "gallery", lambda: "the host's gallery")
    app.add_url_rule("/healthz", "healthz", lambda: "the host's health")
    app.add_url_rule("/with-slash/", "with_slash", lambda: "with a slash")
    app.add_url_rule("/fail", "fail", lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    app.add_url_rule("/gone", "gone", lambda: abort(404))
    app.add_url_rule("/images/logo.png", "picture", lambda: "the host's picture")
    app.register_error_handler(404, lambda error: ("the host's 404", 404))
    app.register_error_handler(405, lambda error: ("the host's 405", 405))
    app.register_error_handler(500, lambda error: ("the host's 500", 500))
    app.register_error_handler(ValueError, lambda error: ("the host's ValueError", 418))
    return app


def is_picture(reply: TestResponse, media_type: str = "image/jpeg") -> bool:
    return reply.status_code == 200 and reply.headers["Content-Type"] == media_type


# --- in an app of somebody else's --------------------------------------------------------------------------


def test_the_extension_serves_one_prefix(host: Flask, paths: dict[str, Any]) -> None:
    factory = ImageFactory(host, paths)
    assert host.extensions["imagefactory"] is factory
    assert factory.config.http.prefixes == ("/picture",)
    web = host.test_client()
    assert is_picture(web.get(f"/picture/{SMALL}"))
    assert web.get(f"/images/{SMALL}").text == "the host's 404"
    assert web.get("/images/logo.png").text == "the host's picture"


@pytest.mark.parametrize(
    "url, status, text",
    [
        ("/", 200, "the host's index"),
        ("/gallery", 200, "the host's gallery"),
        ("/healthz", 200, "the host's health"),
        ("/metrics", 404, "the host's 404"),
        ("/gone", 404, "the host's 404"),
        ("/nowhere", 404, "the host's 404"),
        ("/picture", 404, "the host's 404"),
        ("/pictures/x", 404, "the host's 404"),
        ("/picturex/cats/tom.jpg", 404, "the host's 404"),
        ("/fail", 500, "the host's 500"),
        ("/with-slash/", 200, "with a slash"),
        ("/with-slash//", 308, None),
        ("/with-slash", 308, None),
    ],
)
def test_the_hosts_addresses_and_errors_stay_its_own(
    host: Flask, paths: dict[str, Any], url: str, status: int, text: str | None
) -> None:
    before = host.test_client().get(url)
    host._got_first_request = False  # the comparison is of one app before and after
    ImageFactory(host, paths)
    after = host.test_client().get(url)
    assert (after.status_code, list(after.headers)) == (before.status_code, list(before.headers))
    assert after.data == before.data
    assert after.status_code == status
    assert text is None or after.text == text


def test_the_hosts_405_stays_its_own_and_ours_is_ours(host: Flask, paths: dict[str, Any]) -> None:
    ImageFactory(host, paths)
    web = host.test_client()
    assert web.post("/gallery").text == "the host's 405"
    reply = web.post(f"/picture/{SMALL}")
    assert (reply.status_code, reply.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert json.loads(reply.data)["error"] == "method_not_allowed"


def test_our_errors_are_not_the_hosts(host: Flask, paths: dict[str, Any]) -> None:
    host.register_error_handler(Exception, lambda error: ("the host's everything", 500))
    ImageFactory(host, paths)
    web = host.test_client()
    for url, status, code in [
        ("x.jpg", 404, "not_found"),
        ("/cats/tom.jpg", 404, "not_found"),
        ("cats/tom.jpg?w=x", 400, "bad_parameter"),
    ]:
        reply = web.get(f"/picture/{url}")
        assert (reply.status_code, json.loads(reply.data)["error"]) == (status, code)


def test_a_bug_of_ours_goes_to_the_hosts_handler(
    host: Flask, paths: dict[str, Any], renderer: Counting
) -> None:
    def fail(job: object) -> None:
        raise RuntimeError("a bug")

    renderer.before = fail
    ImageFactory(host, paths, renderer=renderer)
    assert host.test_client().get(f"/picture/{SMALL}").text == "the host's 500"


def test_the_hosts_hooks_run_for_pictures_and_may_refuse_them(host: Flask, paths: dict[str, Any]) -> None:
    ImageFactory(host, paths)

    @host.before_request
    def check() -> Response | None:
        g.seen = True
        return Response("not for you", 401) if "secret" in host_request_args() else None

    @host.after_request
    def mark(response: Response) -> Response:
        response.headers["X-Seen"] = str(g.seen)
        return response

    web = host.test_client()
    assert web.get(f"/picture/{SMALL}").headers["X-Seen"] == "True"
    assert web.get(f"/picture/{SMALL}&secret=1").status_code == 401
    assert web.get("/").headers["X-Seen"] == "True"


def host_request_args() -> Any:
    from flask import request

    return request.args


def test_a_more_exact_address_of_the_host_goes_first(host: Flask, paths: dict[str, Any]) -> None:
    host.add_url_rule("/picture/about", "about", lambda: "the host's about")
    host.add_url_rule("/<path:anything>", "catch_all", lambda anything: f"the host's {anything}")
    ImageFactory(host, paths)
    web = host.test_client()
    assert web.get("/picture/about").text == "the host's about"
    assert is_picture(web.get(f"/picture/{SMALL}"))
    assert web.get("/picture//x").status_code == 404
    assert web.get("/else/where").text == "the host's else/where"


def test_names_of_the_host_do_not_clash_with_ours(host: Flask, paths: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "playground.html").write_text("the host's template")
    app = Flask("other", root_path=str(tmp_path))
    blueprint = Blueprint("picture", "picture", url_prefix="/p")
    blueprint.add_url_rule("/", "picture", lambda: "the host's blueprint")
    app.register_blueprint(blueprint)
    app.url_map.converters["any_path"] = app.url_map.converters["path"]
    ImageFactory(app, paths)
    assert app.test_client().get("/p/").text == "the host's blueprint"
    with app.app_context():
        assert app.jinja_env.get_template("playground.html").render() == "the host's template"


def test_url_for_makes_addresses(host: Flask, paths: dict[str, Any]) -> None:
    ImageFactory(host, paths)
    with host.test_request_context():
        assert (
            url_for("imagefactory.picture", path="cats/tom.jpg", scalex=5) == "/picture/cats/tom.jpg?scalex=5"
        )
        text = render_template_string("{{ url_for('imagefactory.picture', path='a b/ü.jpg') }}")
    assert text == "/picture/a%20b/%C3%BC.jpg"


def test_strict_slashes_and_merged_slashes_of_the_host_stay(host: Flask, paths: dict[str, Any]) -> None:
    host.url_map.strict_slashes = False
    ImageFactory(host, paths)
    host.add_url_rule("/lax", "lax", lambda: "lax")
    web = host.test_client()
    assert web.get("/lax/").text == "lax"
    assert web.get("/gallery//").status_code == 404
    for path in ("cats//tom.jpg", "/cats/tom.jpg", "cats/tom.jpg/"):
        reply = web.get(f"/picture/{path}")
        assert (reply.status_code, json.loads(reply.data)["error"]) == (404, "not_found")


@pytest.mark.parametrize("prefix", ["/media", "/media/", "/a/b", "/img-2.0"])
def test_the_prefix_can_be_chosen(host: Flask, paths: dict[str, Any], prefix: str) -> None:
    ImageFactory(host, paths, url_prefix=prefix)
    web = host.test_client()
    assert is_picture(web.get(f"{prefix.rstrip('/')}/{SMALL}"))
    assert web.get(f"/picture/{SMALL}").text == "the host's 404"


def test_several_prefixes_of_the_config(host: Flask, paths: dict[str, Any]) -> None:
    ImageFactory(host, {**paths, "http": {"prefixes": ["/picture", "/images"]}})
    web = host.test_client()
    assert is_picture(web.get(f"/picture/{SMALL}"))
    assert is_picture(web.get(f"/images/{SMALL}"))
    assert web.get("/images/logo.png").text == "the host's picture"


# --- several apps ------------------------------------------------------------------------------------------


def test_several_apps_have_each_its_own_folders(tmp_path: Path) -> None:
    clients = []
    for number, colour in enumerate(["red", "green", "blue"]):
        folder = tmp_path / str(number) / "pictures"
        folder.mkdir(parents=True)
        Image.new("RGB", (20, 20), colour).save(folder / "a.png")
        app = Flask(f"app{number}", root_path=str(tmp_path / str(number)))
        app.test_client_class = Buffered
        ImageFactory(app, {"paths": {"pictures": "pictures", "cache": "cache"}})
        clients.append(app.test_client())
    pixels = []
    for web in clients:
        with Image.open(BytesIO(web.get("/picture/a.png?scalex=5").data)) as image:
            pixels.append(image.convert("RGB").getpixel((2, 2)))
    assert pixels == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    assert all((tmp_path / str(number) / "cache" / "objects").is_dir() for number in range(3))


def test_one_extension_serves_the_apps_of_a_factory(tmp_path: Path, pictures: Path) -> None:
    images = ImageFactory()

    def make(name: str, prefix: str) -> Flask:
        app = Flask(name, root_path=str(tmp_path))
        app.test_client_class = Buffered
        app.config["IMAGEFACTORY"] = {
            "paths": {"pictures": "pictures", "cache": f"cache-{name}"},
            "http": {"prefixes": [prefix]},
        }
        images.init_app(app)
        return app

    one, two = make("one", "/one"), make("two", "/two")
    assert is_picture(one.test_client().get(f"/one/{SMALL}"))
    assert is_picture(two.test_client().get(f"/two/{SMALL}"))
    assert one.test_client().get(f"/two/{SMALL}").status_code == 404
    assert one.extensions["imagefactory"] is not two.extensions["imagefactory"]
    assert (tmp_path / "cache-one" / "objects").is_dir()
    assert (tmp_path / "cache-two" / "objects").is_dir()


def test_an_app_has_one_extension(host: Flask, paths: dict[str, Any]) -> None:
    ImageFactory(host, paths)
    with pytest.raises(ConfigError, match="this app has an ImageFactory already"):
        ImageFactory(host, paths)


def test_nothing_on_disk_is_touched_before_the_first_request(
    host: Flask, paths: dict[str, Any], tmp_path: Path
) -> None:
    ImageFactory(host, paths)
    assert not (tmp_path / "cache").exists()


# --- configuration -----------------------------------------------------------------------------------------


def test_the_config_of_an_app_is_relative_to_its_root(tmp_path: Path, pictures: Path) -> None:
    app = Flask("app", root_path=str(tmp_path))
    app.config["IMAGEFACTORY"] = {"paths": {"pictures": "pictures", "cache": "var/cache"}}
    factory = ImageFactory(app)
    assert factory.config.paths.pictures == pictures
    assert factory.config.paths.cache == tmp_path / "var" / "cache"


@pytest.mark.parametrize("as_path", [str, Path], ids=["text", "path"])
@pytest.mark.parametrize("is_absolute", [False, True], ids=["relative", "absolute"])
def test_the_config_may_be_a_file_and_is_relative_to_it(
    tmp_path: Path, pictures: Path, as_path: Callable[[Path], str | Path], is_absolute: bool
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "pictures.toml").write_text('[paths]\npictures = "../pictures"\ncache = "../cache"\n')
    app = Flask("app", root_path=str(tmp_path))
    app.test_client_class = Buffered
    file = (tmp_path if is_absolute else Path()) / "etc" / "pictures.toml"
    app.config["IMAGEFACTORY"] = as_path(file)
    factory = ImageFactory(app)
    assert factory.config.http.prefixes == ("/picture",)
    assert factory.config.paths.pictures.resolve() == pictures
    assert is_picture(app.test_client().get(f"/picture/{SMALL}"))


def test_a_config_of_the_call_goes_before_that_of_the_app(host: Flask, paths: dict[str, Any]) -> None:
    host.config["IMAGEFACTORY"] = {"nonsense": 1}
    config = from_mapping({**paths, "http": {"prefixes": ["/x"]}}, Path())
    assert ImageFactory(host, config).config is config
    assert is_picture(host.test_client().get(f"/x/{SMALL}"))


def test_the_environment_goes_before_the_config(
    host: Flask, paths: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEFACTORY_HTTP__MAX_AGE_S", "7")
    assert ImageFactory(host, {**paths, "http": {"max_age_s": 8}}).config.http.max_age_s == 7


@pytest.mark.parametrize(
    "config, text",
    [
        ({"limit": {}}, "unknown section, did you mean 'limits'"),
        ({"limits": {"size": "any"}}, "limits.size: unknown key, did you mean 'sizes'"),
        ({"limits": {"sizes": "presets"}}, "limits.sizes: 'presets' needs one"),
        ({"limits": {"sizes": "signed"}}, "limits.sizes: 'signed' needs a key"),
        ({"presets": {"thumb": {"fit": "round"}}}, "presets.thumb.fit: fit='round' is not a fit"),
        ({"presets": {"thumb": {"scalx": 5}}}, "presets.thumb.scalx: .*did you mean 'scalex'"),
        ({"http": {"prefixes": []}}, "http.prefixes: the list is empty"),
        ({"http": {"prefixes": ["/"]}}, "http.prefixes: '/' is not a prefix"),
        ({"paths": {"pictures": "a", "cache": "a/b"}}, "paths.cache: .* one inside the other"),
        (5, "IMAGEFACTORY: int is neither a mapping nor the path of a file"),
        (["x"], "IMAGEFACTORY: list is neither a mapping nor the path of a file"),
        ("nowhere.toml", "nowhere.toml: this file can't be read"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mistake_in_the_config_stops_the_app_at_its_start(host: Flask, config: object, text: str) -> None:
    host.config["IMAGEFACTORY"] = config
    with pytest.raises(ConfigError, match=text):
        ImageFactory(host)
    assert "imagefactory" not in host.extensions
    assert "imagefactory" not in host.blueprints


@pytest.mark.parametrize("prefix", ["", "/", "picture", "/a//b", "/../x", "/a b", "/<x>", "/ü", "http://x/y"])
def test_a_prefix_that_is_none_stops_the_app_at_its_start(
    host: Flask, paths: dict[str, Any], prefix: str
) -> None:
    with pytest.raises(ConfigError, match="url_prefix: .*is not a prefix"):
        ImageFactory(host, paths, url_prefix=prefix)


def test_create_app_takes_a_mapping_a_file_or_the_environment(
    tmp_path: Path, pictures: Path, paths: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[paths]\npictures = "pictures"\ncache = "cache"\n')
    apps = [create_app(paths), create_app(file), create_app(str(file))]
    monkeypatch.chdir(tmp_path)
    apps.append(create_app())
    monkeypatch.chdir(pictures)
    monkeypatch.setenv("IMAGEFACTORY_CONFIG", str(file))
    apps.append(create_app())
    for app in apps:
        config: Config = app.extensions["imagefactory"].config
        assert (config.paths.pictures, config.paths.cache) == (pictures, tmp_path / "cache")
        assert config.http.prefixes == ("/picture", "/images")


# --- below another address ---------------------------------------------------------------------------------


def test_mounted_below_a_path_everything_follows(
    host: Flask, configure: Callable[..., Config], pictures: Path
) -> None:
    mounted = DispatcherMiddleware(host.wsgi_app, {"/media": create_app(configure()).wsgi_app})
    web = Client(mounted)
    page = web.get("/media/", buffered=True).text
    links = links_of(page)
    assert links
    assert all(link.startswith("/media/picture/") for link in links)
    assert all(web.get(link, buffered=True).status_code == 200 for link in links)
    assert web.get("/media/healthz", buffered=True).status_code == 200
    assert web.get("/picture/cats/tom.jpg", buffered=True).text == "the host's 404"


# --- the stand-alone server --------------------------------------------------------------------------------


def test_errors_of_the_other_addresses_are_json_too(site: Callable[..., FlaskClient]) -> None:
    web = site()
    for method, url, status in [("GET", "/nowhere", 404), ("POST", "/", 405), ("DELETE", "/healthz", 405)]:
        reply = web.open(url, method=method)
        assert (reply.status_code, reply.mimetype) == (status, "application/json")
        assert set(json.loads(reply.data)) == {"error", "detail"}
        assert reply.headers["Cache-Control"] == "no-store"
        assert ("Allow" in reply.headers) == (status == 405)


# --- health ------------------------------------------------------------------------------------------------


def test_a_server_that_can_show_pictures_is_ok(site: Callable[..., FlaskClient]) -> None:
    reply = site().get("/healthz")
    assert reply.status_code == 200
    assert json.loads(reply.data) == {"status": "ok", "pictures": True, "render": True, "cache": {}}
    assert (reply.mimetype, reply.headers["Cache-Control"]) == ("application/json", "no-store")


def test_a_server_whose_cache_is_in_trouble_is_degraded_and_up(
    site: Callable[..., FlaskClient], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    web = site()
    reply = web.get("/healthz")
    assert (reply.status_code, json.loads(reply.data)["status"]) == (200, "degraded")
    assert is_picture(web.get(f"/picture/{SMALL}"))


def test_the_trouble_of_a_cache_is_told_without_a_path(
    site: Callable[..., FlaskClient], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert str(tmp_path) not in site().get("/healthz").text


def test_a_server_without_its_pictures_is_down(site: Callable[..., FlaskClient], pictures: Path) -> None:
    web = site()
    assert web.get("/healthz").status_code == 200
    pictures.rename(pictures.with_name("moved"))
    reply = web.get("/healthz")
    assert (reply.status_code, json.loads(reply.data)["status"]) == (503, "down")
    assert reply.headers["Retry-After"] == "5"
    assert web.get(f"/picture/{SMALL}").status_code == 404
    pictures.with_name("moved").rename(pictures)
    assert web.get("/healthz").status_code == 200
    assert is_picture(web.get(f"/picture/{SMALL}"))


def test_a_server_that_can_not_render_is_down(
    site: Callable[..., FlaskClient], renderer: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renderer, "is_working", lambda: False)
    reply = site().get("/healthz")
    assert (reply.status_code, json.loads(reply.data)["render"]) == (503, False)
