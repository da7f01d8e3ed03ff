"""Weak and few labels: true to the mask, never more than was drawn, and the same wherever they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt, label

from sammit.config import DataConfig
from sammit.data import Site, open_sites, pooled
from sammit.data.check import check
from sammit.data.decode import Entry, Facts, layer, pack, present_in
from sammit.data.labels import BLOCK, KINDS, MOST_POINTS, weakened
from sammit.data.splits import labelled_patients
from sammit.errors import UserError
from sammit.recipe import experiment_from

MakeSite = Callable[..., Path]
JOINED = np.ones((3, 3), int)


def entry_of(truth: np.ndarray, known: np.ndarray | None = None) -> Entry:
    """A picture of one slice with (C, h, w) truth."""
    known = np.ones(truth.shape[1:], bool) if known is None else known
    layers = [one[None] & known for one in truth]
    facts = Facts(None, 3, 0.0, 1.0, bool(known.all()), present_in(layers))
    return Entry(np.zeros((1, *truth.shape[1:], 3), np.uint8), pack([*layers, known[None]]), facts)


def drawn(kind: str, truth: np.ndarray, known: np.ndarray | None = None, key: Any = 0) -> tuple[np.ndarray, np.ndarray]:
    """(C, h, w) told and (h, w) labelled."""
    weak = weakened(entry_of(truth, known), kind, len(truth), (key,))
    told = np.stack([layer(weak.bits[0], index) for index in range(len(truth))])
    assert weak.facts.present == (tuple(np.flatnonzero(told.any(axis=(1, 2)))),) and not weak.facts.complete
    return told, layer(weak.bits[0], len(truth))


def rectangle(shape: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    return mask


def regions(truth: np.ndarray, known: np.ndarray) -> list[np.ndarray]:
    """By another way than the module's: every combination of structures that there is."""
    rows = truth.reshape(len(truth), -1).T
    return [(rows == one).all(axis=1).reshape(known.shape) & known for one in np.unique(rows, axis=0)]


