"""The view of one picture: what Flask calls for all methods at a picture's URL."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO, cast

from flask import Flask, Response, request, send_from_directory
from werkzeug.exceptions import NotFound as FlaskNotFound
from werkzeug.wsgi import wrap_file

from ..engine.answer import Answer
from ..engine.flights import Waiter
from ..errors import BadParameter, RequestError, Unavailable
from ..factory import Parts
from ..storage.body import Body
from ..urls.client_hints import NOTHING_NEGOTIATED, Negotiated, read_hints
from ..urls.query import Request, negotiated_in
from .explain import NAME as EXPLAIN
from .explain import explain
from .fastpath import FastPath
from .host_app import HostApp
from .http.admission import Admission
from .http.bodies import body_of
from .http.counting import count_answer, count_reply
from .http.flask_response import to_flask, with_headers
from .http.packing import packed
from .http.responses import (
    CHUNK,
    SMALL,
    FilePart,
    Reply,
    accelerated,
    error_reply,
    json_reply,
    may_accelerate,
    options_reply,
    picture_reply,
    stream_reply,
)
from .http.routes import chosen
from .purge import purge_picture
from .storyboard import storyboard

__all__ = ["WAITER", "PictureView"]

# In the environ: the ``Waiter`` by which a server waits for others' renders without a thread.
WAITER = "imagefactory.waiter"

_Pairs = list[tuple[str, str]]


class PictureView:
    """The pictures of *parts* in *app*. ``fastpath`` is handed the answers that last, where there is one."""

    def __init__(self, app: Flask, parts: Parts) -> None:
        self._parts = parts
        self._http = parts.config.http
        self.host = HostApp(app, self.picture)
        self.fastpath: FastPath | None = None
        self._methods: dict[str, Callable[[str, _Pairs | None], Response]] = {
            "GET": self._shown,
            "HEAD": self._shown,
            "OPTIONS": self._options,
        }
        if parts.config.admin.token:
            self._methods["DELETE"] = self._purged
        self.admission = Admission(parts.config)
        if parts.config.has_uploads:
            parts.counters.meters.append(self.admission.gauges)

    def picture(self, path: str = "") -> Response:
        """The view: a picture, or an error as JSON."""
        self._parts.keeper.start()
        pairs = None
        try:
            with suppress(BadParameter):
                pairs = _pairs()
            if request.method == "POST" and not path and self._parts.config.has_uploads:
                return self._posted(pairs)
            return chosen(self._methods, request.method)(path, pairs)
        except RequestError as error:
            return self._failed(error, self._negotiated(pairs))
        except Exception:
            count_reply(self._parts.counters, "internal", 500)
            raise

    # --- the methods; *pairs* is the query, None where it is no text

    def _shown(self, path: str, pairs: _Pairs | None) -> Response:
        """The answer to GET and HEAD: the picture, or with ``explain=1`` what is known of it."""
        if self._http.explain and pairs is not None and (EXPLAIN, "1") in pairs:
            return self._explained(path, pairs)
        asked = self._asked(path, pairs)
        try:
            if pairs is not None and "vtt" in asked.names:
                answer = storyboard(self._parts, path, pairs, asked)
                if answer is not None:
                    return self._told(answer, asked)
            return self._sent(path, asked)
        except RequestError as error:
            return self._failed(error, asked.negotiated)

    def _explained(self, path: str, pairs: _Pairs) -> Response:
        pairs = [pair for pair in pairs if pair[0] != EXPLAIN]
        values = explain(self._parts, path, pairs, request.environ)
        return self._counted("explain", packed(json_reply(200, values), request.environ))

    def _options(self, path: str, pairs: _Pairs | None) -> Response:
        return self._counted(
            "options", options_reply(tuple(self._methods), self._negotiated(pairs), self._http)
        )

    def _purged(self, path: str, pairs: _Pairs | None) -> Response:
        return self._counted("purge", purge_picture(self._parts, request.environ, path))

    def _posted(self, pairs: _Pairs | None) -> Response:
        """The variant of the picture that the request brings along, for who has the token of [uploads], or a
        URL that is signed for no path."""
        parts, environ, taking = self._parts, request.environ, self._parts.taking
        if taking is None or pairs is None:
            raise BadParameter("", "the query has bytes that are not UTF-8")
        if self.admission.has_token(environ) or parts.access.signer is None or not _has(pairs, "s"):
            self.admission.admit(environ)
        else:
            self.admission.count(environ)
            parts.access.signer.check("", pairs, parts.clock())
        asked = parts.resolver.request(pairs)
        if asked.is_plain:
            raise BadParameter("", "this needs a parameter that says what to make of it, such as scalex=640")
        with self.admission.place():
            body = body_of(environ)
            receiver = taking.intake.receiver
            with receiver.receive(body.reader, body.length, body.digest) as received:
                accept = environ.get("HTTP_ACCEPT", "")
                answer = taking.posted.answer(received.temp.number, received.digest, asked, accept)
        answer = replace(answer, is_stable=False)  # no-store: what was sent may be private
        reply = picture_reply(answer, asked, {"REQUEST_METHOD": "GET"}, self._http, parts.clock())
        response = self._response(reply, answer)
        if response is None:
            raise Unavailable("the picture was removed from the cache this moment", retry_after_s=1)
        count_answer(parts.counters, answer, reply.status, reply.stop - reply.start)
        return response

    def _failed(self, error: RequestError, negotiated: Negotiated) -> Response:
        return self._counted(error.code, error_reply(error, negotiated, self._http))

    def _counted(self, result: str, reply: Reply) -> Response:
        """A reply without bytes of a picture, counted as *result*."""
        count_reply(self._parts.counters, result, reply.status)
        return to_flask(reply)

    # --- the steps of a picture

    def _asked(self, path: str, pairs: _Pairs | None) -> Request:
        """What the URL asks for. Raises Forbidden where it needs a signature, and BadParameter."""
        parts = self._parts
        grant = parts.access.check(path, pairs, parts.clock())
        hints = read_hints(request.environ, self._http, parts.config.limits.ladder)
        asked = parts.resolver.request(_pairs() if pairs is None else pairs, hints)
        return replace(asked, grant=grant)

    def _negotiated(self, pairs: _Pairs | None) -> Negotiated:
        """What a query leaves to negotiation, whatever else is wrong with it."""
        return NOTHING_NEGOTIATED if pairs is None else negotiated_in(pairs, self._parts.resolver.presets)

    def _sent(self, path: str, asked: Request) -> Response:
        """The picture, looked up again when its object was removed after the look-up."""
        parts, accept = self._parts, request.headers.get("Accept", "")
        waiter = request.environ.get(WAITER) or _patience()
        for is_again in (False, True, True):
            answer = parts.generator.answer(
                path,
                asked,
                accept,
                must_open=is_again,
                may_stream=request.method == "GET",
                waiter=waiter,
            )
            if answer.stream is not None:
                return self._streamed(answer, asked)
            reply = picture_reply(answer, asked, request.environ, self._http, parts.clock())
            response = self._response(reply, answer)
            if response is not None:
                self._remember(asked, answer)
                sent = 0 if request.method == "HEAD" else reply.stop - reply.start
                count_answer(parts.counters, answer, reply.status, sent)
                return response
        raise Unavailable("the picture changes all the time", retry_after_s=1)

    def _streamed(self, answer: Answer, asked: Request) -> Response:
        """The whole of what is still made, without a length; cut off where making it fails."""
        count_reply(self._parts.counters, "stream", 200)
        reply = stream_reply(answer, asked, self._http)
        return with_headers(Response(answer.stream, direct_passthrough=True), reply)

    def _told(self, answer: Answer, asked: Request) -> Response:
        """What is in no picture: *answer* has it in memory, and no cache of ours keeps it."""
        reply = picture_reply(answer, asked, request.environ, self._http, self._parts.clock())
        count_reply(self._parts.counters, "storyboard", reply.status)
        return self._response(reply, answer) or to_flask(reply)

    def _response(self, reply: Reply, answer: Answer) -> Response | None:
        """*reply* with its bytes of *answer*; None if they are gone."""
        if request.method == "HEAD" or not reply.has_body:
            return to_flask(reply)
        body = self._parts.generator.open(answer)
        if body is None:
            return None
        try:
            return self._with_body(reply, body, answer.bytes)
        except OSError:
            return None  # it can't be read: looked up again, it is made again

    def _with_body(self, reply: Reply, body: Body, length: int) -> Response | None:
        """*reply* with its part of *body*, which is *length* bytes long, or with where a server finds it.

        None if it has another length by now. Raises OSError when a small one can't be read.
        """
        if body.data is not None:
            return with_headers(Response(body.data[reply.start : reply.stop]), reply)
        if body.name and may_accelerate(reply, request.environ, self._http):
            body.close()
            return with_headers(Response(), accelerated(reply, body, self._http))
        if body.name and length <= SMALL:  # before a header is sent: what can't be read is made again
            data = body.read()
            part = data[reply.start : reply.stop]
            return with_headers(Response(part), reply) if len(data) == length else None
        is_whole = (reply.start, reply.stop) == (0, length)
        if is_whole and body.name:
            # Conditions were judged: Werkzeug would read them differently. Its headers are replaced by ours.
            with suppress(FlaskNotFound, OSError):  # gone or unreadable by now; what is open is the same file
                whole = send_from_directory(body.root, body.name, conditional=False, etag=False)
                body.close()
                return with_headers(whole, reply)
        file = body.open() if is_whole else cast(BinaryIO, FilePart(body.open(), reply.start, reply.stop))
        wrapped = wrap_file(request.environ, file, CHUNK)
        return with_headers(Response(wrapped, direct_passthrough=True), reply)

    def _remember(self, asked: Request, answer: Answer) -> None:
        """Let the fast path give this answer again, unless the host has put something before the view."""
        if self.fastpath and self.host.is_bare():
            self.fastpath.remember(request.environ, asked, answer)


def _has(pairs: _Pairs, name: str) -> bool:
    return any(each == name for each, _ in pairs)


def _patience() -> Waiter | None:
    """How the request waits for another one's render where it says ``Prefer: wait`` (RFC 7240), as a proxy
    does for one of a crowd."""
    prefer = request.environ.get("HTTP_PREFER")
    if prefer and any(each.strip().lower().startswith("wait") for each in prefer.split(",")):
        return Waiter(comes_again=False)
    return None


def _pairs() -> _Pairs:
    """The names and values of the query. Raises BadParameter where it is no text."""
    try:
        return list(request.args.items(multi=True))
    except UnicodeDecodeError:
        problem = "the query has bytes that are not UTF-8; write what is not ASCII as UTF-8, percent-encoded"
        raise BadParameter("", problem) from None
