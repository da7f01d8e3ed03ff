"""FeTS 2022 from the release and from FedFMS's regrouping; damaged copies refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from . import raw_fets2022 as made
from .conftest import Open, truth

Refused = Callable[..., str]
TOP = "MICCAI_FeTS2022_TrainingData"


def seen(*labels: int) -> np.ndarray:
    """(D, H, W) bool: what a model should see of some labels: slices to the head, front on top, right on the left."""
    ras = np.isin(made.labels(), labels)[::-1, ::-1]  # the release's axes run to the left and back
    return ras.transpose(2, 1, 0)[:, ::-1, ::-1]


def test_the_release(raw: Path, opened: Open, tmp_path: Path) -> None:
    """The paper's institutions; the enhancing tumour; T1ce byte for byte; labels as they are."""
    made.release(raw)
    sites = opened("fets2022")
    assert {name: len(site.all_cases) for name, site in sites.items()} == {"1": 3, "18": 4, "6": 3}
    assert sites["6"].structures == ("enhancing-tumour",)
    assert (truth(sites["6"], "FeTS2022_00008")[..., 0] == seen(4)).all()
    copied = tmp_path / "out" / "6" / "images" / "FeTS2022_00008.nii.gz"
    assert copied.read_bytes() == (raw / TOP / "FeTS2022_00008" / "FeTS2022_00008_t1ce.nii.gz").read_bytes()
    mask = nibabel.load(tmp_path / "out" / "6" / "masks" / "FeTS2022_00008.nii.gz")
    assert (np.asarray(mask.dataobj) == made.labels()).all() and (mask.affine == made.AFFINE).all()
    record = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert record["missing"] == ["21"]
    assert record["sites"]["1"] == {"cases": 3, "public_release": 511}
    assert "site 1: 3 cases, the public release has 511" in record["warnings"]


@pytest.mark.parametrize(
    ("target", "name", "labels"),
    [("tumour-core", "tumour-core", (1, 4)), ("whole-tumour", "whole-tumour", (1, 2, 4))],
)
def test_targets(raw: Path, opened: Open, target: str, name: str, labels: tuple[int, ...]) -> None:
    made.release(raw)
    site = opened("fets2022", f"target={target}", "sites=6")["6"]
    assert site.structures == (name,)
    assert (truth(site, "FeTS2022_00007")[..., 0] == seen(*labels)).all()


def test_all_sites(raw: Path, opened: Open) -> None:
    """Whatever the table has; three subjects are needed to split a site."""
    made.release(raw)
    for number in (22, 24):
        name = made.subject(number)
        shutil.copytree(raw / TOP / made.subject(20), raw / TOP / name)
        for path in list((raw / TOP / name).iterdir()):
            path.rename(path.with_name(path.name.replace(made.subject(20), name)))
        with (raw / TOP / "partitioning_1.csv").open("a") as table:
            table.write(f"02,{name}\n")
    assert sorted(opened("fets2022", "sites=all")) == ["1", "18", "2", "6"]


def test_the_second_partitioning(raw: Path, opened: Open) -> None:
    """Its columns lie the other way round and its numbers have zeros."""
    made.release(raw)
    sites = opened("fets2022", "partition=2", "sites=2")
    names = [case.name for case in sites["2"].all_cases]
    assert names == ["FeTS2022_00001", "FeTS2022_00003", "FeTS2022_00005", "FeTS2022_00020"]


def test_several_modalities_are_channels(raw: Path, opened: Open) -> None:
    """Each between its own percentiles, whatever its level, in the order that was asked for."""
    made.release(raw)
    site = opened("fets2022", "modalities=flair,t2", "sites=6")["6"]
    case = site.all_cases[0]
    image = site.load(case).image
    assert image.dtype == np.uint16 and site.entry(case).facts.channels == 2
    for channel, modality in enumerate(("flair", "t2")):
        values = made.image(7, modality)[::-1, ::-1].transpose(2, 1, 0)[:, ::-1, ::-1].astype(float)
        low, high = np.percentile(values, (1, 99))
        wanted = np.clip((values - low) / (high - low), 0, 1) * 65535
        assert np.abs(image[..., channel] - wanted).max() <= 1


def test_the_regrouping(raw: Path, opened: Open) -> None:
    made.regrouped(raw)
    sites = opened("fets2022", "target=tumour-core")
    assert list(sites) == ["18", "6"]
    assert (truth(sites["18"], "FeTS2022_00011")[..., 0] == seen(1, 4)).all()


def of(number: int, kind: str, raw: Path) -> Path:
    """A subject's file."""
    return raw / TOP / made.subject(number) / f"{made.subject(number)}_{kind}.nii.gz"


def missing_mask(raw: Path) -> None:
    of(3, "seg", raw).unlink()


def missing_image(raw: Path) -> None:
    of(3, "t1ce", raw).unlink()


def renamed(raw: Path) -> None:
    of(3, "t1ce", raw).rename(raw / TOP / made.subject(3) / f"{made.subject(3)}_T1Gd.nii.gz")


def truncated(raw: Path) -> None:
    path = of(11, "t1ce", raw)
    path.write_bytes(path.read_bytes()[:300])


