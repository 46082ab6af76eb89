"""config.toml, a Flask dict and the environment become one checked `Config`, or one helpful error."""

import copy
import dataclasses
import json
import os
import re
import tomllib
from pathlib import Path
from types import MappingProxyType

import pytest

from imagefactory.common.units import parse_bytes
from imagefactory.config import Config, as_dict, as_toml, from_mapping, load
from imagefactory.config import schema as module
from imagefactory.errors import ConfigError

BASE = Path("/srv/app")
SECRET = "correct-horse-battery"
TOKEN = "open-sesame-open-sesame"
HOSTILE = 'é\x00\x7f\x85\u2028"\\\n\U0001f600'
EVERYTHING = {
    "paths": {"pictures": "in", "cache": "/var/cache/out"},
    "server": {
        "host": "::1",
        "port": 0,
        "threads": 1,
        "trusted_proxies": ["10.0.0.0/8", "::1", "*"],
        "access_log": "logs/access é.log",
        "log_level": "debug",
        "playground": False,
    },
    "http": {
        "prefixes": ["/a/", "/b.c/d_e"],
        "originals": False,
        "max_age_s": 0,
        "stale_while_revalidate_s": 60,
        "strict": True,
        "accel": "x-sendfile",
        "accel_prefix": "/",
        "access_control_allow_origin": "https://example.com:8443",
        "cross_origin_resource_policy": "cross-origin",
        "timing_allow_origin": "https://a.example, http://[::1]:80",
        "base_url": "https://img.example/a",
    },
    "limits": {
        "sizes": "signed",
        "ladder": [640, 320, 640],
        "max_pixels": 1,
        "max_source_bytes": 1,
        "max_side": 65535,
        "variants_per_source": 1,
    },
    "cache": {
        "mode": "memory",
        "max_bytes": "1.5 GiB",
        "min_free": 0,
        "salt": HOSTILE,
        "memory_bytes": "1 kB",
    },
    "render": {"processes": -1, "queue": 0, "timeout_s": 1},
    "encodings": {
        "jpeg": {"quality": 1},
        "webp": {"quality": 100, "method": 6},
        "avif": {"quality": 1, "speed": 0},
    },
    "presets": {
        "thumb": {"scalex": 240, "enlarge": True},
        "x-2_y": {"dpr": 1.5, "download": HOSTILE},
        "0": {},
    },
    "signing": {"keys": {"web": SECRET, "Old-1": SECRET + "!"}},
    "admin": {
        "token": TOKEN,
        "purge_url": "https://cdn.example/purge?zone=1",
        "purge_headers": {"X-Key": SECRET},
        "purge_command": ["/bin/purge", "--now"],
    },
}


def made(values=(), environ=(), **others):
    return from_mapping(dict(values), BASE, dict(environ), **others)


def at(config, dotted):
    for name in dotted.split("."):
        config = config[name] if isinstance(config, MappingProxyType) else getattr(config, name)
    return config


def nested(dotted, value):
    for name in reversed(dotted.split(".")):
        value = {name: value}
    return value


def error_of(make, *args, **kwargs):
    with pytest.raises(ConfigError) as caught:
        make(*args, **kwargs)
    return str(caught.value)


# --- defaults and files


def test_the_defaults_are_those_of_the_contract():
    assert made() == Config(
        paths=module.Paths(BASE / "pictures", BASE / "cache_dir"),
        server=module.Server("127.0.0.1", 8080, 64, (), "", "info", True),
        http=module.Http(("/picture", "/images"), True, 3600, 0, False, "off", "/_imagefactory/", "", "", ""),
        limits=module.Limits(
            "any",
            (160, 240, 320, 480, 640, 800, 960, 1280, 1600, 1920, 2560),
            50_000_000,
            100_000_000,
            8192,
            500,
        ),
        cache=module.Cache("disk", 10_000_000_000, 500_000_000, "", 64_000_000),
        render=module.Render(0, 32, 30),
        encodings=module.Encodings(module.Jpeg(80), module.Webp(80, 2), module.Avif(65, 8)),
        presets={},
        signing=module.Signing({}),
        admin=module.Admin(""),
    )


def test_the_file_in_the_repository_holds_every_key_with_its_default():
    file = Path(__file__).parents[2] / "config.toml"
    loaded = load(file)
    assert loaded.presets == {"thumb": {"scalex": "240", "scaley": "240", "fit": "cover"}}
    assert dataclasses.replace(loaded, presets={}) == from_mapping({}, file.parent)

    def keys(table, above=""):
        return {
            key
            for name, value in table.items()
            for key in (
                keys(value, f"{above}{name}.") if isinstance(value, dict) and value else {above + name}
            )
        }

    written = keys(tomllib.loads(file.read_text(encoding="utf-8")))
    assert {key for key in written if not key.startswith("presets.")} == keys(as_dict(made())) - {"presets"}


