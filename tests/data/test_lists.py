"""Lists of files: JSON datalists and CSV manifests, of one site or of several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from sammit.config import DataConfig
from sammit.data import Site, discover, open_sites
from sammit.data.check import check
from sammit.errors import UserError

SHAPE = (20, 24)


def _picture(path: Path, seed: int, binary: bool = False) -> str:
    """Random pixels; returns the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)
    Image.fromarray((values > 127).astype(np.uint8) * 255 if binary else values).save(path)
    return path.name


def _files(folder: Path, count: int = 8, masks: int = 1) -> list[tuple[str, list[str]]]:
    """Images and their masks, named so that no pairing by name could find them."""
    return [
        (
            "scans/" + _picture(folder / "scans" / f"i{index}.png", index),
            ["drawn/" + _picture(folder / "drawn" / f"{index}{m}.png", 100 * m + index, True) for m in range(masks)],
        )
        for index in range(count)
    ]


def _open(root: Path, **changes: Any) -> Site:
    (site,) = open_sites(DataConfig(root=str(root), **changes), 0)
    return site


def _names(site: Site, part: Any) -> list[str]:
    return [case.name for case in site.cases(part)]


def test_datalist(tmp_path: Path) -> None:
    pairs = [{"image": image, "label": masks[0]} for image, masks in _files(tmp_path)]
    for index, pair in enumerate(pairs):
        pair["patient" if index % 2 else "subject"] = f"p{index // 2}"
    lists = {"training": pairs[:4], "validation": pairs[4:6], "test": [*pairs[6:], "scans/i0.png"]}
    (tmp_path / "datalist.json").write_text(json.dumps({**lists, "labels": {"0": "background", "255": "disc"}}))
    site = _open(tmp_path)
    assert site.layout == "datalist" and site.structures == ("disc",)
    parts = [_names(site, part) for part in ("train", "val", "test")]
    assert parts == [["i0", "i1", "i2", "i3"], ["i4", "i5"], ["i6", "i7"]]
    assert [case.patient for case in site.all_cases] == ["p0", "p0", "p1", "p1", "p2", "p2", "p3", "p3"]
    truth = np.asarray(Image.open(tmp_path / "drawn" / "30.png")) > 0
    assert (site.load(site.all_cases[3]).truth[0, ..., 0] == truth).all()


def test_the_first_fold_is_val_where_no_list_is(tmp_path: Path) -> None:
    pairs = [
        {"image": image, "label": masks[0], "fold": index % 3} for index, (image, masks) in enumerate(_files(tmp_path))
    ]
    (tmp_path / "datalist.json").write_text(json.dumps({"training": pairs}))
    site = _open(tmp_path)
    assert _names(site, "val") == ["i0", "i3", "i6"] and len(site.cases("test")) + len(site.cases("train")) == 5
    (tmp_path / "datalist.json").write_text(json.dumps({"training": [{**pair, "fold": 0} for pair in pairs]}))
    assert len(_open(tmp_path).cases("train")) > 3  # one fold alone says nothing


def test_channels_and_structures_of_several_files(tmp_path: Path) -> None:
    files = _files(tmp_path, masks=2)
    pairs = [{"image": [image, files[0][0]], "label": masks} for image, masks in files]
    (tmp_path / "datalist.json").write_text(json.dumps({"training": pairs}))
    site = _open(tmp_path)
    assert site.structures == ("structure1", "structure2")
    loaded = site.load(site.all_cases[3])
    for c in range(2):
        assert (loaded.truth[0, ..., c] == (np.asarray(Image.open(tmp_path / "drawn" / f"3{c}.png")) > 0)).all()
    assert (loaded.image[0, ..., 1] == np.asarray(Image.open(tmp_path / "scans" / "i0.png"))).all()


