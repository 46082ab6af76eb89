"""Encoder settings side by side: CPU time, bytes and likeness. ``make encoders`` runs it.

It fills the tables of docs/encoders.md; the words around them are written by hand. Times are ratios of
medians to the setting in use, taken in turns, so that a busy machine slows all alike.

    make encoders                              the sample pictures, which are drawn
    make encoders PHOTOS=~/Pictures            photographs of your own: the five largest, one with alpha
    IMAGEFACTORY_SHARP=node_modules/sharp      also sharp, and the qualities that look like ours
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, geometric_mean, median
from typing import Any

import numpy
from PIL import Image, ImageDraw
from skimage.metrics import structural_similarity

from imagefactory.render import encoders, png_writer, saving

_ROOT = Path(__file__).parent.parent
_DOCS = _ROOT / "docs" / "encoders.md"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif")
_SIDE, _ALPHA_SIDE, _PHOTOS = 640, 512, 5

# Milliseconds of CPU, and the bytes.
Encode = Callable[[Image.Image], tuple[float, bytes]]
Group = list[Image.Image]


# --- pictures -----------------------------------------------------------------------------------------------


def gather(folder: Path) -> dict[str, Group]:
    """Photographs of 640 px, one of 512 px with alpha, and a line drawing."""
    files = [file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES]
    photos: Group = []
    alpha: Group = []
    for file in sorted(files, key=lambda file: -file.stat().st_size):
        with Image.open(file) as image:
            if getattr(image, "is_animated", False) or image.width < _SIDE:
                continue
            if image.has_transparency_data:
                if not alpha:
                    alpha.append(_shrunk(image.convert("RGBA"), _ALPHA_SIDE))
            elif len(photos) < _PHOTOS:
                photos.append(_shrunk(image.convert("RGB"), _SIDE))
    if not photos:
        raise SystemExit(f"{folder} has no photograph at least {_SIDE} px wide")
    return {"photographs": photos, "with alpha": alpha, "line drawing": [line_drawing()]}


def _shrunk(image: Image.Image, width: int) -> Image.Image:
    size = width, round(image.height * width / image.width)
    if image.mode == "RGBA":
        return image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    return image.resize(size, Image.Resampling.LANCZOS)


def line_drawing() -> Image.Image:
    """Thin lines and a few flat colours, with smooth edges, 640 x 480."""
    image = Image.new("RGB", (1920, 1440), "#fbfaf6")
    draw = ImageDraw.Draw(image)
    for i in range(24):
        draw.ellipse((200 + 20 * i, 150 + 15 * i, 1500 - 12 * i, 1300 - 20 * i), outline="#23313d", width=4)
        draw.line((60 * i, 1440, 1920, 60 * i), fill="#b4472e" if i % 4 else "#1f6f8b", width=3)
    draw.rectangle((1300, 900, 1800, 1300), fill="#e3b23c", outline="#23313d", width=6)
    for i in range(12):
        draw.text((1330, 930 + 30 * i), "lines of small text 0123456789", fill="#23313d", font_size=28)
    return image.resize((640, 480), Image.Resampling.LANCZOS)


# --- encoders -----------------------------------------------------------------------------------------------


def timed(save: Callable[[Image.Image], bytes]) -> Encode:
    """*save* with the CPU time of all its threads."""

    def encode(image: Image.Image) -> tuple[float, bytes]:
        began = time.process_time()
        body = save(image)
        return (time.process_time() - began) * 1000, body

    return encode


def by_pillow(format: str, **options: Any) -> Encode:
    def save(image: Image.Image) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        return buffer.getvalue()

    return timed(save)


def in_use(encoding: str, quality: int | None = None) -> Encode:
    """What imagefactory does, with its defaults."""

    def save(image: Image.Image) -> bytes:
        body = saving.encoded(encoders.still(image, encoders.Settings(encoding, quality)))
        assert body is not None
        return body

    return timed(save)


def own_png(filters: Sequence[int], deflate: Callable[[bytes], bytes]) -> Encode:
    """Our PNG writer with one filter, or the best of several, and another deflate for the pixels."""

    def save(image: Image.Image) -> bytes:
        kind = png_writer._best_filter(image) if len(filters) > 1 else filters[0]
        buffer = io.BytesIO()
        buffer.write(b"\x89PNG\r\n\x1a\n")
        header = (image.width << 32 | image.height).to_bytes(8, "big")
        colour = png_writer._COLOUR_TYPES[image.mode]
        png_writer._put(buffer, b"IHDR", header + bytes((8, colour, 0, 0, 0)))
        png_writer._put(buffer, b"IDAT", deflate(b"".join(png_writer._strips(image, kind))))
        png_writer._put(buffer, b"IEND", b"")
        return buffer.getvalue()

    return timed(save)


class Sharp:
    """sharp in a node process of its own: one thread for each picture, one picture at a time."""

    # The CPU time is that of all threads of the process.
    _CODE = """
