"""Masks of any tool are found by their names and read onto their images."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from sammit.config import DataConfig
from sammit.data import discover
from sammit.data.found import Masks, masks_in, read_masks
from sammit.data.site import Site
from sammit.errors import UserError

from .scanner import write_segmentation, write_series

SHAPE = (6, 5, 3)
AFFINE = np.diag([-0.7, -0.8, 4.0, 1.0])
DISC = np.zeros(SHAPE, bool)
DISC[1:5, 1:4, 1:] = True
CUP = np.zeros(SHAPE, bool)
CUP[2:4, 2:3, 1] = True


@pytest.fixture
def scanned(tmp_path: Path) -> tuple[Site, list[Dataset]]:
    """A site of one series, whose truth is a label map with another white than masks have."""
    root = tmp_path / "root" / "site"
    headers = write_series(root / "images" / "scan", np.zeros(SHAPE, np.int16), AFFINE)
    _nifti(root / "masks" / "scan.nii.gz", DISC.astype(np.uint8) + CUP)
    (root / "dataset.toml").write_text("ignore = 255\n\n[structures]\ndisc = [1, 2]\ncup = 2\n")
    (site,) = discover(DataConfig(root=str(tmp_path / "root")))
    return site, headers


def _nifti(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values.astype(np.uint8), AFFINE), path)


def _found(folder: Path, site: Site) -> tuple[np.ndarray, list[str]]:
    """The masks of the one case in the file's axes, and the structures that nothing speaks of."""
    (case,) = site.all_cases
    masks = masks_in(folder, [case], site.structures).get(case.name, Masks())
    read = read_masks(masks, case, site)
    return read.transpose(2, 1, 0, 3), masks.lacks(site.structures)


def test_a_file_for_each_structure(tmp_path: Path, scanned: tuple[Site, list[Dataset]]) -> None:
    """White is in it, whatever 255 means in the truth; what a run writes beside it does not matter."""
    folder = tmp_path / "masks"
    _nifti(folder / "scan_disc.nii.gz", DISC * 255)
    Image.new("RGB", (5, 6)).save(folder / "scan_overlay.png")
    found, lost = _found(folder, scanned[0])
    assert (found[..., 0] == DISC).all() and not found[..., 1].any() and lost == ["cup"]
    _nifti(folder / "scan_cup.nii", CUP)
    _nifti(folder / "scan.nii", np.ones(SHAPE))
    found, lost = _found(folder, scanned[0])
    assert (found == np.stack([DISC, CUP], axis=-1)).all() and not lost


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan_seg.nii.gz", "scan.seg.nii"])
def test_a_label_map(tmp_path: Path, scanned: tuple[Site, list[Dataset]], name: str) -> None:
    _nifti(tmp_path / "masks" / name, DISC.astype(np.uint8) + CUP)
    found, lost = _found(tmp_path / "masks", scanned[0])
    assert (found == np.stack([DISC, CUP], axis=-1)).all() and not lost


def test_a_segmentation_by_names_or_by_numbers(tmp_path: Path, scanned: tuple[Site, list[Dataset]]) -> None:
    """Segments named as the structures are those, whatever their numbers; otherwise the truth's rules hold."""
    site, headers = scanned
    path = tmp_path / "masks" / "scan-by-a-tool.dcm"
    write_segmentation(path, headers, AFFINE, {"Cup": CUP, "DISC": DISC})
    found, lost = _found(tmp_path / "masks", site)
    assert (found == np.stack([DISC, CUP], axis=-1)).all() and not lost
    write_segmentation(path, headers, AFFINE, {"disc": DISC})
    found, lost = _found(tmp_path / "masks", site)
    assert (found[..., 0] == DISC).all() and not found[..., 1].any() and lost == ["cup"]
    write_segmentation(path, headers, AFFINE, {"rim": DISC & ~CUP, "inner": CUP})
    found, lost = _found(tmp_path / "masks", site)
    assert (found == np.stack([DISC, CUP], axis=-1)).all() and not lost


def test_what_is_refused(tmp_path: Path, scanned: tuple[Site, list[Dataset]]) -> None:
    """No folder, two masks of one structure, pictures of slices, a mask that lies elsewhere."""
    site, _ = scanned
    folder = tmp_path / "masks"
    with pytest.raises(UserError, match="there is no such folder; name the folder of the masks"):
        _found(folder, site)
    for name in ("scan_cup.nii", "scan_cup.nii.gz"):
        _nifti(folder / name, CUP)
    with pytest.raises(UserError, match=r"scan_cup\.nii\.gz: says the same as scan_cup\.nii"):
        _found(folder, site)
    (folder / "scan_cup.nii").unlink()
    (folder / "scan_disc").mkdir()
    with pytest.raises(UserError, match="scan_disc: is a folder of pictures, which say nothing of their place"):
        _found(folder, site)
    (folder / "scan_disc").rmdir()
    nibabel.save(nibabel.Nifti1Image(CUP.astype(np.uint8), np.eye(4)), folder / "scan_cup.nii.gz")
    with pytest.raises(UserError, match="lies elsewhere than its image"):
        _found(folder, site)
