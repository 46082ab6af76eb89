"""Draw the sample pictures into a folder: ``python tools/draw_pictures.py [FOLDER] [--only WORD]``.

Every picture is drawn from a fixed seed with Pillow and the standard library alone, so that two runs
with the same versions of both write the same bytes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from PIL import ExifTags, Image, ImageChops, ImageColor, ImageDraw, ImageFilter, ImageFont

Colour = tuple[int, int, int]
Point = tuple[float, float]
Size = tuple[int, int]
Frames = list[Image.Image]

LANCZOS = Image.Resampling.LANCZOS
BICUBIC = Image.Resampling.BICUBIC
AUTHOR = "imagefactory contributors"


class Picture(NamedTuple):
    """One file: what draws it, the options it is saved with, and whether it is stored on its side."""

    draw: Callable[[], Frames]
    options: dict[str, Any]
    sideways: bool = False


def pictures() -> dict[str, Picture]:
    """Return the files to write, by path inside the folder."""
    jpeg = {"subsampling": "4:2:0", "optimize": True, "progressive": True}
    movie = {"save_all": True, "duration": 80, "loop": 0, "quality": 76, "method": 6}
    return {
        "harbour.jpg": Picture(harbour, {**jpeg, "quality": 80}),
        "ink currents.avif": Picture(ink_currents, {"quality": 56, "speed": 6, "max_threads": 1}),
        "cafés/terrace.jpg": Picture(terrace, {**jpeg, "quality": 84}, sideways=True),
        "landscapes/misty ridges.jpg": Picture(misty_ridges, {**jpeg, "quality": 77}),
        "landscapes/moonlit sea.webp": Picture(moonlit_sea, {"quality": 80, "method": 6}),
        "studies/botanical.png": Picture(botanical, {"optimize": True}),
        "studies/balloon.webp": Picture(balloon, movie),
        "posters/the factory.png": Picture(factory, {"optimize": True}),
    }


# --- shared helpers ---------------------------------------------------------------------------------


def rgb(text: str) -> Colour:
    """Return the colour written as ``#rrggbb``."""
    red, green, blue = ImageColor.getrgb(text)[:3]
    return red, green, blue


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour ``share`` of the way from the first to the second."""
    share = min(1.0, max(0.0, share))
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def ramp(stops: str, place: float) -> Colour:
    """Return the colour at a place along colour stops (``0 #000000, 1 #ffffff``)."""
    marks = [(float(mark), rgb(colour)) for mark, colour in (stop.split() for stop in stops.split(","))]
    for (low, first), (high, second) in pairwise(marks):
        if place <= high:
            return mix(first, second, (place - low) / (high - low))
    return marks[-1][1]


def gradient(size: Size, stops: str, across: bool = False) -> Image.Image:
    """Return a picture that runs through the colour stops from top to bottom (or left to right)."""
    steps = size[0] if across else size[1]
    strip = Image.new("RGB", (steps, 1) if across else (1, steps))
    strip.putdata([ramp(stops, step / max(1, steps - 1)) for step in range(steps)])
    return strip.resize(size)


def grain(image: Image.Image, rng: Random, amount: float) -> Image.Image:
    """Return the picture with a film grain: the same small noise in every channel."""
    count = image.width * image.height
    first, second = (Image.frombytes("L", image.size, rng.randbytes(count)) for _ in range(2))
    noise = Image.blend(first, second, 0.5).point([round(128 + (v - 128) * amount) for v in range(256)])
    return ImageChops.add(image, Image.merge("RGB", (noise, noise, noise)), 1, -128)


def clouds(size: Size, rng: Random, columns: int, rows: int, octaves: int = 5) -> Image.Image:
    """Return soft grey noise: octaves of random cells, each finer and fainter than the one before."""
    total = Image.new("L", size, 128)
    for octave in range(octaves):
        wide, high = columns << octave, rows << octave
        cells = Image.frombytes("L", (wide, high), rng.randbytes(wide * high)).resize(size, BICUBIC)
        total = cells if octave == 0 else Image.blend(total, cells, 0.5 ** (octave + 0.6))
    return total


def levels(mask: Image.Image, low: int, high: int, top: int = 255) -> Image.Image:
    """Return the mask with low..high stretched to 0..top."""
    return mask.point([round(top * min(1.0, max(0.0, (v - low) / (high - low)))) for v in range(256)])


def glow(radius: int, power: float = 2.2, strength: float = 1.0) -> Image.Image:
    """Return a round mask that fades from its middle."""
    curve = [round(255 * strength * max(0.0, 1 - v / 178) ** power) for v in range(256)]
    return Image.radial_gradient("L").resize((radius * 2, radius * 2), BICUBIC).point(curve)


def shine(image: Image.Image, centre: Point, mask: Image.Image, colour: Colour) -> None:
    """Add coloured light to the picture, in the shape of the mask, around a point."""
    left, top = round(centre[0] - mask.width / 2), round(centre[1] - mask.height / 2)
    box = (left, top, left + mask.width, top + mask.height)
    lit = Image.composite(Image.new("RGB", mask.size, colour), Image.new("RGB", mask.size), mask)
    image.paste(ImageChops.screen(image.crop(box), lit), (left, top))


def fractal(rng: Random, steps: int, decay: float) -> list[float]:
    """Return 2**steps + 1 heights, about 0 to 1: a line broken at its middle again and again."""
    line = [rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8)]
    spread = 0.5
    for _ in range(steps):
        middles = [(a + b) / 2 + rng.uniform(-spread, spread) for a, b in pairwise(line)]
        line = [v for pair in zip(line, middles, strict=False) for v in pair] + [line[-1]]
        spread *= decay
    low, high = min(line), max(line)
    return [(v - low) / (high - low) for v in line]


def disc(
    draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: str | Colour | int, flat: float = 1.0
) -> None:
    """Draw a filled circle, or an ellipse that is ``flat`` times as high as wide."""
    draw.ellipse((x - radius, y - radius * flat, x + radius, y + radius * flat), fill)