def test_option_goes_before_variable_before_current_folder_before_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environ = {"IMAGEFACTORY_CONFIG": str(tmp_path / "named" / "its.toml")}
    assert load() == from_mapping({}, tmp_path)
    for port, name in ((1, "config.toml"), (2, "named/its.toml"), (3, "option.toml")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"server.port = {port}")
    assert load().server.port == 1
    assert load(environ={"IMAGEFACTORY_CONFIG": ""}).server.port == 1
    assert load(environ=environ).server.port == 2
    assert load(environ=environ).paths.pictures == tmp_path / "named" / "pictures"
    assert load(Path("option.toml"), environ).server.port == 3


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    (tmp_path / "c.toml").write_bytes(b"\xef\xbb\xbf[server]\r\nport = 1\r\n")
    assert load(tmp_path / "c.toml").server.port == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "this file can't be read: No such file or directory"),
        ("a folder", "this file can't be read: Is a directory"),
        (b"[paths]\npictures = '\xff'", "this file is not UTF-8: invalid start byte at byte 20"),
        (
            b"[server]\nport 80",
            "this file is not TOML: Expected '=' after a key in a key/value pair (at line 2, column 6)",
        ),
        (b"[server]\nport = 1\nport = 2", "this file is not TOML: Cannot overwrite a value"),
        pytest.param(b"x = " + b"9" * 5000, "this file is not TOML: Exceeds the limit", id="digits"),
        pytest.param(b"x = " + b"[" * 5000, "this file is not TOML: maximum recursion", id="brackets"),
    ],
)
def test_a_file_that_was_named_is_named_in_its_error(tmp_path, content, problem):
    file = tmp_path / "my.toml"
    if content == "a folder":
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)
    for error in (error_of(load, file), error_of(load, None, {"IMAGEFACTORY_CONFIG": str(file)})):
        assert error.startswith(f"{file}: {problem}")


def test_folders_are_absolute_relative_to_the_base_and_need_not_exist():
    paths = made({"paths": {"pictures": "../in", "cache": Path("/nowhere/out")}}).paths
    assert paths == module.Paths(Path("/srv/app/../in"), Path("/nowhere/out"))
    assert from_mapping({}, Path()).paths.pictures == Path.cwd() / "pictures"


# --- layers


def test_values_go_before_the_apps_defaults_key_by_key():
    app = {"http": {"prefixes": ["/picture"], "max_age_s": 5}, "cache": {"mode": "memory"}}
    config = made({"http": {"max_age_s": 6}}, defaults=app)
    assert (config.http.prefixes, config.http.max_age_s, config.cache.mode) == (("/picture",), 6, "memory")


def test_a_mistake_in_the_apps_defaults_is_an_error_too():
    assert (
        error_of(made, defaults={"http": {"prefix": []}})
        == "http.prefix: unknown key, did you mean 'prefixes'?"
    )


@pytest.mark.parametrize(
    ("name", "text", "key", "expected"),
    [
        ("SERVER__PORT", "9000", "server.port", 9000),
        ("server__Port", " 9_000 # high", "server.port", 9000),
        ("HTTP__STRICT", "true", "http.strict", True),
        ("HTTP__PREFIXES", '["/p", "/q/"]', "http.prefixes", ("/p", "/q")),
        ("CACHE__MAX_BYTES", "1 GiB", "cache.max_bytes", 2**30),
        ("CACHE__MAX_BYTES", '"1 kB"', "cache.max_bytes", 1000),
        ("CACHE__MAX_BYTES", "5", "cache.max_bytes", 5),
        ("CACHE__MODE", "memory", "cache.mode", "memory"),
        ("CACHE__SALT", "2026", "cache.salt", "2026"),
        ("CACHE__SALT", '"2026"', "cache.salt", "2026"),
        ("CACHE__SALT", "2026-01-01", "cache.salt", "2026-01-01"),
        ("CACHE__SALT", "true", "cache.salt", "true"),
        ("CACHE__SALT", "1\nx = 2", "cache.salt", "1\nx = 2"),
        pytest.param("CACHE__SALT", "[" * 5000, "cache.salt", "[" * 5000, id="brackets"),
        ("CACHE__SALT", "", "cache.salt", ""),
        ("PATHS__PICTURES", "2026", "paths.pictures", BASE / "2026"),
        ("SERVER__ACCESS_LOG", "2026", "server.access_log", "/srv/app/2026"),
        ("SERVER__ACCESS_LOG", "-", "server.access_log", "-"),
        ("SERVER__ACCESS_LOG", "", "server.access_log", ""),
        ("ENCODINGS__JPEG__QUALITY", "1", "encodings.jpeg.quality", 1),
        ("ENCODINGS__WEBP", "{ method = 5 }", "encodings.webp", module.Webp(80, 5)),
        ("PRESETS__THUMB__SCALEX", "240", "presets.thumb.scalex", "240"),
        ("PRESETS__THUMB__ENLARGE", "true", "presets.thumb.enlarge", "1"),
        ("PRESETS__THUMB__BACKGROUND", "1e1", "presets.thumb.background", "1e1"),
        ("PRESETS__THUMB", "{ scalex = 1.5 }", "presets.thumb.scalex", "1.5"),
        ("SIGNING__KEYS__WEB", "1234567890123456", "signing.keys.web", "1234567890123456"),
        ("ADMIN__TOKEN", f'"{TOKEN}"', "admin.token", TOKEN),
    ],
)
def test_a_variable_goes_before_the_file_and_is_read_as_its_key_wants(name, text, key, expected):
    value = at(made({"server": {"port": 1}}, {f"IMAGEFACTORY_{name}": text}), key)
    assert (value, type(value)) == (expected, type(expected))


