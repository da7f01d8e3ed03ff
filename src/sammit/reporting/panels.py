"""Case pictures: the image, the truth and each model's mask as contours drawn over the image.

The image is stored once a case, as JPEG; contours are vector paths, so they stay sharp on any screen. A structure has
a colour and a dash pattern of its own, the same in every picture of a run.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from sammit.errors import UserError
from sammit.reporting import wording
from sammit.reporting.cases import MODELS

if TYPE_CHECKING:
    import numpy as np

COLOURS = ("#E69F00", "#56B4E9", "#F0E442", "#009E73", "#CC79A7", "#D55E00")
DASHES = ("none", "7 3", "2 3", "9 3 2 3", "12 4", "4 2")

_LONGEST = 40_000  # characters of one mask's contours; a speckled mask is coarsened until it fits


@dataclass(frozen=True)
class StoredCase:
    """What `pictures/<site>/<kind>.npz` holds.

    Attributes:
        image: (H, W, 3) uint8.
        truth: (C, H, W) bool.
        case, structures: names.
        masks: model -> (C, H, W) bool.
        dice: model -> Dice of the case.
    """

    image: np.ndarray
    truth: np.ndarray
    case: str
    structures: tuple[str, ...]
    masks: Mapping[str, np.ndarray]
    dice: Mapping[str, float]


@dataclass(frozen=True)
class Panel:
    """One picture: a heading, its Dice in words (or ""), and inline SVG."""

    title: str
    score: str
    svg: str


@dataclass(frozen=True)
class CasePicture:
    """The pictures of one case side by side: best, median or worst of its site."""

    kind: str
    case: str
    structures: tuple[str, ...]
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Canvas:
    """A case's image at the size at which it is shown.

    Attributes:
        image: the image as an SVG element with an id; `again` refers to it where it stands on the page already.
        height, width: pixels.
    """

    image: str
    again: str
    height: int
    width: int


def case_picture(path: Path, kind: str, width: int, prefix: str) -> CasePicture:
    """Read `pictures/<site>/<kind>.npz` and draw it.

    Args:
        path: see `read_case`.
        kind: "best", "median" or "worst".
        width: largest width of the stored image, in pixels; smaller images stay as they are.
        prefix: makes ids unique on the page.

    Raises:
        UserError: the file cannot be read or lacks an array.
    """
    stored = read_case(path)
    canvas = make_canvas(stored.image, width, prefix)
    panels = [Panel("Image", "", _svg(canvas, canvas.image, f"{stored.case}: image"))]
    panels.append(draw(canvas, stored, "Truth", stored.truth))
    for model, masks in stored.masks.items():
        title = wording.model(model)
        score = f"Dice {wording.score(stored.dice[model])}" if model in stored.dice else ""
        panels.append(draw(canvas, stored, title[0].upper() + title[1:], masks, score))
    return CasePicture(kind, stored.case, stored.structures, tuple(panels))


def read_case(path: Path) -> StoredCase:
    """Read one case's picture file.

    Args:
        path: arrays image (H, W, 3) uint8, truth and any of the judged models (C, H, W) bool, case, structures (C,),
            and dice: one float for each model, in the order of the models in the file.

    Raises:
        UserError: the file cannot be read or lacks an array.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        image, truth, case = arrays["image"], arrays["truth"], str(arrays["case"])
        structures = tuple(str(name) for name in np.atleast_1d(arrays["structures"]))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"{path}: not a case's pictures ({error}); write them again, or remove the file") from None
    masks = {name: array for name, array in arrays.items() if name in MODELS}
    dice = np.atleast_1d(np.asarray(arrays.get("dice", []), dtype=np.float64)).tolist()
    return StoredCase(image, truth, case, structures, masks, dict(zip(masks, dice, strict=False)))


def make_canvas(image: np.ndarray, width: int, prefix: str) -> Canvas:
    """The image as JPEG, at most `width` pixels wide, with `prefix` as its id."""
    from PIL import Image

    picture = Image.fromarray(image).convert("RGB")
    across = min(width, picture.width)
    height = max(1, round(picture.height * across / picture.width))
    if across < picture.width:
        picture = picture.resize((across, height), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, format="JPEG", quality=82, optimize=True)
    source = "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
    element = f'<image id="{prefix}" width="{across}" height="{height}" href="{source}"/>'
    return Canvas(element, f'<use href="#{prefix}"/>', height, across)


def draw(canvas: Canvas, stored: StoredCase, title: str, masks: np.ndarray, score: str = "", ground: str = "") -> Panel:
    """Contours of (C, H, W) masks over the image.

    Args:
        canvas: the image.
        stored: whose case it is; names case and structures for those who cannot see the picture.
        title, masks, score: what is drawn.
        ground: what lies under the contours: `canvas.again` unless another is given.
    """
    shares = (_resized(mask, canvas.height, canvas.width) for mask in masks)
    paths = "".join(_outline(share, place) for place, share in enumerate(shares))
    alt = f"{stored.case}: {title.lower()}, contours of {wording.listed(stored.structures)}. {score}".strip()
    return Panel(title, score, _svg(canvas, (ground or canvas.again) + paths, alt))


def _resized(mask: np.ndarray, height: int, across: int) -> np.ndarray:
    """A (H, W) mask as the share of each picture's pixel that it covers, (height, across) float."""
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))
    return np.asarray(picture.resize((across, height), Image.Resampling.BOX), dtype=np.float64) / 255


def _svg(canvas: Canvas, inside: str, alt: str) -> str:
    return f'<svg role="img" aria-label="{escape(alt)}" viewBox="0 0 {canvas.width} {canvas.height}">{inside}</svg>'


def _outline(share: np.ndarray, place: int) -> str:
    """The contour at one half as two paths: a dark halo, seen on bright images, under the structure's colour."""
    step, path = 1, _contour(share, 1)
    while len(path) > _LONGEST and step < 8:
        step *= 2
        path = _contour(share, step)
    if not path:
        return ""
    colour, dash = COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]
    line = f'fill="none" vector-effect="non-scaling-stroke" stroke-dasharray="{dash}" d="{path}"'
    halo = f'<path stroke="#000" stroke-opacity=".65" stroke-width="4" {line}/>'
    return f'{halo}<path stroke="{colour}" stroke-width="2" {line}/>'


def _contour(share: np.ndarray, step: int) -> str:
    """SVG path data of the contour at one half, in pixels of the full picture, after averaging step x step blocks."""
    import numpy as np
    from contourpy import contour_generator

    height, across = share.shape[0] // step, share.shape[1] // step
    blocks = share[: height * step, : across * step].reshape(height, step, across, step).mean(axis=(1, 3))
    # A rim of zeros closes the contour of a structure that touches the image's border.
    lines = contour_generator(z=np.pad(blocks, 1)).lines(0.5)
    return "".join(_path((np.asarray(line, dtype=np.float64) - 0.5) * step) for line in lines)


def _path(points: np.ndarray) -> str:
    """A line through points (P, 2), x before y, in pixels with one decimal."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points.tolist())


def swatch(place: int) -> str:
    """A short line in the colour and dash of the structure at a place, for the legend."""
    colour, dash = COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]
    line = f'x1="0" x2="36" y1="6" y2="6" stroke-dasharray="{dash}"'
    return (
        '<svg class="swatch" viewBox="0 0 36 12" aria-hidden="true">'
        f'<line {line} stroke="#000" stroke-width="5"/><line {line} stroke="{colour}" stroke-width="3"/></svg>'
    )
