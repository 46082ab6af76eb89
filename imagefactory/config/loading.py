"""A file, a dict and the environment become one checked `Config`, or one helpful ConfigError."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from ..errors import ConfigError, nearest
from .programs import check_programs
from .schema import Config
from .values import Variable, key_text, plain, section

__all__ = ["from_mapping", "load"]

PREFIX = "IMAGEFACTORY_"
Keys = tuple[str, ...]  # the way to a value: section, perhaps another section, key


def load(
    path: Path | None = None,
    environ: Mapping[str, str] = MappingProxyType({}),
    defaults: Mapping[str, Mapping[str, object]] | None = None,
) -> Config:
    """The config in *path*, else in the file that IMAGEFACTORY_CONFIG names, else in ./config.toml if any.

    Without any file it is the defaults, in the current folder. Relative paths in a file are relative to its
    folder (a symbolic link's own, not its target's). Raises ConfigError for every mistake.
    """
    named = path or environ.get(f"{PREFIX}CONFIG")
    file = Path(named or "config.toml").absolute()
    values = read_file(file) if named or file.exists() else {}
    return from_mapping(values, file.parent, environ, defaults)


def read_file(file: Path) -> Mapping[str, object]:
    """The tables of the TOML *file*. Raises ConfigError where it can't be read or is no TOML."""
    try:
        # utf-8-sig: some editors write a byte order mark, which tomllib refuses
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        problem = f"this file can't be read: {error.strerror}"
    except UnicodeDecodeError as error:
        problem = f"this file is not UTF-8: {error.reason} at byte {error.start}"
    except (ValueError, RecursionError) as error:  # tomllib's error, and int's for a number without end
        problem = f"this file is not TOML: {error}"
    raise ConfigError(str(file), problem)


def from_mapping(
    values: Mapping[str, object],
    base: Path,
    environ: Mapping[str, str] = MappingProxyType({}),
    defaults: Mapping[str, Mapping[str, object]] | None = None,
) -> Config:
    """The config in *values*, sections of keys as in config.toml, with paths relative to *base*.

    A variable IMAGEFACTORY_SECTION__KEY of *environ* goes before *values*, these before *defaults*, these
    before the schema's. Raises ConfigError; its key is the variable's name where the mistake is in one.
    """
    tree = with_defaults(values, defaults or {})
    variables = variables_in(environ)
    for keys, name in variables.items():
        set_nested(tree, keys, Variable(environ[name]))
    try:
        config = with_absolute_paths(section(Config, "")(tree), base)
        check_agreement(config)
    except ConfigError as error:
        raise ConfigError(variable_for(error.key, variables) or error.key, error.problem) from None
    return config


def with_defaults(
    values: Mapping[str, object], defaults: Mapping[str, Mapping[str, object]]
) -> dict[str, object]:
    """*values*, with each key of *defaults* that is not in its section there."""
    tree = dict(values)
    for name, keys in defaults.items():
        given = tree.get(name, {})
        if isinstance(given, Mapping):
            tree[name] = {**keys, **given}
    return tree


def variables_in(environ: Mapping[str, str]) -> dict[Keys, str]:
    """The names of the variables that set a key, by that key."""
    return {
        tuple(name.removeprefix(PREFIX).lower().split("__")): name
        for name in sorted(environ)
        if name.startswith(PREFIX) and "__" in name.removeprefix(PREFIX)
    }


def variable_for(key: str, variables: Mapping[Keys, str]) -> str | None:
    """The name of the variable that set the dotted *key*, or something below it; None for none."""
    for keys, name in variables.items():
        if f"{'.'.join(map(key_text, keys))}.".startswith(f"{key}."):
            return name
    return None


def set_nested(tree: dict[str, object], keys: Keys, value: Variable) -> None:
    """Puts *value* into *tree*; the tables on the way are copied, for they are the caller's."""
    for key in keys[:-1]:
        below = plain(tree.get(key))
        copy: dict[str, object] = dict(below) if isinstance(below, Mapping) else {}
        tree[key] = copy
        tree = copy
    tree[keys[-1]] = value