def test_a_variable_for_one_key_leaves_its_neighbours():
    values = {
        "presets": {"thumb": {"scalex": 1, "scaley": 2}},
        "signing": {"keys": {"web": SECRET}},
        "encodings": {"webp": {"quality": 3}},
    }
    environ = {
        "IMAGEFACTORY_PRESETS__THUMB__SCALEX": "9",
        "IMAGEFACTORY_SIGNING__KEYS__NEW": TOKEN,
        "IMAGEFACTORY_ENCODINGS__WEBP": "{ quality = 4, method = 0 }",
        "IMAGEFACTORY_ENCODINGS__WEBP__METHOD": "1",
        "IMAGEFACTORY_SERVER__PORT": "1",
    }
    before = copy.deepcopy(values)
    config = from_mapping(values, BASE, environ)
    assert config.presets == {"thumb": {"scalex": "9", "scaley": "2"}}
    assert config.signing.keys == {"web": SECRET, "new": TOKEN}
    assert config.encodings.webp == module.Webp(4, 1)
    assert values == before, "the caller's dict was changed"


def test_only_names_with_two_underscores_are_keys():
    others = {
        "IMAGEFACTORY_CONFIG": "x",
        "IMAGEFACTORY_PORT": "1",
        "OTHER_SERVER__PORT": "x",
        "SERVER__PORT": "x",
    }
    assert made(environ=others) == made()


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("SERVER__PROT", "1", "unknown key, did you mean 'port'?"),
        ("SEVER__PORT", "1", "unknown section, did you mean 'server'?"),
        ("SERVER__PORT", "http", "'http' is not a whole number; write one from 0 to 65535"),
        ("SERVER__PORT", "1\nx = 2", "'1\\nx = 2' is not a whole number; write one from 0 to 65535"),
        ("SERVER__PORT__X", "1", "a table is not a whole number; write one from 0 to 65535"),
        (
            "SERVER__",
            "1",
            "unknown key; there are host, port, threads, trusted_proxies, access_log, log_level, playground",
        ),
        ("_SERVER__PORT", "1", "unknown section, did you mean 'server'?"),
        ("HTTP__PREFIXES", "/p", "'/p' is not a list; write ['/p']"),
        ("HTTP__STRICT", "yes", "'yes' is not true or false"),
        ("ENCODINGS__JPG__QUALITY", "1", "unknown key, did you mean 'jpeg'?"),
        ("CACHE__SALT", "\udcff", "'\\udcff' is not text; write text in quotes, as UTF-8"),
        ("ADMIN__TOKEN__X", SECRET, "a secret is a text of 16 characters or more, this is not text"),
        ("SIGNING__KEYS", f'["{SECRET}"]', "this is not a table; write { key = value } or a [section]"),
    ],
)
def test_a_mistake_in_a_variable_names_the_variable(name, text, problem):
    name = f"IMAGEFACTORY_{name}"
    error = error_of(made, environ={name: text, "IMAGEFACTORY_RENDER__QUEUE": "1"})
    assert error == f"{name}: {problem}"
    assert SECRET not in error


