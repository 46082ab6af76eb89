"""Draw the sample clip: ``python tools/draw_clip.py [FILE]``, pictures/clip.mp4 unless said.

A day at a lake in 40 seconds, from sunrise to the stars. Frames are drawn by Pillow, from a fixed seed, and
encoded by the ffmpeg of the extra ``video`` or of the system, with a key frame every five seconds.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

from PIL import Image, ImageColor, ImageDraw, ImageFilter

from imagefactory.render.programs.finding import found

WIDTH, HEIGHT, HORIZON = 640, 360, 232
SECONDS, FPS, KEY_FRAME_S = 40, 15, 5
LARGER = 3  # masks are drawn so much larger, for smooth edges

Colour = tuple[int, ...]
# The colours of a moment: top of the sky, sky at the horizon, far hills, near hills, light on the water.
DAY: dict[float, tuple[str, ...]] = {
    0.00: ("#2b3a67", "#f08a5d", "#6d5a7e", "#2a2438", "#f6b26b"),
    0.15: ("#4f86c6", "#fbd99a", "#7f9bb5", "#33475b", "#ffe9b8"),
    0.40: ("#3a8fd9", "#cfe8f7", "#86a9bd", "#2f5d50", "#ffffff"),
    0.62: ("#4a7fc1", "#f9dfa5", "#8a90a6", "#34504a", "#fff0c2"),
    0.75: ("#4b3f72", "#ff7b54", "#7a4f6d", "#2b2136", "#ffb26b"),
    0.86: ("#141a3c", "#7a3b69", "#33274f", "#14122a", "#c86b85"),
    1.00: ("#060a1f", "#1b2450", "#151a38", "#080a18", "#8fa3d8"),
}


def main() -> None:
    """Draw, encode, and say how large the file became."""
    parser = argparse.ArgumentParser(description="Draw the sample clip.")
    parser.add_argument("file", nargs="?", type=Path, default=Path("pictures/clip.mp4"))
    file = parser.parse_args().file
    encode(file, frames())
    print(f"{file}: {file.stat().st_size} bytes")


def encode(file: Path, pictures: Iterator[Image.Image]) -> None:
    """Write *pictures* as H.264 that each browser plays, with its index at the start."""
    start = found("ffmpeg") or sys.exit("no ffmpeg: pip install flask-imagefactory[video]")
    words = f"""
        -v error -y -f rawvideo -pix_fmt rgb24 -s {WIDTH}x{HEIGHT} -r {FPS} -i -
        -vf scale=out_color_matrix=bt709:out_range=tv -pix_fmt yuv420p
        -colorspace bt709 -color_primaries bt709 -color_trc bt709
        -c:v libx264 -threads 1 -profile:v high -preset veryslow -tune animation -crf 28
        -g {KEY_FRAME_S * FPS} -keyint_min {KEY_FRAME_S * FPS} -sc_threshold 0
        -movflags +faststart -map_metadata -1 -fflags +bitexact -flags:v +bitexact
    """.split()
    with subprocess.Popen([*start, *words, str(file)], stdin=subprocess.PIPE) as process:  # noqa: S603
        for picture in pictures:
            process.stdin.write(picture.tobytes())
    if process.returncode:
        sys.exit(f"ffmpeg ended with {process.returncode}")


def frames() -> Iterator[Image.Image]:
    """All frames, in their order."""
    random = Random(30)
    far, near = hills(random, 46, 5), hills(random, 30, 9)
    shore = Image.new("L", near.size)
    shore.paste(near, (0, 14))
    clouds = [(random.uniform(0, 1), random.randint(28, 120), random.uniform(0.5, 1.2)) for _ in range(6)]
    cloud = puff(random)
    stars = [(random.randrange(WIDTH), random.randrange(HORIZON - 60), random.random()) for _ in range(90)]
    for number in range(SECONDS * FPS):
        part = number / (SECONDS * FPS)
        top, low, back, front, light = colours(part)
        sky = gradient(top, low, HORIZON)
        scene = Image.new("RGB", (WIDTH, HORIZON))
        scene.paste(sky)
        shine(scene, stars, part)
        sun = sun_at(part)
        glow(scene, sun, light)
        for start, y, scale in clouds:
            mask = cloud.resize((round(cloud.width * scale), round(cloud.height * scale)))
            x = round((start + part * (0.25 + scale / 4)) % 1 * (WIDTH + mask.width)) - mask.width
            scene.paste(mixed(low, light, 0.55), (x, y), mask.point(lambda v: v * 3 // 5))
        scene.paste(back, (0, 0), far)
        scene.paste(front, (0, 0), shore)
        yield with_water(scene, top, light, sun, part)


def colours(part: float) -> list[Colour]:
    """The five colours at this *part* of the day, between those of the table."""
    for (before, a), (after, b) in pairwise(DAY.items()):
        if before <= part <= after:
            share = (part - before) / (after - before)
            return [
                mixed(ImageColor.getrgb(x), ImageColor.getrgb(y), share) for x, y in zip(a, b, strict=True)
            ]
    raise ValueError(part)


def mixed(a: Colour, b: Colour, share: float) -> Colour:
    """*a* with this *share* of *b*."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))


