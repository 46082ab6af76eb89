"""What a piece of background work has come to: ``GET /-/jobs/<id>``, and the same as it goes, as server-sent
events. The id is a secret of its own: it can't be guessed, and stands in the answer of the upload."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

from flask import Blueprint, Response, request

from ..catalog.jobs import JobRow, JobRows
from ..errors import Busy, MethodNotAllowed, NoSuchJob, RequestError
from ..factory import Parts, Taking
from .http.flask_response import to_flask
from .http.packing import packed
from .http.responses import error_reply, json_reply, options_reply
from .http.routes import make_blueprint

__all__ = ["blueprint"]

_LOOK_S = 0.5
_SIGN_S = 10.0  # of life, so that nobody in between takes the connection for dead
_LONGEST_S = 300.0  # then a browser asks again by itself
_METHODS = ("GET", "HEAD", "OPTIONS")


def blueprint(site: Parts, taking: Taking) -> Blueprint:
    """The routes of jobs."""
    view = _Jobs(taking.jobs, max(1, min(16, site.config.server.threads // 4)))
    rules = ["/-/jobs/<token>", "/-/jobs/<token>/<events>"]
    return make_blueprint("imagefactory-jobs", "job", rules, view.answer)


class _Jobs:
    def __init__(self, jobs: JobRows, listeners: int) -> None:
        self._jobs = jobs
        self._places = threading.BoundedSemaphore(listeners)

    def answer(self, token: str, events: str = "") -> Response:
        """The view of both."""
        try:
            if request.method == "OPTIONS":
                return to_flask(options_reply(_METHODS))
            if request.method not in _METHODS:
                raise MethodNotAllowed(request.method, _METHODS)
            found = self._jobs.get(token)
            if found is None or events not in ("", "events"):
                raise NoSuchJob
            if not events:
                return to_flask(packed(json_reply(200, _as_json(found)), request.environ))
            return self._events(found)
        except RequestError as error:
            return to_flask(error_reply(error))

    def _events(self, job: JobRow) -> Response:
        if request.method == "HEAD":
            return Response(mimetype="text/event-stream")
        if not self._places.acquire(blocking=False):
            raise Busy("too many listen to jobs at the moment", retry_after_s=5)
        response = Response(self._told(job), mimetype="text/event-stream")
        response.headers.update({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        response.call_on_close(self._places.release)
        return response

    def _told(self, job: JobRow) -> Iterator[bytes]:
        end_s = time.monotonic() + _LONGEST_S
        told, told_s = "", 0.0
        found: JobRow | None = job
        while found is not None:
            now_s, text = time.monotonic(), json.dumps(_as_json(found))
            if text != told:
                yield f"event: job\ndata: {text}\n\n".encode()
                told, told_s = text, now_s
            elif now_s - told_s > _SIGN_S:
                yield b": still at it\n\n"
                told_s = now_s
            if found.state in ("done", "failed") or now_s > end_s:
                return
            time.sleep(_LOOK_S)
            try:
                found = self._jobs.get(job.token)
            except RequestError:  # the database is away: perhaps it comes back
                continue


def _as_json(job: JobRow) -> dict[str, object]:
    result = dict(job.result)
    return {
        "id": job.token,
        "kind": job.kind,
        "state": job.state,
        "done": job.done,
        "total": job.total,
        "attempts": job.attempts,
        "error": job.error,
        "markup": result.pop("markup", ""),
        "result": result,
    }
