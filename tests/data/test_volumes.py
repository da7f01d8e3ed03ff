"""Cuts and their inverses; masks written back where the image lies."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from sammit.data.readers import read_image, read_mask
from sammit.data.volumes import cut_of, slice_axis
from sammit.data.writers import write_mask, write_overlay
from sammit.errors import UserError

SHAPE, ZOOMS = (6, 7, 4), (0.7, 0.8, 5.0)


def _affine(codes: str, zooms: tuple[float, ...] = ZOOMS) -> np.ndarray:
    """An affine whose axes run to the given sides."""
    ornt = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    return inv_ornt_aff(ornt, SHAPE) @ np.diag([*zooms, 1.0])


def _save(path: Path, values: np.ndarray, affine: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


@given(
    st.sampled_from(["RAS", "LPS", "LAS", "SRA", "PIR", "ASL"]),
    st.sampled_from(["auto", "0", "1", "2"]),
)
def test_undo_is_the_inverse(codes: str, axis: str) -> None:
    volume = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    cut = cut_of(SHAPE, ZOOMS, _affine(codes), axis)
    assert (cut.undo(cut.apply(volume)) == volume).all()
    assert cut.order[0] == (2 if axis == "auto" else int(axis))


def test_the_cut_axis() -> None:
    assert slice_axis((9, 9, 9), (1, 5, 1), None, "auto") == 1
    assert slice_axis((9, 9, 9), (2, 2, 2), None, "auto") == 2
    assert slice_axis((9, 9, 9), (2, 2, 2), np.eye(4)[[0, 2, 1, 3]], "auto") == 1  # file axis 1 runs to the head
    assert slice_axis((9, 1, 9), (2, 2, 9), None, "auto") == 1
    assert slice_axis((9, 9, 9), (1, 5, 1), None, "0") == 0


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "RPI"])
def test_slices_stand_upright_whatever_the_orientation(tmp_path: Path, codes: str) -> None:
    ras = nibabel.Nifti1Image(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), np.diag([*ZOOMS, 1.0]))
    turned = ras.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes)))
    nibabel.save(turned, tmp_path / "a.nii.gz")
    pixels = read_image(tmp_path / "a.nii.gz")
    wanted = np.asarray(ras.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]  # head up; front on top; right on the left
    assert (pixels.array[..., 0] == wanted).all()
    assert pixels.spacing == pytest.approx((5.0, 0.8, 0.7))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
@pytest.mark.parametrize("axis", ["auto", "0", "1"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_mask_lies_on_its_image(tmp_path: Path, codes: str, axis: str, suffix: str) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
    image = _save(tmp_path / "image.nii.gz", rng.normal(size=SHAPE).astype(np.float32), _affine(codes))
    truth = _save(tmp_path / "truth.nii.gz", labels, _affine(codes))
    pixels = read_image(image, axis)
    write_mask(tmp_path / f"out{suffix}", read_mask(truth, pixels), image, axis)
    written = nibabel.load(tmp_path / f"out{suffix}")
    assert (np.asarray(written.dataobj) == labels).all() and written.get_data_dtype() == np.uint8
    assert np.allclose(written.affine, nibabel.load(image).affine)
    assert written.header.get_zooms() == nibabel.load(image).header.get_zooms()


def test_a_mask_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    image = _save(tmp_path / "image.nii", np.zeros(SHAPE, np.int16), _affine("RAS"))
    mask = _save(tmp_path / "mask.nii", np.zeros(SHAPE, np.uint8), _affine("LPS"))
    with pytest.raises(UserError, match=r"mask\.nii: lies elsewhere than its image"):
        read_mask(mask, read_image(image))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SRA", "ASL"])
@pytest.mark.parametrize("axis", ["auto", "0"])
def test_a_mask_whose_axes_run_otherwise_lies_on_its_image(tmp_path: Path, codes: str, axis: str) -> None:
    labels = np.random.default_rng(1).integers(0, 3, SHAPE).astype(np.uint8)
    affine = np.diag([*ZOOMS, 1.0])
    image = read_image(_save(tmp_path / "image.nii", labels.astype(np.int16), affine), axis)
    turned = nibabel.Nifti1Image(labels, affine).as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes)))
    nibabel.save(turned, tmp_path / "mask.nii")
    assert (read_mask(tmp_path / "mask.nii", image) == image.array[..., 0]).all()


def test_a_stack_is_cut_as_its_image(tmp_path: Path) -> None:
    cube = np.random.default_rng(1).integers(0, 3, (6, 6, 6)).astype(np.uint8)
    np.save(tmp_path / "a.npy", cube)
    image = read_image(tmp_path / "a.npy", axis="2")
    assert (read_mask(tmp_path / "a.npy", image) == cube.transpose(2, 0, 1)).all()
    placed = read_image(_save(tmp_path / "placed.nii", cube, np.diag([*ZOOMS, 1.0])))
    with pytest.raises(UserError, match=r"a\.npy: does not say where in the patient it lies"):
        read_mask(tmp_path / "a.npy", placed)


def test_scaled_big_endian_and_flat_files(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    volume = nibabel.Nifti1Image(np.full(SHAPE, -5, np.int16), np.eye(4), header)
    volume.header.set_slope_inter(2, 10)
    nibabel.save(volume, tmp_path / "a.nii")
    assert np.isfinite(read_image(tmp_path / "a.nii").array).all()
    _save(tmp_path / "flat.nii", np.zeros((8, 9), np.int16), np.eye(4))
    assert read_image(tmp_path / "flat.nii").array.shape[0] == 1


def test_pictures_and_stacks(tmp_path: Path) -> None:
    labels = np.zeros((1, 5, 6), np.int32)
    labels[0, 2, 3] = 300
    write_mask(tmp_path / "a.png", labels, tmp_path / "a.jpg")
    assert (read_mask(tmp_path / "a.png") == labels).all()
    write_mask(tmp_path / "b.png", labels > 0, tmp_path / "a.jpg")
    assert (read_mask(tmp_path / "b.png") == (labels > 0) * 255).all()
    stack = np.zeros((6, 5, 9), np.uint8)
    stack[3] = 2
    write_mask(tmp_path / "c.tif", stack, tmp_path / "a.tif")
    assert (read_mask(tmp_path / "c.tif") == stack).all()
    with pytest.raises(UserError, match=r"d\.png: cannot hold a mask of 6 slice"):
        write_mask(tmp_path / "d.png", stack, tmp_path / "a.tif")


def test_the_overlay_shows_the_fullest_slice(tmp_path: Path) -> None:
    image = np.full((3, 10, 12, 3), 40000, np.uint16)
    mask = np.zeros((3, 10, 12, 2), bool)
    mask[2, 3:8, 3:8, 0] = mask[1, 3, 3, 1] = True
    write_overlay(tmp_path / "o.png", image, mask, truth=mask[..., 1])
    picture = read_image(tmp_path / "o.png").array[0]
    assert picture[3, 3].tolist() == [230, 159, 0] and picture[0, 0].tolist() == [156, 156, 156]
