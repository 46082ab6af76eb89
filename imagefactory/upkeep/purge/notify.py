"""Tell others of a purge: the CDN or proxy in front, which has copies of its own.

What is told is JSON, POSTed to ``[admin] purge_url`` and given to
``[admin] purge_command`` on its standard input:

    {"paths": ["cats/tom.jpg"], "urls": ["/picture/cats/tom.jpg", "/images/cats/tom.jpg"],
     "tags": ["/cats/tom.jpg", "sha256:0123456789abcdef"], "all": false}

Of many pictures a thousand at a time.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import IO
from urllib.parse import quote, urlsplit

from ...config import Admin
from ...urls.cache_tags import content_tag, folder_tag, picture_tag

__all__ = ["Told", "notices", "tell"]

_AT_ONCE = 1000
_TRIES = 3
_PAUSE_S = 0.5
_TIMEOUT_S = 10.0
_COMMAND_TIMEOUT_S = 60.0
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Told:
    """Whether all hooks know of the purge; else *detail* says what went wrong, without secrets."""

    ok: bool
    detail: str = ""


def notices(
    paths: Sequence[str], digests: Sequence[str], folder: str, prefixes: Sequence[str], is_all: bool
) -> Iterator[bytes]:
    """What is to be told of a purge of *paths* and *digests*, as JSON: a thousand of each at a time.

    *folder* is the prefix that was purged, or empty. URLs are those below the *prefixes* of the config,
    without a host; a query string may follow in the copies.
    """
    for start in range(0, max(len(paths), len(digests), 1), _AT_ONCE):
        some = paths[start : start + _AT_ONCE]
        tags = ["/"] if is_all else [folder_tag(folder.removesuffix("/"))] if folder and not start else []
        tags += [picture_tag(path) for path in some]
        tags += [content_tag(digest) for digest in digests[start : start + _AT_ONCE]]
        urls = [f"{prefix}/{quote(path)}" for path in some for prefix in prefixes]
        if some or tags:
            told = {"paths": list(some), "urls": urls, "tags": tags, "all": is_all}
            yield json.dumps(told).encode()


def tell(admin: Admin, bodies: Iterator[bytes]) -> Told | None:
    """Tell the hooks of *admin* all *bodies*; None if there is no hook, or nothing to tell.

    Ends at the first one that can't be told. Waits for the hooks: up to half a minute for each address and
    one minute for a command.
    """
    hooks = ([_post] if admin.purge_url else []) + ([_run] if admin.purge_command else [])
    told = None
    for body in bodies if hooks else ():
        for hook in hooks:
            problem = hook(admin, body)
            if problem:
                return Told(False, problem)
        told = Told(True)
    return told


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows none: the headers have secrets, which are for the address in the config alone."""

    def redirect_request(self, *details: object) -> None:
        return None


def _post(admin: Admin, body: bytes) -> str:
    """What went wrong with POSTing *body*; empty if nothing."""
    url = urlsplit(admin.purge_url)
    where = f"purge_url at {url.hostname}"
    opener = urllib.request.build_opener(_NoRedirect)
    headers = {"Content-Type": "application/json", "User-Agent": "imagefactory", **admin.purge_headers}
    problem = ""
    for number in range(_TRIES):
        time.sleep(_PAUSE_S * number)
        try:
            request = urllib.request.Request(admin.purge_url, body, headers, method="POST")  # noqa: S310
            with opener.open(request, timeout=_TIMEOUT_S):  # the config takes http and https only
                return ""
        except urllib.error.HTTPError as error:
            with error:
                problem = f"{where} answered {error.code}"
                if 300 <= error.code < 400:
                    return f"{problem}, a redirect, which is not followed; write the address that it leads to"
                if 400 <= error.code < 500 and error.code != 429:
                    return problem
        except (OSError, HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            problem = f"{where} can't be reached: {str(reason) or type(reason).__name__}"
    return f"{problem}; tried {_TRIES} times"


def _run(admin: Admin, body: bytes) -> str:
    """What went wrong with running the command with *body* as its input; empty if nothing."""
    name = f"purge_command {admin.purge_command[0]!r}"
    # Files, not pipes: what the command leaves running could keep those open.
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as errors:
        told.write(body)
        told.seek(0)
        try:
            done = subprocess.run(  # noqa: S603  # no shell, and the config is the operator's
                admin.purge_command,
                stdin=told,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                timeout=_COMMAND_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{name} ran longer than {_COMMAND_TIMEOUT_S:.0f} s and was ended"
        except (OSError, ValueError) as error:
            return f"{name} can't be started: {error}"
        return f"{name} exited with {done.returncode}{_last_of(errors)}" if done.returncode else ""


def _last_of(errors: IO[bytes]) -> str:
    """What a command said last, to be put behind a text."""
    errors.seek(0, 2)
    errors.seek(max(0, errors.tell() - _SHOWN))
    said = errors.read().decode("utf-8", "replace").strip()
    return f": {said}" if said else ""
