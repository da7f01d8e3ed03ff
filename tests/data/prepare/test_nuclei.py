"""Collections of nuclei from their layouts; damaged copies refused by name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tifffile import imread, imwrite

from sammit.data.pictures import labels

from . import raw_nuclei as made
from .conftest import Open, truth

Refused = Callable[..., str]
SAC = Path("MoNuSAC_images_and_annotations", "TCGA-5P-A9K0-01Z-00-DX1")
SEG = Path("MoNuSeg 2018 Training Data")
TNBC = Path("TNBC_NucleiSegmentation")
SITES = {
    "monusac2020": 4,
    "monuseg2018": 3,
    "pannuke2-adrenal-gland": 3,
    "pannuke2-esophagus": 3,
    "pannuke3-bile-duct": 3,
    "pannuke3-uterus": 3,
    "tnbc": 4,
}


def test_all_collections(raw: Path, opened: Open, tmp_path: Path) -> None:
    """Every mask is a 16-bit map with a number for each nucleus; every image has the raw one's pixels."""
    made.everything(raw)
    sites = opened("nuclei")
    assert {name: len(site.all_cases) for name, site in sites.items()} == SITES
    for name, site in sites.items():
        assert site.structures == ("nucleus",)
        for case in site.all_cases:
            with Image.open(case.masks[0]) as mask:
                assert mask.mode == "I;16"
            written = labels(case.masks[0])
            if "2Z-A9JG" not in case.name:
                assert (truth(site, case.name)[0, ..., 0] == (made.instances() > 0)).all(), case
                assert len(np.unique(written)) == 4
                assert len({(n, m) for n, m in zip(written.flat, made.instances().flat, strict=True)}) == 4
        assert site.load(site.all_cases[0]).image.shape == (1, made.SIDE, made.SIDE, 3), name
    tile = sites["pannuke3-uterus"].all_cases[0]
    assert tile.name == "fold3-0001" and (labels(tile.image[0]) == made.image(1)).all()
    record = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert list(record["sites"])[:4] == [name for name in SITES if "pannuke" in name] and record["missing"] == []
    assert record["sites"]["tnbc"] == {"cases": 4, "public_release": 50}


def test_patients(raw: Path, opened: Open) -> None:
    """TCGA's participants, TNBC's slides; PanNuke's tiles are on their own."""
    made.everything(raw)
    patients = {name: {case.patient for case in site.all_cases} for name, site in opened("nuclei").items()}
    assert patients["monusac2020"] == {"TCGA-5P-A9K0", "TCGA-55-1594", "TCGA-2Z-A9JG"}
    assert patients["monuseg2018"] == {"TCGA-18-5592", "TCGA-38-6178", "TCGA-2Z-A9J9"}
    assert patients["tnbc"] == {"01", "02", "11"}
    assert patients["pannuke2-esophagus"] == {"fold2-0002", "fold2-0005", "fold2-0006"}


def test_ambiguous_regions_are_unlabelled(raw: Path, opened: Open) -> None:
    """They count neither as nucleus nor as background; a nucleus inside one stays a nucleus."""
    made.everything(raw)
    site = opened("nuclei")["monusac2020"]
    case = next(case for case in site.all_cases if "2Z-A9JG" in case.name)
    loaded = site.load(case)
    ambiguous = np.zeros((made.SIDE, made.SIDE), bool)
    ambiguous[:6] = True
    assert loaded.valid is not None
    assert (loaded.valid[0] == ~(ambiguous & (made.instances() == 0))).all()
    assert (loaded.truth[0, ..., 0] == (made.instances() > 0)).all()


def test_ambiguous_regions_as_background(raw: Path, opened: Open) -> None:
    made.everything(raw)
    site = opened("nuclei", "ambiguous=background")["monusac2020"]
    case = next(case for case in site.all_cases if "2Z-A9JG" in case.name)
    assert site.load(case).valid is None
    assert (truth(site, case.name)[0, ..., 0] == (made.instances() > 0)).all()


