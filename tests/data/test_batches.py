"""Batches: pure functions of their key, true to the image, right about what is valid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from sammit.config import DataConfig
from sammit.data import Site, open_sites
from sammit.data.loaders import _mirrored
from sammit.data.sampling import passes
from sammit.data.transforms import augmented, draw_augmentation, margin
from sammit.randomness import generator
from sammit.vocabulary import Batch


def _site(folder: Path, **changes: object) -> Site:
    return open_sites(replace(DataConfig(root=str(folder), size=24), **changes), 0)[0]  # type: ignore[arg-type]


def _same(first: Batch, second: Batch) -> bool:
    return all(torch.equal(getattr(first, n), getattr(second, n)) for n in ("images", "truth", "valid"))


@pytest.mark.parametrize("view", ["tile", "whole"])
@pytest.mark.parametrize("augmentation", ["standard", "none"])
def test_shapes_ranges_and_keys(make_site: Callable[..., Path], view: str, augmentation: str) -> None:
    folder = make_site()
    site = _site(folder, view=view, augmentation=augmentation)
    first = list(site.batches(3, 4, (0, "a", 1)))
    again = list(_site(folder, view=view, augmentation=augmentation).batches(3, 4, (0, "a", 1)))
    other = list(site.batches(3, 4, (0, "a", 2)))
    assert all(_same(one, two) for one, two in zip(first, again, strict=True))
    assert not any(_same(one, two) for one, two in zip(first, other, strict=True))
    for batch in first:
        assert batch.images.shape == (4, 3, 24, 24) and batch.truth.shape == batch.valid.shape == (4, 1, 24, 24)
        assert batch.images.dtype == torch.float32 and batch.images.min() >= 0 and batch.images.max() <= 1
        assert set(batch.truth.unique().tolist()) <= {0.0, 1.0} and set(batch.valid.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("appearance", ["spatial", "frequency", "gin"])
def test_another_look_changes_images_alone(make_site: Callable[..., Path], appearance: str) -> None:
    """Tiles, truth and validity are those of the plain batch; the look is a function of the key too."""
    folder = make_site()
    plain = next(_site(folder).batches(1, 4, ("k",)))
    first, again = (next(_site(folder, appearance=appearance).batches(1, 4, ("k",))) for _ in range(2))
    assert _same(first, again)
    assert torch.equal(first.truth, plain.truth) and torch.equal(first.valid, plain.valid)
    assert not any(torch.equal(one, two) for one, two in zip(first.images, plain.images, strict=True))


def test_a_plain_tile_is_the_image(make_site: Callable[..., Path]) -> None:
    site = _site(make_site(), augmentation="none", foreground=1.0)
    batch = next(site.batches(1, 6, ("k",)))
    loaded = [site.load(case) for case in site.cases("train")]
    for tile, truth in zip(batch.images, batch.truth, strict=True):
        pixels = (tile * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
        places = [
            (item, row, column)
            for item in loaded
            for row in range(40 - 23)
            for column in range(50 - 23)
            if (item.image[0, row : row + 24, column : column + 24] == pixels).all()
        ]
        assert len(places) == 1
        item, row, column = places[0]
        assert (item.truth[0, row : row + 24, column : column + 24, 0] == truth[0].numpy()).all()
    assert batch.valid.all() and batch.truth.flatten(1).any(dim=1).all()


def test_an_augmented_tile_keeps_image_and_truth_together(make_site: Callable[..., Path]) -> None:
    folder = make_site(count=9)
    for path in (folder / "masks").iterdir():  # an image that is its own truth
        Image.open(path).convert("RGB").save(folder / "images" / path.name)
    batch = next(_site(folder).batches(1, 32, ("k",)))
    grey = batch.images.mean(dim=1, keepdim=True)
    middle = (grey.amax(dim=(1, 2, 3), keepdim=True) + grey.amin(dim=(1, 2, 3), keepdim=True)) / 2
    some = batch.truth.flatten(1).any(dim=1)
    assert some.sum() > 10 and ((grey > middle) == (batch.truth > 0))[some].float().mean() > 0.98


def test_a_small_image_is_mirrored_and_said_so(make_site: Callable[..., Path]) -> None:
    site = _site(make_site(shape=(30, 35)), size=64, augmentation="none")
    batch = next(site.batches(1, 2, ("k",)))
    assert batch.valid.sum() == 2 * 30 * 35 and batch.images[:, :, 0, 0].sum() > 0


def test_mirroring() -> None:
    rows, inside = _mirrored(-3, 10, 4)
    assert rows.tolist() == [2, 1, 0, 0, 1, 2, 3, 3, 2, 1] and inside.tolist() == [False] * 3 + [True] * 4 + [False] * 3


def test_scale_halves_the_resolution(make_site: Callable[..., Path]) -> None:
    site = _site(make_site(), scale=2.0, size=20, augmentation="none")
    assert site.frame(site.all_cases[0]).image.shape == (1, 20, 25, 3)
    assert 0 < next(site.batches(1, 6, ("k",))).truth.mean() < 0.5


def test_the_longer_side_is_brought_to_one_length(make_site: Callable[..., Path]) -> None:
    site = _site(make_site(), longest=25, size=16)
    assert site.frame(site.all_cases[0]).image.shape == (1, 20, 25, 3)


def test_each_pass_sees_every_unit() -> None:
    pick = passes(7, ("k",))
    orders = [[pick(7 * epoch + item) for item in range(7)] for epoch in range(5)]
    assert all(sorted(order) == list(range(7)) for order in orders) and len({tuple(order) for order in orders}) > 1


def test_structures_are_drawn_alike(make_site: Callable[..., Path]) -> None:
    folder = make_site()
    labels = np.ones((40, 50), np.uint8)
    labels[2, 2] = 2
    for path in (folder / "masks").iterdir():
        Image.fromarray(labels).save(path)
    site = _site(folder, structures={"big": "> 0", "tiny": 2}, foreground=1.0, size=8, augmentation="none")
    truth = torch.cat([batch.truth for batch in site.batches(10, 10, ("k",))])
    assert 0.35 < truth[:, 1].flatten(1).any(dim=1).float().mean() < 0.65


def test_slices_with_structure_and_a_share_of_the_empty(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / "v" / name).mkdir(parents=True)
    for index in range(4):
        mask = np.zeros((16, 18, 12), np.uint8)
        mask[4:9, 5:10, 3:5] = 1
        image = np.random.default_rng(index).normal(size=mask.shape).astype(np.float32)
        for folder, values in (("images", image), ("masks", mask)):
            nibabel.save(
                nibabel.Nifti1Image(values, np.diag([1, 1, 4, 1.0])), tmp_path / "v" / folder / f"{index}.nii.gz"
            )
    site = _site(tmp_path / "v", empty_slices=0.3, size=16)
    assert site.samples("train") == 2 * (2 + 3) and site.samples("test") == 12
    seen = Counter((unit.case.name, unit.index) for unit in site.units())
    assert all((case.name, index) in seen for case in site.cases("train") for index in (3, 4))
    batch = next(site.batches(1, 10, ("k",)))
    assert batch.images.shape == (10, 3, 16, 16) and 0.3 < batch.truth.flatten(1).any(dim=1).float().mean() < 0.9
    loaded = site.load(site.cases("test")[0])
    assert loaded.image.shape == (12, 18, 16, 3) and loaded.spacing == (4.0, 1.0, 1.0)


def test_the_margin_holds_every_turn() -> None:
    size = 16
    pixels = torch.ones(64, 5, size + 2 * margin(size), size + 2 * margin(size))
    pixels[:, :, 0] = pixels[:, :, -1] = pixels[:, :, :, 0] = pixels[:, :, :, -1] = 0.0
    draws = [draw_augmentation(generator("k", index), grey=True) for index in range(64)]
    assert augmented(pixels, draws, size).valid.all()


def test_dark_images_are_not_blacked_out() -> None:
    size = 16
    pixels = torch.zeros(64, 5, size + 2 * margin(size), size + 2 * margin(size))
    pixels[:, :3, :, ::2] = 0.02
    draws = [draw_augmentation(generator("k", index), grey=True) for index in range(64)]
    assert (augmented(pixels, draws, size).images.flatten(1).std(dim=1) > 0).all()


@pytest.mark.parametrize("changes", [{}, {"augmentation": "none"}, {"appearance": "gin"}, {"view": "whole"}])
def test_fixed_views_recur(make_site: Callable[..., Path], changes: dict[str, object]) -> None:
    """V tiles of each image at most, the same to the last bit in any batch, for any key; with V = 0 none recurs."""
    site = _site(make_site(), views=2, **changes)
    images = len(site.units())
    seen: Counter[bytes] = Counter()
    for steps, size, key in ((8 * images, 1, "a"), (4 * images, 2, "b"), (2, 4 * images, "c")):
        for batch in site.batches(steps, size, (key,)):
            for part in zip(batch.images, batch.truth, batch.valid, strict=True):
                seen[b"".join(one.numpy().tobytes() for one in part)] += 1
    whole = changes.get("view") == "whole" and "augmentation" in changes
    assert len(seen) == (1 if whole else 2) * images
    assert min(seen.values()) > 1


def test_fixed_views_are_a_function_of_the_key(make_site: Callable[..., Path]) -> None:
    """Which of the views comes is drawn anew for each key, and again alike for the same."""
    site = _site(make_site(), views=8)
    first, again, other = (next(site.batches(1, 6, (key,))) for key in ("a", "a", "b"))
    assert _same(first, again) and not _same(first, other)
