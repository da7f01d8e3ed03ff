"""Fundus collections from their layouts; damaged copies refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from . import raw_fundus as made
from .conftest import Open, truth

Refused = Callable[..., str]
ORIGA = Path("ORIGA", "ORIGA")
DRISHTI = Path("Drishti-GS1_files", "Drishti-GS1_files", "Training")
SOFT = DRISHTI / "GT" / "drishtiGS_002" / "SoftMap"
CASES = {
    "Drishti-GS1": ["drishtiGS_001", "drishtiGS_002", "drishtiGS_004"],
    "G1020": ["image_0", "image_10", "image_3"],
    "ORIGA": ["001", "002", "003"],
    "REFUGE": ["T0001", "V0001", "g0001", "n0001"],
}


def test_all_collections(raw: Path, opened: Open, tmp_path: Path) -> None:
    """The disc is the whole disc at every site; images keep their bytes; masks are 0, 1 and 2."""
    made.everything(raw)
    sites = opened("fundus")
    assert {name: [case.name for case in site.all_cases] for name, site in sites.items()} == CASES
    for name, site in sites.items():
        assert site.structures == ("disc", "cup")
        for case in CASES[name]:
            assert (truth(site, case)[0, ..., 0] == made.disc()).all(), (name, case)
            assert (truth(site, case)[0, ..., 1] == made.cup()).all(), (name, case)
    out = tmp_path / "out"
    assert (out / "REFUGE" / "images" / "V0001.jpg").read_bytes() == (
        raw / "REFUGE-Validation400" / "V0001.jpg"
    ).read_bytes()
    for name, cases in CASES.items():
        with Image.open(out / name / "masks" / f"{cases[0]}.png") as mask:
            assert mask.mode == "L" and set(np.unique(mask)) == {0, 1, 2}
    record = json.loads((out / "prepared.json").read_text())
    assert record["missing"] == [] and record["options"] == {
        "disc": "whole",
        "refuge": "training,validation,test",
        "threshold": "128",
    }


def test_the_rim(raw: Path, opened: Open) -> None:
    """What FedFMS calls the disc: the disc without its cup."""
    made.everything(raw)
    for name, site in opened("fundus", "disc=rim").items():
        assert site.structures == ("rim", "cup")
        assert (truth(site, CASES[name][0])[0, ..., 0] == (made.disc() & ~made.cup())).all()


@pytest.mark.parametrize(("threshold", "least"), [(64, 64), (100, 128), (200, 255)])
def test_experts(raw: Path, opened: Open, threshold: int, least: int) -> None:
    """More experts, a smaller disc; FedFMS's 100 lies between one and two of four, and so equals the majority."""
    made.drishti(raw)
    site = opened("fundus", f"threshold={threshold}")["Drishti-GS1"]
    assert (truth(site, "drishtiGS_002")[0, ..., 0] == (made.soft(made.disc()) >= least)).all()
    assert (truth(site, "drishtiGS_002")[0, ..., 1] == (made.soft(made.cup()) >= least)).all()


def test_a_cup_outside_the_disc_stays_there(raw: Path, opened: Open, tmp_path: Path) -> None:
    """Neither map is changed for the other; nothing wraps around."""
    made.drishti(raw)
    beside = np.zeros(made.SHAPE, bool)
    beside[2:8, 12:16] = True
    made.save(raw / SOFT / "drishtiGS_002_cupsegSoftmap.png", beside * np.uint8(255))
    site = opened("fundus")["Drishti-GS1"]
    assert (beside & ~made.disc()).any() and (beside & made.disc()).any()
    assert (truth(site, "drishtiGS_002")[0, ..., 0] == made.disc()).all()
    assert (truth(site, "drishtiGS_002")[0, ..., 1] == beside).all()
    with Image.open(tmp_path / "out" / "Drishti-GS1" / "masks" / "drishtiGS_002.png") as mask:
        assert set(np.unique(mask)) == {0, 1, 2, 3}