def test_training_parts_alone(raw: Path, opened: Open, tmp_path: Path) -> None:
    made.monusac(raw)
    made.outlines(raw / "MoNuSAC_images_and_annotations" / "TCGA-A-1" / "TCGA-A-1_1.xml", ("Epithelial", []))
    imwrite(raw / "MoNuSAC_images_and_annotations" / "TCGA-A-1" / "TCGA-A-1_1.tif", made.image(0))
    names = [case.name for case in opened("nuclei", "parts=training")["monusac2020"].all_cases]
    assert len(names) == 4 and not any("2Z-A9JG" in name for name in names)
    record = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert record["sites"]["monusac2020"]["public_release"] == 209


def test_fedfms_pannuke(raw: Path, opened: Open) -> None:
    made.pannuke(raw, flat=True)
    assert len(opened("nuclei")) == 4


def test_other_organs(raw: Path, opened: Open) -> None:
    made.pannuke(raw)
    made.folder(raw / "Fold 1" / "images" / "fold1")  # an empty fold that nobody asks for
    site = opened("nuclei", "pannuke=3:Uterus,2:Esophagus")
    assert list(site) == ["pannuke2-esophagus", "pannuke3-uterus"]


def test_a_scan_without_tiff(raw: Path, opened: Open) -> None:
    """Decoded from its tiles; JPEG is lossy."""
    made.monusac(raw)
    site = opened("nuclei")["monusac2020"]
    scan = next(case for case in site.all_cases if case.name.endswith("A9K0-01Z-00-DX1_2"))
    wanted = imread(raw / SAC / "TCGA-5P-A9K0-01Z-00-DX1_2.svs", key=0)
    assert (labels(scan.image[0]) == wanted).all()
    assert np.abs(wanted.astype(int) - made.image(0)).mean() < 60
    tiff = next(case for case in site.all_cases if case.name.endswith("A9K0-01Z-00-DX1_1"))
    assert (labels(tiff.image[0]) == made.image(0)).all()


def test_outlines_beyond_the_edge_and_without_area(raw: Path, opened: Open, tmp_path: Path) -> None:
    """Cut off at the edge; a stray click is passed over with a word."""
    made.monuseg(raw)
    path = raw / SEG / "Annotations" / "TCGA-18-5592-01Z-00-DX1.xml"
    made.outlines(path, ("", [(-3.5, -2, 4, 6), (28, 25, 40, 33)]))
    click = '<Region Id="9"><Vertices><Vertex X="5" Y="5" Z="0"/></Vertices></Region></Regions>'
    path.write_text(path.read_text().replace("</Regions>", click))
    nuclei = truth(opened("nuclei")["monuseg2018"], "TCGA-18-5592-01Z-00-DX1")[0, ..., 0]
    wanted = np.zeros((made.SIDE, made.SIDE), bool)
    wanted[:5, :7] = wanted[28:, 25:] = True
    assert (nuclei == wanted).all()
    warnings = json.loads((tmp_path / "out" / "prepared.json").read_text())["warnings"]
    assert any("1 outline(s) of fewer than three corners" in line for line in warnings)


def test_truth_with_numbers_keeps_them(raw: Path, opened: Open) -> None:
    """Touching nuclei of TNBC stay apart where the file tells them apart."""
    made.tnbc(raw)
    touching = np.zeros((made.SIDE, made.SIDE), np.uint8)
    touching[4:8, 4:8], touching[4:8, 8:12] = 7, 9
    Image.fromarray(touching).save(raw / TNBC / "GT_02" / "02_1.png")
    site = opened("nuclei")["tnbc"]
    case = next(case for case in site.all_cases if case.name == "02_1")
    assert set(np.unique(labels(case.masks[0]))) == {0, 7, 9}


def fold(raw: Path, name: str) -> Path:
    """A file of PanNuke's second fold."""
    kind = "masks" if name == "masks.npy" else "images"
    return raw / "Fold 2" / kind / "fold2" / name


def change(raw: Path, name: str, how: Callable[[np.ndarray], np.ndarray]) -> None:
    """Save an array of the second fold anew."""
    np.save(fold(raw, name), how(np.load(fold(raw, name))))


def outline_elsewhere(raw: Path) -> None:
    made.outlines(raw / SEG / "Annotations" / "TCGA-18-5592-01Z-00-DX1.xml", ("", [made.SQUARES[0], (40, 2, 50, 9)]))


