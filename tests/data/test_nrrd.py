"""NRRD masks and volumes lie where they say that they lie."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sammit.data.readers import is_volume, read_channels, read_mask
from sammit.data.writers import mask_suffix, write_mask
from sammit.errors import UserError

SHAPE = (5, 6, 4)
AXES = st.permutations(range(3))
SIGNS = st.tuples(*[st.sampled_from([1.0, -1.0])] * 3)


def _affine(order: list[int], signs: tuple[float, ...]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order] * np.array([0.7, 0.8, 3.0]) * signs
    affine[:3, 3] = (-31.5, 12.25, 7.0)
    return affine


def _header(affine: np.ndarray, space: str = "left-posterior-superior", flip: tuple[int, ...] = (-1, -1, 1)) -> Any:
    """pynrrd's header of a volume."""
    world = np.diag([*flip, 1]) @ affine
    return {"space": space, "space directions": world[:3, :3].T, "space origin": world[:3, 3], "kinds": ["domain"] * 3}


def _write(path: Path, values: np.ndarray, header: dict[str, Any]) -> Path:
    nrrd.write(str(path), values, header)
    return path


@settings(max_examples=20)
@given(AXES, SIGNS, st.sampled_from([np.uint8, np.int16, np.float32, np.int64]))
def test_a_volume_is_what_its_nifti_twin_is(order: list[int], signs: tuple[float, ...], kind: Any) -> None:
    values, affine = np.random.default_rng(0).integers(0, 99, SHAPE).astype(kind), _affine(order, signs)
    with TemporaryDirectory() as folder:
        one = _write(Path(folder, "a.nrrd"), values, _header(affine))
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), Path(folder, "a.nii"))
        mine, theirs = read_channels(one), read_channels(Path(folder, "a.nii"))
        assert is_volume(one) and (mine.array == theirs.array).all() and mine.cut == theirs.cut
        assert mine.spacing == pytest.approx(theirs.spacing)
        assert np.allclose(mine.affine, affine)  # type: ignore[arg-type]
        assert (read_mask(one, theirs) == theirs.array[..., 0]).all()


@settings(max_examples=20)
@given(AXES, SIGNS, st.booleans())
def test_a_mask_comes_back_to_its_image(order: list[int], signs: tuple[float, ...], labels: bool) -> None:
    """Written for a NIfTI image, read by pynrrd and by Sammit; the same bytes each time."""
    affine, rng = _affine(order, signs), np.random.default_rng(1)
    with TemporaryDirectory() as folder:
        image = Path(folder, "image.nii.gz")
        nibabel.save(nibabel.Nifti1Image(rng.integers(0, 99, SHAPE, dtype=np.int16), affine), image)
        like = read_channels(image)
        mask = rng.integers(0, 300, like.array.shape[:3]) if labels else rng.random(like.array.shape[:3]) < 0.5
        target = Path(folder, "mask.nrrd")
        for _ in range(2):
            first = target.read_bytes() if target.exists() else None
            write_mask(target, mask, image)
        values, header = nrrd.read(str(target))
        assert target.read_bytes() == first and header["type"] == f"unsigned {'short' if labels else 'char'}"
        assert (values == like.cut.undo(mask)).all()  # type: ignore[union-attr]
        assert header["space"] == "left-posterior-superior" and header["encoding"] == "gzip"
        assert np.allclose(np.diag([-1, -1, 1]) @ header["space directions"].T, affine[:3, :3])
        assert (read_mask(target, like) == mask).all()


def test_an_image_in_nrrd_gets_nrrd_masks(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "a.nrrd", np.arange(120, dtype=np.int16).reshape(SHAPE), _header(_affine([0, 1, 2], (1,) * 3))
    )
    assert [mask_suffix(path, 4, kind) for kind in ("auto", "nifti", "png")] == [".nrrd", ".nii.gz", ""]
    bright = read_channels(path).array[..., 0] > 60
    write_mask(tmp_path / "a_bright.nrrd", bright, path)
    assert (nrrd.read(str(tmp_path / "a_bright.nrrd"))[0] == (np.arange(120).reshape(SHAPE) > 60)).all()


def test_worlds_that_run_otherwise(tmp_path: Path) -> None:
    affine = _affine([0, 1, 2], (1.0, 1.0, 1.0))
    for space, flip in {"RAS": (1, 1, 1), "left-anterior-superior": (-1, 1, 1)}.items():
        path = _write(tmp_path / "a.nrrd", np.zeros(SHAPE, np.uint8), _header(affine, space, flip))
        assert np.allclose(read_channels(path).affine, affine)  # type: ignore[arg-type]


def test_big_endian_numbers(tmp_path: Path) -> None:
    values = np.arange(120, dtype=">u2").reshape(SHAPE) * 500
    path = _write(tmp_path / "a.nrrd", values, {**_header(np.eye(4)), "endian": "big"})
    array = read_channels(path).array
    assert array.dtype == np.uint16 and sorted(array.ravel()) == sorted(values.ravel())


@pytest.mark.parametrize(
    ("shape", "changes", "line"),
    [
        (SHAPE, {"space": None}, "does not say where in the patient it lies"),
        (SHAPE, {"space": "scanner-xyz"}, "does not say where in the patient it lies"),
        ((3, *SHAPE), {"kinds": ["list", *["domain"] * 3]}, "has layers, colours or times beside its three axes"),
    ],
)
def test_what_is_not_read(tmp_path: Path, shape: tuple[int, ...], changes: dict[str, Any], line: str) -> None:
    header = _header(np.eye(4)) | changes
    if len(shape) == 4:
        header["space directions"] = np.vstack([np.full(3, np.nan), header["space directions"]])
    header = {key: value for key, value in header.items() if value is not None}
    if "space" not in header:
        header.pop("space origin"), header.pop("space directions")
    path = _write(tmp_path / "a.nrrd", np.zeros(shape, np.uint8), header)
    with pytest.raises(UserError, match=rf"a\.nrrd: {line}"):
        read_channels(path)


def test_broken_files_are_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.nrrd", np.ones(SHAPE, np.uint8), _header(np.eye(4)))
    whole = path.read_bytes()
    for cut in (0, 30, len(whole) - 12):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"a\.nrrd: cannot be read"):
            read_channels(path)
    path.write_bytes(whole.replace(b"encoding", b"data file: b.raw\nencoding"))
    with pytest.raises(UserError, match="lie in another file"):
        read_channels(path)
