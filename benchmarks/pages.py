"""``python -m benchmarks.pages [ROUNDS]``: what the template helpers cost.

A Flask page with 200 ``picture()`` calls, each for a picture of its own and of its own size, against the same
page with 200 plain ``<img>`` lines; one request each by turns, on a warm index. And the same where the markup
is not remembered, which is what the first page after a start costs.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from flask import Flask, render_template
from PIL import Image

from imagefactory import ImageFactory

from .rounds import compare, interleave

__all__ = ["main"]

_PICTURES = 200
_PAGES = {
    "plain": '<img src="/picture/{{ path }}" alt="{{ alt }}" width="1600" height="1200" loading="lazy">',
    "picture": "{{ picture(path, alt=alt, sizes='50vw', placeholder=False) }}",
}


def main(rounds: int = 101) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory(prefix="imagefactory-pages-") as name:
        app = _app(Path(name))
        pages = app.extensions["imagefactory"].pictures
        ask = {page: _asks(app, page) for page in _PAGES}

        def forgetful() -> float:
            pages.forget()
            return ask["picture"]()

        time.sleep(2.1)  # a young stamp is hashed again at each look
        for measure in ask.values():
            measure()
        seconds = interleave({**ask, "forgotten": forgetful}, rounds)
        for ours in ("picture", "forgotten"):
            row = compare("pages", (ours, seconds[ours]), ("plain", seconds["plain"]), "s")
            print(
                f"{ours}: {row.our_value * 1000:.2f} ms, plain <img>: {row.other_value * 1000:.2f} ms, "
                f"ratio {row.ratio:.1f} ({row.low:.1f}-{row.high:.1f})"
            )


def _app(folder: Path) -> Flask:
    (folder / "pictures").mkdir()
    for number in range(_PICTURES):
        image = Image.new("RGB", (1600, 1000 + number), (number, 0, 0))
        image.save(folder / "pictures" / f"{number}.jpg")
    app = Flask("pages", root_path=str(folder))
    paths = [f"{number}.jpg" for number in range(_PICTURES)]
    app.config["IMAGEFACTORY"] = {"paths": {"pictures": "pictures", "cache": "cache"}}
    ImageFactory(app)
    for page, line in _PAGES.items():
        text = f"<!doctype html>{{% for path in paths %}}{line}\n{{% endfor %}}"
        template = app.jinja_env.from_string(text)
        render = partial(render_template, template, paths=paths, alt="a picture")
        app.add_url_rule(f"/{page}", page, render)
    return app


def _asks(app: Flask, page: str) -> Callable[[], float]:
    client = app.test_client()

    def measure() -> float:
        began = time.perf_counter()
        answer = client.get(f"/{page}")
        seconds = time.perf_counter() - began
        if answer.status_code != 200 or answer.data.count(b"<img") != _PICTURES:
            raise RuntimeError(f"{page} is not the page that it should be")
        return seconds

    return measure


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