def no_xml(raw: Path) -> None:
    (raw / SAC / "TCGA-5P-A9K0-01Z-00-DX1_1.xml").write_text("<Annotations><Annotation></Annotations>")


def another_xml(raw: Path) -> None:
    (raw / SAC / "TCGA-5P-A9K0-01Z-00-DX1_1.xml").write_text("<?xml version='1.0'?><html><body/></html>")


def no_coordinates(raw: Path) -> None:
    path = raw / SAC / "TCGA-5P-A9K0-01Z-00-DX1_1.xml"
    path.write_text(re.sub(' Y="[0-9]+"', "", path.read_text(), count=1))


def missing_outlines(raw: Path) -> None:
    (raw / SAC / "TCGA-5P-A9K0-01Z-00-DX1_2.xml").unlink()


def missing_tissue(raw: Path) -> None:
    (raw / SEG / "Tissue Images" / "TCGA-38-6178-01Z-00-DX1.tif").unlink()


def renamed_tissue(raw: Path) -> None:
    path = raw / SEG / "Tissue Images" / "TCGA-38-6178-01Z-00-DX1.tif"
    path.rename(path.with_suffix(".tif_"))


def truncated_tiff(raw: Path) -> None:
    path = raw / SEG / "Tissue Images" / "TCGA-38-6178-01Z-00-DX1.tif"
    path.write_bytes(path.read_bytes()[:1500])


def truncated_scan(raw: Path) -> None:
    path = raw / SAC / "TCGA-5P-A9K0-01Z-00-DX1_2.svs"
    path.write_bytes(path.read_bytes()[:200])


def grey_tissue(raw: Path) -> None:
    imwrite(raw / SEG / "Tissue Images" / "TCGA-38-6178-01Z-00-DX1.tif", made.image(0)[..., 0])


def tissue_in_depth(raw: Path) -> None:
    path = raw / SEG / "Tissue Images" / "TCGA-38-6178-01Z-00-DX1.tif"
    imwrite(path, np.zeros((5, 9, 9), np.uint8), photometric="minisblack")


def case_twice(raw: Path) -> None:
    shutil.copytree(raw / SAC, raw / "MoNuSAC Testing Data and Annotations" / SAC.name)
    for path in (raw / "MoNuSAC Testing Data and Annotations" / SAC.name).iterdir():
        if path.suffix != ".tif":
            path.unlink()


def missing_slide(raw: Path) -> None:
    (raw / TNBC / "Slide_02" / "02_1.png").unlink()


def missing_slide_truth(raw: Path) -> None:
    (raw / TNBC / "GT_11" / "11_1.png").unlink()


def another_shape(raw: Path) -> None:
    Image.fromarray(made.instances()[:-2]).save(raw / TNBC / "GT_02" / "02_1.png")


def truncated_picture(raw: Path) -> None:
    path = raw / TNBC / "Slide_01" / "01_2.png"
    path.write_bytes(path.read_bytes()[:100])


def different_lengths(raw: Path) -> None:
    change(raw, "masks.npy", lambda masks: masks[:-1])


def fewer_types(raw: Path) -> None:
    change(raw, "types.npy", lambda types: types[:-1])


def wrong_type(raw: Path) -> None:
    change(raw, "images.npy", lambda images: images.astype(complex))


def types_as_numbers(raw: Path) -> None:
    change(raw, "types.npy", lambda types: np.arange(len(types)))


def pickled_types(raw: Path) -> None:
    np.save(fold(raw, "types.npy"), np.array(["Adrenal_gland", None], object), allow_pickle=True)


def wrong_channels(raw: Path) -> None:
    change(raw, "masks.npy", lambda masks: masks[..., :5])


def unknown_organ(raw: Path) -> None:
    change(raw, "types.npy", lambda types: np.where(types == "Esophagus", "Oesophagus", types))


def truncated_array(raw: Path) -> None:
    path = fold(raw, "masks.npy")
    path.write_bytes(path.read_bytes()[:-800])


def missing_array(raw: Path) -> None:
    fold(raw, "masks.npy").unlink()


