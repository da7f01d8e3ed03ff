"""Glioma in multi-parametric MRI, FeTS 2022; sites are institutions, the target is the enhancing tumour.

Two kinds of raw copy are read:

- the release: a folder for each subject, `FeTS2022_01341/FeTS2022_01341_{flair,t1,t1ce,t2,seg}.nii.gz`, and
  `partitioning_1.csv` or `partitioning_2.csv` with the columns Partition_ID and Subject_ID in any order. Names and
  columns were looked up in the challenge's own README (github.com/FeTS-AI/Challenge, Task_1); its repository writes
  identifiers both as 1 and as 01. Subjects of BraTS 2021 with a table of the same columns are read alike;
- FedFMS's regrouping: `SITE/images/CASE.nii.gz` (T1ce only) and `SITE/labels/CASE.nii.gz`.

Labels stay in the files as they are: 1 necrotic core, 2 oedema, 4 enhancing tumour. The target is a rule in
`dataset.toml`: label 4 by default. `target=tumour-core` is 1 and 4, what FedFMS's code trains on where its paper says
enhancing tumour. Volumes stay volumes: a run cuts slices as it reads, and 2.5-D input is a run's business too.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sammit.data.formats import stem_of, suffix_of
from sammit.data.intensity import to_full_range
from sammit.data.prepare.contract import Item, Option, Survey, words
from sammit.data.prepare.finding import by_key, files_under, partners
from sammit.data.prepare.nifti import Grid, labels_on, read_grid
from sammit.data.prepare.opening import named, same_shape
from sammit.data.prepare.pieces import Volume
from sammit.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np

SOURCE = "https://www.synapse.org/#!Synapse:syn28546456"
LICENCE = "given on registration at Synapse, under the terms accepted there"
CITATION = (
    "Pati S et al. The Federated Tumor Segmentation (FeTS) Challenge. arXiv:2105.05874. "
    "Zenk M et al. Towards fair decentralized benchmarking of healthcare AI algorithms with the FeTS challenge. "
    "Nature Communications 16, 2025. Bakas S et al. Advancing The Cancer Genome Atlas glioma MRI collections. "
    "Scientific Data 4, 2017. Baid U et al. The RSNA-ASNR-MICCAI BraTS 2021 Benchmark. arXiv:2107.02314."
)
LAYOUT = "SUBJECT/SUBJECT_t1ce.nii.gz with SUBJECT_seg.nii.gz and partitioning_1.csv, or SITE/images with SITE/labels"
MODALITIES = ("flair", "t1", "t1ce", "t2")
TARGETS = {
    "enhancing": {"enhancing-tumour": 4},
    "tumour-core": {"tumour-core": [1, 4]},
    "whole-tumour": {"whole-tumour": [1, 2, 4]},
}
OPTIONS = {
    "target": Option("enhancing", "label 4; labels 1 and 4; or labels 1, 2 and 4", tuple(TARGETS)),
    "sites": Option("1,6,18,21", "institutions by their number in the table, with commas between; or all"),
    "partition": Option("1", "1: by institution; 2: those split again by tumour size", ("1", "2")),
    "modalities": Option("t1ce", "with commas between: several become the channels of one file", MODALITIES, True),
}
EXPECTED = dict(  # of partitioning_1.csv; from a public loader's comments, the sum is the release's 1251 but for 16
    zip(
        map(str, range(1, 24)),
        (511, 6, 15, 47, 22, 34, 12, 8, 4, 8, 14, 11, 35, 6, 13, None, 9, 382, 4, 33, 35, 7, 5),
        strict=True,
    )
)
LABELS = (0, 1, 2, 4)


def survey(raw: Path, options: Mapping[str, str]) -> Survey:
    """The chosen institutions' subjects."""
    files = files_under(raw)
    tables = [path for path in files if path.name == f"partitioning_{options['partition']}.csv"]
    regrouped = [path for path in files if path.parent.name == "images" and suffix_of(path)]
    settings = {"intensity": "percentile", "structures": TARGETS[options["target"]]}
    if len(words(options["modalities"])) > 1:
        settings["intensity"] = "range"  # each modality was stretched between its own percentiles
    found = Survey(settings, {})
    if tables:
        if len(tables) > 1:
            found.problems.append(f"{tables[1]}: there is another ({tables[0]}); remove one of them")
        _release(tables[0], files, options, found)
    elif regrouped:
        _regrouping(regrouped, files, options, found)
    elif any(path.name.endswith(("_seg.nii.gz", "_seg.nii")) for path in files):
        found.problems.append(
            f"{raw}: has subjects but no partitioning_{options['partition']}.csv, which says whose they are; add it"
        )
    return found


