"""The limit of a WSGI server: an app that returns the same bytes and headers as ours, from memory.

``benchmarks.raw:app`` for granian and gunicorn; ``python -m benchmarks.raw PORT`` serves it with waitress,
set up as ``imagefactory serve`` does. RAW_BODIES names a JSON file: rows of query, headers, file of the body.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

_bodies = {
    query: ([(name, value) for name, value in headers], [Path(file).read_bytes()])
    for query, headers, file in json.loads(Path(os.environ["RAW_BODIES"]).read_text())
}


def app(environ, start_response):
    headers, body = _bodies[environ["QUERY_STRING"]]
    start_response("200 OK", headers)
    return body


if __name__ == "__main__":
    import waitress

    waitress.serve(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        threads=64,
        connection_limit=1000,
        asyncore_use_poll=True,
        max_request_body_size=64 * 1024,
        channel_timeout=60,
        ident=None,
        clear_untrusted_proxy_headers=True,
        _quiet=True,
    )