def disc(shape: tuple[int, int], centre: tuple[int, int], radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.asarray((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2)


@st.composite
def pictures(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """(C, h, w) truth of blots that may overlap, and (h, w) known pixels."""
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    grain = draw(st.integers(1, 6))
    coarse = rng.random((3, -(-shape[0] // grain), -(-shape[1] // grain))) < draw(st.floats(0, 1))
    fine = coarse.repeat(grain, axis=1).repeat(grain, axis=2)[:, : shape[0], : shape[1]]
    known = fine[2] if draw(st.booleans()) else np.ones(shape, bool)
    return fine[: draw(st.integers(1, 2))], known


@pytest.mark.parametrize("kind", ["scribble", "point", "block"])
@settings(max_examples=40, deadline=None)
@given(picture=pictures(), key=st.integers(0, 5))
def test_what_is_told_is_true_and_nothing_else_is_told(kind: str, picture: Any, key: int) -> None:
    truth, known = picture
    told, where = drawn(kind, truth, known, key)
    assert not (where & ~known).any() and (told == truth & where).all()
    again = drawn(kind, truth, known, key)
    assert (told == again[0]).all() and (where == again[1]).all()


@settings(max_examples=40, deadline=None)
@given(picture=pictures())
def test_every_part_of_every_region_has_its_scribble(picture: Any) -> None:
    truth, known = picture
    where = drawn("scribble", truth, known)[1]
    for region in regions(truth, known):
        parts, count = label(region, JOINED)
        assert set(np.unique(parts[where])) >= set(range(1, count + 1))


def test_a_scribble_is_the_middle_line() -> None:
    """Of a bar 9 pixels wide the three in its middle; around it the background's keeps away from it."""
    bar = rectangle((60, 80), slice(20, 29), slice(15, 65))
    told, where = drawn("scribble", bar[None])
    assert told[0, 23:26, 25:55].all() and not told[0, 20:23, 25:55].any() and not told[0, 26:29, 25:55].any()
    outside = where & ~told[0]
    assert outside.any() and distance_transform_edt(~bar)[outside].min() >= 6
    assert 0.05 < where.mean() < 0.25


@pytest.mark.parametrize("angle", np.linspace(0, 3, 7))
def test_a_turned_ellipse_has_one_line(angle: float) -> None:
    """However rough its edge is on the grid: a line that reaches a - b^2 / a from the middle."""
    rows, columns = np.mgrid[:100, :100] - 50
    along, across = np.cos(angle) * rows + np.sin(angle) * columns, np.cos(angle) * columns - np.sin(angle) * rows
    told = drawn("scribble", ((along / 35) ** 2 + (across / 12) ** 2 <= 1)[None])[0][0]
    assert np.abs(across[told]).max() < 2.5
    assert np.abs(along[told]).max() == pytest.approx(35 - 12**2 / 35, abs=2)


@settings(max_examples=40, deadline=None)
@given(picture=pictures(), key=st.integers(0, 5))
def test_every_part_has_one_point_and_the_background_as_many(picture: Any, key: int) -> None:
    truth, known = picture
    where = drawn("point", truth, known, key)[1]
    some, counted = truth.any(axis=0), 0
    for region in regions(truth, known):
        parts, count = label(region, JOINED)
        if (region & some).any():
            seen = set(np.unique(parts[where & region])) - {0}
            assert seen == set(range(1, count + 1)) if count <= MOST_POINTS else len(seen) >= 1
            assert (where & region).sum() <= 13 * min(count, MOST_POINTS)
            counted += min(count, MOST_POINTS)
    background = known & ~some
    assert bool((where & background).any()) == bool(background.any())
    assert (where & background).sum() <= 13 * max(1, counted)


def test_points_lie_deep_and_anywhere_there() -> None:
    truth = disc((80, 80), (40, 40), 30)[None]
    found = [drawn("point", truth, key=key) for key in range(20)]
    middles = np.array([np.argwhere(told[0]).mean(axis=0) for told, _ in found])
    away = np.hypot(*(middles - 40).T)
    assert (away <= 16).all() and away.max() > 8 and middles.std(axis=0).min() > 3
    assert all(told.sum() == 13 and 1 <= (where & ~told[0]).sum() <= 13 for told, where in found)


def test_of_many_parts_some_have_a_point() -> None:
    dots = np.zeros((60, 60), bool)
    dots[::4, ::4] = True  # 225 of them
    told, where = drawn("point", dots[None])
    assert told.sum() == MOST_POINTS
    assert 0.5 * 13 * MOST_POINTS < (where & ~told[0]).sum() <= 13 * MOST_POINTS


def test_blocks_are_whole() -> None:
    """Of 4 x 5 squares two, all of their pixels; another key, other squares."""
    truth = disc((4 * BLOCK, 5 * BLOCK), (60, 70), 40)[None]
    seen = set()
    for key in range(8):
        where = drawn("block", truth, key=key)[1]
        squares = where.reshape(4, BLOCK, 5, BLOCK).mean(axis=(1, 3))
        assert set(np.unique(squares)) == {0.0, 1.0} and squares.sum() == 2
        seen.add(squares.tobytes())
    assert len(seen) > 4
    assert drawn("block", np.zeros((1, 7, 9), bool))[1].all()  # never fewer than one


def test_a_box_by_hand() -> None:
    """10 x 20: the middle 4 x 9 is foreground, mask or not; the rest of the box says nothing; outside is background."""
    shape = (40, 60)
    frame = rectangle(shape, slice(10, 20), slice(30, 50)) & ~rectangle(shape, slice(12, 18), slice(32, 48))
    told, where = drawn("box", frame[None])
    middle, box = rectangle(shape, slice(13, 17), slice(35, 44)), rectangle(shape, slice(10, 20), slice(30, 50))
    assert (told[0] == middle).all() and not (frame & middle).any()
    assert (where == (middle | ~box)).all()


def test_boxes_of_overlapping_structures() -> None:
    """Labelled is what is decided for both: in the cup's middle, or outside both boxes, or in the disc's only."""
    shape = (60, 60)
    outer, inner = (slice(10, 50),) * 2, (slice(12, 22),) * 2
    told, where = drawn("box", np.stack([rectangle(shape, *outer), rectangle(shape, *inner)]))
    disc_middle, cup_middle = rectangle(shape, *(slice(21, 39),) * 2), rectangle(shape, *(slice(15, 19),) * 2)
    assert (told[0] == disc_middle & where).all() and not told[1].any()
    expected = (disc_middle | ~rectangle(shape, *outer)) & (cup_middle | ~rectangle(shape, *inner))
    assert (where == expected).all() and where[30, 30] and not where[21, 21] and not where[16, 16]


# At a site


def site_of(folder: Path, seed: int = 0, unlabelled: bool = False, **changes: Any) -> Site:
    config = replace(DataConfig(root=str(folder), size=24, augmentation="none", foreground=0.0), **changes)
    return open_sites(config, seed, unlabelled=unlabelled)[0]


def first(site: Any, count: int = 6) -> Any:
    return next(site.batches(1, count, ("k",)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "changes", [{}, {"scale": 2.0}, {"view": "whole", "size": 64}, {"augmentation": "standard"}], ids=str
)
def test_training_sees_weak_labels_and_scoring_all(make_site: MakeSite, kind: str, changes: dict[str, Any]) -> None:
    folder = make_site(shape=(80, 100))
    full, weak = site_of(folder, **changes), site_of(folder, labels=kind, **changes)
    assert weak.samples("train") == full.samples("train")
    one, other = first(full), first(weak)
    assert torch.equal(one.images, other.images) and 0 < other.valid.mean() < one.valid.mean()
    assert not (other.truth * (1 - other.valid)).any()
    if kind != "box":
        assert torch.equal(other.truth, one.truth * other.valid)
    for part in ("val", "test"):
        for case in weak.cases(part):  # type: ignore[arg-type]
            assert weak.load(case).valid is None and (weak.load(case).truth == full.load(case).truth).all()


def test_labels_are_kept_and_are_those_of_the_seed_and_the_site(make_site: MakeSite) -> None:
    folder = make_site()
    cold, warm = site_of(folder, labels="point"), site_of(folder, labels="point")
    assert torch.equal(first(cold).valid, first(warm).valid)
    case = cold.all_cases[0]
    assert not (cold.taught(case).bits == cold.split(1).taught(case).bits).all()
    twin = make_site("b")
    both = open_sites(DataConfig(root=str(twin.parent), labels="point"), 0)
    assert not (both[0].taught(both[0].all_cases[0]).bits == both[1].taught(both[1].all_cases[0]).bits).all()


def test_tiles_are_looked_for_where_labels_are(make_site: MakeSite) -> None:
    """A tile drawn about the foreground holds labelled foreground: nothing tells of any other."""
    site = site_of(make_site(shape=(200, 200)), labels="block", foreground=1.0, size=16)
    for batch in site.batches(4, 8, ("k",)):
        told = batch.truth.flatten(1).any(dim=1)
        present = [bool(unit.frame().facts.present[0]) for unit in site.units()]
        assert bool(told.any()) == any(present)


def test_sites_may_label_differently(make_site: MakeSite) -> None:
    root = make_site("a").parent
    make_site("b")
    said = {"root": str(root), "labels": "box", "label_kinds": {"b": "full"}, "size": 24, "augmentation": "none"}
    one, other = open_sites(experiment_from({"data": said}).data, 0)
    assert (one.label_kind, other.label_kind) == ("box", "full")
    assert not first(one).valid.all() and other.taught(other.all_cases[0]) is other.frame(other.all_cases[0])
    both = pooled([one, other])
    values = torch.cat([batch.valid.flatten(1).mean(dim=1) for batch in both.batches(4, 4, ("k",))])
    assert (values < 1).any() and (values == 1).any()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"labels": "scribbles"}, "data.labels: 'scribbles' is none of"),
        ({"label_kinds": {"a": "scribbles"}}, "data.label_kinds.a: there is no kind 'scribbles': did you mean"),
        ({"label_kinds": {"c": "point"}}, "data.label_kinds: there is no site 'c'"),
        ({"labelled": 0}, "data.labelled: must be"),
        ({"labelled": 2.5}, "data.labelled: must be"),
        ({"labelled": float("nan")}, "data.labelled: must be"),
        ({"labelled": float("inf")}, "data.labelled: must be"),
    ],
)
def test_mistakes(make_site: MakeSite, data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_sites(experiment_from({"data": {"root": str(make_site().parent), **data}}).data, 0)


# Few labels


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.floats(0.01, 1), st.integers(0, 3))
def test_whole_patients_keep_labels(patients: list[int], share: float, seed: int) -> None:
    """Enough of them and no one too many, whatever the order, and more of a share keeps all that less of it keeps."""
    names = [f"p{one}" for one in patients]
    kept = labelled_patients("a", names, share, seed)
    cases = sum(name in kept for name in names)
    wanted = max(1, round(share * len(names)))
    assert cases >= wanted
    assert any(cases - names.count(last) < wanted for last in kept)
    assert labelled_patients("a", names[::-1], share, seed) == kept
    assert labelled_patients("a", names, 1.0, seed) == set(names) >= kept
    assert labelled_patients("a", names, 10.0**6, seed) == set(names)


def test_two_labelled_images(make_site: MakeSite) -> None:
    """A method that needs labels sees those two alone; one that does not sees the others in turn with them."""
    folder = make_site(count=12)
    few = site_of(folder, labelled=2)
    assert few.samples("train") == 2
    assert all(batch.valid.all() for batch in few.batches(4, 4, ("k",)))
    both = site_of(folder, unlabelled=True, labelled=2)
    total = site_of(folder).samples("train")
    assert both.samples("train") == total > 4
    batch = first(both, 8)
    labelled = batch.valid.flatten(1).any(dim=1)
    assert labelled.tolist() == [True, False] * 4 and not batch.truth[~labelled].any()
    seen = {picture.numpy().tobytes() for b in site_of(folder, view="whole", unlabelled=True, labelled=2).batches(
        total, 2, ("k",)) for picture in b.images[1:]}  # fmt: skip
    assert len(seen) == total - 2
    assert [step.valid.any().item() for step in both.batches(4, 1, ("k",))] == [True, False] * 2


def test_where_all_are_labelled_nothing_changes(make_site: MakeSite) -> None:
    folder = make_site()
    one, other = site_of(folder), site_of(folder, unlabelled=True)
    assert all(
        torch.equal(a.images, b.images)
        for a, b in zip(one.batches(2, 3, ("k",)), other.batches(2, 3, ("k",)), strict=True)
    )


def test_the_pooled_site_draws_unlabelled_images_too(make_site: MakeSite) -> None:
    root = make_site("a", count=8).parent
    make_site("b", count=8)
    config = DataConfig(root=str(root), size=24, labelled=2, augmentation="none")
    both = pooled(open_sites(config, 0, unlabelled=True))
    assert both.samples("train") == sum(site.samples("train") for site in both.sites) > 4
    assert first(both, 4).valid.flatten(1).any(dim=1).tolist() == [True, False] * 2


def test_of_an_unlabelled_volume_every_slice_is_drawn(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / "v" / name).mkdir(parents=True)
    for index in range(5):
        mask = np.zeros((16, 18, 12), np.uint8)
        mask[4:9, 5:10, 3:5] = 1
        image = np.random.default_rng(index).normal(size=mask.shape).astype(np.float32)
        for folder, values in (("images", image), ("masks", mask)):
            nibabel.save(
                nibabel.Nifti1Image(values, np.diag([1, 1, 4, 1.0])), tmp_path / "v" / folder / f"{index}.nii.gz"
            )
    site = site_of(tmp_path / "v", unlabelled=True, labelled=0.1, empty_slices=0.0, size=16, labels="scribble")
    assert (len(site.units()), len(site.unlabelled_units())) == (2, 12 * (len(site.cases("train")) - 1))
    assert first(site).valid.flatten(1).any(dim=1).tolist() == [True, False] * 3


def test_the_report_tells_the_share(make_site: MakeSite) -> None:
    root = str(make_site())
    (full,), (weak,) = check(DataConfig(root=root)), check(DataConfig(root=root, labels="point"))
    assert (full.labels, full.labelled) == ("full", 1.0)
    assert weak.labels == "point" and weak.labelled == pytest.approx(26 / 2000, rel=0.2)
