"""Outlines of nuclei as Aperio's ImageScope saves them (XML), and instance maps drawn from them.

    Annotations / Annotation / Attributes / Attribute Name=CLASS
                             / Regions / Region / Vertices / Vertex X= Y=

X runs to the right and Y down, in pixels of the image; a pixel's centre lies at whole numbers, as the organisers' own
Python code takes it. Looked up in that code's public adaptations for MoNuSAC 2020 and MoNuSeg 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sammit.data.prepare.opening import named
from sammit.errors import UserError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    import numpy as np

AMBIGUOUS = 65535  # label of regions that the annotators could not decide


@dataclass(frozen=True)
class Region:
    """A closed outline.

    Attributes:
        kind: the class's name in lower case; "" where there is none.
        corners: (n, 2) float, X and Y of each corner in pixels.
    """

    kind: str
    corners: np.ndarray


def read_regions(path: Path) -> list[Region]:
    """The outlines of a file, in its order.

    Raises:
        UserError: no XML, no Aperio annotations, or a corner without coordinates.
    """
    from xml.etree import ElementTree

    with named(path):
        root = ElementTree.parse(path).getroot()
        if root.tag != "Annotations":
            raise UserError(f"{path}: is no Aperio annotation (it begins with {root.tag}); put the right file there")
        return [
            Region(_kind(annotation), _corners(region, path))
            for annotation in root.iter("Annotation")
            for region in annotation.iter("Region")
        ]


def draw(regions: list[Region], shape: tuple[int, int], path: Path) -> np.ndarray:
    """The instance map of an image: 0 background, 1 to n the nuclei in the file's order, AMBIGUOUS undecided.

    A later outline covers an earlier one; an ambiguous one covers background only. Outlines with fewer than three
    corners are passed over; what reaches beyond the image is cut off.

    Args:
        regions: as read.
        shape: (H, W) of the image.
        path: the outlines' file, for messages.

    Returns:
        (H, W) uint16.

    Raises:
        UserError: an outline that lies wholly outside the image, or more nuclei than 16 bits can count.
    """
    import numpy as np

    closed = [region for region in regions if len(region.corners) > 2]
    nuclei = [region for region in closed if region.kind != "ambiguous"]
    if len(nuclei) >= AMBIGUOUS:
        raise UserError(f"{path}: has {len(nuclei)} nuclei, more than 16 bits can count; cut the image into parts")
    result = np.zeros(shape, np.uint16)
    for number, region in enumerate(nuclei, 1):
        window, inside = _inside(region, shape, path)
        result[window][inside] = number
    for region in closed:
        if region.kind == "ambiguous":
            window, inside = _inside(region, shape, path)
            result[window][inside & (result[window] == 0)] = AMBIGUOUS
    return result


def _inside(region: Region, shape: tuple[int, int], path: Path) -> tuple[tuple[slice, slice], np.ndarray]:
    """The part of the image around an outline, and which of its pixels' centres lie inside."""
    import numpy as np

    left, top = np.floor(region.corners.min(axis=0)).astype(int)
    right, bottom = np.ceil(region.corners.max(axis=0)).astype(int)
    if left >= shape[1] or top >= shape[0] or right < 0 or bottom < 0:
        raise UserError(
            f"{path}: an outline lies at x {left} to {right}, y {top} to {bottom}, outside its image of "
            f"{shape[1]}x{shape[0]}; put the annotation of this image there"
        )
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, shape[1] - 1), min(bottom, shape[0] - 1)
    inside = fill(region.corners - (left, top), (bottom - top + 1, right - left + 1))
    return (slice(top, bottom + 1), slice(left, right + 1)), inside


def fill(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose centre lies in a polygon or on one of its sides.

    The rule is even-odd, and a tip that merely touches a row of centres does not count. Pillow would cut the corners to
    whole pixels and draw the outline a pixel wide, which adds a rim to a small nucleus.

    Args:
        corners: (n, 2) float, X and Y; parts may lie outside.
        shape: (H, W).

    Returns:
        (H, W) bool.
    """
    import numpy as np

    x, y = corners.T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    rows = np.arange(shape[0])[:, None]
    inside = np.zeros(shape, bool)
    for above in (np.less, np.less_equal):  # both ways to count what just touches, so that the sides belong to it
        row, edge = np.nonzero(above(y, rows) != above(next_y, rows))
        crossing = x[edge] + (row - y[edge]) / (next_y - y)[edge] * (next_x - x)[edge]
        for column in (np.ceil(crossing), np.floor(crossing) + 1):
            flips = np.zeros((shape[0], shape[1] + 1), int)
            np.add.at(flips, (row, np.clip(column, 0, shape[1]).astype(int)), 1)
            inside |= flips[:, :-1].cumsum(axis=1) % 2 == 1
    return inside


def _kind(annotation: Element) -> str:
    attribute = annotation.find("Attributes/Attribute")
    return "" if attribute is None else attribute.get("Name", "").strip().lower()


def _corners(region: Element, path: Path) -> np.ndarray:
    import numpy as np

    try:
        corners = [(float(vertex.attrib["X"]), float(vertex.attrib["Y"])) for vertex in region.iter("Vertex")]
    except (KeyError, ValueError):
        raise UserError(f"{path}: a Vertex has no numbers X and Y; fetch the file again") from None
    return np.array(corners, float).reshape(-1, 2)