def beyond_the_range(raw: Path) -> None:
    change(raw, "images.npy", lambda images: np.where(np.arange(len(images))[:, None, None, None] == 3, 300.0, images))


def fractions(raw: Path) -> None:
    change(raw, "masks.npy", lambda masks: np.where(np.arange(len(masks))[:, None, None, None] == 3, 0.5, masks))


def unknown_fold(raw: Path) -> None:
    shutil.copy(fold(raw, "images.npy"), made.folder(raw / "unpacked") / "images.npy")


def empty(raw: Path) -> None:
    for folder in list(raw.iterdir()):
        shutil.rmtree(folder)
        folder.mkdir()


DAMAGED = {
    outline_elsewhere: "5592-01Z-00-DX1.xml: an outline lies at x 2 to 9, y 40 to 50, outside its image of 32x32",
    no_xml: "DX1_1.xml: cannot be read (mismatched tag",
    another_xml: "DX1_1.xml: is no Aperio annotation (it begins with html)",
    no_coordinates: "DX1_1.xml: a Vertex has no numbers X and Y",
    missing_outlines: "TCGA-5P-A9K0-01Z-00-DX1_2.svs: has no mask",
    missing_tissue: "Annotations/TCGA-38-6178-01Z-00-DX1.xml: has no image",
    renamed_tissue: "TCGA-38-6178-01Z-00-DX1.tif_, renamed?",
    truncated_tiff: "TCGA-38-6178-01Z-00-DX1.tif: cannot be read",
    truncated_scan: "TCGA-5P-A9K0-01Z-00-DX1_2.svs: cannot be read",
    grey_tissue: "TCGA-38-6178-01Z-00-DX1.tif: is no colour picture of 8 bits",
    tissue_in_depth: "TCGA-38-6178-01Z-00-DX1.tif: is a volume of 5 slices where a picture belongs",
    case_twice: "DX1_1.tif: case 'TCGA-5P-A9K0-01Z-00-DX1_1' is there already",
    missing_slide: "GT_02/02_1.png: has no image",
    missing_slide_truth: "Slide_11/11_1.png: has no mask",
    another_shape: "GT_02/02_1.png: 30x32 where its image 02_1.png has 32x32",
    truncated_picture: "Slide_01/01_2.png: cannot be read",
    different_lengths: "masks.npy: has 6x32x32 tiles where its fold has 7x32x32",
    fewer_types: "images.npy: has 7x32x32 tiles where its fold has 6x32x32",
    wrong_type: "images.npy: holds 4 axes of type complex128 where 4 of numbers belong",
    types_as_numbers: "types.npy: holds 1 axes of type int64 where 1 of texts belong",
    pickled_types: "types.npy: cannot be read",
    wrong_channels: "masks.npy: has 5 channels where 6 belong",
    unknown_organ: "types.npy: unknown organ 'Oesophagus': did you mean 'Esophagus'?",
    truncated_array: "masks.npy: cannot be read",
    missing_array: "fold 2 has no masks.npy beside it",
    beyond_the_range: "images.npy: tile 3 reaches beyond 0 to 255",
    fractions: "masks.npy: tile 3 holds other than whole numbers",
    unknown_fold: "unpacked/images.npy: no folder around it tells the fold",
    empty: "holds nothing of nuclei; a raw copy has Fold N/images",
}


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda damage: damage.__name__)
def test_damaged_copies(raw: Path, refused: Refused, damage: Callable[[Path], None]) -> None:
    made.everything(raw)
    damage(raw)
    assert DAMAGED[damage] in refused("nuclei")


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("pannuke=2:Esofagus", "unknown organ 'Esofagus': did you mean 'Esophagus'?"),
        ("pannuke=Esophagus", "'Esophagus' must be FOLD:ORGAN"),
        ("pannuke=4:Esophagus", "'4:Esophagus' must be FOLD:ORGAN"),
        ("parts=train", "unknown parts 'train': did you mean 'training'?"),
        ("ambigous=ignore", "unknown option 'ambigous': did you mean 'ambiguous'?"),
    ],
)
def test_options_that_are_not_right(raw: Path, refused: Refused, option: str, line: str) -> None:
    made.tnbc(raw)
    assert line in refused("nuclei", option)
