"""Prostate from all its layouts; damaged copies refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from . import raw_prostate as made
from .conftest import Open, truth

Refused = Callable[..., str]


def gland() -> np.ndarray:
    """(D, H, W) bool: what a model should see of `made.labels`: slices first, front on top."""
    return (made.labels(zones=True) > 0).transpose(2, 1, 0)


def test_the_collection(raw: Path, opened: Open, tmp_path: Path) -> None:
    """RUNMC becomes ISBI; both labels are the gland; volumes keep their bytes and their place."""
    made.collection(raw)
    sites = opened("prostate")
    assert {name: [case.name for case in site.all_cases] for name, site in sites.items()} == {
        "BIDMC": ["Case00", "Case02", "Case03"],
        "ISBI": ["Case00", "Case01", "Case02"],
    }
    for name, case in (("BIDMC", "Case02"), ("ISBI", "Case02")):
        assert sites[name].structures == ("prostate",)
        assert (truth(sites[name], case)[..., 0] == gland()).all()
        assert sites[name].entry(sites[name].all_cases[0]).facts.spacing == pytest.approx((3.6, 0.6, 0.6))
    copied = tmp_path / "out" / "BIDMC" / "images" / "Case02.nii.gz"
    assert copied.read_bytes() == (raw / "BIDMC" / "Case02.nii.gz").read_bytes()
    mask = nibabel.load(tmp_path / "out" / "ISBI" / "masks" / "Case02.nii.gz")
    assert mask.get_data_dtype() == np.uint8 and (mask.affine == nibabel.load(copied).affine).all()
    assert set(np.unique(mask.dataobj)) == {0, 1}


def test_labels_as_stored(raw: Path, opened: Open, tmp_path: Path) -> None:
    """The files keep 1 and 2, as FedFMS has them; the target is the gland all the same."""
    made.collection(raw)
    sites = opened("prostate", "labels=as-stored")
    mask = np.asarray(nibabel.load(tmp_path / "out" / "ISBI" / "masks" / "Case00.nii.gz").dataobj)
    assert (mask == made.labels(zones=True)).all()
    assert (truth(sites["ISBI"], "Case00")[..., 0] == gland()).all()


def test_the_regrouping(raw: Path, opened: Open) -> None:
    made.regrouped(raw)
    sites = opened("prostate")
    assert list(sites) == ["HK", "ISBI_1.5"]
    assert (truth(sites["ISBI_1.5"], "Case01")[..., 0] == gland()).all()


def test_promise12_by_case_number(raw: Path, opened: Open, tmp_path: Path) -> None:
    """The numbers tell the hospital; the test set, which repeats them, is passed over with a word."""
    made.promise12(raw)
    sites = opened("prostate")
    assert {name: [case.name for case in site.all_cases] for name, site in sites.items()} == {
        "BIDMC": ["Case00", "Case02", "Case03"],
        "HK": ["Case38", "Case39", "Case40"],
        "UCL": ["Case01", "Case26", "Case27"],
    }
    for site, case, seed in (("BIDMC", "Case02", 2), ("HK", "Case38", 38)):  # 38 is packed
        written = nibabel.load(tmp_path / "out" / site / "images" / f"{case}.nii.gz")
        assert (np.asarray(written.dataobj) == made.image(seed)).all()
        assert written.affine == pytest.approx(made.AFFINE)
        assert (truth(sites[site], case)[..., 0] == gland()).all()
    record = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert record["missing"] == ["I2CVB", "ISBI", "ISBI_1.5"]
    assert any("TestData" in line and "test set" in line for line in record["warnings"])


def test_nijmegen_is_a_site_of_its_own(raw: Path, opened: Open) -> None:
    made.promise12(raw)
    for number in (13, 20, 25):
        made.metaimage(raw / "TrainingData_Part1" / f"Case{number}.mhd", made.image(number))
        made.metaimage(
            raw / "TrainingData_Part1" / f"Case{number}_segmentation.mhd", made.labels(False).astype(np.int8)
        )
    assert "PROMISE12-Nijmegen" in opened("prostate")


def test_a_raw_copy_that_is_one_site(raw: Path, opened: Open) -> None:
    made.collection(raw)
    shutil.rmtree(raw / "RUNMC")
    for path in list((raw / "BIDMC").iterdir()):
        path.rename(raw / path.name)
    (raw / "BIDMC").rmdir()
    raw.rename(raw.with_name("bidmc"))
    raw.symlink_to("bidmc")
    assert list(opened("prostate")) == ["BIDMC"]


def missing_mask(raw: Path) -> None:
    (raw / "BIDMC" / "Case02_segmentation.nii.gz").unlink()


def missing_image(raw: Path) -> None:
    (raw / "RUNMC" / "Case01.nii.gz").unlink()


def truncated(raw: Path) -> None:
    path = raw / "BIDMC" / "Case03.nii.gz"
    path.write_bytes(path.read_bytes()[:200])


def truncated_mask(raw: Path) -> None:
    path = raw / "BIDMC" / "Case03_segmentation.nii.gz"
    path.write_bytes(path.read_bytes()[:-12])


def not_nifti(raw: Path) -> None:
    (raw / "BIDMC" / "Case03.nii.gz").write_text("<html>quota exceeded</html>")


def renamed(raw: Path) -> None:
    (raw / "BIDMC" / "Case03_segmentation.nii.gz").rename(raw / "BIDMC" / "Case03_segmentation.nii.gz.1")


def renamed_site(raw: Path) -> None:
    (raw / "RUNMC").rename(raw / "RUMNC")


def unknown_label(raw: Path) -> None:
    made.save(raw / "BIDMC" / "Case00_segmentation.nii.gz", made.labels(zones=False) * 7)


def fraction(raw: Path) -> None:
    made.save(raw / "BIDMC" / "Case00_segmentation.nii.gz", made.labels(zones=False) * np.float32(0.5))


def another_shape(raw: Path) -> None:
    made.save(raw / "BIDMC" / "Case00_segmentation.nii.gz", made.labels(zones=False)[:, :, :3])


def another_place(raw: Path) -> None:
    moved = made.AFFINE.copy()
    moved[0, 3] += 5
    made.save(raw / "BIDMC" / "Case00_segmentation.nii.gz", made.labels(zones=False), moved)


def four_axes(raw: Path) -> None:
    made.save(raw / "BIDMC" / "Case00.nii.gz", np.stack([made.image(0)] * 2, axis=-1))


def twice_packed(raw: Path) -> None:
    made.save(raw / "BIDMC" / "Case00.nii", made.image(0))


def twice_by_two_names_of_a_site(raw: Path) -> None:
    for kind in ("", "_segmentation"):
        (raw / "ISBI").mkdir(exist_ok=True)
        shutil.copy(raw / "RUNMC" / f"Case00{kind.title()}.nii.gz", raw / "ISBI" / f"Case00{kind}.nii.gz")


def empty(raw: Path) -> None:
    for folder in list(raw.iterdir()):
        shutil.rmtree(folder)
        folder.mkdir()


DAMAGED = {
    missing_mask: "BIDMC/Case02.nii.gz: has no mask; add it or take the image out",
    missing_image: "RUNMC/Case01_Segmentation.nii.gz: has no image",
    truncated: "BIDMC/Case03.nii.gz: cannot be read",
    truncated_mask: "BIDMC/Case03_segmentation.nii.gz: cannot be read",
    not_nifti: "BIDMC/Case03.nii.gz: cannot be read",
    renamed: "BIDMC/Case03_segmentation.nii.gz.1, renamed?",
    renamed_site: "RUMNC: is no site's folder (did you mean 'runmc'?); rename it",
    unknown_label: "BIDMC/Case00_segmentation.nii.gz: holds the label 7 where only 0, 1, 2 are known",
    fraction: "BIDMC/Case00_segmentation.nii.gz: holds the label 0.5",
    another_shape: "BIDMC/Case00_segmentation.nii.gz: 9x8x3 where its image Case00.nii.gz has 9x8x4",
    another_place: "BIDMC/Case00_segmentation.nii.gz: lies elsewhere than its image",
    four_axes: "BIDMC/Case00.nii.gz: has 4 axes where a volume has 3",
    twice_packed: "BIDMC/Case00.nii.gz: case 'Case00' is there already",
    twice_by_two_names_of_a_site: "site ISBI: case 'Case00' is there 2 times",
    empty: "holds nothing of prostate; a raw copy has SITE/CaseXX.nii.gz",
}


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda damage: damage.__name__)
def test_damaged_copies(raw: Path, refused: Refused, damage: Callable[[Path], None]) -> None:
    made.collection(raw)
    damage(raw)
    assert DAMAGED[damage] in refused("prostate")


def test_a_mask_may_be_put_where_its_image_lies(raw: Path, opened: Open) -> None:
    """The mend that the refusal names."""
    made.collection(raw)
    another_place(raw)
    assert (truth(opened("prostate", "place=image")["BIDMC"], "Case00")[..., 0] == gland()).all()


def lost_data(raw: Path) -> None:
    (raw / "TrainingData_Part1" / "Case00.raw").unlink()


def short_data(raw: Path) -> None:
    path = raw / "TrainingData_Part1" / "Case00.raw"
    path.write_bytes(path.read_bytes()[:-2])


def broken_packing(raw: Path) -> None:
    (raw / "TrainingData_Part2" / "Case38.zraw").write_bytes(b"not zlib")


def no_header(raw: Path) -> None:
    (raw / "TrainingData_Part1" / "Case00.mhd").write_text("nothing of the kind")


def cut_header(raw: Path) -> None:
    path = raw / "TrainingData_Part1" / "Case00.mhd"
    path.write_text(path.read_text().partition("ElementDataFile")[0])


def two_axes(raw: Path) -> None:
    path = raw / "TrainingData_Part1" / "Case00.mhd"
    path.write_text(path.read_text().replace("NDims = 3", "NDims = 2"))


def strange_type(raw: Path) -> None:
    path = raw / "TrainingData_Part1" / "Case00.mhd"
    path.write_text(path.read_text().replace("MET_SHORT", "MET_STRING"))


DAMAGED_METAIMAGE = {
    lost_data: "Case00.raw: there is no such file",
    short_data: "Case00.raw: holds 574 bytes of voxels where Case00.mhd says 576",
    broken_packing: "Case38.zraw: cannot be read",
    no_header: "Case00.mhd: is no MetaImage header",
    cut_header: "Case00.mhd: names no ElementDataFile",
    two_axes: "Case00.mhd: is no volume of single numbers",
    strange_type: "Case00.mhd: holds MET_STRING",
}


@pytest.mark.parametrize("damage", DAMAGED_METAIMAGE, ids=lambda damage: damage.__name__)
def test_damaged_metaimages(raw: Path, refused: Refused, damage: Callable[[Path], None]) -> None:
    made.promise12(raw)
    damage(raw)
    assert DAMAGED_METAIMAGE[damage] in refused("prostate")
