"""Dice against bytes: who is beaten by none, an axis with stretches left out, labels that hide nothing."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sammit.randomness import generator
from sammit.reporting.against_bytes import Point, dice_against_bytes, frontier
from sammit.reporting.byte_axis import ByteAxis
from sammit.reporting.label_places import Box, place_labels
from sammit.reporting.svg import to_file

from .test_figures import well_formed, words

NUMBERS = st.tuples(st.integers(0, 6).map(float), st.integers(0, 6).map(lambda n: n / 6))


@given(st.lists(NUMBERS, min_size=1, max_size=12))
def test_the_line_holds_exactly_those_that_no_other_beats(pairs: list[tuple[float, float]]) -> None:
    points = [Point(str(i), *pair) for i, pair in enumerate(pairs)]

    def beaten(one: Point) -> bool:
        return any(
            other.sent <= one.sent and other.dice >= one.dice and (other.sent, other.dice) != (one.sent, one.dice)
            for other in points
        )

    best = frontier(points)
    assert {one.label for one in best} == {one.label for one in points if not beaten(one)}
    assert [one.sent for one in best] == sorted(one.sent for one in best)


def test_an_axis_is_logarithmic_where_values_are_near() -> None:
    axis = ByteAxis.of([1e6, 1e7, 2e6])
    assert [axis.place(value) for value in (1e6, 2e6, 1e7)] == pytest.approx([0, 0.30103, 1])
    assert not axis.breaks and axis.ends == pytest.approx((-0.2, 1.2))
    ticks = {text: place for place, text in axis.ticks()}
    assert ticks["1\u00a0MB"] == pytest.approx(0) and ticks["10\u00a0MB"] == pytest.approx(1)


def test_a_wide_stretch_is_left_out_and_marked_and_has_no_tick() -> None:
    axis = ByteAxis.of([0, 400, 2e6, 4e6])
    assert axis.place(0) == 0 and len(axis.breaks) == 2
    assert axis.place(4e6) - axis.place(2e6) == pytest.approx(0.30103)
    assert axis.place(2e6) - axis.place(400) == pytest.approx(0.4)
    places = [place for place, _ in axis.ticks()]
    assert places == sorted(places) and len(places) >= 2
    assert not any("kB" in text for _, text in axis.ticks())


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=10))
def test_more_bytes_stand_further_right_on_any_axis(values: list[float]) -> None:
    axis = ByteAxis.of(values)
    ordered = [axis.place(value) for value in sorted(values)]
    assert ordered == sorted(ordered)
    assert all(axis.ends[0] <= place <= axis.ends[1] for place, _ in axis.ticks())


def test_labels_hide_neither_each_other_nor_a_point() -> None:
    draw = generator("labels")
    points = [(float(draw.choice([80.0, 84.0, 200.0])), float(y)) for y in draw.uniform(20, 300, size=22)]
    sizes = [(8.0 * 5, 10.0)] * 22
    frame = Box(0, 0, 330, 330)
    boxes = place_labels(points, sizes, frame)
    marks = [Box(x - 3, y - 3, 6, 6) for x, y in points]
    assert sum(one.shared(other) > 4 for one, other in combinations(boxes, 2)) == 0
    assert sum(box.shared(mark) > 4 for box in boxes for mark in marks) == 0
    assert all(box.shared(frame) == pytest.approx(box.width * box.height) for box in boxes)


def test_a_lonely_label_stands_close_to_its_point() -> None:
    (box,) = place_labels([(50.0, 50.0)], [(20.0, 10.0)], Box(0, 0, 100, 100))
    assert (box.x, box.y) == pytest.approx((59.0, 45.0))
    (moved,) = place_labels([(50.0, 50.0)], [(20.0, 10.0)], Box(0, 0, 100, 100), [Box(52, 40, 40, 20)])
    assert moved.shared(Box(52, 40, 40, 20)) == 0


def test_the_picture_names_every_method_that_has_both_numbers() -> None:
    methods = [
        ("local", 400.0, 0.7),
        ("fed<a>", 2e6, 0.8),
        ("fedb", 4e6, 0.75),
        ("lost", None, 0.9),
        ("open", 1.0, None),
    ]
    picture = dice_against_bytes(methods)
    text = words(well_formed(picture))
    assert all(name in text for name in ("local", "fed<a>", "fedb")) and "lost" not in text and "open" not in text
    assert "Beaten by none on both: local and fed<a>." in picture.alt
    assert "//" in text and "best Dice for as many bytes or fewer" in text
    assert dice_against_bytes(methods[:1]) is None


def test_the_file_of_its_own_is_dark_on_white() -> None:
    root = ElementTree.fromstring(to_file(dice_against_bytes([("a", 1e6, 0.7), ("b", 2e6, 0.8)])))
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and "background: #ffffff" in root.get("style")
