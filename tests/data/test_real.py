"""Real images with all their quirks; skipped where they are absent."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import pytest

from sammit.config import DataConfig, Experiment
from sammit.data import discover, open_sites
from sammit.data.check import check
from sammit.data.codes import properties_of
from sammit.data.drawings import drawings
from sammit.data.outputs import Output
from sammit.data.readers import read_channels, read_image, read_mask
from sammit.data.segmentation import Maker
from sammit.data.writers import write_mask
from sammit.predict import evaluate_masks
from sammit.vocabulary import Case


def test_nuclei(real: Path) -> None:
    sites = open_sites(DataConfig(root=str(real / "nuclei"), structures={"nucleus": "> 0"}), 0)
    counts = {site.name: len(site.all_cases) for site in sites}
    assert counts == {"bright1024": 10, "fluo256": 24, "fluo360": 24, "fluo696x520": 20, "he320x256": 24}
    for site in sites:
        batch = next(site.batches(1, 4, ("k",)))
        assert batch.images.shape == (4, 3, 128, 128) and batch.truth.any()


def test_retina(real: Path) -> None:
    config = DataConfig(root=str(real / "retina"), patient="Image_([0-9]+)", scale=2.0)
    chase, fives, hrf = discover(config)
    assert [len(site.all_cases) for site in (chase, fives, hrf)] == [20, 10, 10]
    assert len({case.patient for case in chase.all_cases}) == 10 and len({c.patient for c in hrf.all_cases}) == 10
    for site in (chase, fives, hrf):
        share = site.load(site.all_cases[0]).truth.mean()
        assert 0.03 < share < 0.2
    second = discover(DataConfig(root=str(real / "retina"), sites=("chasedb1",), masks="masks_observer2"))[0]
    assert (second.load(second.all_cases[0]).truth != chase.load(chase.all_cases[0]).truth).any()


def test_thin_vessels_need_tiles(real: Path) -> None:
    common = {"root": str(real / "retina"), "sites": ("chasedb1",)}
    tile, whole = check(DataConfig(**common))[0], check(DataConfig(**common, view="whole"))[0]  # type: ignore[arg-type]
    assert tile.ceiling is not None and whole.ceiling is not None and not tile.problems
    assert tile.ceiling > 0.9 and whole.ceiling < 0.4


@pytest.mark.parametrize(
    ("image", "mask", "shape"),
    [
        ("msd_spleen/sub-spleen2_ct.nii.gz", "msd_spleen/sub-spleen2_ct_seg-manual.nii.gz", (26, 166, 164)),
        ("monai/anatomical.nii", "monai/anatomical_label.nii.gz", (25, 41, 33)),
        ("totalseg/example_ct_sm.nii.gz", "totalseg/example_seg.nii.gz", (30, 101, 122)),
    ],
)
def test_volumes_there_and_back(real: Path, tmp_path: Path, image: str, mask: str, shape: tuple[int, ...]) -> None:
    pixels = read_image(real / "volumes" / image)
    labels = read_mask(real / "volumes" / mask, pixels)
    assert pixels.array.shape == (*shape, 3) and labels.shape == shape and labels.any()
    write_mask(tmp_path / "out.nii.gz", labels, real / "volumes" / image)
    assert (read_mask(tmp_path / "out.nii.gz", pixels) == labels).all()


def test_a_site_of_volumes(real: Path, tmp_path: Path) -> None:
    (tmp_path / "spleen" / "images").mkdir(parents=True)
    (tmp_path / "spleen" / "masks").mkdir()
    source = (real / "volumes" / "msd_spleen").resolve()
    for name in ("a", "b", "c"):
        (tmp_path / "spleen" / "images" / f"{name}.nii.gz").symlink_to(source / "sub-spleen2_ct.nii.gz")
        (tmp_path / "spleen" / "masks" / f"{name}_seg.nii.gz").symlink_to(source / "sub-spleen2_ct_seg-manual.nii.gz")
    (site,) = open_sites(DataConfig(root=str(tmp_path), window=(-160.0, 240.0)), 0)
    loaded = site.load(site.all_cases[0])
    assert loaded.spacing == pytest.approx((5.0, 0.795, 0.795), abs=1e-3) and loaded.image.dtype == np.uint16
    assert 0 < site.samples("train") < 26 and next(site.batches(1, 4, ("k",))).truth.any()


def _site_of(folder: Path, image: Path, masks: list[Path]) -> Path:
    """A site of one case for each mask, all of one DICOM image, linked."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for mask in masks:
        stem = mask.name.partition(".")[0]
        (folder / "images" / (stem + image.suffix)).symlink_to(image)
        (folder / "masks" / mask.name).symlink_to(mask)
    return folder


def test_a_ct_series_and_its_nifti_segmentation(real: Path, tmp_path: Path) -> None:
    source = real / "volumes" / "totalseg"
    folder = _site_of(tmp_path / "a", source / "example_ct_dicom", [source / "example_seg_dicom.nii.gz"])
    (folder / "dataset.toml").write_text("[structures]\nbone = [69, 70]\nliver = 5\n")
    (site,) = discover(DataConfig(root=str(folder), window=(-1000.0, 1000.0)))
    loaded = site.load(site.all_cases[0])
    values = loaded.image[..., 0] * (2000 / 65535) - 1000
    assert loaded.spacing == pytest.approx((2, 0.9765625, 0.9765625)) and loaded.image.shape == (20, 512, 512, 3)
    bone, liver = (values[loaded.truth[..., index]] for index in range(2))  # HU: wrong rows or order would show air
    assert 300 < bone.mean() < 1000 and 40 < liver.mean() < 150 and np.percentile(liver, 1) > -20