# --- values


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("server.port", 0, 0),
        ("server.port", 65535, 65535),
        ("server.threads", 10000, 10000),
        ("server.host", "0.0.0.0", "0.0.0.0"),
        ("server.trusted_proxies", ["192.0.2.1", "fe80::/10", "*"], ("192.0.2.1", "fe80::/10", "*")),
        ("server.access_log", "logs/a.log", "/srv/app/logs/a.log"),
        ("server.access_log", Path("a.log"), "/srv/app/a.log"),
        ("server.access_log", "/dev/stderr", "/dev/stderr"),
        ("server.access_log", "pictures.log", "/srv/app/pictures.log"),
        ("server.access_log", "-", "-"),
        ("server.access_log", "", ""),
        ("server.log_level", "error", "error"),
        ("http.prefixes", ["/a/b/", "/.well-known"], ("/a/b", "/.well-known")),
        ("http.accel_prefix", "/", "/"),
        ("http.access_control_allow_origin", "*", "*"),
        ("http.access_control_allow_origin", "http://localhost:3000", "http://localhost:3000"),
        ("http.timing_allow_origin", "https://a.b,https://c.d", "https://a.b,https://c.d"),
        ("http.cross_origin_resource_policy", "same-site", "same-site"),
        ("http.max_age_s", 315360000, 315360000),
        ("limits.ladder", (3, 1, 2, 3), (1, 2, 3)),
        ("limits.max_pixels", 10**12, 10**12),
        ("limits.max_source_bytes", "1 B", 1),
        ("cache.max_bytes", 2**63 - 1, 2**63 - 1),
        ("cache.min_free", "0", 0),
        ("render.processes", 256, 256),
        ("encodings.avif.speed", 10, 10),
        ("presets.a.b", "x", "x"),
        ("presets.a.b", False, "0"),
        ("presets.a.b", 0.00001, "0.00001"),
        ("presets.a.b", 240.0, "240.0"),
        (f"signing.keys.{'k' * 32}", "x" * 16, "x" * 16),
        ("admin.token", "x" * 16, "x" * 16),
        ("admin.token", "", ""),
        ("admin.purge_url", "http://[::1]:8000/p?a=b", "http://[::1]:8000/p?a=b"),
        ("admin.purge_url", "", ""),
        ("admin.purge_headers", {"Api_Key-1": "a b"}, MappingProxyType({"Api_Key-1": "a b"})),
        ("admin.purge_command", ["/bin/x", "", "-a"][::2], ("/bin/x", "-a")),
        ("http.cache_tags", "xkey", "xkey"),
        ("http.private", [], ()),
        ("http.cache_tags", "", ""),
        ("http.base_url", "https://img.example/", "https://img.example"),
        ("http.base_url", "http://[::1]:80/a/b~c/", "http://[::1]:80/a/b~c"),
        ("http.base_url", "", ""),
    ],
)
def test_a_good_value(key, value, expected):
    found = at(made(nested(key, value)), key)
    assert (found, type(found)) == (expected, type(expected))