def with_absolute_paths(config: Config, base: Path) -> Config:
    """*config* with its folders and the access log below *base* where they are relative."""
    paths = replace(
        config.paths,
        pictures=(base / config.paths.pictures).absolute(),
        cache=(base / config.paths.cache).absolute(),
        link_roots=tuple((base / root).absolute() for root in config.paths.link_roots),
    )
    server = config.server
    if server.access_log not in ("", "-"):
        server = replace(server, access_log=str((base / server.access_log).absolute()))
    return replace(config, paths=paths, server=server)


def check_agreement(config: Config) -> None:
    """Raises ConfigError where two keys contradict each other."""
    check_places(config)
    check_programs(config.programs)
    if config.programs and config.render.processes < 0:
        problem = "external programs run in render processes; processes = -1 has none"
        raise ConfigError("render.processes", problem)
    if config.http.accel == "x-sendfile" and not str(config.paths.cache).isascii():
        raise ConfigError("http.accel", "'x-sendfile' needs a cache folder with an ASCII name")
    if config.limits.sizes == "signed" and not config.signing.keys:
        raise ConfigError("limits.sizes", "'signed' needs a key; write id = \"secret\" in [signing.keys]")
    if config.http.private and not config.signing.keys:
        raise ConfigError("http.private", 'this needs a key; write id = "secret" in [signing.keys]')
    own = f"{config.uploads.prefix}/"
    for each in (*config.http.prefixes, "/-"):
        if config.has_uploads and (own.startswith(f"{each}/") or f"{each}/".startswith(own)):
            problem = (
                f"{config.uploads.prefix!r} and {each!r}, where other things are, are in each other's way"
            )
            raise ConfigError("uploads.prefix", problem)
    for name in config.uploads.presets:
        if name not in config.presets:
            near = nearest(name, config.presets) or "; write a section [presets.NAME]"
            raise ConfigError("uploads.presets", f"there is no preset {name!r}{near}")
    if config.limits.sizes == "presets" and not config.presets:
        raise ConfigError("limits.sizes", "'presets' needs one; write a section [presets.NAME]")


def check_places(config: Config) -> None:
    """Raises ConfigError where pictures, link roots, cache and access log lie one inside the other."""
    try:
        pictures, cache = config.paths.pictures.resolve(), config.paths.cache.resolve()
        roots = [root.resolve() for root in config.paths.link_roots]
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
        raise ConfigError("paths", f"these folders can't be followed: {error}") from error
    if pictures == cache or pictures in cache.parents or cache in pictures.parents:
        where = f"{str(cache)!r} and the pictures folder {str(pictures)!r}"
        raise ConfigError("paths.cache", f"{where} may not be the same or lie one inside the other")
    check_link_roots(config, roots, cache)
    if "$" in str(config.paths.cache):
        problem = f"{str(config.paths.cache)!r} has a $, which diskcache would replace"
        raise ConfigError("paths.cache", problem)
    if config.server.access_log in ("", "-"):
        return
    try:
        log = Path(config.server.access_log).resolve()
    except (OSError, RuntimeError) as error:
        raise ConfigError("server.access_log", f"this file can't be followed: {error}") from error
    for folders, names in (({pictures, cache}, "the pictures folder or the cache"), (roots, "a link root")):
        if not {log, *log.parents}.isdisjoint(folders):
            raise ConfigError("server.access_log", f"{str(log)!r} may not lie in {names}")


def check_link_roots(config: Config, roots: Sequence[Path], cache: Path) -> None:
    """Raises ConfigError where the link roots, which are *roots* when resolved, mean nothing, are missing, or
    would show the *cache*."""
    is_listed = config.paths.follow_links == "listed"
    if is_listed and not roots:
        raise ConfigError("paths.follow_links", "'listed' needs a folder; write it in link_roots")
    if roots and not is_listed:
        raise ConfigError("paths.link_roots", "these need follow_links = 'listed'")
    for given, root in zip(config.paths.link_roots, roots, strict=True):
        if not root.is_dir():
            raise ConfigError("paths.link_roots", f"there is no folder {given}")
        if root == cache or root in cache.parents or cache in root.parents:
            where = f"{str(root)!r} and the cache {str(cache)!r}"
            raise ConfigError("paths.link_roots", f"{where} may not be the same or lie one inside the other")
