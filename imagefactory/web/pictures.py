"""The catalog over HTTP, for who has the admin token: ``GET /-/pictures``, ``DELETE /-/pictures/<path>``."""

from __future__ import annotations

import re
from dataclasses import asdict

from flask import Blueprint, Response, request

from ..catalog.pictures import Picture
from ..errors import BadParameter, MethodNotAllowed, NotFound, RequestError
from ..factory import Parts, Taking
from ..storage.originals import check_path
from ..upkeep.purge.selection import Selection
from ..urls.writing import picture_url
from .http.auth import authorize
from .http.flask_response import to_flask
from .http.packing import packed
from .http.responses import Reply, error_reply, json_reply, options_reply
from .http.routes import make_blueprint

__all__ = ["blueprint"]

_MOST = 1000
_STATES = ("ready",)


def blueprint(site: Parts, taking: Taking) -> Blueprint:
    """The routes of the catalog."""
    view = _Pictures(site, taking)
    rules = ["/-/pictures", "/-/pictures/<imagefactory_path:path>"]
    return make_blueprint("imagefactory-pictures", "pictures", rules, view.answer, merge_slashes=False)


class _Pictures:
    def __init__(self, site: Parts, taking: Taking) -> None:
        self._site = site
        self._taking = taking

    def answer(self, path: str = "") -> Response:
        """The view of both."""
        try:
            authorize(request.environ, self._site.config.admin.token)
            methods = ("DELETE", "OPTIONS") if path else ("GET", "HEAD", "OPTIONS")
            if request.method == "OPTIONS":
                return to_flask(options_reply(methods))
            if request.method not in methods:
                raise MethodNotAllowed(request.method, methods)
            return to_flask(packed(self._removed(path) if path else self._page(), request.environ))
        except RequestError as error:
            return to_flask(error_reply(error))

    def _page(self) -> Reply:
        arguments = request.args
        text = arguments.get("limit", "100")
        if not re.fullmatch("[0-9]{1,6}", text) or not 1 <= int(text) <= _MOST:
            raise BadParameter("limit", f"limit={text[:40]} is not a number from 1 to {_MOST}")
        state = arguments.get("state", "")
        if state and state not in _STATES:
            raise BadParameter("state", f"state={state[:40]!r} is not one of {', '.join(_STATES)}")
        found, following = self._taking.pictures.page(
            after=arguments.get("after", "")[:2000],
            limit=int(text),
            q=arguments.get("q", "")[:200],
            state=state,
            digest=arguments.get("sha256", "").lower()[:64],
        )
        return json_reply(200, {"pictures": [self._as_json(each) for each in found], "next": following})

    def _as_json(self, picture: Picture) -> dict[str, object]:
        values = asdict(picture)
        del values["stamp"]
        values["sha256"], values["stored_sha256"] = values.pop("received"), values.pop("digest")
        http = self._site.config.http
        base = http.base_url or request.script_root
        values["url"] = picture_url(f"{base}{http.prefixes[0]}", picture.path)
        return values

    def _removed(self, path: str) -> Reply:
        check_path(path)
        if not self._taking.intake.remove(path):
            raise NotFound
        self._site.purger.purge(Selection(paths=(path,)))
        return Reply(204, [("Cache-Control", "no-store")])