BAD_PREFIXES = ["/", "//", "/a//b", "/a//", "/..", "/a/../b", "/a..b", "/.", "/a/./b", "a/", ""]
BAD_PREFIXES += ["/é", "/a?", "/%41", "/a<b>", "/a b", "/a\n"]
BAD = [
    ("sever", {}, "sever: unknown section, did you mean 'server'?"),
    ("port", 80, "port: unknown section…"),
    ("server.prot", 1, "server.prot: unknown key, did you mean 'port'?"),
    (
        "server.zzz",
        1,
        "server.zzz: unknown key; there are host, port, threads, trusted_proxies, access_log, …",
    ),
    ("server.\x1b[31m", 1, "server.'\\x1b[31m': unknown key; there are host, …"),
    ("encodings.jpg", {}, "encodings.jpg: unknown key, did you mean 'jpeg'?"),
    ("encodings.jpeg.qualty", 1, "encodings.jpeg.qualty: unknown key, did you mean 'quality'?"),
    ("server", 3, "server: this is not a table; write { key = value } or a [section]"),
    ("server", [{}], "server: this is not a table; write …"),
    ("presets.thumb", "x", "presets.thumb: this is not a table; write …"),
    ("server.port", 99999, "server.port: 99999 is above the limit of 65535"),
    ("server.port", -1, "server.port: -1 is below the limit of 0"),
    ("server.port", True, "server.port: True is not a whole number; write one from 0 to 65535"),
    ("server.port", "80", "server.port: '80' is not a whole number; write one from 0 to 65535"),
    ("server.port", 80.0, "server.port: 80.0 is not a whole number; …"),
    ("server.port", None, "server.port: None is not a whole number; …"),
    pytest.param(
        "server.port",
        1 << 99999,
        "server.port: Exceeds the limit (4300 digits) for integer string conversion…",
        id="endless number",
    ),
    ("server.host", "", "server.host: '' is not a host name or IP address"),
    ("server.host", "a\nb", "server.host: 'a\\nb' is not a host name or IP address"),
    ("server.host", 1, "server.host: 1 is not text; write text in quotes, as UTF-8"),
    (
        "server.trusted_proxies",
        ["10.0.0.1/8"],
        "server.trusted_proxies: '10.0.0.1/8' is not an IP address or network;"
        " write one such as 10.0.0.1 or 10.0.0.0/8, or '*' for all",
    ),
    (
        "server.trusted_proxies",
        ["proxy.local"],
        "server.trusted_proxies: 'proxy.local' is not an IP address…",
    ),
    ("server.trusted_proxies", [1], "server.trusted_proxies: 1 is not text…"),
    ("server.trusted_proxies", "*", "server.trusted_proxies: '*' is not a list; write ['*']"),
    ("server.access_log", "a\nb", "server.access_log: 'a\\nb' is not a file, or '-' for standard output"),
    ("server.access_log", False, "server.access_log: False is not text; write text in quotes, as UTF-8"),
    (
        "server.access_log",
        "pictures/a.log",
        "server.access_log: '/srv/app/pictures/a.log' may not lie in the pictures folder or the cache",
    ),
    ("server.access_log", "x/../cache_dir/a", "server.access_log: '/srv/app/cache_dir/a' may not lie in …"),
    ("server.access_log", "cache_dir", "server.access_log: '/srv/app/cache_dir' may not lie in …"),
    (
        "server.log_level",
        "warn",
        "server.log_level: 'warn' is not one of debug, info, warning, error, did you mean 'warning'?",
    ),
    ("http.prefixes", [], "http.prefixes: the list is empty; it needs 1 or more"),
    (
        "http.prefixes",
        ["picture"],
        "http.prefixes: 'picture' is not a prefix; write '/' and a name of ASCII letters, digits, - _ and .,"
        " such as '/picture'",
    ),
    *(
        ("http.prefixes", [prefix], f"http.prefixes: {prefix!r} is not a prefix; …")
        for prefix in BAD_PREFIXES
    ),
    ("http.prefixes", ["/a", "/a/"], "http.prefixes: '/a' is there twice"),
    ("http.originals", 1, "http.originals: 1 is not true or false"),
    (
        "http.accel",
        "x-send-file",
        "http.accel: 'x-send-file' is not one of off, x-accel-redirect, x-sendfile, did…",
    ),
    ("http.accel", False, "http.accel: False is not one of off, x-accel-redirect, x-sendfile"),
    ("http.accel_prefix", "/x", "http.accel_prefix: '/x' is not a path that starts and ends with '/'"),
    ("http.accel_prefix", "x/", "http.accel_prefix: 'x/' is not a path that …"),
    ("http.accel_prefix", "/x\r\n/", "http.accel_prefix: '/x\\r\\n/' is not a path that …"),
    (
        "http.access_control_allow_origin",
        "https://example.com/",
        "http.access_control_allow_origin: 'https://example.com/' is not '*' or one origin"
        " such as https://example.com",
    ),
    ("http.access_control_allow_origin", "*\n", "http.access_control_allow_origin: '*\\n' is not …"),
    (
        "http.access_control_allow_origin",
        "example.com",
        "http.access_control_allow_origin: 'example.com' is…",
    ),
    (
        "http.access_control_allow_origin",
        "http://a, http://b",
        "http.access_control_allow_origin: 'http://a, …",
    ),
    (
        "http.timing_allow_origin",
        "*, *",
        "http.timing_allow_origin: '*, *' is not '*' or origins separated by …",
    ),
    (
        "http.timing_allow_origin",
        "https://a\r\nX: y",
        "http.timing_allow_origin: 'https://a\\r\\nX: y' is not…",
    ),
    (
        "http.cross_origin_resource_policy",
        "samesite",
        "http.cross_origin_resource_policy: 'samesite' is not one of same-origin, same-site, cross-origin,"
        " did you mean 'same-site'?",
    ),
    ("http.private", "members/**", "http.private: 'members/**' is not a list; write ['members/**']"),
    ("http.private", ["/members"], "http.private: '/members' is not a glob of paths such as 'members/**'"),
    ("http.private", ["[z-a]"], "http.private: '[z-a]' is no glob: bad character range z-a at position 6"),
    ("http.private", ["a/**"], 'http.private: this needs a key; write id = "secret" in [signing.keys]'),
    ("limits.sizes", "all", "limits.sizes: 'all' is not one of any, ladder, presets, signed"),
    ("limits.sizes", "signed", "limits.sizes: 'signed' needs a key; write id = \"secret\" in [signing.keys]"),
    ("limits.sizes", "presets", "limits.sizes: 'presets' needs one; write a section [presets.NAME]"),
    ("limits.ladder", [], "limits.ladder: the list is empty; it needs 1 or more"),
    ("limits.ladder", [160, 0], "limits.ladder: 0 is below the limit of 1"),
    ("limits.ladder", [65536], "limits.ladder: 65536 is above the limit of 65535"),
    ("limits.ladder", [True], "limits.ladder: True is not a whole number…"),
    ("limits.ladder", [[1]], "limits.ladder: [1] is not a whole number…"),
    ("limits.ladder", 160, "limits.ladder: 160 is not a list; write [160]"),
    ("cache.mode", "dsik", "cache.mode: 'dsik' is not one of disk, memory, did you mean 'disk'?"),
    (
        "cache.max_bytes",
        "10 GX",
        "cache.max_bytes: '10 GX' is not a size; write bytes or a number with a unit,"
        " such as 500 MB or 10 GiB",
    ),
    ("cache.max_bytes", True, "cache.max_bytes: True is not a size; …"),
    ("cache.max_bytes", 1.5, "cache.max_bytes: 1.5 is not a size; …"),
    ("cache.max_bytes", [5], "cache.max_bytes: [5] is not a size; …"),
    ("cache.max_bytes", {"secret": SECRET}, "cache.max_bytes: a table is not a size; …"),
    ("cache.max_bytes", ["x" * 999], f"cache.max_bytes: ['{'x' * 75}... is not a size; …"),
    ("cache.max_bytes", "0.1 B", "cache.max_bytes: 0 is below the limit of 1"),
    ("cache.max_bytes", "9" * 20, f"cache.max_bytes: {'9' * 20} is above the limit of 9223372036854775807"),
    ("cache.salt", 2026, "cache.salt: 2026 is not text; write text in quotes, as UTF-8"),
    ("cache.salt", ["x" * 999], f"cache.salt: ['{'x' * 75}... is not text…"),
    (
        "presets.Thumb",
        {},
        "presets.Thumb: a name is 1 to 64 of a-z, 0-9, _ and -, and starts with a letter or digit",
    ),
    ("presets._x", {}, "presets._x: a name is 1 to 64 of …"),
    ("presets." + "x" * 65, {}, f"presets.'{'x' * 65}': a name is 1 to 64 of …"),
    ("presets.a.scale x", 1, "presets.a.'scale x': a name is 1 to 64 of …"),
    ("presets.a.b", [1], "presets.a.b: [1] is not text, a number, true or false"),
    ("presets.a.b", {"c": 1}, "presets.a.b: a table is not text, a number, true or false"),
    ("paths.pictures", "", "paths.pictures: '' is not a folder"),
    ("paths.pictures", "a\0b", "paths.pictures: 'a\\x00b' is not a folder"),
    ("paths.cache", 5, "paths.cache: 5 is not text…"),
    (
        "paths.cache",
        "pictures/cache",
        "paths.cache: '/srv/app/pictures/cache' and the pictures folder '/srv/app/pictures'"
        " may not be the same or lie one inside the other",
    ),
    ("paths.cache", "x/../pictures", "paths.cache: '/srv/app/pictures' and the pictures folder …"),
    ("paths.cache", ".", "paths.cache: '/srv/app' and the pictures folder …"),
    ("paths.cache", "/", "paths.cache: '/' and the pictures folder …"),
    ("paths.follow_links", "outside", "paths.follow_links: 'outside' is not one of inside, listed, none…"),
    ("paths.follow_links", "listed", "paths.follow_links: 'listed' needs a folder; write it in link_roots"),
    ("paths.link_roots", ["/"], "paths.link_roots: these need follow_links = 'listed'"),
    ("paths.link_roots", "/srv", "paths.link_roots: '/srv' is not a list; write ['/srv']"),
    ("paths.link_roots", [5], "paths.link_roots: 5 is not text…"),
]


