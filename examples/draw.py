"""The pictures of the example, drawn by its first start.

Six motives in the light of seven hours, from fixed seeds, with the brushes of ``tools/draw_pictures.py``, and
beside them the project's sample pictures. Nothing here has to do with showing pictures: see ``app.py``.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from random import Random
from typing import NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFilter

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from draw_pictures import (  # noqa: E402
    clouds,
    disc,
    fractal,
    glow,
    gradient,
    grain,
    levels,
    mix,
    pictures,
    rgb,
    save,
    shine,
)


class Light(NamedTuple):
    """The light of an hour: the sky from top to horizon, the sun or moon and where it stands (as parts of
    the picture), what is far away and what is near, and the windows of houses that are lit."""

    sky: str
    sun: str
    place: tuple[float, float]
    far: str
    near: str
    lit: float


LIGHTS = {
    "at dawn": Light(
        "0.0 #33416f, 0.35 #8f7396, 0.6 #efb2a4, 0.75 #ffe2bd, 1.0 #ffe2bd",
        "#fff0cc", (0.3, 0.52), "#d3a6a4", "#2b2744", 0.25,
    ),
    "in the morning": Light(
        "0.0 #4f93c4, 0.4 #9ccbe0, 0.7 #e4eee9, 0.8 #fbf2da, 1.0 #fbf2da",
        "#fffdf0", (0.72, 0.34), "#b9d3d2", "#24514f", 0.05,
    ),
    "at noon": Light(
        "0.0 #1f7fc4, 0.5 #7cc3e6, 0.75 #d9f0ee, 1.0 #d9f0ee",
        "#ffffff", (0.5, 0.16), "#9fc4c9", "#1f4a39", 0.0,
    ),
    "in the evening": Light(
        "0.0 #41508a, 0.3 #a5627f, 0.55 #f08a5d, 0.7 #ffcd78, 1.0 #ffcd78",
        "#fff2b8", (0.66, 0.5), "#e29a73", "#43203a", 0.35,
    ),
    "at dusk": Light(
        "0.0 #151a3d, 0.35 #3f3a70, 0.6 #a8597f, 0.75 #f0a58f, 1.0 #f0a58f",
        "#ffd9b0", (0.4, 0.62), "#8d5c83", "#15132f", 0.5,
    ),
    "at night": Light(
        "0.0 #060a1d, 0.4 #11224a, 0.7 #2c4f79, 1.0 #47708f",
        "#f5f2dc", (0.74, 0.22), "#2f4f72", "#050a17", 0.6,
    ),
    "under the aurora": Light(
        "0.0 #070b22, 0.25 #0d3a4d, 0.45 #2ba081, 0.6 #8fe0a6, 0.75 #28506e, 1.0 #28506e",
        "#eafbe4", (0.22, 0.2), "#2c6a72", "#04121c", 0.55,
    ),
}  # fmt: skip

Size = tuple[int, int]
Motive = Callable[[Size, Light, Random], Image.Image]


# --- motives ----------------------------------------------------------------------------------------------


def ridges(size: Size, light: Light, rng: Random) -> Image.Image:
    """Mountain ranges one behind another."""
    image = heaven(size, light, rng)
    for layer in range(6):
        near = layer / 5
        top = 0.42 + 0.42 * near
        image.paste(body(size, light, near, top), (0, 0), range_of(size, rng, top, 0.26 - 0.1 * near, 0.52))
    return image


def dunes(size: Size, light: Light, rng: Random) -> Image.Image:
    """Dunes: long soft curves, each lit from one side."""
    image, (w, h) = heaven(size, light, rng), size
    for layer in range(5):
        near, phase, swing = layer / 4, rng.uniform(0, 6.3), rng.uniform(0.8, 1.6)
        top = 0.55 + 0.32 * near
        mask = Image.new("L", (w * 2, h * 2))
        edge = [
            (2 * x, 2 * h * (top + 0.06 * (1 + near) * math.sin(x / w * 4 * swing + phase) ** 3))
            for x in range(0, w + 8, 8)
        ]
        ImageDraw.Draw(mask).polygon([(0, 2 * h), *edge, (2 * w, 2 * h)], 255)
        sand = Image.blend(
            body(size, light, near * 0.8, top), Image.new("RGB", size, rgb("#d79a5b")), 0.42 - 0.2 * near
        )
        mask = mask.reduce(2)
        shade = mask.filter(ImageFilter.GaussianBlur(30))
        image.paste(sand, (0, 0), mask)
        rim = ImageChops.subtract(mask, ImageChops.offset(shade, 0, 18)).point([v // 3 for v in range(256)])
        image.paste(rgb(light.sun), (0, 0), rim)
    return image


def sea(size: Size, light: Light, rng: Random) -> Image.Image:
    """The open sea, the light on its waves, one boat."""
    image, (w, h) = heaven(size, light, rng), size
    horizon = round(h * 0.6)
    water = image.crop((0, 2 * horizon - h, w, horizon)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    image.paste(Image.blend(water, Image.new("RGB", water.size, rgb(light.near)), 0.4), (0, horizon))
    draw = ImageDraw.Draw(image)
    for step in range(2600):
        near = (step / 2600) ** 1.4
        x, y = rng.uniform(0, w), horizon + 2 + (h - horizon) * near
        if step % 3 == 0:
            x = rng.gauss(w * light.place[0], w * (0.03 + 0.1 * near))
        glint = math.exp(-(((x / w - light.place[0]) / (0.05 + 0.12 * near)) ** 2))
        wave = mix(rgb(light.near), rgb(light.far), rng.random() * (1 - 0.6 * near))
        fill = mix(wave, rgb(light.sun), glint * rng.uniform(0.4, 1))
        long = w * (0.004 + 0.04 * near) * rng.uniform(0.4, 1.2)
        draw.ellipse((x - long, y, x + long, y + 1 + 3 * near), fill)
    x, y, tall = w * (0.9 - light.place[0]), horizon + h * 0.06, h * 0.13
    draw.polygon(
        [(x, y - tall), (x + tall * 0.42, y - 8), (x, y - 8)], mix(rgb(light.sun), rgb(light.far), 0.3)
    )
    draw.polygon([(x - 4, y - tall * 0.9), (x - tall * 0.3, y - 8), (x - 4, y - 8)], rgb(light.far))
    draw.polygon([(x - 46, y - 6), (x + 54, y - 6), (x + 38, y + 10), (x - 34, y + 10)], rgb(light.near))
    return image


def skyline(size: Size, light: Light, rng: Random) -> Image.Image:
    """A town of towers, rows of them, some windows lit."""
    image, (w, h) = heaven(size, light, rng), size
    draw = ImageDraw.Draw(image)
    for row in range(3):
        near, left = 0.25 + row * 0.35, -20.0
        wall = mix(rgb(light.far), rgb(light.near), near)
        while left < w:
            wide = w * rng.uniform(0.035, 0.075) * (0.8 + row * 0.3)
            top = h * (0.36 + row * 0.17 + rng.uniform(-0.13, 0.13))
            draw.rectangle((left, top, left + wide, h), wall)
            draw.rectangle((left + wide * 0.86, top, left + wide, h), mix(wall, rgb(light.near), 0.3))
            if rng.random() < 0.2:
                draw.line((left + wide / 2, top - h * 0.06, left + wide / 2, top), wall, 3)
            pane, gap = wide / 9, h * 0.026 * (0.8 + row * 0.25)
            for number in range(4 * int((h - top) / gap)):
                x, y = left + pane + number % 4 * pane * 1.8, top + gap * (0.6 + number // 4)
                is_lit = rng.random() < light.lit
                fill = mix(wall, rgb("#ffd98c"), 0.9) if is_lit else mix(wall, rgb(light.far), 0.25)
                draw.rectangle((x, y, x + pane, y + gap * 0.5), fill)
            left += wide + rng.choice((0, 0, 3, w * 0.012))
    return image


def birches(size: Size, light: Light, rng: Random) -> Image.Image:
    """A wood of birches, the nearer the clearer."""
    image, (w, h) = heaven(size, light, rng), size
    leaves = ("#d9a441", "#c4702f", "#8fa04a", "#e5c76b")
    for layer in range(4):
        near = layer / 3
        ground = 0.7 + 0.12 * near
        image.paste(
            body(size, light, 0.2 + 0.8 * near, ground), (0, 0), range_of(size, rng, ground, 0.05, 0.4)
        )
        draw = ImageDraw.Draw(image)
        for _ in range(14 - 3 * layer):
            x, wide = rng.uniform(0, w), w * (0.006 + 0.016 * near) * rng.uniform(0.7, 1.2)
            foot, lean = h * (ground + 0.06 * near), rng.uniform(-30, 30)
            bark = mix(rgb(light.far), mix(rgb("#f4efe4"), rgb(light.sun), 0.3), 0.25 + 0.6 * near)
            trunk = [
                (x - wide, foot),
                (x + wide, foot),
                (x + lean + wide * 0.6, 0),
                (x + lean - wide * 0.6, 0),
            ]
            draw.polygon(trunk, bark)
            dark = mix(bark, rgb(light.near), 0.75)
            draw.polygon(
                [(x + wide * 0.4, foot), (x + wide, foot), (x + lean + wide * 0.6, 0)], mix(bark, dark, 0.4)
            )
            for _ in range(9):
                y = rng.uniform(0, foot)
                at = x + lean * (1 - y / foot) + rng.uniform(-0.6, 0.2) * wide
                draw.ellipse((at - wide * 0.4, y - 2, at + wide * 0.5, y + 1 + 3 * near), dark)
        for _ in range(420):
            shade = mix(rgb(rng.choice(leaves)), rgb(light.far), 0.55 * (1 - near))
            shade = mix(shade, rgb(light.near), 0.35 if light.lit > 0.3 else 0.0)
            y = h * 0.32 * rng.random() ** 1.6
            disc(draw, rng.uniform(0, w), y, w * (0.003 + 0.006 * near) * rng.uniform(0.5, 1.3), shade, 0.7)
    return image


def lagoon(size: Size, light: Light, rng: Random) -> Image.Image:
    """Islands in still water, and all of it once more upside down."""
    image, (w, h) = heaven(size, light, rng), size
    horizon = round(h * 0.58)
    for layer in range(4):
        left, span, tall = rng.uniform(-0.2, 0.85) * w, rng.uniform(0.25, 0.5) * w, (0.24 - 0.04 * layer) * h
        line = [math.sin(math.pi * i / 128) ** 0.8 * v for i, v in enumerate(fractal(rng, 7, 0.5))]
        crest = [(2 * (left + span * i / 128), 2 * (horizon - tall * v)) for i, v in enumerate(line)]
        mask = Image.new("L", (w * 2, h * 2))
        ImageDraw.Draw(mask).polygon([(2 * left, 2 * horizon), *crest, (2 * (left + span), 2 * horizon)], 255)
        image.paste(body(size, light, 0.2 + layer * 0.25, 0.42), (0, 0), mask.reduce(2))
    mirror = image.crop((0, 2 * horizon - h, w, horizon)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    mirror = Image.blend(
        mirror.filter(ImageFilter.GaussianBlur(2)), Image.new("RGB", mirror.size, rgb(light.near)), 0.22
    )
    lapped = mirror.copy()
    for y in range(0, mirror.height, 3):
        depth = y / mirror.height
        sway = (2 + 14 * depth) * math.sin(y / (4 + 14 * depth)) + rng.uniform(-2, 2)
        lapped.paste(mirror.crop((0, y, w, y + 3)), (round(sway), y))
    image.paste(lapped, (0, horizon))
    return image


# --- brushes ----------------------------------------------------------------------------------------------


def heaven(size: Size, light: Light, rng: Random) -> Image.Image:
    """The sky: its colours, stars where it is dark, clouds, the sun or the moon."""
    w, h = size
    image = gradient(size, light.sky)
    draw = ImageDraw.Draw(image)
    for _ in range(260 if light.lit > 0.5 else 0):
        star = mix(rgb("#33507a"), rgb("#fffbe8"), rng.random())
        disc(draw, rng.uniform(0, w), rng.uniform(0, h * 0.55), rng.choice((0.6, 0.8, 1.3)), star)
    place = (w * light.place[0], h * light.place[1])
    shine(image, place, glow(round(h * 0.75), 2.3, 0.5), rgb(light.sun))
    shine(image, place, glow(round(h * 0.22), 2.4, 0.8), rgb(light.sun))
    face = Image.new("L", (400, 400))
    disc(ImageDraw.Draw(face), 200, 200, 196, 255)
    wide = round(h * 0.09)
    at = (round(place[0] - wide / 2), round(place[1] - wide / 2))
    image.paste(rgb(light.sun), at, face.resize((wide, wide)))
    veil = levels(clouds(size, rng, 2, 9, 5), 125, 205, 150)
    fade = gradient(size, "0.0 #202020, 0.3 #ffffff, 0.6 #000000, 1.0 #000000").convert("L")
    image.paste(mix(rgb(light.sun), rgb(light.far), 0.4), (0, 0), ImageChops.multiply(veil, fade))
    return image


def range_of(size: Size, rng: Random, top: float, tall: float, decay: float) -> Image.Image:
    """A mask of what lies below a broken line at *top*, which is *tall* (both parts of the height)."""
    w, h = size
    mask = Image.new("L", (w * 2, h * 2))
    line = fractal(rng, 8, decay)
    edge = [(2 * w * i / 256, 2 * h * (top + tall * (0.5 - v))) for i, v in enumerate(line)]
    ImageDraw.Draw(mask).polygon([(0, 2 * h), *edge, (2 * w, 2 * h)], 255)
    return mask.reduce(2)


def body(size: Size, light: Light, near: float, top: float) -> Image.Image:
    """What fills such a mask: dark at its crest, in the haze below."""
    crest = mix(rgb(light.far), rgb(light.near), near)
    haze = mix(crest, mix(rgb(light.far), rgb(light.sun), 0.25), 0.55 - 0.4 * near)
    stops = (max(0.0, top - 0.12), top, min(1.0, top + 0.3), 1.0)
    shades = (crest, crest, haze, haze)
    named = [f"{stop:.3f} #{r:02x}{g:02x}{b:02x}" for stop, (r, g, b) in zip(stops, shades, strict=True)]
    return gradient(size, ", ".join([named[0].replace(f"{stops[0]:.3f}", "0.0"), *named[1:]]))


MOTIVES: dict[str, Motive] = {
    "ridges": ridges, "sea": sea, "skyline": skyline, "dunes": dunes, "birches": birches, "lagoon": lagoon
}  # fmt: skip


def paint(path: Path, width: int) -> None:
    """Draw the picture that *path* is named after, "sea at night.jpg"."""
    motive, _, hour = path.stem.partition(" ")
    rng = Random(path.stem)
    image = MOTIVES[motive]((width, width * 3 // 4), LIGHTS[hour], rng)
    grain(image, rng, 0.05).save(path, quality=84, optimize=True)


def draw(folder: Path, width: int) -> None:
    """Write ``gallery/``, ``members/`` and ``samples/`` into *folder*, the first two *width* pixels wide."""
    for name, picture in pictures().items():
        sample = folder / "samples" / name
        sample.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / "pictures" / name).is_file():
            shutil.copy(ROOT / "pictures" / name, sample)
        else:
            save(picture, sample)
    paths = []
    for hour in LIGHTS:
        kind = "members" if hour == "under the aurora" else "gallery"
        (folder / kind).mkdir(exist_ok=True)
        paths += [folder / kind / f"{motive} {hour}.jpg" for motive in MOTIVES]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(paint, paths, repeat(width)))
