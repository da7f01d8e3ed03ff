"""Generated sites: families of images with known truth, for the demo, the tests and the shipped backbone.

Two families that share no drawing: `draw_eye` (the demo's: a disc with a cup inside, over vessels) and
`draw_backbone` (irregular blobs and branching tubes, from which the shipped backbone was pretrained). Every image is
a pure function of its key.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sammit.errors import UserError
from sammit.files import write_atomically
from sammit.randomness import generator

Field = NDArray[Any]
Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Look:
    """How a site's images look, how many there are, and how its readers draw.

    Attributes:
        patients: patients at the site; each has one or two images.
        side: height of an image, pixels; the width differs from image to image.
        ground, tint: mean background level in [0, 1] and its share in red, green, blue.
        contrast: disc minus background; negative where the disc is dark. The cup goes further the same way.
        decoys: at most so many blobs without a cup, a third of them as bright or dark as the disc.
        noise, blur: standard deviation of pixel noise, and of the optics in pixels.
        reading: factor of the cup's radius in the truth: readers of different schools draw it tighter or wider.
    """

    patients: int
    side: int
    ground: float
    tint: tuple[float, float, float]
    contrast: float
    decoys: int
    noise: float
    blur: float
    reading: float


DEMO = {
    "aster": Look(20, 72, 0.40, (1.25, 0.85, 0.55), 0.32, 2, 0.05, 0.7, 1.00),
    "birch": Look(16, 88, 0.46, (1.05, 1.00, 0.90), 0.30, 2, 0.06, 0.9, 0.80),
    "cedar": Look(14, 64, 0.34, (0.85, 1.00, 1.15), 0.30, 2, 0.07, 0.6, 1.25),
    "dahlia": Look(14, 80, 0.42, (1.15, 0.90, 1.05), 0.28, 2, 0.06, 1.0, 1.10),
}
"""The demo's sites: appearance, balance and size differ, and so do readers.

Readers at birch draw the cup tighter and at cedar wider, and each site has few labelled patients: alone it sees too
little, and one model cannot please all.
"""


def write_demo_sites(out: Path, seed: int) -> None:
    """Write the demo's sites; see `write_sites`.

    Raises:
        UserError: `out` holds something already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is not empty; choose another folder")
    write_sites(out, DEMO, seed)


def write_sites(out: Path, looks: dict[str, Look], seed: int) -> None:
    """Write a folder of sites: `images/`, `masks/` (0 background, 1 rim, 2 cup) and `dataset.toml`.

    Args:
        out: the folder of sites to make.
        looks: site name -> look.
        seed: equal seeds give equal files.
    """
    for site, look in looks.items():
        for patient in range(look.patients):
            for image in range(int(generator(seed, site, patient, "images").integers(1, 3))):
                pixels, labels = draw_eye(look, (seed, site, patient, image))
                name = f"p{patient:02d}-{image}.png"
                write_png(out / site / "images" / name, pixels)
                write_png(out / site / "masks" / name, labels)
    write_atomically(out / "dataset.toml", DATASET_TOML)


DATASET_TOML = """\
# The masks hold 1 for the rim and 2 for the cup; the disc is both, so the two structures overlap.
patient = "^(p[0-9]+)-"

[structures]
disc = [1, 2]
cup = 2
"""


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write an (H, W) or (H, W, 3) uint8 array as a PNG."""
    from PIL import Image

    write_atomically(path, lambda draft: Image.fromarray(pixels).save(draft))


def draw_eye(look: Look, key: tuple[object, ...]) -> tuple[NDArray[np.uint8], Labels]:
    """One image of the demo family.

    Returns:
        (H, W, 3) uint8 pixels and (H, W) uint8 labels: 0 background, 1 rim, 2 cup as the site's readers draw it.
    """
    rng = generator("eye", *key)
    height, width = look.side, int(look.side * rng.uniform(0.9, 1.2))
    radius = height * rng.uniform(0.13, 0.28)
    centre = (rng.uniform(0.32, 0.68) * height, rng.uniform(0.32, 0.68) * width)
    outline = _outline(rng, (height, width), centre, radius, 0.10)
    ratio = rng.uniform(0.40, 0.68)
    shade = _smooth(rng, (height, width), height / 3) * 0.10
    contrast = look.contrast * rng.uniform(0.75, 1.25)
    level = shade + contrast * (_step(outline, 1.0, radius) + 0.7 * _step(outline, ratio, radius))
    for _ in range(int(rng.integers(0, look.decoys + 1))):
        alike = 1 if rng.uniform() < 0.25 else -1
        level += _decoy(rng, (height, width), height) * alike * look.contrast * rng.uniform(0.8, 1.3)
    level -= 0.22 * np.clip(tubes(rng, (height, width), int(rng.integers(2, 5)), 1.6), 0, 1)
    image = (look.ground + blur(level, look.blur))[..., None] * np.asarray(look.tint, np.float32)
    image += rng.normal(0, look.noise, image.shape).astype(np.float32)
    cup = outline < min(ratio * look.reading, 0.95)
    return to_bytes(image), ((outline < 1).astype(np.uint8) + cup).astype(np.uint8)


def draw_backbone(key: tuple[object, ...], side: int) -> tuple[NDArray[np.uint8], Labels]:
    """One image of the backbone's family: clear contrast, 70 % irregular blobs, 30 % tubes, few decoys.

    Returns:
        (side, side, 3) uint8 pixels and (side, side) uint8 labels, 1 for the foreground.
    """
    rng = generator("backbone", *key)
    shape = (side, side)
    if rng.uniform() < 0.7:
        soft = _blobs(rng, shape)
    else:
        soft = np.clip(tubes(rng, shape, int(rng.integers(2, 13)), float(np.exp(rng.uniform(0.2, 1.9)))), 0, 1)
    truth = soft > 0.5
    sign = rng.choice([-1.0, 1.0])
    colour = rng.uniform(0.35, 1.0, 3) * rng.uniform(0.2, 0.7) * sign
    ground = rng.uniform(0.05, 0.35, 3) if sign > 0 else rng.uniform(0.6, 0.95, 3)
    inside = soft * (1 + 0.35 * _smooth(rng, shape, rng.uniform(1.5, 6)))
    image = ground + blur(inside, rng.uniform(0.3, 1.2))[..., None] * colour
    image = image + (_smooth(rng, shape, side / 3) * rng.uniform(0, 0.10))[..., None]
    image = image + (_smooth(rng, shape, rng.uniform(1, 4)) * rng.uniform(0, 0.06))[..., None]
    if rng.uniform() < 0.3:
        image = image + 0.4 * (_decoy(rng, shape, side) * rng.uniform(0.2, 0.6))[..., None] * colour
    image = image + rng.normal(0, rng.uniform(0.005, 0.05), image.shape)
    return to_bytes(image.astype(np.float32)), truth.astype(np.uint8)


def _blobs(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Irregular blobs of one image, sizes alike, as a soft mask in [0, 1]."""
    side = shape[0]
    typical = float(np.exp(rng.uniform(np.log(side * 0.03), np.log(side * 0.22))))
    count = int(np.clip(rng.uniform(0.08, 0.45) * side**2 / (3.2 * typical**2), 1, 60))
    soft = np.zeros(shape, np.float32)
    for _ in range(count):
        radius = typical * rng.uniform(0.6, 1.4)
        outline = _outline(rng, shape, tuple(rng.uniform(-0.05, 1.05, 2) * side), radius, rng.uniform(0.05, 0.30))
        soft = np.maximum(soft, _step(outline, 1.0, radius) * rng.uniform(0.75, 1.0))
    return soft


