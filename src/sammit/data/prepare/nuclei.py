"""Nuclei in H&E-stained tissue at seven sites: four of PanNuke, MoNuSAC 2020, MoNuSeg 2018 and TNBC.

Read are, wherever they lie below the raw copy:

- PanNuke: see `pannuke.py`. A site is an organ of a fold; FedFMS's four are the default. Layout, shapes and the 19
  organs were looked up in public loaders of the Warwick release;
- MoNuSAC 2020: `TCGA-XX-XXXX-.../TCGA-XX-XXXX-..._N.{svs,tif,xml}`, a folder for each patient; the TIFF is taken where
  both are there. "Ambiguous" regions, which the test set marks and the challenge leaves out of its scores, count as
  unlabelled (layout and class names: the challenge's page and public loaders);
- MoNuSeg 2018: `MoNuSeg 2018 Training Data/{Tissue Images,Annotations}` and `MoNuSegTestData`, where both kinds share a
  folder. FedFMS calls it MoNuSAC2018;
- TNBC: `Slide_NN/NN_k.png` with `GT_NN/NN_k.png`.

Masks are 16-bit instance maps; a nucleus is whatever is above 0. TNBC's truth is two-valued where its file has one
value: touching nuclei then count as one instance.

A patient is TCGA-XX-XXXX for MoNuSAC and MoNuSeg and the slide for TNBC. PanNuke says nothing of patients: each tile is
its own, so that tiles of one slide may fall into two parts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sammit.data.prepare import pannuke
from sammit.data.prepare.aperio import AMBIGUOUS, draw, read_regions
from sammit.data.prepare.contract import Item, Option, Survey, words
from sammit.data.prepare.finding import by_key, files_under, partners, parts_below
from sammit.data.prepare.opening import named, picture, same_shape
from sammit.data.prepare.pieces import Picture
from sammit.data.readers import read_mask
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SOURCE = (
    "PanNuke: https://warwick.ac.uk/fac/cross_fac/tia/data/pannuke; MoNuSAC 2020: "
    "https://monusac-2020.grand-challenge.org/Data/; MoNuSeg 2018: https://monuseg.grand-challenge.org/Data/; "
    "TNBC: https://zenodo.org/record/1175282"
)
LICENCE = "PanNuke, MoNuSAC 2020, MoNuSeg 2018: CC BY-NC-SA 4.0; TNBC: as its Zenodo record says"
CITATION = (
    "PanNuke: Gamper J et al. PanNuke Dataset Extension, Insights and Baselines. arXiv:2003.10778. MoNuSAC 2020: Verma "
    "R et al. MoNuSAC2020. IEEE TMI 2021. MoNuSeg 2018: Kumar N et al. A Multi-organ Nucleus Segmentation Challenge. "
    "IEEE TMI 2020. TNBC: Naylor P et al. Segmentation of Nuclei in Histopathology Images by Deep Regression of the "
    "Distance Map. IEEE TMI 38(2), 2019."
)
LAYOUT = (
    "Fold N/images/foldN/images.npy (PanNuke), TCGA-XX-XXXX-.../*.tif with *.xml (MoNuSAC), Tissue Images with "
    "Annotations (MoNuSeg) or Slide_NN with GT_NN (TNBC)"
)
OPTIONS = {
    "pannuke": Option(
        "2:Adrenal_gland,2:Esophagus,3:Bile-duct,3:Uterus", "PanNuke's sites as FOLD:ORGAN, with commas between"
    ),
    "parts": Option("all", "MoNuSAC and MoNuSeg: all, or training alone", ("all", "training")),
    "ambiguous": Option("ignore", "MoNuSAC's ambiguous regions: ignore, or background", ("ignore", "background")),
}
EXPECTED = {
    "all": {"monusac2020": 294, "monuseg2018": 51, "tnbc": 50},  # 209 + 85, 37 + 14, 50 images of 11 patients
    "training": {"monusac2020": 209, "monuseg2018": 37, "tnbc": 50},
}
PANNUKE_EXPECTED = {(2, "Adrenal_gland"): 148, (2, "Esophagus"): 128}  # from FedFMS's logs; the others' are unpublished
TCGA = r"^(TCGA-[A-Z0-9]{2}-[A-Z0-9]{4})"
SLIDE = re.compile(r"(slide|gt)_[0-9]+")
MONUSEG = ("tissue images", "annotations")


def survey(raw: Path, options: Mapping[str, str]) -> Survey:
    """What there is of each collection."""
    choices = [pannuke.choice_of(text) for text in words(options["pannuke"])]
    wanted = {pannuke.site_name(choice): PANNUKE_EXPECTED.get(choice) for choice in choices}
    found = Survey({"structures": {"nucleus": "> 0"}}, {**wanted, **EXPECTED[options["parts"]]})
    files: dict[str, list[Path]] = {}
    for path in files_under(raw):
        files.setdefault(_collection(path, raw, options["parts"]), []).append(path)
    found.items += pannuke.tiles_of(files.get("pannuke", []), choices, found.problems)
    for site in ("monusac2020", "monuseg2018"):
        _outlined(site, files.get(site, []), options, found)
        found.site_settings[site] = {"patient": TCGA}
    if options["ambiguous"] == "ignore":
        found.site_settings["monusac2020"] = {"patient": TCGA, "ignore": AMBIGUOUS}
    _slides(files.get("tnbc", []), found)
    found.site_settings["tnbc"] = {"patient": "^([0-9]+)_"}
    return found


def _collection(path: Path, raw: Path, parts: str) -> str:
    """Which collection a file belongs to; "" for none that is wanted."""
    _, *folders = parts_below(path, raw)
    if pannuke.is_part(path):
        return "pannuke"
    if folders and SLIDE.fullmatch(folders[-1]):
        return "tnbc"
    if parts == "training" and any("test" in folder for folder in folders):
        return ""
    if folders and folders[-1].startswith("tcga-"):
        return "monusac2020"
    return "monuseg2018" if any("monuseg" in name or name in MONUSEG for name in parts_below(path, raw)) else ""


def _outlined(site: str, paths: list[Path], options: Mapping[str, str], found: Survey) -> None:
    """Images with outlines in XML beside them or in a folder of their own."""
    tiffs = [path for path in paths if path.suffix.lower() in (".tif", ".tiff")]
    stems = {path.with_suffix("") for path in tiffs}
    scans = [path for path in paths if path.suffix.lower() == ".svs" and path.with_suffix("") not in stems]
    images = by_key([*tiffs, *scans], _stem, found.problems)
    outlines = by_key([path for path in paths if path.suffix.lower() == ".xml"], _stem, found.problems)
    others = [path for path in paths if path.suffix.lower() not in (".tif", ".tiff", ".svs", ".xml")]
    for case, image, outline in partners(images, outlines, others, found.problems):
        found.items.append(Item(site, case, partial(_read_outlined, image, outline, options["ambiguous"])))


def _read_outlined(image: Path, outline: Path, ambiguous: str) -> Picture:
    """An image with its nuclei as an instance map."""
    pixels = _tissue(image)
    regions = read_regions(outline)
    labels = draw(regions, pixels.shape[:2], outline)
    if ambiguous == "background":
        labels[labels == AMBIGUOUS] = 0
    loose = sum(len(region.corners) < 3 for region in regions)
    return Picture(pixels, labels, (f"{loose} outline(s) of fewer than three corners passed over",) if loose else ())


def _tissue(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 pixels of a TIFF, or of the first and finest page of a scan."""
    if path.suffix.lower() == ".svs":
        from tifffile import TiffFile

        with named(path), TiffFile(path) as file:
            pixels: np.ndarray = file.pages.first.asarray()
    else:
        pixels = picture(path)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype != "uint8":
        raise UserError(f"{path}: is no colour picture of 8 bits; put the right file there")
    return pixels[..., :3]


def _slides(paths: list[Path], found: Survey) -> None:
    """TNBC's images with their truth."""
    pictures = [path for path in paths if path.suffix.lower() == ".png"]
    others = [path for path in paths if path not in set(pictures)]
    images = by_key([path for path in pictures if path.parent.name.lower()[0] == "s"], _stem, found.problems)
    masks = by_key([path for path in pictures if path.parent.name.lower()[0] == "g"], _stem, found.problems)
    for case, image, mask in partners(images, masks, others, found.problems):
        found.items.append(Item("tnbc", case, partial(_read_slide, image, mask)))


def _read_slide(image: Path, mask: Path) -> Picture:
    """An image with its nuclei as an instance map, from numbers or from a two-valued mask."""
    import numpy as np
    from scipy.ndimage import label

    values = read_mask(mask)[0]
    same_shape(values, picture(image).shape[:2], mask, image)
    if len(np.unique(values[values != 0])) < 2:
        values = label(values != 0)[0]
    return Picture(image, values.astype(np.uint16))


def _stem(path: Path) -> str:
    return path.stem