@pytest.mark.parametrize(("key", "value", "message"), BAD)
def test_a_mistake_says_where_what_and_what_would_be_right(key, value, message):
    error = error_of(made, nested(key, value))
    assert error == message or (message.endswith("…") and error.startswith(message[:-1]))
    assert error.isprintable(), "one line, safe on a terminal"


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [
        ("server.port", 0, 65535),
        ("server.threads", 1, 10_000),
        ("http.max_age_s", 0, 315_360_000),
        ("http.stale_while_revalidate_s", 0, 315_360_000),
        ("limits.max_pixels", 1, 10**12),
        ("limits.max_source_bytes", 1, 2**63 - 1),
        ("limits.max_side", 1, 65535),
        ("limits.variants_per_source", 1, 10**6),
        ("cache.max_bytes", 1, 2**63 - 1),
        ("cache.min_free", 0, 2**63 - 1),
        ("cache.memory_bytes", 1, 2**63 - 1),
        ("render.processes", -1, 256),
        ("render.queue", 0, 100_000),
        ("render.timeout_s", 1, 3600),
        ("encodings.jpeg.quality", 1, 100),
        ("encodings.webp.quality", 1, 100),
        ("encodings.webp.method", 0, 6),
        ("encodings.avif.quality", 1, 100),
        ("encodings.avif.speed", 0, 10),
    ],
)
def test_a_number_has_two_limits_and_may_be_either(key, low, high):
    for number in (low, high):
        assert at(made(nested(key, number)), key) == number
    assert error_of(made, nested(key, low - 1)) == f"{key}: {low - 1} is below the limit of {low}"
    assert error_of(made, nested(key, high + 1)) == f"{key}: {high + 1} is above the limit of {high}"


def test_a_neighbour_with_a_common_start_of_its_name_is_a_good_cache():
    assert made({"paths": {"cache": "pictures-cache"}}).paths.cache == BASE / "pictures-cache"


def test_a_link_hides_no_cache_inside_of_the_pictures(tmp_path):
    (tmp_path / "pictures" / "inside").mkdir(parents=True)
    (tmp_path / "cache_dir").symlink_to("pictures/inside")
    assert error_of(from_mapping, {}, tmp_path).startswith(f"paths.cache: '{tmp_path}/pictures/inside' and ")


def test_a_loop_of_links_as_log_is_an_error(tmp_path):
    (tmp_path / "a.log").symlink_to("a.log")
    error = error_of(from_mapping, {"server": {"access_log": "a.log"}}, tmp_path)
    assert error.startswith("server.access_log: this file can't be followed: ")


def test_a_loop_of_links_is_an_error(tmp_path):
    (tmp_path / "cache_dir").symlink_to("cache_dir")
    assert error_of(from_mapping, {}, tmp_path).startswith("paths: these folders can't be followed: ")


