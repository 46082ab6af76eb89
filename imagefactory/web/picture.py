"""The view of one picture: what Flask calls for all methods at a picture's URL."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from flask import Flask, Response, request, send_from_directory
from werkzeug.exceptions import NotFound as FlaskNotFound
from werkzeug.wsgi import wrap_file

from ..engine.generator import Answer, Generator
from ..errors import BadParameter, MethodNotAllowed, RequestError, Unavailable
from ..storage.store import Body
from ..urls.client_hints import NO_LEEWAY, Leeway, read_hints
from ..urls.query import Request, leeway_of
from .explain import NAME as EXPLAIN
from .explain import explain
from .fastpath import FastPath
from .flask_response import headed, textual
from .host_app import has_hooks, is_guarded
from .purge import purge_picture
from .responses import (
    CHUNK,
    METHODS,
    FilePart,
    Reply,
    accelerated,
    error_reply,
    json_reply,
    may_accelerate,
    note_answer,
    options_reply,
    picture_reply,
)

__all__ = ["PictureView"]


class PictureView:
    """The pictures of *generator* in *app*; answers that last are handed to *fastpath*, if there is one."""

    def __init__(self, app: Flask, generator: Generator, fastpath: FastPath | None) -> None:
        self._app = app
        self.generator = generator
        self.config = generator.config
        self.fastpath = fastpath

    def picture(self, path: str) -> Response:
        """The view: a picture, or an error as JSON."""
        http, leeway, pairs = self.config.http, None, None
        allowed = (*METHODS, "DELETE") if self.config.admin.token else METHODS
        self.generator.keeper.start()
        try:
            with suppress(BadParameter):
                pairs = _pairs()
            if request.method == "OPTIONS":
                self.generator.tally.add("requests options - 204")
                return textual(options_reply(allowed, self._leeway(pairs), http))
            if request.method not in allowed:
                raise MethodNotAllowed(request.method, allowed)
            if request.method == "DELETE":
                reply = purge_picture(self.generator, request.environ, path)
                self.generator.tally.add(f"requests purge - {reply.status}")
                return textual(reply)
            if http.explain and pairs is not None and (EXPLAIN, "1") in pairs:
                pairs = [pair for pair in pairs if pair[0] != EXPLAIN]
                values = explain(self.generator, path, pairs, request.environ)
                self.generator.tally.add("requests explain - 200")
                return textual(json_reply(200, values))
            grant = self.generator.access.check(path, pairs, self.generator.now_s())
            hints = read_hints(request.environ, http, self.config.limits.ladder)
            wanted = self.generator.rules.request(_pairs() if pairs is None else pairs, hints)
            wanted, leeway = replace(wanted, grant=grant), wanted.leeway
            for is_again in (False, True, True):
                answer = self.generator.answer(
                    path, wanted, request.headers.get("Accept", ""), must_open=is_again
                )
                reply = picture_reply(answer, wanted, request.environ, http, self.generator.now_s())
                if not reply.has_body or request.method == "HEAD":
                    self._remember(wanted, answer)
                    note_answer(self.generator.tally, answer, reply.status, 0)
                    return textual(reply)
                body = self.generator.open(answer)
                if body is None:
                    continue
                try:
                    response = self._send(reply, body, answer.bytes)
                except (FlaskNotFound, FileNotFoundError):
                    continue  # removed between the look and the open
                self._remember(wanted, answer)
                note_answer(self.generator.tally, answer, reply.status, reply.stop - reply.start)
                return response
            raise Unavailable("the picture changes all the time", retry_after_s=1)
        except RequestError as error:
            self.generator.tally.add(f"requests {error.code} - {error.status}")
            return textual(error_reply(error, leeway or self._leeway(pairs), http))
        except Exception:
            self.generator.tally.add("requests internal - 500")
            raise

    def _leeway(self, pairs: list[tuple[str, str]] | None) -> Leeway:
        """What a query leaves to the browser, whatever else is wrong with it; None is one that is no text."""
        return NO_LEEWAY if pairs is None else leeway_of(pairs, self.generator.rules.presets)

    def _send(self, reply: Reply, body: Body, length: int) -> Response:
        if body.data is not None:
            return headed(Response(body.data[reply.start : reply.stop]), reply)
        is_whole = (reply.start, reply.stop) == (0, length)
        if body.file is not None:
            if is_whole:
                wrapped = wrap_file(request.environ, body.file, CHUNK)
                return headed(Response(wrapped, direct_passthrough=True), reply)
            return headed(Response(FilePart(body.file, reply.start, reply.stop)), reply)
        if may_accelerate(reply, request.environ, self.config.http):
            return headed(Response(), accelerated(reply, body, self.config.http))
        if is_whole:
            # Conditions were judged: Werkzeug would read them differently. Its headers are replaced by ours.
            return headed(send_from_directory(body.root, body.name, conditional=False, etag=False), reply)
        file = (body.root / body.name).open("rb")
        return headed(Response(FilePart(file, reply.start, reply.stop)), reply)

    def _remember(self, wanted: Request, answer: Answer) -> None:
        """Let the fast path give this answer again, unless the host has put something before the view."""
        app = self._app
        if self.fastpath is not None and not is_guarded(app, self.picture) and not has_hooks(app):
            self.fastpath.remember(request.environ, wanted, answer)


def _pairs() -> list[tuple[str, str]]:
    """The names and values of the query. Raises BadParameter where it is no text."""
    try:
        return list(request.args.items(multi=True))
    except UnicodeDecodeError:
        problem = "the query has bytes that are not UTF-8; write what is not ASCII as UTF-8, percent-encoded"
        raise BadParameter("", problem) from None
