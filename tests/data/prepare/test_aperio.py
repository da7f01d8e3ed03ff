"""Outlines become instance maps: against an independent point-in-polygon test, and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from sammit.data.prepare.aperio import AMBIGUOUS, Region, draw, read_regions
from sammit.data.prepare.pannuke import instances

from . import raw_nuclei as made

HERE = Path("outlines.xml")
SHAPE = (40, 50)


def region(corners: list[tuple[float, float]], kind: str = "") -> Region:
    """An outline of X and Y pairs."""
    return Region(kind, np.array(corners, float).reshape(-1, 2))


@st.composite
def stars(draw_: st.DrawFn) -> list[tuple[float, float]]:
    """A polygon around a point, its corners at falling and rising distances; parts may lie beyond the edge."""
    centre = draw_(st.tuples(st.floats(0, 49), st.floats(0, 39)))
    radii = draw_(st.lists(st.floats(2, 15), min_size=3, max_size=12))
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    return [(centre[0] + r * np.cos(a), centre[1] + r * np.sin(a)) for r, a in zip(radii, angles, strict=True)]


@settings(max_examples=60)
@given(stars())
def test_pixels_are_those_whose_centre_lies_inside(corners: list[tuple[float, float]]) -> None:
    """But for those on the outline, which count as inside here and either way there."""
    drawn = draw([region(corners)], SHAPE, HERE) > 0
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    points = np.stack([columns.ravel(), rows.ravel()], axis=-1)
    inside = Outline([*corners, corners[0]], closed=True).contains_points(points).reshape(SHAPE)
    ends = np.array(corners)
    along = np.roll(ends, -1, axis=0) - ends
    share = np.clip(((points[:, None] - ends) * along).sum(-1) / (along**2).sum(-1), 0, 1)
    distance = np.linalg.norm(points[:, None] - ends - share[..., None] * along, axis=-1).min(axis=1).reshape(SHAPE)
    assert (drawn == inside)[distance > 1e-6].all()


def test_by_hand() -> None:
    """Sides belong to the nucleus and tips do not; where the outline crosses itself the overlap is outside."""
    triangle = draw([region([(1, 1), (5, 1), (1, 5)])], (7, 7), HERE)
    assert triangle.sum(axis=1).tolist() == [0, 5, 4, 3, 2, 0, 0]
    between = draw([region([(0.5, 0.5), (3.5, 0.5), (3.5, 2.5), (0.5, 2.5)])], (4, 5), HERE)
    assert (between == np.pad(np.ones((2, 3), int), ((1, 1), (1, 1)))).all()
    twice = draw(
        [region([(0, 0), (9, 0), (9, 9), (0, 9), (0, 0), (3, 3), (6, 3), (6, 6), (3, 6), (3, 3)])], (10, 10), HERE
    )
    assert twice[0, 0] == twice[9, 9] == twice[3, 3] == 1 and twice[4, 4] == twice[5, 5] == 0


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(1, 3), st.integers(1, 3)), max_size=16))
def test_maps_come_back_from_their_outlines(squares: list[tuple[int, int, int, int]]) -> None:
    """Squares in cells that do not touch: as many instances as squares, each where it was drawn."""
    wanted = np.zeros((45, 45), np.uint16)
    regions, cells = [], set()
    for row, column, height, width in squares:
        if (row, column) not in cells:
            cells.add((row, column))
            top, left, bottom, right = row * 5, column * 5, row * 5 + height, column * 5 + width
            regions.append(region([(left, top), (right, top), (right, bottom), (left, bottom)]))
            wanted[top : bottom + 1, left : right + 1] = len(regions)
    assert (draw(regions, (45, 45), HERE) == wanted).all()


def test_order_and_ambiguity() -> None:
    """A later nucleus covers an earlier one; an ambiguous region gives way to both, wherever it stands in the file."""
    square = [(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0)]
    moved = [(x + 3, y + 3) for x, y in square]
    drawn = draw([region([(x + 1, y) for x, y in moved], "ambiguous"), region(square), region(moved)], (10, 10), HERE)
    assert drawn[3, 3] == 2 and drawn[0, 0] == 1 and drawn[3, 8] == AMBIGUOUS and drawn[9, 9] == 0
    assert set(np.unique(drawn)) == {0, 1, 2, AMBIGUOUS}


def test_reading(tmp_path: Path) -> None:
    """Classes and corners in the file's order; X is the column."""
    made.outlines(tmp_path / "a.xml", ("Epithelial", [(1, 2, 3, 4)]), ("Ambiguous", [(5, 6, 7, 8)]))
    first, second = read_regions(tmp_path / "a.xml")
    assert (first.kind, second.kind) == ("epithelial", "ambiguous")
    assert first.corners.tolist() == [[2, 1], [4, 1], [4, 3], [2, 3]]


def test_more_nuclei_than_numbers() -> None:
    from sammit.errors import UserError

    with pytest.raises(UserError, match=r"outlines\.xml: has 65535 nuclei, more than 16 bits"):
        draw([region([(0, 0), (1, 0), (1, 1)])] * AMBIGUOUS, (4, 4), HERE)


@given(st.integers(0, 2**32 - 1))
def test_numberings_are_joined(seed: int) -> None:
    """Every number of every kind is an instance of its own; where kinds overlap the first counts; no gaps."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 4, (6, 5, 3)) * rng.choice([1.0, 7.0, 400.0], 3)
    joined = instances(kinds)
    first = np.where((kinds > 0).any(axis=-1), (kinds > 0).argmax(axis=-1), -1)
    own = np.take_along_axis(kinds, np.maximum(first, 0)[..., None], axis=-1)[..., 0]
    assert ((joined > 0) == (first >= 0)).all()
    assert len({*zip(first.flat, own.flat, joined.flat, strict=True)}) == len(np.unique(joined))
    assert set(np.unique(joined)) <= set(range(joined.max() + 1)) and joined.max() == len(np.unique(joined[joined > 0]))