def tubes(rng: np.random.Generator, shape: tuple[int, int], count: int, width: float) -> Field:
    """Winding, tapering lines as a soft mask.

    Args:
        rng: where the draws come from.
        shape: (H, W).
        count: lines; about half of them end in a fork.
        width: largest width, pixels.
    """
    from PIL import Image, ImageDraw

    fine = 3
    canvas = Image.new("L", (shape[1] * fine, shape[0] * fine))
    pen = ImageDraw.Draw(canvas)
    starts = [
        (rng.uniform(0, 1, 2) * shape, rng.uniform(0, 2 * np.pi), width * rng.uniform(0.5, 1)) for _ in range(count)
    ]
    while starts:
        place, heading, thick = starts.pop()
        for _ in range(int(rng.integers(15, 45))):
            heading += rng.normal(0, 0.22)
            ahead = place + 0.035 * max(shape) * np.array([np.sin(heading), np.cos(heading)])
            ends = [tuple((p * fine)[::-1]) for p in (place, ahead)]
            pen.line(ends, fill=255, width=max(1, round(thick * fine)), joint="curve")
            place, thick = ahead, thick * 0.985
        if thick > 1.0 and rng.uniform() < 0.5:
            starts += [(place, heading + turn, thick * 0.75) for turn in (-0.5, 0.5)]
    small = canvas.resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / 255


def _outline(
    rng: np.random.Generator, shape: tuple[int, int], centre: tuple[float, ...], radius: float, rough: float
) -> Field:
    """(H, W) distance from the centre over the outline's radius in that direction: below 1 is inside."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    y, x = y - centre[0], x - centre[1]
    angle = np.arctan2(y, x)
    bound = np.ones(shape, np.float32)
    for wave in range(2, 7):
        bound += rough * rng.normal() / wave * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    distance: Field = np.hypot(y, x) / (radius * np.clip(bound, 0.4, 1.8))
    return distance.astype(np.float32)


def _step(outline: Field, bound: float, radius: float) -> Field:
    """A soft edge, about a pixel wide, from 1 inside `bound` to 0 outside."""
    edge: Field = np.clip((bound - outline) * radius + 0.5, 0, 1)
    return edge


def _decoy(rng: np.random.Generator, shape: tuple[int, int], side: int) -> Field:
    radius = side * rng.uniform(0.06, 0.16)
    return _step(_outline(rng, shape, tuple(rng.uniform(0, 1, 2) * shape), radius, 0.2), 1.0, radius)


def _smooth(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> Field:
    """Noise of unit deviation, smooth over about `scale` pixels."""
    step = max(1, int(scale))
    coarse = rng.normal(size=(shape[0] // step + 3, shape[1] // step + 3)).astype(np.float32)
    fine = np.kron(coarse, np.ones((step, step), np.float32)) if step > 1 else coarse
    fine = blur(fine, scale / 1.5)[step : step + shape[0], step : step + shape[1]]
    noise: Field = (fine - fine.mean()) / (fine.std() + 1e-6)
    return noise


def blur(field: Field, deviation: float) -> Field:
    """Gaussian blur of an (H, W) field, deviation in pixels."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(field, deviation, mode="nearest", truncate=2.5), np.float32)


def to_bytes(image: Field) -> NDArray[np.uint8]:
    """[0, 1] -> uint8, clipped."""
    pixels: NDArray[np.uint8] = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    return pixels