def test_a_decathlon_task_with_channels_in_one_file(tmp_path: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    rng, pairs = np.random.default_rng(0), []
    for index in range(6):
        for folder, values in (
            ("imagesTr", rng.normal(size=(8, 9, 4, 2)).astype(np.float32)),
            ("labelsTr", rng.integers(0, 3, (8, 9, 4)).astype(np.uint8)),
        ):
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / folder / f"case{index}.nii.gz")
        pairs.append({"image": f"./imagesTr/case{index}.nii.gz", "label": f"./labelsTr/case{index}.nii.gz"})
    table = {"modality": {"0": "T2", "1": "ADC"}, "labels": {"0": "background", "1": "PZ", "2": "TZ"}}
    (tmp_path / "dataset.json").write_text(json.dumps({**table, "training": pairs, "test": ["./imagesTs/x.nii.gz"]}))
    site = _open(tmp_path)
    assert site.layout == "datalist" and site.structures == ("PZ", "TZ") and len(site.all_cases) == 6
    (report,) = check(DataConfig(root=str(tmp_path)))
    assert not report.problems and report.channels == (2,) and report.volumes == 6


def test_nnunet_that_lists_its_cases_stays_nnunet(tmp_path: Path) -> None:
    for index in range(6):
        _picture(tmp_path / "imagesTr" / f"c{index}_0000.png", index)
        _picture(tmp_path / "labelsTr" / f"c{index}.png", index)
    table = {"channel_names": {"0": "x"}, "labels": {"background": 0, "disc": 255}}
    listed = [{"image": f"./imagesTr/c{index}.png", "label": f"./labelsTr/c{index}.png"} for index in range(6)]
    (tmp_path / "dataset.json").write_text(json.dumps({**table, "training": listed}))
    assert _open(tmp_path).layout == "nnunet"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", "not a JSON file"),
        ("[]", "has no list 'training'"),
        ('{"training": [{"label": "a.png"}]}', "entry 1 of 'training': has no 'image'"),
        ('{"training": [{"image": "a.png", "label": "b.png"}]}', "entry 1 of 'training': there is no .*a.png; mend"),
    ],
)
def test_a_broken_datalist(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "datalist.json").write_text(text)
    with pytest.raises(UserError, match=line) as error:
        discover(DataConfig(root=str(tmp_path)))
    assert str(tmp_path / "datalist.json") in str(error.value)


def _manifest(folder: Path, head: str, rows: list[str], **options: str) -> Path:
    (folder / "manifest.csv").write_text("\n".join([head, *rows, ""]), **options)  # type: ignore[arg-type]
    return folder


def test_manifest(tmp_path: Path) -> None:
    files = _files(tmp_path / "data set")
    for name in ("images", "masks"):  # who adds a list means the list
        (tmp_path / "data set" / name).mkdir()
    splits = ["train"] * 4 + ["val", "", "test", "test"]
    rows = [f"{image},{masks[0]},{split},p{image[-5]},61" for (image, masks), split in zip(files, splits, strict=True)]
    rows[1] = rows[1].replace("/", "\\")  # written on another system
    _manifest(tmp_path / "data set", "Image, MASK,split,patient,age", ["", *rows], encoding="utf-8-sig")
    site = _open(tmp_path / "data set")
    assert site.layout == "manifest" and site.all_cases[1].patient == "p1"
    assert _names(site, "val") == ["i4"] and _names(site, "test") == ["i6", "i7"] and len(site.cases("train")) == 5
    (report,) = check(DataConfig(root=str(tmp_path / "data set")))
    assert not report.problems and report.cases == 8


def test_a_manifest_with_semicolons_and_a_mask_for_each_structure(tmp_path: Path) -> None:
    files = _files(tmp_path, masks=2)
    _manifest(tmp_path, "image;mask", [f'{image};"{";".join(masks)}"' for image, masks in files])
    (tmp_path / "dataset.toml").write_text("[structures]\nrim = 1\ncup = 2\ndisc = [1, 2]\n")
    site = _open(tmp_path)
    rim, cup, disc = np.moveaxis(site.load(site.all_cases[3]).truth[0], -1, 0)
    drawn = [np.asarray(Image.open(tmp_path / "drawn" / f"3{c}.png")) > 0 for c in range(2)]
    assert (rim == drawn[0]).all() and (cup == drawn[1]).all() and (disc == drawn[0] | drawn[1]).all()