def test_signed_and_presets_are_fine_with_what_they_need():
    assert made({"limits": {"sizes": "presets"}, "presets": {"a": {}}}).limits.sizes == "presets"
    assert made({"limits": {"sizes": "signed"}, "signing": {"keys": {"a": SECRET}}}).limits.sizes == "signed"
    assert made({"http": {"private": ["a/**"]}, "signing": {"keys": {"a": SECRET}}}).http.private == ("a/**",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("7", 7),
        (7, 7),
        ("7B", 7),
        ("10 GB", 10 * 10**9),
        ("10gb", 10 * 10**9),
        (" 10  GiB ", 10 * 2**30),
        ("1 kB", 1000),
        ("1 KB", 1000),
        ("1 MB", 10**6),
        ("1 TB", 10**12),
        ("1 KiB", 1024),
        ("1 mib", 2**20),
        ("1 TIB", 2**40),
        ("1.5 GB", 1_500_000_000),
        ("0.1 kB", 100),
    ],
)
def test_sizes_in_words(text, expected):
    assert parse_bytes(text) == expected


NO_SIZES = ["", "GB", "-1", "+1", "1.5", "1,5 GB", ".5 GB", "1. GB", "1 iB", "1 EB", "1 GB B", "1e3"]
NO_SIZES += ["0x10", "1_000", "nan", "inf", "٣ GB", "9" * 21, "1\n GB", True]


@pytest.mark.parametrize("text", NO_SIZES)
def test_what_is_no_size(text):
    with pytest.raises(
        ValueError, match=r" is not a size; write bytes or a number with a unit, such as 500 MB"
    ):
        parse_bytes(text)


# --- secrets


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("signing.keys.web", SECRET[:15], "a secret is a text of 16 characters or more, this one has 15"),
        ("signing.keys.web", "", "a secret is a text of 16 characters or more, this one has 0"),
        ("signing.keys.web", [SECRET], "a secret is a text of 16 characters or more, this is not text"),
        (
            "signing.keys.web",
            SECRET + "\udcff",
            "a secret is a text of 16 characters or more, this is not text",
        ),
        (
            "admin.purge_headers.X-Key",
            f"{SECRET}\nX: y",
            "the value of a header is a text of printable ASCII characters, and not empty",
        ),
        ("admin.purge_headers.X Key", SECRET, "a name is 1 to 64 of A-Z, a-z, 0-9, _ and -"),
        ("admin.token", SECRET[:15], "a secret is a text of 16 characters or more, this one has 15"),
        ("admin.token", {"x": SECRET}, "a secret is a text of 16 characters or more, this is not text"),
        ("signing.keys", SECRET, "this is not a table; write { key = value } or a [section]"),
        ("signing", SECRET, "this is not a table; write { key = value } or a [section]"),
        ("admin", SECRET, "this is not a table; write { key = value } or a [section]"),
        ("signing.keys.a b", SECRET, "a name is 1 to 32 of A-Z, a-z, 0-9, _ and -"),
        *(
            (
                "admin.purge_url",
                url,
                "no user name and password here; write them as a header, in purge_headers",
            )
            for url in (
                f"http://bob:{SECRET}@cdn.example/",
                f"https://{SECRET}@[cdn/",
                f"http://x:{SECRET}@?",
            )
        ),
        ("admin.tokn", SECRET, "unknown key, did you mean 'token'?"),
    ],
)
def test_the_error_of_a_bad_secret_does_not_show_it(key, value, message):
    with pytest.raises(ConfigError) as caught:
        made(nested(key, value))
    assert caught.value.problem == message
    error = caught.value
    while error is not None:
        assert SECRET[:15] not in str(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("admin.purge_url", "ftp://cdn.example/", "is not an address such as https://cdn.example/purge"),
        ("admin.purge_url", "file:///etc/passwd", "is not an address such as"),
        ("admin.purge_url", "https://cdn.example/a b", "is not an address such as"),
        *(
            ("admin.purge_url", f"http://{host}/x", "has no host, or no port from 1 to 65535")
            for host in ("", ":80", "[::1", "cdn.example:99999", "cdn.example:no", "cdn.example:0")
        ),
        ("admin.purge_command", "/bin/x", "'/bin/x' is not a list; write ['/bin/x']"),
        ("admin.purge_command", ["/bin/x", ""], "'' is not an argument of a command"),
        ("http.cache_tags", "cache-tag", "not one of Cache-Tag, Surrogate-Key, Edge-Cache-Tag, xkey"),
        *(
            ("http.base_url", url, "is not the origin of a CDN, perhaps with a path, such as https://img.ex")
            for url in (
                "img.a",
                "//img.a",
                "ftp://img.a",
                "https://a@b",
                "https://a/?b",
                "x\n",
                "https://a/..",
            )
        ),
        ("http.base_url", 'https://a/"', "is not the origin of a CDN"),
        ("http.base_url", "https://a//b", "is not the origin of a CDN"),
    ],
)
def test_what_tells_a_cdn_of_a_purge_is_checked(key, value, message):
    assert message in error_of(made, nested(key, value))


