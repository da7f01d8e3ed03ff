"""Real images with all their quirks; skipped where they are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sammit.config import DataConfig
from sammit.data import discover, open_sites
from sammit.data.check import check
from sammit.data.readers import read_image, read_mask
from sammit.data.writers import write_mask


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
