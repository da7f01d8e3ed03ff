"""What all sites agree on, and a case as nnU-Net wants it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sammit.config import ModelConfig
from sammit.errors import UserError
from sammit.nnunet.cases import as_channels, is_grey, label_map, spacing_of
from sammit.nnunet.setup import Setup, dataset_of

PLAN = {
    "configurations": {
        "2d": {"batch_size": 5, "patch_size": [32, 48], "architecture": {"arch_kwargs": {"n_stages": 4}}},
        "3d_fullres": {"batch_size": 2, "patch_size": [8, 32, 32], "architecture": {"arch_kwargs": {"n_stages": 4}}},
    }
}


def truths(structures: int, overlap: bool) -> st.SearchStrategy[np.ndarray]:
    """(2, 3, 4, C) of structures that may or may not share pixels."""

    def draw(seed: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        if overlap:
            return random.random((2, 3, 4, structures)) < 0.5
        return random.integers(0, structures + 1, (2, 3, 4, 1)) == np.arange(1, structures + 1)

    return st.integers(0, 2**16).map(draw)


@given(data=st.data(), structures=st.integers(1, 7), overlap=st.booleans(), unlabelled=st.booleans())
def test_labels_say_what_the_truth_says(data: st.DataObject, structures: int, overlap: bool, unlabelled: bool) -> None:
    """A structure's pixels are those whose number nnU-Net counts to it, and no number means two things."""
    truth = data.draw(truths(structures, overlap))
    valid = np.random.default_rng(1).random(truth.shape[:-1]) < 0.8
    labels = dataset_of(4, 1, structures, overlap, unlabelled)["labels"]
    found = label_map(truth, valid, labels)
    assert found.shape == (1, *truth.shape[:-1]) and found.dtype == np.int16
    seen = valid if unlabelled else np.ones_like(valid)
    for index in range(structures):
        numbers = labels[f"structure {index + 1}"]
        assert (np.isin(found[0], numbers) == truth[..., index])[seen].all()
    assert (found[0] == 0)[seen & ~truth.any(-1)].all()
    if unlabelled:
        used = np.concatenate([np.atleast_1d(numbers) for name, numbers in labels.items() if name != "ignore"])
        assert labels["ignore"] == used.max() + 1  # where nnU-Net asks for it
        assert (found[0][~valid] == labels["ignore"]).all()


def test_overlapping_structures_are_regions_and_others_labels() -> None:
    assert dataset_of(4, 1, 2, False, False)["labels"] == {"background": 0, "structure 1": 1, "structure 2": 2}
    assert dataset_of(4, 1, 2, True, True)["labels"] == {
        "background": 0,
        "structure 1": [1, 3],
        "structure 2": [2, 3],
        "ignore": 4,
    }
    assert dataset_of(4, 1, 30, False, False)["labels"]["structure 30"] == 30
    with pytest.raises(UserError, match="at most 7 may overlap for nnU-Net, not 8"):
        dataset_of(4, 1, 8, True, False)


def test_colour_has_three_channels_and_grey_one() -> None:
    assert dataset_of(4, 1, 1, False, False)["channel_names"] == {"0": "grey"}
    assert dataset_of(4, 3, 1, False, False)["channel_names"] == dict.fromkeys("012", "rgb_to_0_1")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_intensities_are_on_one_scale(kind: type[np.unsignedinteger]) -> None:
    """Eight bits or sixteen: 0 to 255."""
    full = np.iinfo(kind).max
    image = np.zeros((2, 3, 4, 3), kind)
    image[0, 0, 0] = full, 0, 0
    image[1, 2, 3] = full
    found = as_channels(image, 3)
    assert found.shape == (3, 2, 3, 4) and found.dtype == np.float32
    assert found[:, 0, 0, 0].tolist() == [255, 0, 0] and found[:, 1, 2, 3].tolist() == [255, 255, 255]
    assert found.flags.c_contiguous
    grey = as_channels(image, 1)
    assert grey.shape == (1, 2, 3, 4) and grey[0, 0, 0, 0] == pytest.approx(85) and grey[0, 1, 2, 3] == 255


def test_a_grey_image_is_known_by_its_channels() -> None:
    grey = np.repeat(np.random.default_rng(0).integers(0, 255, (1, 9, 9, 1), np.uint8), 3, -1)
    seen = np.lib.stride_tricks.as_strided(grey, (1, 9, 9, 3), (*grey.strides[:3], 0))
    assert is_grey(grey) and is_grey(seen)
    assert np.array_equal(as_channels(grey, 1)[0], grey[..., 0])
    grey[0, 4, 4, 2] ^= 1
    assert not is_grey(grey)


def test_an_image_is_a_slice_far_from_any_other() -> None:
    assert spacing_of(1, None) == [999, 1, 1]
    assert spacing_of(1, (3.0, 0.5, 2.0)) == [1998, 0.5, 2]
    assert spacing_of(9, None) == [1, 1, 1]
    assert spacing_of(9, (3.0, 0.5, 0.5)) == [3, 0.5, 0.5]


@pytest.mark.parametrize(("asked", "chosen"), [("auto", "3d_fullres"), ("2d", "2d"), ("3d_fullres", "3d_fullres")])
def test_which_configuration(asked: str, chosen: str) -> None:
    setup = Setup.chosen(PLAN, dataset_of(4, 3, 1, False, False), asked, True, "v")
    assert setup.configuration == chosen and setup.mirroring and setup.channels == 3
    assert (setup.batch_size, setup.dimensions) == ((5, 2) if chosen == "2d" else (2, 3))


def test_images_have_no_third_dimension() -> None:
    flat = {"configurations": {"2d": PLAN["configurations"]["2d"]}}
    dataset = dataset_of(4, 1, 1, False, False)
    assert Setup.chosen(flat, dataset, "auto", False, "").configuration == "2d"
    with pytest.raises(UserError, match="plans no 3d_fullres for these images"):
        Setup.chosen(flat, dataset, "3d_fullres", False, "")
    tiny = json.loads(json.dumps(flat))
    tiny["configurations"]["2d"]["architecture"]["arch_kwargs"]["n_stages"] = 2
    with pytest.raises(UserError, match="too small for nnU-Net"):
        Setup.chosen(tiny, dataset, "auto", False, "")


def test_it_travels_in_the_experiment() -> None:
    setup = Setup.chosen(PLAN, dataset_of(4, 1, 2, True, False), "2d", False, "nnunetv2 2, torch 2")
    assert Setup.of(ModelConfig(name="nnunet", options=setup.options())) == setup
    assert json.loads(setup.facts()["plan"]) == PLAN
    with pytest.raises(UserError, match=r"'nnunet' is built from a plan; choose method\.name = 'fednnunet'"):
        Setup.of(ModelConfig(name="nnunet"))
    with pytest.raises(UserError, match=r"unknown key 'model\.nnunet\.plans': did you mean 'plan'"):
        Setup.of(ModelConfig(name="nnunet", options={"nnunet": {"plans": "x"}}))
