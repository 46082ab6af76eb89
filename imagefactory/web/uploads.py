"""Taking pictures in over HTTP: ``PUT /upload/<path>``, forms to ``POST /upload``, ``POST /upload/check``.

Registered only with a token in ``[uploads]``, also in a host app. Who may ask, and how often, is judged
before the body is read; what is wrong with one file of a form says nothing of the others.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from typing import Any

from flask import Blueprint, Response, request

from ..errors import BadParameter, BodyTooLarge, MethodNotAllowed, RequestError
from ..factory import Parts, Taking
from ..uploads.intake import Conditions, Stored
from ..uploads.names import safe_name
from ..uploads.receiving import Received
from ..urls.writing import picture_url
from .http.admission import CHECK_BODY, Admission
from .http.bodies import Reader, body_of, read_small
from .http.counting import count_reply
from .http.flask_response import to_flask
from .http.forms import Part, boundary_of, parts
from .http.packing import packed
from .http.responses import Reply, error_reply, json_reply, options_reply
from .http.routes import make_blueprint

__all__ = ["blueprint"]

_log = logging.getLogger(__name__)

_LINES = "application/jsonl"
_MAX_DIGESTS = 1000
# Files of one form that are checked and synced beside each other while the next ones arrive: a disk that
# syncs 86 files in a second one by one syncs 2,900 with 16 at once.
_AT_ONCE = 16

_Result = dict[str, object]


def blueprint(site: Parts, taking: Taking, admission: Admission) -> Blueprint:
    """The routes at and below ``[uploads] prefix``."""
    view = _Uploads(site, taking, admission)
    prefix = site.config.uploads.prefix
    rules = [f"{prefix}/<imagefactory_path:path>", prefix]
    return make_blueprint("imagefactory-uploads", "upload", rules, view.answer, merge_slashes=False)


class _Uploads:
    def __init__(self, site: Parts, taking: Taking, admission: Admission) -> None:
        self._site = site
        self._intake = taking.intake
        self._pictures = taking.pictures
        self._admission = admission
        self._settings = site.config.uploads
        self._prefix = site.config.http.prefixes[0]
        self._base_url = site.config.http.base_url
        self._counters = site.counters
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def answer(self, path: str = "") -> Response:
        """The view: all methods, and all errors as JSON."""
        try:
            self._site.generator.start_once()  # the first request of an app may be this one
            self._site.keeper.start()
            return self._answered(path)
        except RequestError as error:
            self._reject(error)
            count_reply(self._counters, "upload", error.status)
            return to_flask(error_reply(error))

    def _answered(self, path: str) -> Response:
        methods = {"PUT": self._put} if path else {"POST": self._post}
        if path == "check":
            methods = {"POST": self._check}
        if request.method == "OPTIONS":
            return to_flask(options_reply((*methods, "OPTIONS")))
        if request.method not in methods:
            raise MethodNotAllowed(request.method, (*methods, "OPTIONS"))
        return methods[request.method](path)

    # --- one file as a body

    def _put(self, path: str) -> Response:
        began_s = time.perf_counter()
        environ = request.environ
        self._admission.admit(environ)
        with self._admission.place():
            path = self._intake.path_of(path)
            body = body_of(environ)
            conditions = Conditions(
                environ.get("HTTP_IF_NONE_MATCH", "").strip() == "*", environ.get("HTTP_IF_MATCH")
            )
            with self._intake.receiver.receive(body.reader, body.length, body.digest) as received:
                stored = self._intake.store(received, path, conditions)
        self._count(stored)
        self._counters.observe("upload_seconds put -", time.perf_counter() - began_s)
        url = self._url(request.script_root, stored.path)
        headers = [("Location", url), ("ETag", f'"{stored.digest[:32]}"')]
        return self._replied(json_reply(stored.status, stored.as_json(url), headers))

    # --- many files as a form

    def _post(self, path: str) -> Response:
        environ = request.environ
        self._admission.admit(environ)
        boundary = boundary_of(environ.get("CONTENT_TYPE", ""))
        body = body_of(environ, must_prove=False)
        most = self._settings.max_request_bytes
        if body.length is not None and body.length > most:
            raise BodyTooLarge(most)
        body.reader.limit = most
        with ExitStack() as stack:
            stack.enter_context(self._admission.place())
            results = self._results(body.reader, boundary, request.script_root)
            if _LINES in environ.get("HTTP_ACCEPT", "").lower():
                response = Response(_lines(results), mimetype=_LINES)
                response.headers["Cache-Control"] = "no-store"
                response.headers["X-Accel-Buffering"] = "no"
                response.call_on_close(stack.pop_all().close)
                count_reply(self._counters, "upload", 200)
                return response
            files = list(results)
        problem = files.pop() if files and "path" not in files[-1] else {}
        status = _status(files, problem)
        return self._replied(json_reply(status, {"files": files, **_sums(files), **problem}))

    def _results(self, reader: Reader, boundary: bytes, root: str) -> Iterator[_Result]:
        """What became of each file of a form, in their order, and last, without a path, what is wrong with
        the form itself. *root* is the path that the app is mounted at."""
        began_s = time.perf_counter()
        pending: deque[Future[_Result] | _Result] = deque()
        problem: _Result | None = None
        try:
            for part in parts(reader, boundary, self._settings.max_files):
                found = self._received(part, root)
                if found is not None:
                    pending.append(found)
                while len(pending) > _AT_ONCE:
                    yield _result(pending.popleft())
        except RequestError as error:
            self._reject(error)
            problem = _problem("", error)
            del problem["path"]
        while pending:
            yield _result(pending.popleft())
        if problem is not None:
            yield problem
        self._counters.observe("upload_seconds form -", time.perf_counter() - began_s)

    def _received(self, part: Part, root: str) -> Future[_Result] | _Result | None:
        """The file of *part*, received and being stored, or what is wrong with it; None for a field that was
        left empty."""
        try:
            name = safe_name(part.name) if part.name else ""
            first = next(part.pieces, b"")
            if not first:  # no file is made for it: a form may have very many of these
                if name:
                    raise self._intake.unknown()
                return None
            if not name:
                raise BadParameter("path", "this file of the form has no name")
            stack = ExitStack()
            received = stack.enter_context(self._intake.receiver.receive(chain((first,), part.pieces)))
        except RequestError as error:
            self._reject(error)
            for _ in part.pieces:
                pass
            return _problem(part.name, error)
        return self._threads().submit(self._stored, stack, received, name, root)

    def _stored(self, stack: ExitStack, received: Received, name: str, root: str) -> _Result:
        try:
            with stack:
                stored = self._intake.store(received, "", name=name)
            self._count(stored)
            return stored.as_json(self._url(root, stored.path))
        except RequestError as error:
            self._reject(error)
            return _problem(name, error)
        except Exception:
            _log.exception("an upload met an error that nobody expected")
            return {"path": name, "status": 500, "error": "internal", "detail": "the server made a mistake"}

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = os.getpid(), ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="imagefactory-upload")
        return self._pool[1]

    # --- which are there

    def _check(self, path: str) -> Response:
        self._admission.admit(request.environ)
        try:
            values = json.loads(read_small(request.environ, CHECK_BODY))
        except (ValueError, RecursionError):
            values = None
        digests = values.get("sha256") if isinstance(values, dict) else None
        if not isinstance(digests, list) or not all(map(_is_digest, digests)):
            raise BadParameter("sha256", 'the body is to be {"sha256": ["<64 hex digits>", ...]} as JSON')
        if len(digests) > _MAX_DIGESTS:
            raise BadParameter("sha256", f"{len(digests)} digests are above the limit of {_MAX_DIGESTS}")
        present = self._pictures.present([each.lower() for each in digests])
        return self._replied(json_reply(200, {"present": present}))

    # --- answers and counts

    def _url(self, root: str, path: str) -> str:
        return picture_url(f"{self._base_url or root}{self._prefix}", path)

    def _replied(self, reply: Reply) -> Response:
        count_reply(self._counters, "upload", reply.status)
        return to_flask(packed(reply, request.environ))

    def _count(self, stored: Stored) -> None:
        result = "replaced" if stored.is_replaced else "stored" if stored.status == 201 else "present"
        self._counters.add(f"uploads {result}")
        self._counters.add("upload_bytes", stored.bytes)

    def _reject(self, error: RequestError) -> None:
        self._counters.add("uploads failed")
        self._counters.add(f"upload_rejected {error.code}")


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and not set(value.lower()) - set("0123456789abcdef")


def _problem(name: str, error: RequestError) -> _Result:
    return {"path": name[:300], "status": error.status, "error": error.code, "detail": str(error)}


def _result(pending: Future[_Result] | _Result) -> _Result:
    return pending if isinstance(pending, dict) else pending.result()


def _status(files: list[_Result], problem: _Result) -> int:
    """200 where at least one of *files* was taken, else that of the *problem* of the form, or the worst."""
    statuses = [int(str(each["status"])) for each in files]
    if statuses and min(statuses) < 300:
        return 200
    if problem:
        return int(str(problem["status"]))
    if not statuses:
        raise BadParameter("", "the form has no file: give each part a filename")
    return max(statuses)


def _sums(files: list[_Result]) -> dict[str, int]:
    failed = sum("error" in each for each in files)
    return {"stored": len(files) - failed, "failed": failed}


def _lines(results: Iterator[_Result]) -> Iterator[bytes]:
    """One line for each file as soon as it is done, and a last one: without it the answer was cut."""
    files: list[_Result] = []
    problem: _Result = {}
    for result in results:
        if "path" not in result:
            problem = result
            break
        files.append({name: result[name] for name in ("status", "error") if name in result})
        yield json.dumps(result).encode() + b"\n"
    yield json.dumps({"done": True, **_sums(files), **problem}).encode() + b"\n"