def gradient(top: Colour, low: Colour, height: int) -> Image.Image:
    """From *top* down to *low*."""
    column = Image.new("RGB", (1, height))
    column.putdata([mixed(top, low, (y / height) ** 1.4) for y in range(height)])
    return column.resize((WIDTH, height))


def hills(random: Random, height: int, waves: int) -> Image.Image:
    """The mask of a ridge at the horizon, as wide as the picture."""
    parts = [(random.uniform(0.4, 1) / n, random.uniform(0, 6.3), n) for n in range(1, waves)]
    total = sum(size for size, _, _ in parts)
    mask = Image.new("L", (WIDTH * LARGER, HORIZON * LARGER))
    points = [(0.0, float(mask.height))]
    for x in range(WIDTH + 1):
        wave = sum(size * math.sin(x / WIDTH * 6.3 * n + phase) for size, phase, n in parts) / total
        points.append((x * LARGER, (HORIZON - height * (1 + wave)) * LARGER))
    ImageDraw.Draw(mask).polygon([*points, (mask.width, mask.height)], fill=255)
    return mask.resize((WIDTH, HORIZON), Image.Resampling.LANCZOS)


def puff(random: Random) -> Image.Image:
    """The mask of a cloud."""
    mask = Image.new("L", (210, 80))
    draw = ImageDraw.Draw(mask)
    for _ in range(22):
        x, r = random.randint(55, 155), random.randint(9, 17)
        y = 50 - round(16 * math.sin((x - 55) / 100 * math.pi) * random.random())
        draw.ellipse((x - r * 1.7, y - r * 0.7, x + r * 1.7, y + r * 0.7), fill=230)
    return mask.filter(ImageFilter.GaussianBlur(6))


def sun_at(part: float) -> tuple[int, int]:
    """Where the sun stands: up on the left, down on the right at three quarters."""
    angle = math.pi * (part + 0.02) / 0.78
    return round(WIDTH * (0.12 + 0.76 * part / 0.78)), round(HORIZON + 10 - 190 * math.sin(angle))


def glow(scene: Image.Image, sun: tuple[int, int], light: Colour) -> None:
    """Draw the sun at *sun*, and the light around it."""
    x, y = sun
    if y > HORIZON + 40:
        return
    halo = Image.radial_gradient("L").point(lambda v: max(0, 200 - v * 2) * 3 // 4).resize((300, 300))
    scene.paste(light, (x - 150, y - 150), halo)
    disc = Image.new("L", (44 * LARGER, 44 * LARGER))
    ImageDraw.Draw(disc).ellipse((0, 0, disc.width - 1, disc.height - 1), fill=255)
    scene.paste(
        mixed(light, (255, 252, 235), 0.7), (x - 22, y - 22), disc.resize((44, 44), Image.Resampling.LANCZOS)
    )


def shine(scene: Image.Image, stars: list[tuple[int, int, float]], part: float) -> None:
    """Draw the stars, one after the other as it gets dark."""
    dark = max(0.0, (part - 0.78) / 0.16)
    for x, y, bright in stars:
        if bright < dark:
            level = round(min(1.0, (dark - bright) * 4) * (110 + 130 * bright))
            colour = mixed(scene.getpixel((x, y)), (235, 240, 255), level / 255)
            size = 1 if bright < 0.8 else 2
            scene.paste(colour, (x, y, x + size, y + size))


def with_water(
    scene: Image.Image, top: Colour, light: Colour, sun: tuple[int, int], part: float
) -> Image.Image:
    """*scene* above its reflection, with ripples in the light of the sun."""
    depth = HEIGHT - HORIZON
    whole = Image.new("RGB", (WIDTH, HEIGHT))
    whole.paste(scene)
    mirror = scene.transpose(Image.Transpose.FLIP_TOP_BOTTOM).crop((0, 0, WIDTH, depth))
    water = Image.blend(mirror.filter(ImageFilter.BoxBlur(2)), Image.new("RGB", mirror.size, top), 0.35)
    draw = ImageDraw.Draw(water)
    strength = max(0.0, min(1.0, (HORIZON + 30 - sun[1]) / 60))
    for row in range(4, depth, 7):
        swing = math.sin(part * 60 + row * 0.9) * (3 + row / 12)
        half = (6 + row * 0.5) * (0.6 + 0.4 * math.sin(part * 95 + row * 1.7))
        x = sun[0] + swing
        behind = water.getpixel((min(WIDTH - 1, max(0, sun[0])), row))
        colour = mixed(behind, light, 0.6 * strength)
        draw.rounded_rectangle((x - half, row, x + half, row + 2), 1, fill=colour)
    whole.paste(water, (0, HORIZON))
    return whole


if __name__ == "__main__":
    main()