def test_no_way_of_showing_a_config_shows_its_secrets():
    config = made(EVERYTHING)
    shown = [
        *(f(part) for f in (repr, str, "{}".format) for part in (config, config.signing, config.admin)),
        repr([config]),
        as_toml(config),
        repr(as_dict(config)),
        repr(module.Admin(TOKEN)),
    ]
    for text in shown:
        assert SECRET not in text
        assert TOKEN not in text
    assert repr(config.signing) == "Signing(keys={'web': '***', 'Old-1': '***'})"
    rest = "purge_url='https://cdn.example/purge?zone=1', purge_headers={'X-Key': '***'}, "
    assert repr(config.admin) == f"Admin(token='***', {rest}purge_command=['/bin/purge', '--now'])"
    assert repr(made().admin) == "Admin(token='', purge_url='', purge_headers={}, purge_command=[])"
    assert as_dict(config)["signing"] == {"keys": {"web": "***", "Old-1": "***"}}
    assert [as_dict(each)["admin"]["token"] for each in (config, made())] == ["***", ""]
    assert as_dict(config)["admin"]["purge_headers"] == {"X-Key": "***"}


# --- the value itself


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_as_toml_loads_back_to_an_equal_config(values):
    config = made(values)
    again = from_mapping(tomllib.loads(as_toml(config, secrets=True)), Path("/elsewhere"))
    assert again == config
    assert tomllib.loads(as_toml(config)) == json.loads(json.dumps(as_dict(config))) == as_dict(config)


def test_link_roots_are_folders_that_are_there_and_do_not_show_the_cache(tmp_path):
    def with_roots(*roots, **others):
        paths = {"follow_links": "listed", "link_roots": list(roots)}
        return from_mapping({"paths": paths, **others}, tmp_path)

    (tmp_path / "uploads").mkdir()
    (tmp_path / "cache_dir/objects").mkdir(parents=True)
    (tmp_path / "file").touch()
    config = with_roots("uploads", str(tmp_path / "uploads"))
    assert config.paths.link_roots == (tmp_path / "uploads",) * 2
    assert tomllib.loads(as_toml(config)) == as_dict(config)
    assert from_mapping(as_dict(config), Path("/elsewhere")).paths == config.paths
    text = json.dumps([str(tmp_path / "uploads")])
    environ = {"IMAGEFACTORY_PATHS__FOLLOW_LINKS": "listed", "IMAGEFACTORY_PATHS__LINK_ROOTS": text}
    assert from_mapping({}, tmp_path, environ).paths == dataclasses.replace(
        config.paths, link_roots=(tmp_path / "uploads",)
    )
    for name in ("none", "file"):
        message = f"paths.link_roots: there is no folder {tmp_path / name}"
        assert error_of(with_roots, "uploads", name) == message
    for name in (".", "cache_dir", "cache_dir/objects"):
        assert "and the cache" in error_of(with_roots, name)
    error = error_of(with_roots, "uploads", server={"access_log": "uploads/a.log"})
    assert error.endswith("uploads/a.log' may not lie in a link root")


def test_as_toml_reads_like_the_file():
    text = as_toml(made({"presets": {"thumb": {"scalex": 240}}, "admin": {"token": TOKEN}}))
    assert text.startswith(
        '[paths]\npictures = "/srv/app/pictures"\ncache = "/srv/app/cache_dir"\n'
        'follow_links = "inside"\nlink_roots = []\n\n[server]\n'
    )
    assert (
        '[presets.thumb]\nscalex = "240"\n\n[programs]\n\n[signing.keys]\n\n[admin]\ntoken = "***"\n'
        'purge_url = ""\npurge_command = []\n\n[admin.purge_headers]\n'
    ) in text
    assert text.endswith("\n[tasks]\nworkers = 1\nlease_s = 120\nattempts = 5\n")


def test_every_field_is_what_its_annotation_says():
    def check(value):
        for each in dataclasses.fields(value):
            found = getattr(value, each.name)
            assert re.match(rf"{type(found).__name__}\b|Path|Mapping", each.type), each
            assert type(found) in (bool, int, str, tuple, MappingProxyType) or isinstance(found, Path) == (
                each.type == "Path"
            )
            if dataclasses.is_dataclass(found):
                check(found)

    check(made(EVERYTHING))


def test_a_config_cannot_be_changed():
    config = made(EVERYTHING)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.server.port = 1
    for mapping in (config.presets, config.presets["thumb"], config.signing.keys):
        with pytest.raises(TypeError):
            mapping["x"] = "y"
    assert not hasattr(config.server, "__dict__")


def test_loading_reads_no_environment_but_what_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEFACTORY_SERVER__PORT", "1")
    monkeypatch.chdir(tmp_path)
    assert load().server.port == 8080
    assert load(environ=os.environ).server.port == 1