const sharp = require(process.argv[1]), fs = require("fs");
sharp.concurrency(1); sharp.cache(false);
require("readline").createInterface({input: process.stdin}).on("line", async line => {
  const {raw, format, options, target} = JSON.parse(line), pixels = fs.readFileSync(raw.file);
  const began = process.cpuUsage();
  const body = await sharp(pixels, {raw}).toFormat(format, options).toBuffer();
  const used = process.cpuUsage(began);
  fs.writeFileSync(target, body);
  console.log((used.user + used.system) / 1000);
});
"""

    def __init__(self, module: Path, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            ["node", "-e", self._CODE, str(module.resolve())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def encoder(self, format: str, **options: Any) -> Encode:
        return partial(self._encode, format, options)

    def _encode(self, format: str, options: Mapping[str, Any], image: Image.Image) -> tuple[float, bytes]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        file, target = self._folder / "raw", self._folder / "body"
        file.write_bytes(image.tobytes())
        raw = {"file": str(file), "channels": len(image.getbands())}
        raw |= {"width": image.width, "height": image.height}
        order = {"raw": raw, "format": format, "options": options, "target": str(target)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("sharp gave no answer")
        return float(answer), target.read_bytes()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def rival(module: str | None) -> Iterator[Sharp | None]:
    """sharp, if there is node and the folder of the module."""
    if not module or not Path(module).is_dir() or not shutil.which("node"):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        sharp = Sharp(Path(module), Path(folder))
        try:
            yield sharp
        finally:
            sharp.close()


# --- candidates: for each encoding the setting in use first -------------------------------------------------


def jpeg(sharp: Sharp | None) -> dict[str, Encode]:
    pillow = partial(by_pillow, "JPEG", quality=80)
    found = {
        "**in use**: 4:2:0, baseline": in_use("jpeg"),
        "optimize": pillow(subsampling="4:2:0", optimize=True),
        "progressive": pillow(subsampling="4:2:0", progressive=True),
        "4:2:2": pillow(subsampling="4:2:2"),
        "4:4:4": pillow(subsampling="4:4:4"),
    }
    try:
        import simplejpeg
    except ImportError:
        pass
    else:
        found["simplejpeg (libjpeg-turbo too)"] = timed(
            lambda image: simplejpeg.encode_jpeg(numpy.asarray(image), 80, colorsubsampling="420")
        )
    try:
        import pyvips
    except ImportError:
        pass
    else:
        pyvips.cache_set_max(0)
        found["pyvips"] = timed(
            lambda image: pyvips.Image.new_from_memory(
                image.tobytes(), *image.size, len(image.getbands()), "uchar"
            ).jpegsave_buffer(Q=80)
        )
    try:
        import mozjpeg_lossless_optimization as mozjpeg
    except ImportError:
        pass
    else:
        found["and mozjpeg's lossless optimization"] = timed(
            lambda image: mozjpeg.optimize(in_use("jpeg")(image)[1])
        )
    if sharp:
        found["sharp, quality 80"] = sharp.encoder("jpeg", quality=80)
        found["sharp, quality 80, mozjpeg"] = sharp.encoder("jpeg", quality=80, mozjpeg=True)
    return found


def webp(sharp: Sharp | None) -> dict[str, Encode]:
    pillow = partial(by_pillow, "WEBP", quality=80)
    found = {"**in use**: method 2": in_use("webp")}
    found |= {f"method {method}": pillow(method=method) for method in (0, 1, 3, 4, 5, 6)}
    found["exact"] = pillow(method=2, exact=True)
    found["alpha_quality 80"] = pillow(method=2, alpha_quality=80)
    if sharp:
        found["sharp, quality 80 (effort 4)"] = sharp.encoder("webp", quality=80)
    return found


def avif(sharp: Sharp | None) -> dict[str, Encode]:
    def pillow(speed: int = 8, **options: Any) -> Encode:
        return by_pillow("AVIF", **{"quality": 65, "speed": speed, "max_threads": 1, **options})

    def aom(**options: str) -> Encode:
        return pillow(advanced={name.replace("_", "-"): value for name, value in options.items()})

    found = {"**in use**: speed 8, 4:2:0": in_use("avif")}
    found |= {f"speed {speed}": pillow(speed) for speed in (6, 7, 9, 10)}
    found |= {
        "4:4:4": pillow(subsampling="4:4:4"),
        "range limited": pillow(range="limited"),
        "one tile (autotiling off)": pillow(autotiling=False),
        "tune=ssim": aom(tune="ssim"),
        "tune=psnr": aom(tune="psnr"),
        "tune=iq": aom(tune="iq"),
        "sharpness=0": aom(sharpness="0"),
        "sharpness=1": aom(sharpness="1"),
        "deltaq-mode=0": aom(deltaq_mode="0"),
        "aq-mode=1": aom(aq_mode="1"),
        "enable-cdef=0": aom(enable_cdef="0"),
        "cdf-update-mode=0": aom(cdf_update_mode="0"),
    }
    if sharp:
        found["sharp, quality 50 (effort 4)"] = sharp.encoder("avif", quality=50)
        found["sharp, quality 59 (effort 4)"] = sharp.encoder("avif", quality=59)
    return found


def png_(sharp: Sharp | None) -> dict[str, Encode]:
    import zlib

    own, best = own_png, range(4)
    found = {"**in use**": in_use("png")}
    found |= {f"Pillow, level {level}": by_pillow("PNG", compress_level=level) for level in (1, 4, 6, 9)}
    found |= {
        "Pillow, level 4, RLE": by_pillow("PNG", compress_level=4, compress_type=3),
        "ours, zlib 2": own(best, lambda data: zlib.compress(data, 2)),
        "ours, zlib 4 (in use without the extra)": own(best, lambda data: zlib.compress(data, 4)),
        "ours, zlib 6": own(best, lambda data: zlib.compress(data, 6)),
    }
    try:
        import deflate
    except ImportError:
        pass
    else:
        for level in (1, 3, 5, 6, 7):
            name = " (in use with the extra)" if level == 5 else ""
            found[f"ours, libdeflate {level}{name}"] = own(best, partial(_libdeflate, deflate, level))
        for kind, word in enumerate(("no filter", "sub", "up", "average")):
            found[f"ours, libdeflate 5, always {word}"] = own([kind], partial(_libdeflate, deflate, 5))
    try:
        from zlib_ng import zlib_ng
    except ImportError:
        pass
    else:
        for level in (2, 4, 6):
            found[f"ours, zlib-ng {level}"] = own(best, partial(zlib_ng.compress, level=level))
    try:
        from isal import isal_zlib
    except ImportError:
        pass
    else:
        found["ours, isal 2"] = own(best, partial(isal_zlib.compress, level=2))
    if sharp:
        found["sharp (no filter, level 6)"] = sharp.encoder("png")
        found["sharp, adaptive filters"] = sharp.encoder("png", adaptiveFiltering=True)
    return found


def _libdeflate(deflate: Any, level: int, data: bytes) -> bytes:
    return bytes(deflate.zlib_compress(data, level))


def gif(sharp: Sharp | None) -> dict[str, Encode]:
    return {
        "**in use**: median cut, dithered where there are more than 256 colours": in_use("gif"),
        "Pillow alone": by_pillow("GIF"),
    } | ({"sharp": sharp.encoder("gif")} if sharp else {})


TABLES = {"jpeg": jpeg, "webp": webp, "avif": avif, "png": png_, "gif": gif}
IN_USE = {"jpeg": 80, "webp": 80, "avif": 65}
LOSSY = (*IN_USE, "gif")


# --- measuring ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """Of one setting and one picture."""

    ms: float
    size: int
    ssim: float


def likeness(image: Image.Image, body: bytes) -> float:
    """SSIM of the colours against the uncompressed picture, both on white."""
    with Image.open(io.BytesIO(body)) as result:
        return float(structural_similarity(_flat(image), _flat(result), channel_axis=2))


def _flat(image: Image.Image) -> Any:
    image = image.convert("RGBA")
    return numpy.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


def measure(candidates: Mapping[str, Encode], image: Image.Image, rounds: int) -> dict[str, Result]:
    """Each candidate in turn, again and again. One that does not take this kind of pixels is left out."""
    times: dict[str, list[float]] = {}
    bodies: dict[str, bytes] = {}
    for number in range(rounds + 1):  # the first is to warm up
        for name, encode in candidates.items():
            if number and name not in bodies:
                continue
            try:
                ms, bodies[name] = encode(image)
            except (OSError, ValueError):
                continue
            if number:
                times.setdefault(name, []).append(ms)
    return {
        name: Result(median(times[name]), len(body), likeness(image, body)) for name, body in bodies.items()
    }


def equal_bytes(results: Mapping[str, Result], curve: Sequence[tuple[float, int]]) -> dict[str, float]:
    """Bytes against those of the setting in use at the quality at which it would be as much like the picture.

    *curve* has its SSIM and bytes at several qualities.
    """
    likes, sizes = zip(*sorted(curve), strict=True)
    logs = numpy.log(sizes)
    return {
        name: result.size / float(numpy.exp(numpy.interp(result.ssim, likes, logs)))
        for name, result in results.items()
    }


def table(encoding: str, pictures: Mapping[str, Group], rounds: int, sharp: Sharp | None) -> list[str]:
    """The rows of markdown of one encoding."""
    candidates = TABLES[encoding](sharp)
    if encoding == "jpeg":
        pictures = {name: group for name, group in pictures.items() if name != "with alpha"}
    pictures = {name: group for name, group in pictures.items() if group}
    heads, cells = ["setting"], {name: [name] for name in candidates}
    for kind, images in pictures.items():
        found = [measure(candidates, image, rounds) for image in images]
        own = [next(iter(each.values())) for each in found]
        heads += [f"{kind}: CPU", "bytes"]
        if encoding in LOSSY:
            heads.append("SSIM")
        ratios: list[dict[str, float]] = []
        if encoding in IN_USE and kind == "photographs":
            heads.append("bytes at equal SSIM")
            for image, results in zip(images, found, strict=True):
                qualities = {*range(40, 100, 8), IN_USE[encoding]}
                bodies = [in_use(encoding, quality)(image)[1] for quality in qualities]
                curve = [(likeness(image, body), len(body)) for body in bodies]
                ratios.append(equal_bytes(results, curve))
        for name, row in cells.items():
            if any(name not in each for each in found):
                row += [""] * (len(heads) - len(row))
                continue
            all_of_it = [each[name] for each in found]
            row.append(f"{_ratio([a.ms / b.ms for a, b in zip(all_of_it, own, strict=True)]):.2f}")
            row.append(f"{_ratio([a.size / b.size for a, b in zip(all_of_it, own, strict=True)]):.3f}")
            if encoding in LOSSY:
                row.append(f"{fmean(each.ssim for each in all_of_it):.4f}")
            if ratios:
                row.append(f"{_ratio([each[name] for each in ratios]):.3f}")
        if kind == "photographs":
            first = f"{fmean(r.ms for r in own):.1f} ms and {fmean(r.size for r in own) / 1000:.0f} kB"
    lines = [heads, ["---"] + ["--:"] * (len(heads) - 1), *cells.values()]
    note = f"\nAs an indication, a photograph takes {first} with the setting in use."
    return ["| " + " | ".join(line) + " |" for line in lines] + [note]


def _ratio(values: Sequence[float]) -> float:
    return geometric_mean(values)


def equivalents(photos: Group, sharp: Sharp | None) -> list[str]:
    """For other encoders, the quality whose SSIM is nearest to ours on the photographs, and its bytes."""
    lines = ["| ours | other | quality | SSIM, ours and other | bytes | CPU |", "|---|---|--:|--:|--:|--:|"]
    for encoding, quality in IN_USE.items():
        own = [in_use(encoding)(image) for image in photos]
        likes = [likeness(image, body) for image, (_, body) in zip(photos, own, strict=True)]
        others = {"Pillow's defaults": partial(by_pillow, encoding.upper())}
        if sharp:
            others["sharp's defaults"] = partial(sharp.encoder, encoding)
        for name, make in others.items():
            tried = []
            for value in range(quality - 9, quality + 4):
                found = [make(quality=value)(image) for image in photos]
                found_likes = [likeness(image, body) for image, (_, body) in zip(photos, found, strict=True)]
                off = fmean(abs(a - b) for a, b in zip(found_likes, likes, strict=True))
                sizes = [len(a[1]) / len(b[1]) for a, b in zip(found, own, strict=True)]
                times = [a[0] / b[0] for a, b in zip(found, own, strict=True)]
                tried.append((off, value, fmean(found_likes), _ratio(sizes), _ratio(times)))
            _, value, like, size, cpu = min(tried)
            lines.append(
                f"| {encoding} {quality} | {name} | **{value}** | {fmean(likes):.4f}, {like:.4f} "
                f"| {size:.3f} | {cpu:.1f} |"
            )
    return lines


# --- the docs -----------------------------------------------------------------------------------------------


def fill(text: str, name: str, lines: Sequence[str]) -> str:
    """*text* with *lines* between the markers of *name*; SystemExit where they are missing."""
    begin, end = f"<!-- encoders: {name} -->", f"<!-- encoders: end of {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"{_DOCS.name} has no {begin} ... {end}")
    return pattern.sub(lambda _: "\n".join((begin, *lines, end)), text, count=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables and fill them into the docs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoders", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("folder", nargs="?", type=Path, default=_ROOT / "pictures")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default=",".join((*TABLES, "equivalents")), metavar="A,B")
    parser.add_argument("--sharp", default=os.environ.get("IMAGEFACTORY_SHARP"), metavar="FOLDER")
    parser.add_argument("--dry", action="store_true", help="print the tables only")
    options = parser.parse_args(arguments)
    pictures = gather(options.folder)
    with rival(options.sharp) as sharp:
        for name in options.only.split(","):
            if name == "equivalents":
                lines = equivalents(pictures["photographs"], sharp)
            else:
                lines = table(name, pictures, options.rounds, sharp)
            print(f"\n## {name}\n", *lines, sep="\n", flush=True)
            if not options.dry:
                _DOCS.write_text(fill(_DOCS.read_text(encoding="utf-8"), name, lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