def halved(image: Image.Image) -> Image.Image:
    """Return the picture at half its size: shapes are drawn large, for smooth edges."""
    return image.resize((image.width // 2, image.height // 2), LANCZOS)


# --- the pictures -----------------------------------------------------------------------------------


def misty_ridges() -> Frames:
    """Mountain ranges at dusk, one behind another in the mist, with pines on the nearest."""
    rng, (w, h) = Random(41), (3600, 2400)
    sky = "0.0 #20244d, 0.2 #473f78, 0.38 #96608f, 0.5 #e08d86, 0.6 #f9c794, 1.0 #ffe6bd"
    image = gradient((w, h), sky)
    streaks = levels(clouds((w, h), rng, 3, 22), 132, 215, 150)
    fade = gradient((w, h), "0.0 #202020, 0.34 #ffffff, 0.6 #303030").convert("L")
    image.paste(rgb("#ffc4a0"), (0, 0), ImageChops.multiply(streaks, fade))
    sun = (w * 0.635, h * 0.47)
    shine(image, sun, glow(1500, 2.4, 0.62), rgb("#ffb070"))
    shine(image, sun, glow(480, 2.6, 0.8), rgb("#ffe0a8"))
    disc_mask = Image.new("L", (520, 520))
    disc(ImageDraw.Draw(disc_mask), 260, 260, 244, 255)
    image.paste(rgb("#fff4d8"), (round(sun[0]) - 130, round(sun[1]) - 130), halved(disc_mask))

    layers = 8
    slope = [-1, -1, -1, 0, 0, -1, -1, -1, 0, 0, -1, -1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1]
    for layer in range(layers):
        near = layer / (layers - 1)
        crest = ramp("0.0 #d58f8d, 0.35 #8d5f86, 0.7 #3d3a68, 1.0 #0e1128", near)
        haze = ramp("0.0 #fbcfa4, 0.5 #d9978f, 0.8 #6b5682, 1.0 #1a1c3c", near)
        top, tall = h * (0.43 + 0.47 * near**1.15), h * (0.16 + 0.05 * math.sin(layer * 2.1))
        line = fractal(rng, 10, 0.5 + 0.03 * math.cos(layer))
        mask = Image.new("L", (w * 2, h * 2))
        draw = ImageDraw.Draw(mask)
        edge = [(2 * w * i / 1024, 2 * (top + tall * (0.55 - v))) for i, v in enumerate(line)]
        draw.polygon([(0, 2 * h), *edge, (2 * w, 2 * h)], 255)
        if layer >= layers - 3:
            size = (26, 60, 170)[layer - layers + 3]
            for _ in range((1500, 620, 210)[layer - layers + 3]):
                x, y = edge[rng.randrange(len(edge))]
                pine(draw, rng, x + rng.uniform(-8, 8), y + size * 0.2, size * rng.uniform(0.6, 1.7))
        mask = halved(mask)
        start = max(0.0, top / h - 0.06)
        body = Image.new("RGB", (1, h))
        body.putdata([mix(crest, haze, (y / h - start) / 0.2) for y in range(h)])
        body = body.resize((w, h))
        folds = clouds((w, h), Random(layer), 14, 22, 6).filter(ImageFilter.Kernel((5, 5), slope, 1.2, 128))
        body = Image.blend(body, ImageChops.overlay(body, Image.merge("RGB", (folds,) * 3)), 0.22)
        image.paste(body, (0, 0), mask)
        mist = levels(clouds((w, h), rng, 3, 7), 90, 230, round(215 - 150 * near))
        stops = f"{start} #000000, {start + 0.14} #ffffff, {start + 0.3} #000000"
        band = gradient((w, h), stops).convert("L")
        image.paste(haze, (0, 0), ImageChops.multiply(mist, band))
    shine(image, sun, glow(1250, 2.0, 0.22), rgb("#ff9a5c"))
    return [grain(image, rng, 0.055)]


def pine(draw: ImageDraw.ImageDraw, rng: Random, x: float, y: float, height: float) -> None:
    """Draw the outline of a pine whose foot is at the point."""
    left, right = [], []
    tiers = 9
    for tier in range(tiers):
        low = y - height * 0.08 - height * 0.9 * (tiers - tier - 1) / tiers
        reach = height * (0.03 + 0.2 * (tier + 1) / tiers)
        left += [(x - reach * rng.uniform(0.7, 1.1), low), (x - reach * 0.4, low - height * 0.025)]
        right += [(x + reach * rng.uniform(0.7, 1.1), low), (x + reach * 0.4, low - height * 0.025)]
    draw.polygon([(x, y - height), *left, *right[::-1]], 255)
    draw.rectangle((x - height * 0.02, y - height * 0.1, x + height * 0.02, y + height * 0.2), 255)


def moonlit_sea() -> Frames:
    """A full moon over the sea, its glitter on the waves, a boat and a far lighthouse."""
    rng, (w, h) = Random(7), (3600, 2400)
    horizon, moon = round(h * 0.56), (w * 0.62, h * 0.25)
    sky = "0.0 #070d24, 0.3 #12254a, 0.5 #2b4c74, 0.56 #5d7f98, 1.0 #5d7f98"
    image = gradient((w, h), sky)
    draw = ImageDraw.Draw(image)
    for _ in range(520):
        y = h * 0.5 * rng.random() ** 1.3
        size = rng.choice((1, 1, 1.4, 1.4, 1.8, 2.6))
        disc(draw, rng.uniform(0, w), y, size, mix(rgb("#1a3054"), (255, 250, 235), rng.random() ** 1.4))
    shine(image, moon, glow(1500, 2.3, 0.55), rgb("#7fa6cf"))
    shine(image, moon, glow(560, 2.2, 0.6), rgb("#e8e6d8"))
    radius = 190
    face = Image.new("L", (radius * 2, radius * 2))
    disc(ImageDraw.Draw(face), radius, radius, radius - 2, 255)
    seas = levels(clouds(face.size, rng, 4, 4, 5), 105, 190)
    skin = Image.composite(
        Image.new("RGB", face.size, rgb("#d9cfb8")), Image.new("RGB", face.size, rgb("#fff9e6")), seas
    )
    image.paste(skin, (round(moon[0]) - radius, round(moon[1]) - radius), face)
    veil = levels(clouds((w, h), rng, 2, 9, 6), 112, 190, 225)
    fade = gradient((w, h), "0.0 #101010, 0.2 #606060, 0.4 #ffffff, 0.56 #a0a0a0").convert("L")
    image.paste(
        gradient((w, h), "0.1 #a3bad0, 0.5 #3d5f86, 0.56 #35567a"), (0, 0), ImageChops.multiply(veil, fade)
    )

    draw = ImageDraw.Draw(image)
    coast = fractal(rng, 8, 0.52)
    shape = [
        (w * 0.34 * i / 256, horizon - 190 * (1 - i / 256) ** 0.8 * (0.45 + 0.55 * v))
        for i, v in enumerate(coast)
    ]
    draw.polygon([(0, horizon), *shape, (w * 0.36, horizon)], rgb("#16283f"))
    lamp = (w * 0.262, horizon - 190)
    draw.polygon(
        [(lamp[0] - 15, horizon), (lamp[0] - 9, lamp[1]), (lamp[0] + 9, lamp[1]), (lamp[0] + 15, horizon)],
        rgb("#1b2c44"),
    )
    draw.polygon(
        [(lamp[0] - 14, lamp[1] - 18), (lamp[0], lamp[1] - 36), (lamp[0] + 14, lamp[1] - 18)], rgb("#132238")
    )
    disc(draw, lamp[0], lamp[1] - 9, 9, rgb("#fff0c0"))
    shine(image, (lamp[0], lamp[1] - 9), glow(150, 2.4, 0.9), rgb("#ffc46a"))

    sea = gradient((w, h - horizon), "0.0 #52728c, 0.12 #2c4c6c, 0.5 #10253f, 1.0 #050c1b")
    image.paste(sea, (0, horizon))
    draw = ImageDraw.Draw(image)
    for step in range(15000):
        near = (step / 15000) ** 1.25
        y, x = horizon + 3 + (h - horizon) * near, rng.uniform(-80, w + 80)
        if step % 3 == 0:
            x = rng.gauss(moon[0], 90 + 330 * near)
        long, thick = (8 + 150 * near) * rng.uniform(0.4, 1.3), 1 + 7 * near * rng.uniform(0.5, 1.2)
        path = math.exp(-(((x - moon[0]) / (150 + 430 * near)) ** 2))
        base = ramp("0.0 #52728c, 0.12 #2c4c6c, 0.5 #10253f, 1.0 #050c1b", near)
        if rng.random() < 0.12 + 0.75 * path:
            share = path * rng.uniform(0.3, 1.0) * (1 - 0.3 * near) + 0.09 * rng.random()
            fill = mix(base, rgb("#fff3d2"), share)
        else:
            fill = mix(base, rgb("#03070f"), rng.uniform(0.1, 0.45))
        sag = thick * rng.uniform(0.4, 1.4)
        wave = [
            (x - long, y),
            (x - long * 0.3, y - thick),
            (x + long * 0.4, y - thick * 0.8),
            (x + long, y + sag * 0.3),
        ]
        draw.polygon([*wave, (x + long * 0.1, y + sag)], fill)
    shine(image, (moon[0], horizon), glow(700, 2.6, 0.35), rgb("#cfe0ea"))
    boat(ImageDraw.Draw(image), w * 0.435, horizon + 150, 2.1)
    return [grain(halved(image), rng, 0.045)]


def boat(draw: ImageDraw.ImageDraw, x: float, y: float, size: float) -> None:
    """Draw a small dark sailing boat with its reflection."""
    night = rgb("#060d1a")
    for step in range(26):
        y_low, half = y + 6 + step * 8 * size / 2, (70 - step * 2.2) * size / 2 * (1 if step % 2 else 0.6)
        sway = math.sin(step * 1.9) * 10
        draw.ellipse(
            (x - half + sway, y_low, x + half + sway, y_low + 5), mix(night, rgb("#16304d"), step / 26)
        )
    draw.polygon(
        [(x + dx * size, y + dy * size) for dx, dy in ((-62, -14), (66, -18), (44, 6), (-46, 6))], night
    )
    draw.line([(x, y), (x, y - 190 * size)], night, 7)
    main = [(7, -184), (30, -120), (52, -30), (7, -26)]
    jib = [(-6, -170), (-24, -100), (-56, -26), (-6, -30)]
    draw.polygon([(x + dx * size, y + dy * size) for dx, dy in main], rgb("#c9c3ad"))
    draw.polygon([(x + dx * size, y + dy * size) for dx, dy in jib], rgb("#8f97a0"))


def harbour() -> Frames:
    """Coloured gabled houses on a quay, boats before them, and all of it again in the water."""
    rng, (w, h), spare = Random(23), (4400, 2800), 100
    quay, water = round(h * 0.6), round(h * 0.655)
    image = gradient((w, h), "0.0 #6fa3c7, 0.35 #b5d0d8, 0.6 #fbe3c0, 1.0 #fbe3c0")
    puffs = levels(clouds((w, h), rng, 4, 9, 6), 122, 205, 235)
    fade = gradient((w, h), "0.0 #909090, 0.3 #ffffff, 0.55 #202020").convert("L")
    image.paste(rgb("#fff6e6"), (0, 0), ImageChops.multiply(puffs, fade))
    draw = ImageDraw.Draw(image)
    for shade, base in (("#a9bfc0", 0.48), ("#86a5a0", 0.525)):
        hill = fractal(rng, 8, 0.45)
        edge = [(w * i / 256, h * (base - 0.07 * v)) for i, v in enumerate(hill)]
        draw.polygon([(0, quay), *edge, (w, quay)], rgb(shade))
    walls = (
        "#d9573f", "#f2c14e", "#f4ead5", "#4f8a8b", "#e88d5a", "#7aa6b8",
        "#c8453b", "#ecd9a4", "#6f9a72", "#e7a8a0", "#35607f",
    )  # fmt: skip
    boats = ((860, 1.0, "#23435c"), (2110, 1.25, "#f3efe4"), (3480, 1.1, "#b23a32"))
    left, number = -70, 0
    while left < w:
        wide = rng.choice((330, 380, 430, 460))
        box = (left, quay - rng.randrange(620, 1010), left + wide, quay)
        house(draw, rng, box, rgb(walls[number % len(walls)]))
        left, number = left + wide, number + 1
    draw.rectangle((0, quay, w, water), rgb("#8b8178"))
    draw.rectangle((0, quay, w, quay + 22), rgb("#c9bba6"))
    for row in range(4):
        for stone in range(-1, 62):
            x, y = stone * 72 + row % 2 * 36, quay + 26 + row * 32
            fill = mix(rgb("#7b7168"), rgb("#a4978a"), rng.random())
            draw.rounded_rectangle((x, y, x + 66, y + 27), 6, fill)
    for x in range(260, w, 640):
        draw.line([(x, quay + 10), (x, quay - 250)], rgb("#2c3338"), 11)
        draw.polygon(
            [(x - 26, quay - 250), (x + 26, quay - 250), (x + 36, quay - 306), (x - 36, quay - 306)],
            rgb("#ffe3a1"),
        )
        draw.polygon([(x - 44, quay - 304), (x + 44, quay - 304), (x, quay - 346)], rgb("#2c3338"))
    for _ in range(7):
        cx, cy, span = rng.gauss(w * 0.36, 260), rng.uniform(h * 0.05, h * 0.15), rng.uniform(22, 46)
        wings = ((-1, -0.3), (-0.5, -0.42), (0, 0), (0.5, -0.5), (1, -0.2))
        draw.line([(cx + span * dx, cy + span * dy) for dx, dy in wings], rgb("#4c5f6c"), 6, joint="curve")
    light = Image.linear_gradient("L").rotate(90).resize((w, quay)).point([v // 5 for v in range(256)])
    image.paste(rgb("#ffdf9e"), (0, 0), light)
    draw = ImageDraw.Draw(image)
    for x, size, hull in boats:
        moored(draw, x, water + 46, size, rgb(hull))

    mirror = image.crop((0, 0, w, water + 30)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    mirror = mirror.resize((w, round(mirror.height * 0.86))).filter(ImageFilter.GaussianBlur(5))
    tint = gradient((w, h - water), "0.0 #2f5f73, 1.0 #12384f")
    pool = Image.blend(mirror.crop((0, 0, w, h - water)), tint, 0.42)
    lapped = pool.copy()
    for y in range(0, pool.height, 2):
        near = y / pool.height
        sway = (5 + 40 * near) * math.sin(y / (7 + 26 * near)) * math.sin(y / 53 + 1) + rng.uniform(-4, 4)
        lapped.paste(pool.crop((0, y, w, y + 2)), (round(sway), y))
    glints = Image.new("L", lapped.size)
    dark = Image.new("L", lapped.size)
    for number in range(900):
        near = rng.random()
        cx, cy, long = rng.uniform(0, w), lapped.height * near, (20 + 130 * near) * rng.uniform(0.4, 1.2)
        spot = (cx - long, cy - 1 - 3 * near, cx + long, cy + 1 + 3 * near)
        ImageDraw.Draw(glints if number % 5 < 3 else dark).ellipse(spot, 72)
    lapped.paste(rgb("#f7e6cc"), (0, 0), glints)
    lapped.paste(rgb("#0f3146"), (0, 0), dark)
    image.paste(lapped, (0, water))
    hulls = ImageDraw.Draw(image)
    for x, size, hull in boats:
        moored(hulls, x, water + 46, size, rgb(hull))
    return [grain(halved(image.crop((spare, 0, w - spare, h))), rng, 0.045)]


def house(draw: ImageDraw.ImageDraw, rng: Random, box: tuple[int, int, int, int], wall: Colour) -> None:
    """Draw the front of a town house: gable, rows of windows, a door and perhaps an awning."""
    left, top, right, foot = box
    wide, middle = right - left, (left + right) // 2
    roof, white, ink = mix(rgb("#8c4a3a"), rgb("#4d4a52"), rng.random()), rgb("#fbf6ea"), rgb("#27323d")
    style, high = rng.choice(("gable", "steps", "mansard")), round(wide * 0.5)
    chimney = left + wide // 5
    draw.rectangle((chimney, top - high, chimney + 44, top), mix(roof, (0, 0, 0), 0.2))
    draw.rectangle((chimney - 6, top - high - 16, chimney + 50, top - high), mix(roof, (255, 255, 255), 0.2))
    if style == "gable":
        draw.polygon([(left - 14, top), (middle, top - high), (right + 14, top)], roof)
        draw.polygon([(left + 14, top + 2), (middle, top - high + 34), (right - 14, top + 2)], wall)
    elif style == "steps":
        for step in range(5):
            inset, rise = wide * step // 11, high * (step + 1) // 5
            draw.rectangle((left + inset - 4, top - rise - 12, right - inset + 4, top), white)
            draw.rectangle((left + inset + 2, top - rise, right - inset - 2, top), wall)
    else:
        high = round(high * 0.75)
        draw.polygon([(left, top), (left + 44, top - high), (right - 44, top - high), (right, top)], roof)
        for row in range(12):
            tile = top - high + row * high // 12
            draw.line(
                [(left + 40 - row * 3, tile), (right - 40 + row * 3, tile)], mix(roof, (0, 0, 0), 0.18), 3
            )
    draw.rectangle((left, top, right, foot), wall)
    draw.rectangle((right - 16, top, right, foot), mix(wall, (40, 30, 60), 0.22))
    draw.rectangle((left, top - 8, right, top + 12), mix(wall, white, 0.7))
    disc(draw, middle, top - high * 0.4, 34, white)
    disc(draw, middle, top - high * 0.4, 26, ink)
    columns, floors = (3 if wide > 350 else 2), (foot - top - 240) // 190
    gap, shutters = wide / columns, rng.random() < 0.4
    for floor in range(floors):
        for column in range(columns):
            x, y = left + gap * (column + 0.5), top + 60 + floor * (foot - top - 270) / max(1, floors)
            half, tall = 36, 118
            if shutters:
                for side in (-1, 1):
                    mid = x + side * (half + 12)
                    draw.rectangle((mid - 11, y - 4, mid + 11, y + tall + 4), mix(wall, rgb("#20404a"), 0.65))
            draw.rectangle((x - half - 5, y - 6, x + half + 5, y + tall + 6), white)
            pane = rgb("#ffd98a") if rng.random() < 0.22 else mix(ink, rgb("#7fa5bb"), rng.uniform(0.1, 0.6))
            draw.rectangle((x - half, y, x + half, y + tall), pane)
            draw.polygon(
                [(x - half, y + tall * 0.7), (x - half, y), (x + half * 0.8, y)], mix(pane, white, 0.16)
            )
            draw.line([(x, y), (x, y + tall)], white, 6)
            for bar in (0.36, 0.68):
                draw.line([(x - half, y + tall * bar), (x + half, y + tall * bar)], white, 5)
            draw.rectangle((x - half - 11, y + tall + 5, x + half + 11, y + tall + 14), mix(wall, white, 0.6))
    shop = foot - 178
    draw.rectangle((left + 22, shop, right - 22, foot - 34), mix(ink, wall, 0.25))
    draw.rectangle(
        (left + 34, shop + 40, right - 34, foot - 46),
        rgb("#ffdf9a") if rng.random() < 0.6 else rgb("#5d7f90"),
    )
    door = left + wide * rng.choice((0.25, 0.7))
    draw.rectangle((door - 46, shop + 20, door + 46, foot), white)
    draw.rectangle((door - 38, shop + 28, door + 38, foot), mix(wall, rgb("#10202c"), 0.7))
    draw.rectangle((door - 24, shop + 42, door + 24, shop + 92), rgb("#ffe7b0"))
    if rng.random() < 0.3:
        return
    stripe, stripes = rgb(rng.choice(("#b8402f", "#2f6276", "#3f7a56", "#c98a2b"))), wide // 36
    for number in range(stripes):
        x0, x1 = (left + 12 + (wide - 24) * (number + d) / stripes for d in (0, 1))
        fill = stripe if number % 2 else white
        draw.polygon([(x0, shop - 6), (x1, shop - 6), (x1, shop + 44), (x0, shop + 44)], fill)
        draw.ellipse((x0, shop + 30, x1, shop + 58), fill)


def moored(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, hull: Colour) -> None:
    """Draw a sailing boat at its mooring, sails furled."""
    wood, rope = rgb("#6b4a32"), rgb("#f4eddc")

    def at(*points: Point) -> list[Point]:
        return [(x + px * size, y + py * size) for px, py in points]

    draw.line(at((0, -60), (0, -830)), wood, round(14 * size))
    draw.line(at((0, -150), (-260, -168)), wood, round(11 * size))
    draw.rounded_rectangle([*at((-256, -196))[0], *at((-6, -154))[0]], 18 * size, rgb("#e9dfc8"))
    for end in ((-300, -86), (320, -100)):
        draw.line(at((0, -820), end), rope, 3)
    draw.polygon(at((0, -826), (86, -800), (0, -772)), rgb("#d9573f"))
    draw.polygon(at((-80, -84), (-60, -136), (96, -136), (130, -84)), rgb("#f6f0e2"))
    for port in (-30, 20, 70):
        disc(draw, *at((port, -110))[0], 11 * size, rgb("#27323d"))
    draw.polygon(at((-310, -86), (340, -100), (250, 0), (-256, 0)), hull)
    draw.polygon(at((-310, -86), (340, -100), (330, -82), (-304, -68)), wood)
    draw.polygon(at((-266, -16), (262, -16), (250, 2), (-256, 2)), mix(hull, rgb("#7a1f1c"), 0.8))


def terrace() -> Frames:
    """A cup of coffee on a café table at blue hour, the lights of the street out of focus behind."""
    rng, (w, h) = Random(12), (2700, 3600)
    edge = round(h * 0.7)
    image = gradient((w, h), "0.0 #0a1830, 0.3 #1d3c5c, 0.52 #6a5560, 0.66 #c07a4c, 0.74 #3a241c")
    shine(image, (w * 0.6, edge), glow(1700, 1.8, 0.45), rgb("#ff9a4a"))
    warm = ("#ffa23f", "#ff7f32", "#ffc878", "#ffb648", "#ff5638", "#ffd9a0", "#2fb4b8", "#ff9a3c")
    for number in range(150):
        radius = round(rng.uniform(50, 120) if number < 95 else rng.uniform(120, 215))
        lens = Image.new("L", (radius * 2 + 8, radius * 2 + 8))
        power = rng.uniform(0.14, 0.46) * (1 if number < 95 else 0.62)
        disc(ImageDraw.Draw(lens), radius + 4, radius + 4, radius, round(255 * power))
        disc(ImageDraw.Draw(lens), radius + 4, radius + 4, radius * 0.93, round(190 * power))
        place = (rng.uniform(-60, w + 60), min(edge - 40, rng.gauss(h * 0.49, h * 0.13)))
        shine(image, place, lens.filter(ImageFilter.GaussianBlur(5)), rgb(rng.choice(warm)))
    for start, end, sag, count in ((0.05, 0.13, 0.12, 9), (0.24, 0.02, 0.13, 8)):
        wire = [
            (w * t / 60, h * (start + (end - start) * t / 60 + sag * 4 * t / 60 * (1 - t / 60)))
            for t in range(61)
        ]
        ImageDraw.Draw(image).line(wire, rgb("#0a0f18"), 9, joint="curve")
        for bulb in range(count):
            x, y = wire[round((bulb + 0.5) * 60 / count)]
            shine(image, (x, y + 62), glow(300, 2.4, 0.75), rgb("#ffa64d"))
            draw = ImageDraw.Draw(image)
            draw.rectangle((x - 13, y - 4, x + 13, y + 34), rgb("#11151c"))
            draw.polygon(
                [(x - 15, y + 32), (x + 15, y + 32), (x + 34, y + 74), (x - 34, y + 74)], rgb("#ffd688")
            )
            disc(draw, x, y + 74, 34, rgb("#ffd688"))
            shine(image, (x, y + 70), glow(60, 1.4), rgb("#fff6dc"))

    top = Image.new("L", (w, h))
    ImageDraw.Draw(top).ellipse((-w * 0.35, edge - 40, w * 1.35, edge + h * 0.75), 255)
    mirror = image.crop((0, edge - (h - edge), w, edge)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    mirror = Image.blend(
        mirror.filter(ImageFilter.GaussianBlur(46)), gradient((w, h - edge), "0.0 #6b4630, 1.0 #150d0c"), 0.62
    )
    veins = levels(clouds((w, h - edge), rng, 2, 40, 4), 100, 220, 60)
    mirror.paste(rgb("#120a08"), (0, 0), veins)
    table = image.copy()
    table.paste(mirror, (0, edge))
    rim = ImageChops.subtract(top, ImageChops.offset(top, 0, 14))
    image.paste(table, (0, 0), top)
    image.paste(rgb("#ffc98c"), (0, 0), rim.point([v * 3 // 4 for v in range(256)]))
    cup(image, rng, w * 0.46, h * 0.845)
    return [grain(halved(image), rng, 0.07)]


def cup(image: Image.Image, rng: Random, x: float, y: float) -> None:
    """Draw a white cup on its saucer, with its shadow and its steam, the foot of it at the point."""
    size = image.size
    china = gradient(
        size, "0.26 #3f3d4e, 0.38 #94868a, 0.5 #e6d5c6, 0.57 #fff4e4, 0.64 #f0c79c, 0.7 #c98a58", across=True
    )

    def shape() -> tuple[Image.Image, ImageDraw.ImageDraw]:
        mask = Image.new("L", size)
        return mask, ImageDraw.Draw(mask)

    mask, draw = shape()
    disc(draw, x - 90, y + 70, 800, 190, 0.26)
    image.paste(rgb("#080506"), (0, 0), mask.filter(ImageFilter.GaussianBlur(44)))
    for grow, fall, share in ((0, 34, 0.45), (0, 14, 0.0), (-60, 6, 0.22), (-300, 0, 0.4)):
        mask, draw = shape()
        disc(draw, x, y + fall, 690 + grow, 255, 0.26)
        image.paste(Image.blend(china, Image.new("RGB", size, rgb("#2b1d1c")), share), (0, 0), mask)
    mask, draw = shape()
    disc(draw, x + 440, y - 330, 190, 255, 1.0)
    disc(draw, x + 430, y - 335, 118, 0, 1.05)
    image.paste(Image.blend(china, Image.new("RGB", size, rgb("#8a5a3c")), 0.25), (0, 0), mask)
    mask, draw = shape()
    profile = [(430 * (1 - 0.52 * (t / 40) ** 2.6), -560 + 560 * t / 40) for t in range(41)]
    draw.polygon(
        [(x + dx, y + dy) for dx, dy in profile] + [(x - dx, y + dy) for dx, dy in profile[::-1]], 255
    )
    disc(draw, x, y, profile[-1][0], 255, 0.26)
    disc(draw, x, y - 560, 430, 255, 0.26)
    image.paste(china, (0, 0), mask)
    draw = ImageDraw.Draw(image)
    disc(draw, x, y - 560, 430, rgb("#fff7ea"), 0.26)
    disc(draw, x, y - 556, 412, rgb("#b99a84"), 0.25)
    mask, draw = shape()
    disc(draw, x, y - 540, 396, 255, 0.225)
    coffee = gradient(size, "0.3 #2a150d, 0.5 #5b3118, 0.64 #b3743a", across=True)
    image.paste(coffee, (0, 0), mask)
    steam, draw = shape()
    for ribbon in range(5):
        phase, lean = rng.uniform(0, 6), (ribbon - 2) * 70
        for step in range(90):
            up = step / 90
            sway = math.sin(up * 7 + phase) * (20 + 90 * up) + lean * (1 + up * 0.4)
            disc(draw, x + sway, y - 560 - 820 * up, 16 + 34 * up, round(190 * (1 - up) * min(1, up * 5)))
    image.paste(rgb("#ffe9d2"), (0, 0), steam.filter(ImageFilter.GaussianBlur(34)))


def ink_currents() -> Frames:
    """Lines of ink that stream around a red sun, none of them touching another."""
    rng, (w, h), scale = Random(5), (1600, 1200), 2
    paper = gradient((w * scale, h * scale), "0.0 #f7f0e1, 1.0 #efe3cb")
    draw = ImageDraw.Draw(paper)
    sun_x, sun_y, radius = w * 0.64, h * 0.38, 185.0
    swirls = [
        (rng.uniform(30, 62), rng.uniform(0.0015, 0.0062), rng.uniform(-0.008, 0.008), rng.uniform(0, 6.28))
        for _ in range(7)
    ]

    def stream(x: float, y: float) -> float:
        dx, dy = x - sun_x, y - sun_y
        square = max(1.0, dx * dx + dy * dy)
        calm = 1 - math.exp(-max(0.0, square / radius**2 - 1) / 1.6)
        return dy * (1 - radius**2 / square) + calm * sum(
            a * math.sin(p * x + q * y + r) for a, p, q, r in swirls
        )

    def heading(x: float, y: float) -> Point:
        across, down = stream(x, y + 0.5) - stream(x, y - 0.5), stream(x - 0.5, y) - stream(x + 0.5, y)
        speed = math.hypot(across, down) or 1.0
        return across / speed, down / speed

    space, step, margin = 6.6, 2.4, 70
    grid: dict[tuple[int, int], list[Point]] = {}

    def free(x: float, y: float, gap: float) -> bool:
        if not (margin < x < w - margin and margin < y < h - margin):
            return False
        if math.hypot(x - sun_x, y - sun_y) < radius + 10:
            return False
        col, row = int(x / space), int(y / space)
        near = (p for i in (-1, 0, 1) for j in (-1, 0, 1) for p in grid.get((col + i, row + j), ()))
        return all((x - px) ** 2 + (y - py) ** 2 >= gap * gap for px, py in near)

    inks = ("#1d2c4f", "#1d2c4f", "#24406b", "#2f6276", "#1d2c4f", "#c8862f", "#24406b", "#c6412f")
    for _ in range(16000):
        seed = (rng.uniform(margin, w - margin), rng.uniform(margin, h - margin))
        if not free(*seed, space):
            continue
        halves: list[list[Point]] = []
        for way in (1, -1):
            x, y = seed
            part: list[Point] = []
            while len(part) < 260 and free(x, y, space * 0.62):
                part.append((x, y))
                across, down = heading(x, y)
                x, y = x + way * step * across, y + way * step * down
            halves.append(part)
        line = halves[1][:0:-1] + halves[0]
        if len(line) < 14:
            continue
        for x, y in line:
            grid.setdefault((int(x / space), int(y / space)), []).append((x, y))
        band = stream(*line[len(line) // 2]) / 46
        ink = rgb(inks[int(band) % len(inks)] if rng.random() < 0.86 else rng.choice(inks))
        ribbon(draw, [(x * scale, y * scale) for x, y in line], rng.uniform(2.6, 5.2), ink)
    disc(draw, sun_x * scale, sun_y * scale, (radius - 4) * scale, rgb("#cf3f2b"))
    fibres = levels(clouds(paper.size, rng, 90, 60, 3), 120, 255, 40)
    paper.paste(rgb("#d8c7a4"), (0, 0), fibres)
    return [grain(halved(paper), rng, 0.05)]


def ribbon(draw: ImageDraw.ImageDraw, line: list[Point], width: float, ink: Colour) -> None:
    """Draw a line that swells from nothing to its full width and fades again."""
    left, right = [], []
    for i, (x, y) in enumerate(line):
        (ax, ay), (bx, by) = line[max(0, i - 1)], line[min(len(line) - 1, i + 1)]
        run = math.hypot(bx - ax, by - ay) or 1.0
        half = width / 2 * min(1.0, (min(i, len(line) - 1 - i) + 0.6) / 16) ** 0.6 + 0.35
        left.append((x - (by - ay) / run * half, y + (bx - ax) / run * half))
        right.append((x + (by - ay) / run * half, y - (bx - ax) / run * half))
    draw.polygon(left + right[::-1], ink)


def botanical() -> Frames:
    """Sprigs of leaves and berries with soft shadows, on nothing."""
    rng, side = Random(31), 2400
    image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    foot = (side * 0.5, side * 0.86)
    tones = (
        ("#1f4a3d", "#357a5c"),
        ("#3a7553", "#78ad7a"),
        ("#6d9a86", "#b4d0b8"),
        ("#a8522f", "#e09a55"),
        ("#848f36", "#c9c76a"),
    )
    # lean, length, bend, leaf length, leaf width, pairs (of berries where a leaf has no length), tone
    sprigs = (
        (-50, 1330, 0.34, 250, 150, 9, 2), (47, 1380, -0.30, 250, 150, 9, 2),
        (-25, 1560, 0.10, 330, 88, 12, 0), (27, 1500, -0.14, 330, 88, 12, 0),
        (-13, 1500, -0.10, 0, 0, 9, 4), (12, 1640, 0.12, 0, 0, 10, 4),
        (-64, 1040, 0.42, 250, 80, 9, 3), (63, 1080, -0.40, 250, 80, 9, 3),
        (0, 1560, -0.05, 290, 116, 10, 1),
        (-37, 1060, -0.12, 0, 0, 7, 4), (38, 1000, 0.16, 0, 0, 7, 4),
        (-52, 700, 0.30, 330, 140, 4, 0), (53, 690, -0.30, 330, 140, 4, 1),
        (-20, 860, 0.16, 350, 140, 5, 4), (22, 820, -0.16, 350, 140, 5, 0), (3, 640, 0.05, 330, 150, 4, 2),
    )  # fmt: skip
    for lean, length, bend, long, wide, pairs, tone in sprigs:
        layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
        draw = ImageDraw.Draw(layer)
        dark, bright = (rgb(c) for c in tones[tone])
        stem = curve(foot, math.radians(lean - 90), length, bend)
        tail = curve(foot, math.radians(lean * 0.42 + 90), 200 + rng.uniform(0, 60), 0)
        ribbon(draw, tail[::-1] + stem[1:], 17, mix(dark, rgb("#3a2a1c"), 0.35))
        for pair in range(pairs):
            share = pair / (pairs - 1)
            spot = round(40 * (0.34 + 0.62 * share))
            aim = math.atan2(stem[spot][1] - stem[spot - 1][1], stem[spot][0] - stem[spot - 1][0])
            grown = 0.62 + 0.6 * math.sin(math.pi * (0.18 + 0.72 * share)) - 0.25 * share
            for hand in (-1, 1):
                turn = aim + hand * (0.98 - 0.46 * share + rng.uniform(-0.1, 0.1))
                start = stem[max(0, spot - (hand > 0))]
                if long:
                    size = grown * rng.uniform(0.93, 1.07)
                    leaf(draw, start, turn, long * size, wide * size, (dark, bright), -hand * 0.4)
                else:
                    twig = curve(start, turn, 130 - 70 * share, -hand * 0.4)
                    ribbon(draw, twig, 8, dark)
                    berry(draw, twig[-1], (34 - 12 * share) * rng.uniform(0.9, 1.15))
        aim = math.atan2(stem[-1][1] - stem[-2][1], stem[-1][0] - stem[-2][0])
        if long:
            leaf(draw, stem[-2], aim, long * 0.66, wide * 0.66, (dark, bright), 0.0)
        else:
            berry(draw, stem[-1], 21)
        small = layer.getchannel("A").resize((600, 600), BICUBIC).filter(ImageFilter.GaussianBlur(6))
        shade = Image.new("RGBA", image.size, (*rgb("#0c1a1c"), 0))
        small = ImageChops.offset(small, 3, 7).point([v // 12 * 5 for v in range(256)])
        shade.putalpha(small.resize(image.size, BICUBIC))
        image = Image.alpha_composite(Image.alpha_composite(image, shade), layer)
    draw = ImageDraw.Draw(image)
    for turn in range(7):
        y = foot[1] - 34 + turn * 11
        draw.line(
            [(foot[0] - 52, y + 8), (foot[0] + 52, y - 6)],
            mix(rgb("#c98a4b"), rgb("#7d4a26"), turn % 2 * 0.5),
            12,
        )
    image = image.crop((150, 245, 2250, 2345)).resize((1200, 1200), LANCZOS)
    alpha = image.getchannel("A")
    flat = image.convert("RGB").point([min(255, (v + 4) // 8 * 8) for v in range(256)] * 3)
    flat.paste((8, 24, 24), (0, 0), alpha.point([255 if v < 110 else 0 for v in range(256)]))
    flat.putalpha(alpha)
    return [flat]


def curve(start: Point, angle: float, length: float, bend: float) -> list[Point]:
    """Return 41 points of a line that leaves at the angle and turns by ``bend`` on its way."""
    points = [start]
    for step in range(40):
        way = angle + bend * step / 40
        x, y = points[-1]
        points.append((x + math.cos(way) * length / 40, y + math.sin(way) * length / 40))
    return points


def leaf(
    draw: ImageDraw.ImageDraw,
    start: Point,
    angle: float,
    length: float,
    width: float,
    tones: Sequence[Colour],
    bend: float,
) -> None:
    """Draw a leaf in two halves, one in the light, with its veins."""
    dark, bright = tones
    rib = curve(start, angle, length, bend)
    half = [width / 2 * math.sin(math.pi * (i / 40) ** 0.8) ** 0.85 for i in range(40)] + [0.0]
    for side in (-1, 1):
        edge = []
        for i, (x, y) in enumerate(rib):
            way = angle + bend * i / 40 + side * math.pi / 2
            edge.append((x + math.cos(way) * half[i], y + math.sin(way) * half[i]))
        lit = 0.62 if math.cos(angle + side * math.pi / 2) + 0.3 * side < 0 else 0.16
        for i in range(40):
            draw.polygon(
                [rib[i], rib[i + 1], edge[i + 1], edge[i]], mix(dark, bright, lit + 0.38 * (i // 8) / 4)
            )
        for i in range(6, 34, 7):
            draw.line([rib[i], edge[min(40, i + 4)]], mix(bright, (255, 255, 240), 0.22), 2)
    ribbon(draw, rib, 7, mix(bright, (255, 255, 240), 0.4))


def berry(draw: ImageDraw.ImageDraw, centre: Point, radius: float) -> None:
    """Draw a round red berry with a highlight."""
    for step in range(7):
        share = step / 6
        fill = mix(rgb("#8f1f2a"), rgb("#f0705a"), share**1.3)
        disc(
            draw,
            centre[0] - radius * 0.25 * share,
            centre[1] - radius * 0.28 * share,
            radius * (1 - 0.72 * share),
            fill,
        )
    disc(draw, centre[0] - radius * 0.34, centre[1] - radius * 0.38, radius * 0.13, rgb("#fff0e6"))


def balloon() -> Frames:
    """A balloon over banks of cloud that drift for ever, as if cut from coloured paper."""
    side, turns = 800, 24
    sky = "0 #fff1c9, 0.16 #ffd88f, 0.36 #ffab73, 0.58 #ee7a72, 0.8 #b8557d, 1 #6d3b78"
    frames = []
    for turn in range(turns):
        now = turn / turns
        frame = Image.new("RGB", (side, side), ramp(sky, 1))
        draw = ImageDraw.Draw(frame)
        for ring in range(8, -1, -1):
            reach = 84 + (ring + now) * 84
            disc(draw, 520, 360, reach, ramp(sky, (reach - 84) / 700))
        disc(draw, 520, 360, 84, rgb("#fffbea"))
        for bank in range(6):
            if bank == 3:
                aloft(draw, 300 + 12 * math.sin(math.tau * now + 1), 250 + 22 * math.sin(math.tau * now), 1.0)
            colour = ramp("0 #ffd0a8, 0.3 #f59a8e, 0.6 #b8618d, 1 #3d2a63", bank / 5)
            base, period = 520 + bank * 50, (160, 230, 270, 320, 400, 530)[bank]
            for lift, fill in ((10, mix(colour, rgb("#fff4e0"), 0.4)), (0, colour)):
                draw.rectangle((0, base + 14 - lift, side, side), fill)
                for puff in range(-12, 30):
                    x = (puff / 6 + now + bank * 0.37 % 1) * period
                    reach = period * (0.12, 0.2, 0.14, 0.09, 0.15, 0.1)[puff % 6]
                    disc(
                        draw,
                        x,
                        base + 24 - lift - reach * (0.1, 0.5, 0.3, 0, 0.4, 0.1)[puff % 6],
                        reach,
                        fill,
                    )
        frames.append(halved(frame))
    return frames


def aloft(draw: ImageDraw.ImageDraw, x: float, y: float, size: float) -> None:
    """Draw a striped hot-air balloon around the point."""
    tones = ("#c8412f", "#fff3dc", "#2d4a7c", "#fff3dc", "#c8412f")
    for stripe, tone in enumerate(tones):
        half = 138 * size * (1, 0.84, 0.6, 0.36, 0.14)[stripe]
        draw.ellipse((x - half, y - 150 * size, x + half, y + 126 * size), rgb(tone))
        sides = ((-0.93, 40), (-0.2, 176), (0.2, 176), (0.93, 40))
        draw.polygon([(x + half * dx, y + dy * size) for dx, dy in sides], rgb(tone))
    for rope in (-24, -8, 8, 24):
        ends = [(x + rope * 1.1 * size, y + 174 * size), (x + rope * 0.9 * size, y + 222 * size)]
        draw.line(ends, rgb("#5a3040"), 3)
    draw.rounded_rectangle((x - 26 * size, y + 220 * size, x + 26 * size, y + 262 * size), 8, rgb("#9a5234"))
    draw.rectangle((x - 29 * size, y + 216 * size, x + 29 * size, y + 228 * size), rgb("#5a3040"))


def factory() -> Frames:
    """A poster in flat colours: a factory of squares, triangles and circles under a red sun."""
    w, h = 2400, 3080
    cream, ink, red, blue, yellow, teal = "#f3e9d2", "#1c1d22", "#d8402b", "#1f4e8c", "#f0b323", "#3f8f8a"
    image = Image.new("RGB", (w, h), cream)
    draw = ImageDraw.Draw(image)
    for ray in range(24):
        low, high = math.radians(ray * 15), math.radians(ray * 15 + 7.5)
        ends = [(1640 + 3200 * math.cos(a), 1010 + 3200 * math.sin(a)) for a in (low, high)]
        draw.polygon([(1640, 1010), *ends], "#ecdcb8")
    draw.rectangle((0, 2450, w, h), cream)
    disc(draw, 1640, 1010, 560, red)
    draw.pieslice((1080, 450, 2200, 1570), 90, 270, "#b93222")
    for x, y, radius, fill in (
        (520, 1010, 80, red),
        (640, 820, 120, teal),
        (820, 570, 170, yellow),
        (560, 330, 230, blue),
    ):
        disc(draw, x, y, radius, fill)
        draw.pieslice((x - radius, y - radius, x + radius, y + radius), 270, 450, ink)
    draw.polygon([(410, 2450), (440, 1130), (600, 1130), (630, 2450)], ink)
    for band in range(3):
        draw.rectangle(
            (434 - band * 3, 1210 + band * 150, 606 + band * 3, 1275 + band * 150), (red, yellow, teal)[band]
        )
    for tooth, (fill, glass) in enumerate(((blue, yellow), (teal, cream), (yellow, red), (blue, yellow))):
        left = 630 + tooth * 390
        draw.polygon([(left, 1750), (left, 1420), (left + 390, 1750)], fill)
        draw.polygon([(left + 36, 1750), (left + 36, 1520), (left + 300, 1750)], glass)
    draw.rectangle((200, 1750, 2190, 2450), ink)
    tiles = ("qybq", "cqrt", "tcqy", "qrbc", "ytqr", "bqcy")
    colours = {"r": red, "b": blue, "y": yellow, "t": teal, "c": cream}
    side = 290
    for column, letters in enumerate(tiles):
        for row in range(2):
            x, y = 265 + column * (side + 25), 1808 + row * (side + 25)
            first, second = colours.get(letters[row], cream), colours.get(letters[row + 2], red)
            second = second if second != first else ink
            draw.rectangle((x, y, x + side - 1, y + side - 1), first)
            shape = (column + row * 2) % 4
            if shape == 0:
                draw.pieslice((x - side, y, x + side - 1, y + 2 * side), 270, 360, second)
            elif shape == 1:
                disc(draw, x + side / 2, y + side / 2, side * 0.36, second)
                disc(draw, x + side / 2, y + side / 2, side * 0.15, first)
            elif shape == 2:
                draw.polygon([(x, y + side - 1), (x + side - 1, y), (x + side - 1, y + side - 1)], second)
            else:
                for bar in range(4):
                    draw.rectangle(
                        (x, y + bar * side / 4, x + side - 1, y + bar * side / 4 + side / 8 - 1), second
                    )
    draw.rectangle((0, 2450, w, 2490), red)
    draw.text((186, 2830), "image", ink, ImageFont.load_default(322), anchor="ls")
    draw.text((2198, 2830), "factory", red, ImageFont.load_default(322), anchor="rs")
    return [halved(image).quantize(96)]


# --- saving -----------------------------------------------------------------------------------------


def save(picture: Picture, path: Path) -> None:
    """Draw one picture and write it, with its author if it is a JPEG."""
    first, *others = picture.draw()
    options = dict(picture.options)
    if others:
        options["append_images"] = others
    if picture.sideways:
        first = first.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        exif[ExifTags.Base.Artist] = AUTHOR
        exif[ExifTags.Base.Copyright] = AUTHOR
        options["exif"] = exif
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(path, **options)
    print(f"{path.stat().st_size:>9,}  {first.width} x {first.height}  {path}")


def main() -> None:
    """Draw every picture, or those whose path has a word in it."""
    parser = argparse.ArgumentParser(description="Draw the sample pictures.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parents[1] / "pictures")
    parser.add_argument("--only", default="", metavar="WORD", help="draw only paths that have this in them")
    arguments = parser.parse_args()
    for name, picture in pictures().items():
        if arguments.only in name:
            save(picture, arguments.folder / name)


if __name__ == "__main__":
    main()