def truncated_mask(raw: Path) -> None:
    path = of(11, "seg", raw)
    path.write_bytes(path.read_bytes()[:-10])


def unknown_label(raw: Path) -> None:
    made.save(of(7, "seg", raw), np.where(made.labels() == 4, 3, made.labels()).astype(np.uint8))


def another_shape(raw: Path) -> None:
    made.save(of(7, "seg", raw), made.labels()[1:])


def another_place(raw: Path) -> None:
    made.save(of(7, "seg", raw), made.labels(), np.eye(4))


def no_table(raw: Path) -> None:
    for path in (raw / TOP).glob("*.csv"):
        path.unlink()


def no_column(raw: Path) -> None:
    path = raw / TOP / "partitioning_1.csv"
    path.write_text(path.read_text().replace("Subject_ID", "Patient"))


def no_number(raw: Path) -> None:
    path = raw / TOP / "partitioning_1.csv"
    path.write_text(path.read_text().replace("18,FeTS2022_00012", "eighteen,FeTS2022_00012"))
    shutil.rmtree(raw / TOP / "FeTS2022_00012")


def not_a_text(raw: Path) -> None:
    (raw / TOP / "partitioning_1.csv").write_bytes(b"PK\x03\x04\xff\xfe\x00 Partition_ID")


def in_two_partitions(raw: Path) -> None:
    with (raw / TOP / "partitioning_1.csv").open("a") as table:
        table.write("21,FeTS2022_00003\n")


def without_folder(raw: Path) -> None:
    shutil.rmtree(raw / TOP / "FeTS2022_00003")


def without_row(raw: Path) -> None:
    path = raw / TOP / "partitioning_1.csv"
    path.write_text(path.read_text().replace("1,FeTS2022_00003\n", ""))


def twice(raw: Path) -> None:
    shutil.copytree(raw / TOP / "FeTS2022_00003", raw / "again" / "FeTS2022_00003")


def empty(raw: Path) -> None:
    shutil.rmtree(raw / TOP)


DAMAGED = {
    missing_mask: "FeTS2022_00003/FeTS2022_00003_seg.nii.gz: there is no such file",
    missing_image: "FeTS2022_00003/FeTS2022_00003_t1ce.nii.gz: there is no such file",
    renamed: "FeTS2022_00003/FeTS2022_00003_t1ce.nii.gz: there is no such file",
    truncated: "FeTS2022_00011_t1ce.nii.gz: cannot be read",
    truncated_mask: "FeTS2022_00011_seg.nii.gz: cannot be read",
    unknown_label: "FeTS2022_00007_seg.nii.gz: holds the label 3 where only 0, 1, 2, 4 are known",
    another_shape: "FeTS2022_00007_seg.nii.gz: 7x9x5 where its image FeTS2022_00007_t1ce.nii.gz has 8x9x5",
    another_place: "FeTS2022_00007_seg.nii.gz: lies elsewhere than its image",
    no_table: "copy: has subjects but no partitioning_1.csv",
    no_column: "partitioning_1.csv: has no column Subject_ID",
    no_number: "partitioning_1.csv: line 9 is no pair of a number and a subject",
    not_a_text: "partitioning_1.csv: cannot be read",
    in_two_partitions: "partitioning_1.csv: line 13: FeTS2022_00003 is in two partitions",
    without_folder: "partitioning_1.csv: FeTS2022_00003 has no folder",
    without_row: "FeTS2022_00003: partitioning_1.csv has no row for it",
    twice: "again/FeTS2022_00003: is there already",
    empty: "holds nothing of fets2022; a raw copy has SUBJECT/SUBJECT_t1ce.nii.gz",
}


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda damage: damage.__name__)
def test_damaged_copies(raw: Path, refused: Refused, damage: Callable[[Path], None]) -> None:
    made.release(raw)
    damage(raw)
    assert DAMAGED[damage] in refused("fets2022")


def regrouped_without_mask(raw: Path) -> None:
    (raw / "6" / "labels" / "FeTS2022_00008.nii.gz").unlink()


def regrouped_without_image(raw: Path) -> None:
    (raw / "6" / "images" / "FeTS2022_00008.nii.gz").unlink()


@pytest.mark.parametrize("damage", [regrouped_without_mask, regrouped_without_image], ids=lambda d: d.__name__)
def test_damaged_regroupings(raw: Path, refused: Refused, damage: Callable[[Path], None]) -> None:
    made.regrouped(raw)
    damage(raw)
    said = refused("fets2022")
    assert "FeTS2022_00008.nii.gz: has no " in said


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("sites=6,99",), "has no site 99: known: 1, 18, 2, 6"),
        (("modalities=t1c",), "unknown modalities 't1c': did you mean 't1ce'?"),
        (("target=tumor-core",), "unknown target 'tumor-core': did you mean 'tumour-core'?"),
    ],
)
def test_options_that_are_not_right(raw: Path, refused: Refused, options: tuple[str, ...], line: str) -> None:
    made.release(raw)
    assert line in refused("fets2022", *options)


def test_a_regrouping_has_one_modality(raw: Path, refused: Refused) -> None:
    made.regrouped(raw)
    assert "a regrouped copy has T1ce only" in refused("fets2022", "modalities=t2")