def test_soft_maps_a_pixel_too_small(raw: Path, opened: Open, tmp_path: Path) -> None:
    """As in some copies: stretched onto their image, and said so."""
    made.drishti(raw)
    big = np.zeros((200, 300, 3), np.uint8)
    square = np.zeros((199, 298), np.uint8)
    square[50:150, 100:200] = 255
    made.save(raw / DRISHTI / "Images" / "drishtiGS_002.png", big)
    for kind in ("ODseg", "cupseg"):
        made.save(raw / SOFT / f"drishtiGS_002_{kind}Softmap.png", square)
    stretched = truth(opened("fundus")["Drishti-GS1"], "drishtiGS_002")[0, ..., 0]
    assert stretched.shape == (200, 300) and abs(int(stretched.sum()) - 100 * 100 * 200 * 300 // (199 * 298)) < 300
    warnings = json.loads((tmp_path / "out" / "prepared.json").read_text())["warnings"]
    assert "Drishti-GS1/drishtiGS_002: soft map of 199x298 stretched to 200x300" in warnings


def test_origa_from_matlab(raw: Path, opened: Open) -> None:
    made.origa(raw)
    shutil.rmtree(raw / ORIGA / "Masks")
    assert (truth(opened("fundus")["ORIGA"], "002")[0, ..., 1] == made.cup()).all()


def test_parts_of_refuge(raw: Path, opened: Open) -> None:
    """A copy whose test set has no masks is of use without it."""
    made.refuge(raw)
    shutil.rmtree(raw / "REFUGE-Test-GT")
    sites = opened("fundus", "refuge=training,validation")
    assert [case.name for case in sites["REFUGE"].all_cases] == ["V0001", "g0001", "n0001"]


def test_a_repackaging(raw: Path, opened: Open) -> None:
    """Images, the original BMP and a recoded PNG in each part; the original counts."""
    for part, stem in (("train", "g0001"), ("train", "n0001"), ("val", "V0001")):
        made.save(raw / "REFUGE" / part / "Images" / f"{stem}.jpg", made.image(0))
        made.save(raw / "REFUGE" / part / "gts" / f"{stem}.bmp", made.refuge_labels())
        made.save(raw / "REFUGE" / part / "Masks" / f"{stem}.png", made.labels())
        made.save(raw / "REFUGE" / part / "Images_Cropped" / f"{stem}.jpg", made.image(0)[:9, :9])
    assert (truth(opened("fundus")["REFUGE"], "V0001")[0, ..., 1] == made.cup()).all()


def test_the_regrouping(raw: Path, opened: Open) -> None:
    """FedFMS's images and labels."""
    for number in range(3):
        made.save(raw / "REFUGE" / "images" / f"n{number:04d}.jpg", made.image(number))
        made.save(raw / "REFUGE" / "labels" / f"n{number:04d}.png", made.labels())
        made.save(raw / "Drishti-GS1" / "images" / f"drishtiGS_{number:03d}.png", made.image(number))
        for kind, shape in (("ODseg", made.disc()), ("cupseg", made.cup())):
            path = raw / "Drishti-GS1" / "labels" / f"drishtiGS_{number:03d}_{kind}Softmap.png"
            made.save(path, made.soft(shape))
    sites = opened("fundus")
    assert list(sites) == ["Drishti-GS1", "REFUGE"]
    for name, case in (("Drishti-GS1", "drishtiGS_001"), ("REFUGE", "n0001")):
        assert (truth(sites[name], case)[0, ..., 0] == made.disc()).all()


def test_a_raw_copy_that_is_one_collection(raw: Path, opened: Open) -> None:
    """The folder's own name tells which."""
    made.g1020(raw)
    (raw / "G1020").rename(raw.with_name("g1020"))
    raw.rmdir()
    raw.symlink_to("g1020")
    assert list(opened("fundus")) == ["G1020"]


def missing_mask(raw: Path) -> None:
    (raw / "G1020" / "Masks" / "image_3.png").unlink()


def missing_image(raw: Path) -> None:
    (raw / ORIGA / "Images" / "002.jpg").unlink()


def missing_cup(raw: Path) -> None:
    (raw / SOFT / "drishtiGS_002_cupsegSoftmap.png").unlink()


def missing_disc_and_cup(raw: Path) -> None:
    shutil.rmtree(raw / SOFT)


def renamed(raw: Path) -> None:
    path = raw / "G1020" / "Masks" / "image_10.png"
    path.rename(path.with_suffix(".pgn"))


def truncated(raw: Path) -> None:
    path = raw / "REFUGE-Validation400" / "V0001.jpg"
    path.write_bytes(path.read_bytes()[:400])


def truncated_mask(raw: Path) -> None:
    path = raw / ORIGA / "Masks" / "001.png"
    path.write_bytes(path.read_bytes()[:60])


def not_a_picture(raw: Path) -> None:
    (raw / "Test400" / "T0001.jpg").write_text("<html>please log in</html>")


def unknown_label(raw: Path) -> None:
    made.save(raw / "G1020" / "Masks" / "image_0.png", made.labels() * 100)


def unknown_refuge_label(raw: Path) -> None:
    mask = made.refuge_labels()
    mask[0, 0] = 77
    made.save(raw / "REFUGE-Test-GT" / "Disc_Cup_Masks" / "N" / "T0001.bmp", mask)


def coloured_mask(raw: Path) -> None:
    made.save(raw / "G1020" / "Masks" / "image_0.png", made.image(5))


def another_shape(raw: Path) -> None:
    made.save(raw / ORIGA / "Masks" / "003.png", made.labels()[:-4])


def another_soft_shape(raw: Path) -> None:
    made.save(raw / SOFT / "drishtiGS_002_ODsegSoftmap.png", made.soft(made.disc())[:, :-4])


def twice(raw: Path) -> None:
    made.save(raw / "Training400" / "Non-Glaucoma" / "g0001.jpg", made.image(8))


def broken_matlab(raw: Path) -> None:
    shutil.rmtree(raw / ORIGA / "Masks")
    (raw / ORIGA / "Semi-automatic-annotations" / "002.mat").write_bytes(b"MATLAB 5.0 MAT-file, cut short")


def another_variable(raw: Path) -> None:
    shutil.rmtree(raw / ORIGA / "Masks")
    made.matlab(raw / ORIGA / "Semi-automatic-annotations" / "002.mat", {"label": made.labels()})


def empty(raw: Path) -> None:
    for folder in list(raw.iterdir()):
        shutil.rmtree(folder)
        folder.mkdir()


DAMAGED = {
    missing_mask: "G1020/Images/image_3.jpg: has no mask",
    missing_image: "Masks/002.png: has no image",
    missing_cup: "drishtiGS_002_ODsegSoftmap.png: there is no soft map of the cup beside it",
    missing_disc_and_cup: "Images/drishtiGS_002.png: has no mask",
    renamed: "G1020/Masks/image_10.pgn, renamed?",
    truncated: "REFUGE-Validation400/V0001.jpg: cannot be read",
    truncated_mask: "Masks/001.png: cannot be read",
    not_a_picture: "Test400/T0001.jpg: cannot be read",
    unknown_label: "Masks/image_0.png: holds the label 100 where only 0, 1, 2 are known",
    unknown_refuge_label: "N/T0001.bmp: holds the label 77 where only 0, 128, 255 are known",
    coloured_mask: "Masks/image_0.png: is a coloured mask",
    another_shape: "Masks/003.png: 20x30 where its image 003.jpg has 24x30",
    another_soft_shape: "drishtiGS_002_ODsegSoftmap.png: 24x26 where its image drishtiGS_002.png has 24x30",
    twice: "Training400/Non-Glaucoma/g0001.jpg: case 'g0001' is there already",
    broken_matlab: "Semi-automatic-annotations/002.mat: cannot be read",
    another_variable: "Semi-automatic-annotations/002.mat: has no variable 'mask'",
    empty: "holds nothing of fundus; a raw copy has a folder each for REFUGE",
}


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda damage: damage.__name__)
def test_damaged_copies(raw: Path, refused: Refused, damage: Callable[[Path], None]) -> None:
    made.everything(raw)
    damage(raw)
    assert DAMAGED[damage] in refused("fundus")


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("threshold=0", "threshold=0: must be a whole number from 1 to 255"),
        ("threshold=half", "threshold=half: must be a whole number"),
        ("disc=annulus", "unknown disc 'annulus': known: rim, whole"),
        ("refuge=training,tset", "unknown refuge 'tset': did you mean 'test'?"),
    ],
)
def test_options_that_are_not_right(raw: Path, refused: Refused, option: str, line: str) -> None:
    made.g1020(raw)
    assert line in refused("fundus", option)