def test_ct_slices_and_their_segmentations(real: Path, tmp_path: Path) -> None:
    source = real / "volumes" / "dcmqi"
    folder = _site_of(tmp_path / "a", source / "ct-3slice", [source / "liver.dcm", source / "partial_overlaps.dcm"])
    (report,) = check(DataConfig(root=str(folder)))
    assert not report.problems and report.largest == (3, 512, 512) and report.structures[0].present == 2
    config = DataConfig(root=str(folder), structures={"green": "segment GREEN", "violet": 3, "liver": "segment Liver"})
    (site,) = discover(config)
    liver, overlaps = site.all_cases
    values = read_image(liver.image[0]).array[..., 0]
    truth = site.load(liver).truth[..., 2]
    assert truth.any(axis=(1, 2)).all() and 20 < values[truth].mean() < 60
    green, violet = np.moveaxis(site.load(overlaps).truth[..., :2], -1, 0)
    assert green.sum(axis=(1, 2)).tolist() == [0, 9602, 0] and violet.sum(axis=(1, 2)).tolist() == [117, 117, 10509]


def test_a_segmentation_and_its_nrrd_say_the_same(real: Path, tmp_path: Path) -> None:
    """Either is the truth, and the other the mask."""
    source = real / "volumes" / "dcmqi"
    pair = source / "liver.dcm", source / "liver_seg.nrrd"
    for truth, mask in (pair, pair[::-1]):
        root = tmp_path / truth.suffix[1:]
        folder = _site_of(root / "site", source / "ct-3slice", [truth])
        (folder / "dataset.toml").write_text("[structures]\nliver = 1\n")
        (root / "found").mkdir()
        (root / "found" / f"{truth.stem}{mask.suffix}").symlink_to(mask)
        (row,) = evaluate_masks(root / "found", folder, Experiment())
        assert (row["case"], row["structure"], row["dice"], row["hd95"]) == (truth.stem, "liver", 1.0, 0.0)


@pytest.mark.parametrize("series", ["totalseg/example_ct_dicom", "dcmqi/ct-3slice"])
def test_what_leaves_as_dicom_leaves_as_nifti(real: Path, tmp_path: Path, series: str) -> None:
    """Bone, say, as a DICOM SEG, a NRRD and a NIfTI file: the same voxels."""
    image = real / "volumes" / series
    like = read_channels(image)
    found = np.stack([like.array[..., 0] > 200, like.array[..., 0] > 2000], axis=-1)
    case = Case("a", "scan", "scan", (image,), (), True)
    written = {}
    for form in ("dicom-seg", "nifti", "nrrd"):
        output = Output(form, properties_of({}, ("bone", "metal")), "auto", Maker("threshold", "0"))
        output.check([case])
        written[form] = list(output.write(tmp_path, case, found))
    pieces = [piece.draw() for piece in drawings(written["dicom-seg"][0], image, like)]
    for index, (nifti, nrrd) in enumerate(zip(written["nifti"], written["nrrd"], strict=True)):
        masks = [pieces[index], read_mask(nifti, like) > 0, read_mask(nrrd, like) > 0]
        assert all((mask == found[..., index]).all() for mask in masks) and found[..., 0].any()
    seg = hd.seg.segread(written["dicom-seg"][0])
    affine = np.diag([-1.0, -1, 1, 1]) @ nibabel.load(written["nifti"][0]).affine
    theirs = seg.get_volume(segment_numbers=[1])
    inside = np.argwhere(theirs.array[..., 0])
    placed = np.c_[inside, np.ones(len(inside))] @ theirs.affine.T @ np.linalg.inv(affine).T
    bone = np.asarray(nibabel.load(written["nifti"][0]).dataobj).astype(bool)
    assert np.abs(placed - np.rint(placed)).max() < 1e-3 and len(placed) == bone.sum()
    assert bone[tuple(np.rint(placed[:, :3]).astype(int).T)].all()


@pytest.mark.parametrize(
    ("mask", "line"),
    [
        ("highdicom/seg_image_ct_binary_single_frame.dcm", ""),
        ("highdicom/seg_image_ct_binary.dcm", "lies in another frame of reference"),
        ("highdicom/seg_image_ct_true_fractional.dcm", "lies in another frame of reference"),
        ("pydicom/rtstruct.dcm", "lies in another frame of reference"),
        ("pydicom/liver_1frame.dcm", "lies in another frame of reference"),
        ("pydicom/MR_small.dcm", "is no DICOM segmentation"),
    ],
)
def test_segmentations_that_fit_one_slice_and_those_that_do_not(
    real: Path, tmp_path: Path, mask: str, line: str
) -> None:
    source = real / "volumes"
    folder = _site_of(tmp_path / "a", source / "highdicom" / "ct_image.dcm", [source / mask])
    (report,) = check(DataConfig(root=str(folder)))
    assert (line in report.problems[0]) if line else (not report.problems and report.structures[0].present == 1)