def _release(table: Path, files: list[Path], options: Mapping[str, str], found: Survey) -> None:
    """The subjects of the chosen sites, each in its folder."""
    site_of = _read_table(table, found.problems)
    folders: dict[str, Path] = {}
    for folder in sorted({path.parent for path in files if path.name.startswith(f"{path.parent.name}_")}):
        if folders.setdefault(folder.name, folder) != folder:
            found.problems.append(f"{folder}: is there already ({folders[folder.name]}); remove one of them")
    for subject in sorted(folders.keys() - site_of.keys()):
        found.problems.append(f"{folders[subject]}: {table.name} has no row for it; add one or take the folder out")
    found.wanted = _wanted(options, sorted(set(site_of.values()), key=int), table)
    for site in found.wanted:
        subjects = sorted(subject for subject in site_of if site_of[subject] == site)
        if any(subject in folders for subject in subjects):
            for subject in subjects:
                _subject(site, subject, folders, table, options, found)


def _read_table(path: Path, problems: list[str]) -> dict[str, str]:
    """Subject -> number of its site."""
    with named(path), path.open(newline="", encoding="utf-8-sig") as handle:
        rows = csv.DictReader(handle)
        for column in ("Partition_ID", "Subject_ID"):
            if column not in (rows.fieldnames or ()):
                raise UserError(f"{path}: has no column {column}; fetch the file again")
        site_of: dict[str, str] = {}
        for row in rows:
            subject, number = (row["Subject_ID"] or "").strip(), (row["Partition_ID"] or "").strip()
            if not subject or not re.fullmatch(r"[0-9]+", number):
                problems.append(f"{path}: line {rows.line_num} is no pair of a number and a subject; mend it")
            elif site_of.setdefault(subject, str(int(number))) != str(int(number)):
                problems.append(f"{path}: line {rows.line_num}: {subject} is in two partitions; remove a line")
    return site_of


def _wanted(options: Mapping[str, str], known: list[str], where: Path) -> dict[str, int | None]:
    """The sites asked for, with the release's counts where they are known."""
    chosen = known if options["sites"] == "all" else words(options["sites"])
    counts = EXPECTED if options["partition"] == "1" else {}
    for site in chosen:
        if site not in known and site not in counts:
            raise UserError(f"--option sites={options['sites']}: {where} has no site {site}: {nearest(site, known)}")
    return {site: counts.get(site) for site in chosen}


def _subject(
    site: str, subject: str, folders: Mapping[str, Path], table: Path, options: Mapping[str, str], found: Survey
) -> None:
    if subject not in folders:
        found.problems.append(f"{table}: {subject} has no folder; add it or remove its row")
        return
    paths = [_file(folders[subject], kind) for kind in (*words(options["modalities"]), "seg")]
    lost = [path for path in paths if not path.is_file()]
    found.problems += [f"{path}: there is no such file; add it, or take {subject} and its row out" for path in lost]
    if not lost:
        found.items.append(Item(site, subject, partial(_read, paths[:-1], paths[-1])))


def _file(folder: Path, kind: str) -> Path:
    """A subject's file; the packed one where there is none."""
    plain = folder / f"{folder.name}_{kind}.nii"
    return plain if plain.is_file() else folder / f"{folder.name}_{kind}.nii.gz"


def _regrouping(regrouped: list[Path], files: list[Path], options: Mapping[str, str], found: Survey) -> None:
    """FedFMS's folders of sites."""
    if options["modalities"] != "t1ce":
        found.problems.append(f"{regrouped[0].parent}: a regrouped copy has T1ce only; leave out --option modalities")
    homes = {path.parent.parent.name: path.parent.parent for path in regrouped}
    found.wanted = _wanted(options, sorted(homes), regrouped[0].parents[2])
    for site in [site for site in found.wanted if site in homes]:
        inside = [path for path in files if path.parent.parent == homes[site]]
        images = by_key([path for path in inside if path in set(regrouped)], stem_of, found.problems)
        masks = by_key(
            [path for path in inside if path.parent.name == "labels" and suffix_of(path)], stem_of, found.problems
        )
        others = [path for path in inside if not suffix_of(path)]
        for case, image, mask in partners(images, masks, others, found.problems):
            found.items.append(Item(site, case, partial(_read, [image], mask)))


def _read(images: list[Path], mask: Path) -> Volume:
    """A subject's volume: one modality as it is, several as channels."""
    grids = [read_grid(path) for path in images]
    labels = labels_on(read_grid(mask), grids[0], LABELS, elsewhere=False)
    first = grids[0].image
    if len(grids) == 1:
        return Volume(images[0], first.header, first.affine, labels)
    return Volume(_channels(grids), first.header, first.affine, labels)


def _channels(grids: list[Grid]) -> object:
    """A NIfTI image (X, Y, Z, n) uint16, each modality between its own percentiles."""
    import nibabel
    import numpy as np

    def stretched(grid: Grid) -> np.ndarray:
        same_shape(grid.values, grids[0].values.shape, grid.path, grids[0].path)
        return to_full_range(grid.values.astype(np.float32)[..., None], (), "percentile")

    header = grids[0].image.header.copy()
    header.set_data_dtype(np.uint16)
    header.set_slope_inter(1, 0)
    return nibabel.Nifti1Image(
        np.concatenate([stretched(grid) for grid in grids], axis=-1), grids[0].image.affine, header
    )