@pytest.mark.parametrize("rules", ['rim = "> 0"\ncup = "> 0"', "rim = 1\ncup = 3", 'rim = 1\ncup = "segment Cup"'])
def test_structures_that_files_cannot_tell_apart(tmp_path: Path, rules: str) -> None:
    _manifest(tmp_path, "image,mask", [f"{image},{';'.join(masks)}" for image, masks in _files(tmp_path, masks=2)])
    (tmp_path / "dataset.toml").write_text(f"[structures]\n{rules}\n")
    site = _open(tmp_path)
    with pytest.raises(UserError, match=r"00\.png: has 2 masks, numbered from 1; write in \[structures\] .* 'cup' is"):
        site.load(site.all_cases[0])


def test_names_that_are_not_unique_become_paths(tmp_path: Path) -> None:
    rows = []
    for patient in ("p1", "p2", "p3", "p4"):
        _picture(tmp_path / patient / "ct.png", 1)
        rows.append(f"./{patient}/ct.png,{patient}/ct.png")
    site = _open(_manifest(tmp_path, "image,mask", rows), patient="^(p[0-9])")
    assert next((case.name, case.patient) for case in site.all_cases) == ("p1_ct", "p1")


def test_a_root_s_manifest_of_several_sites(tmp_path: Path) -> None:
    rows = [
        f"{image},{masks[0]},{'west' if index % 2 else 'east'}" for index, (image, masks) in enumerate(_files(tmp_path))
    ]
    _manifest(tmp_path, "image,mask,site", rows)
    east, west = open_sites(DataConfig(root=str(tmp_path)), 0, whole=("west",))
    assert (east.name, west.name) == ("east", "west") and len(west.cases("test")) == 4
    assert {case.site for case in west.all_cases} == {"west"} and len(east.cases("train")) == 2
    assert [site.name for site in discover(DataConfig(root=str(tmp_path), sites=("west",)))] == ["west"]
    with pytest.raises(UserError, match=r"data\.sites: there is no site 'wst' in .*: did you mean 'west'"):
        discover(DataConfig(root=str(tmp_path), sites=("wst",)))


@pytest.mark.parametrize(
    ("head", "rows", "line"),
    [
        ("image,label", ["{i},{m}"], r"has no column 'mask'"),
        ("image,mask,patients", ["{i},{m},a"], r"unknown column 'patients': did you mean 'patient'"),
        ("image,mask,mask", ["{i},{m},{m}"], r"has the column 'mask' twice"),
        ("image,mask", ["{i},{m}", ",{m}"], r"manifest\.csv, line 3: names no image"),
        ("image,mask,split", ["{i},{m},dev"], r"line 2: the split 'dev' is none of train, val, test"),
        ("image,mask,site", ["{i},{m},"], r"line 2: '' cannot be a site's name"),
        ("image,mask", ["{i},{m}", "{i},{m}"], r"line 3: lists scans/i0\.png again"),
        ("image,mask", ["{i},{m}", "{m},x.png"], r"line 3: there is no .*x\.png; mend the path"),
        ("image,mask", ["{i},{m}", "{m},{m}", "drawn/10.png,{m};{m}"], r"line 4: has 2 mask\(s\) where others have 1"),
        ("image,mask", ["{i},"], r"i0\.png: has no mask"),
    ],
)
def test_a_broken_manifest(tmp_path: Path, head: str, rows: list[str], line: str) -> None:
    ((image, masks), *_) = _files(tmp_path)
    _manifest(tmp_path, head, [row.format(i=image, m=masks[0]) for row in rows])
    with pytest.raises(UserError, match=line):
        discover(DataConfig(root=str(tmp_path)))


def test_a_site_s_own_manifest_lists_one_site(tmp_path: Path) -> None:
    rows = [f"{image},{masks[0]},s{image[-5]}" for image, masks in _files(tmp_path / "root" / "a")]
    _manifest(tmp_path / "root" / "a", "image,mask,site", rows)
    with pytest.raises(UserError, match=r"manifest\.csv: lists 8 sites; use its folder as data root"):
        discover(DataConfig(root=str(tmp_path / "root")))
