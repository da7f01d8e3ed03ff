"""Prostate in T2-weighted MRI at six sites (BIDMC, HK, I2CVB, ISBI, ISBI_1.5, UCL); the target is the whole gland.

Three kinds of raw copy are read, also mixed:

- the "Multi-site Dataset for Prostate MRI Segmentation": `SITE/CaseXX.nii.gz` beside `SITE/CaseXX_segmentation.nii.gz`
  (some files write `_Segmentation`). Its RUNMC is called ISBI here and its BMC ISBI_1.5, as in FedFMS and in the
  dataset authors' own code. File names, folder names, counts and the labels 1 and 2 were looked up in the authors'
  list files (github.com/liuquande/SAML, dataset/*_train_list) and in public loaders of the release;
- FedFMS's regrouping: `SITE/images/CaseXX.nii.gz` and `SITE/labels/CaseXX.nii.gz` (its preprocessing script);
- PROMISE12's MetaImage files `CaseXX.mhd`, `CaseXX_segmentation.mhd`, whose 50 training cases come without a site. The
  list files place 00, 03-12 at BIDMC, 26-37 at UCL and 38-49 at HK. They name Case01 at both BIDMC and UCL: with its
  29 slices, where BIDMC's have 34 to 54, it is UCL's, and Case02, which they leave out, is BIDMC's (54 slices; a
  comment in FedFMS's script confirms it). 13-25 are from Nijmegen and no part of the six sites.

Volumes stay volumes. Labels above 0 become 1; `labels=as-stored` keeps the 1 and 2 that ISBI and ISBI_1.5 have, as
FedFMS does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from sammit.data.formats import NIFTI, stem_of, suffix_of
from sammit.data.prepare.contract import Item, Option, Survey
from sammit.data.prepare.finding import by_key, files_under, partners
from sammit.data.prepare.metaimage import SUFFIXES, read_metaimage
from sammit.data.prepare.nifti import Grid, labels_on, read_grid
from sammit.data.prepare.pieces import Volume
from sammit.errors import nearest

SOURCE = "https://liuquande.github.io/SAML/ (six sites) and https://promise12.grand-challenge.org/ (BIDMC, HK, UCL)"
LICENCE = "the collection states none of its own; the terms of NCI-ISBI 2013, I2CVB and PROMISE12 hold"
CITATION = (
    "Liu Q, Dou Q, Heng PA. Shape-aware Meta-learning for Generalizing Prostate MRI Segmentation to Unseen Domains. "
    "MICCAI 2020. Litjens G et al. Evaluation of prostate segmentation algorithms for MRI: the PROMISE12 challenge. "
    "Medical Image Analysis 18(2), 2014."
)
LAYOUT = (
    "SITE/CaseXX.nii.gz with SITE/CaseXX_segmentation.nii.gz, SITE/images with SITE/labels, or CaseXX.mhd with "
    "CaseXX_segmentation.mhd"
)
OPTIONS = {
    "labels": Option("whole", "whole: 1 for the gland; as-stored: the labels 1 and 2 are kept", ("whole", "as-stored")),
    "place": Option("strict", "strict: a mask lies where its image lies; image: it is put there", ("strict", "image")),
}
EXPECTED = {"BIDMC": 12, "HK": 12, "I2CVB": 19, "ISBI": 30, "ISBI_1.5": 30, "UCL": 13}  # SAML's list files
FOLDERS = {
    "bidmc": "BIDMC", "hk": "HK", "i2cvb": "I2CVB", "hcrudb": "I2CVB", "isbi": "ISBI", "runmc": "ISBI",
    "isbi_1.5": "ISBI_1.5", "bmc": "ISBI_1.5", "ucl": "UCL",
}  # fmt: skip
NIJMEGEN = "PROMISE12-Nijmegen"
MASK = re.compile(r"_segmentation$", re.IGNORECASE)


def survey(raw: Path, options: Mapping[str, str]) -> Survey:
    """The pairs of each site, whatever kind of copy they come from."""
    found = Survey({"intensity": "percentile", "structures": {"prostate": "> 0"}}, EXPECTED)
    files = files_under(raw)
    volumes = [path for path in files if suffix_of(path) in NIFTI or path.suffix.lower() in SUFFIXES]
    others = [path for path in files if path not in set(volumes) and path.suffix.lower() not in (".raw", ".zraw")]
    groups: dict[tuple[str, Path], list[Path]] = {}
    strays: set[Path] = set()
    for path in _without_test_set(volumes, found):
        site = _site(path)
        if site:
            groups.setdefault((site, _home(path)), []).append(path)
        else:
            strays.add(_home(path))
    found.problems += [
        f"{folder}: is no site's folder ({nearest(folder.name.lower(), list(FOLDERS))}); rename it or take it out"
        for folder in sorted(strays)
    ]
    for (site, home), paths in groups.items():
        images = by_key([path for path in paths if not _is_mask(path)], _case, found.problems)
        masks = by_key([path for path in paths if _is_mask(path)], _case, found.problems)
        near = [other for other in others if other.is_relative_to(home)]
        for case, image, mask in partners(images, masks, near, found.problems):
            found.items.append(Item(site, case, partial(_read, image, mask, options)))
    return found


def _without_test_set(volumes: list[Path], found: Survey) -> list[Path]:
    """The volumes without those MetaImage folders that hold no mask at all: PROMISE12's test set repeats its names."""
    labelled = {_home(path) for path in volumes if _is_mask(path)}
    bare = {_home(path) for path in volumes if path.suffix.lower() in SUFFIXES} - labelled
    found.warnings += [f"{folder}: holds no segmentation; passed over as a test set" for folder in sorted(bare)]
    return [path for path in volumes if _home(path) not in bare]


def _site(path: Path) -> str | None:
    """The site that a file's folder is named after, else the one that a MetaImage case's number has in PROMISE12."""
    name = _home(path).resolve().name.lower()
    if name in FOLDERS:
        return FOLDERS[name]
    number = re.fullmatch(r"case([0-9]{2})", _case(path).lower())
    return _promise_site(int(number[1])) if number and path.suffix.lower() in SUFFIXES else None


def _promise_site(number: int) -> str | None:
    if number >= 50:
        return None
    if number == 1 or 26 <= number <= 37:
        return "UCL"
    if number >= 38:
        return "HK"
    return "BIDMC" if number <= 12 else NIJMEGEN


def _home(path: Path) -> Path:
    """The folder in which a case's two files meet."""
    return path.parent.parent if path.parent.name.lower() in ("images", "labels", "masks") else path.parent


def _is_mask(path: Path) -> bool:
    return path.parent.name.lower() in ("labels", "masks") or bool(MASK.search(_stem(path)))


def _case(path: Path) -> str:
    return MASK.sub("", _stem(path))


def _stem(path: Path) -> str:
    return stem_of(path) if suffix_of(path) else path.stem


def _read(image: Path, mask: Path, options: Mapping[str, str]) -> Volume:
    """A case's volume with the labels that are asked for."""
    grid = _grid(image)
    labels = labels_on(_grid(mask), grid, (0, 1, 2), elsewhere=options["place"] == "image")
    if options["labels"] == "whole":
        labels = (labels > 0).astype(labels.dtype)
    source = image if suffix_of(image) else grid.image
    return Volume(source, grid.image.header, grid.image.affine, labels)


def _grid(path: Path) -> Grid:
    return read_grid(path) if suffix_of(path) else read_metaimage(path)
