"""Discovery, its refusals, splits and pooling."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sammit.config import DataConfig
from sammit.data import PooledSite, discover, open_sites, pooled, site_of_images
from sammit.errors import UserError


def test_sites_by_name_and_a_single_one(make_site: Callable[..., Path]) -> None:
    make_site("b"), make_site("a")
    root = make_site("c").parent
    assert [site.name for site in discover(DataConfig(root=str(root)))] == ["a", "b", "c"]
    assert [site.name for site in discover(DataConfig(root=str(root), sites=("c", "a")))] == ["a", "c"]
    assert [site.name for site in discover(DataConfig(root=str(root / "b")))] == ["b"]


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"root": ""}, "no folder of sites is named"),
        ({"root": "/no/such/root"}, "there is no such folder"),
        ({"sites": ("siteA",)}, "there is no site 'siteA' in .*: did you mean 'sitea'"),
    ],
)
def test_mistakes_in_the_recipe(make_site: Callable[..., Path], config: dict[str, object], line: str) -> None:
    root = make_site("sitea").parent
    with pytest.raises(UserError, match=line):
        discover(DataConfig(**{"root": str(root), **config}))  # type: ignore[arg-type]


def test_unknown_layout_names_the_known(make_site: Callable[..., Path]) -> None:
    root = make_site().parent
    (root / "results").mkdir()
    with pytest.raises(
        UserError, match=r"results: fits no known layout \(datalist: .*folder: images/.*nnunet: nnU-Net raw"
    ):
        discover(DataConfig(root=str(root)))


def test_an_image_without_mask(make_site: Callable[..., Path]) -> None:
    folder = make_site()
    (folder / "masks" / "case3.png").unlink()
    with pytest.raises(UserError, match=r"case3\.png: has no mask"):
        discover(DataConfig(root=str(folder)))
    (site,) = discover(DataConfig(root=str(folder)), masks=False)
    loaded = site.load(site.all_cases[3])
    assert not loaded.truth.any() and loaded.valid is not None and not loaded.valid.any()


def test_a_mask_without_image_and_of_another_shape(make_site: Callable[..., Path]) -> None:
    folder = make_site()
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(folder / "masks" / "case1.png")
    (site,) = discover(DataConfig(root=str(folder)))
    with pytest.raises(UserError, match=r"case1\.png: 1x3x3 .* where its image case1\.png has 1x40x50"):
        site.load(site.all_cases[1])
    (folder / "images" / "case2.png").unlink()
    with pytest.raises(UserError, match=r"case2\.png: there is no image for this mask"):
        discover(DataConfig(root=str(folder)))


def test_loaded_cases(make_site: Callable[..., Path]) -> None:
    (site,) = open_sites(DataConfig(root=str(make_site()), spacing=(1.0, 0.5, 0.5)), 0)
    loaded = site.load(site.all_cases[2])
    assert loaded.image.shape == (1, 40, 50, 3) and loaded.image.dtype == np.uint8
    assert loaded.truth.shape == (1, 40, 50, 1) and loaded.truth.dtype == bool and loaded.truth[0, 14, 17, 0]
    assert loaded.valid is None and loaded.spacing == (1.0, 0.5, 0.5)


def test_many_overlapping_structures_channels_and_ignored_pixels(make_site: Callable[..., Path]) -> None:
    folder = make_site()
    labels = np.arange(2000).reshape(40, 50).astype(np.uint8)
    Image.fromarray(labels).save(folder / "masks" / "case0.png")
    rules = "\n".join(f"s{index} = {[index, index + 1]}" for index in range(20))
    (folder / "dataset.toml").write_text(f"channels = [1]\nignore = 5\n[structures]\n{rules}\n")
    (site,) = open_sites(DataConfig(root=str(folder), augmentation="none", size=32), 0)
    loaded = site.load(site.all_cases[0])
    for index in range(20):
        assert (loaded.truth[0, ..., index] == np.isin(labels, (index, index + 1)) & (labels != 5)).all()
    assert loaded.valid is not None and (loaded.valid[0] == (labels != 5)).all()
    original = np.asarray(Image.open(folder / "images" / "case0.png"))
    assert (loaded.image[0] == original[..., 1:2]).all()
    assert next(site.batches(1, 4, ("k",))).truth.shape == (4, 20, 32, 32)


def test_splits_by_patient_and_unseen_sites(make_site: Callable[..., Path]) -> None:
    make_site("a", 9)
    root = make_site("b", 9).parent
    a, b = open_sites(DataConfig(root=str(root)), seed=3, whole=("b",))
    assert (
        [len(a.cases(part)) for part in ("train", "val", "test")]
        == [6, 1, 2]
        == [a.samples(p) for p in ("train", "val", "test")]
    )
    assert b.samples("train") == b.samples("val") == 0 and len(b.cases("test")) == 9
    with pytest.raises(UserError, match=r"evaluation\.unseen: there is no site 'c'"):
        open_sites(DataConfig(root=str(root)), 0, whole=("c",))
    with pytest.raises(UserError, match="site 'a' has 1 patient"):
        open_sites(DataConfig(root=str(root), patient="(case)"), 0)


def test_sites_must_agree(make_site: Callable[..., Path]) -> None:
    root = make_site("a").parent
    (make_site("b") / "dataset.toml").write_text("[structures]\ncup = 1\n")
    with pytest.raises(UserError, match="site 'b' has the structures cup, site 'a' foreground"):
        open_sites(DataConfig(root=str(root)), 0)


def test_pooled(make_site: Callable[..., Path]) -> None:
    make_site("a", 6)
    root = make_site("b", 9).parent
    sites = open_sites(DataConfig(root=str(root), size=16, augmentation="none"), 0)
    both = pooled(sites)
    assert isinstance(both, PooledSite) and both.name == "pooled" and both.samples("train") == 3 + 6
    assert [case.site for case in both.cases("test")] == ["a", "a", "b", "b"]
    assert both.load(both.cases("val")[-1]).case.site == "b"
    assert len(list(both.batches(3, 5, ("k",)))) == 3


def test_images_alone_for_prediction(make_site: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_site()
    with site_of_images([folder / "images"], DataConfig()) as site:
        assert len(site.cases("test")) == 6 and site.load(site.all_cases[0]).image.shape == (1, 40, 50, 3)
    with pytest.raises(UserError, match="no image of a known format"), site_of_images([tmp_path], DataConfig()):
        pass


def _nnunet(folder: Path, channels: int = 2, **table: object) -> Path:
    for name in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(8):
        part = "Ts" if index >= 6 else "Tr"
        for channel in range(channels):
            image = rng.integers(0, 256, (20, 24), dtype=np.uint8)
            Image.fromarray(image).save(folder / f"images{part}" / f"c_{index:03d}_{channel:04d}.png")
        labels = rng.integers(0, 5, (20, 24)).astype(np.uint8)
        Image.fromarray(labels).save(folder / f"labels{part}" / f"c_{index:03d}.png")
    labels_table = {"background": 0, "whole": [1, 2, 3], "core": [3], "spot": 2, "ignore": 4}
    names = {str(channel): "x" for channel in range(channels)}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels_table, "channel_names": names, **table}))
    return folder


def test_nnunet(tmp_path: Path) -> None:
    folder = _nnunet(tmp_path / "Dataset001")
    folds = [{"train": ["c_000", "c_001", "c_002", "c_003"], "val": ["c_004", "c_005"]}]
    (folder / "splits_final.json").write_text(json.dumps(folds))
    (site,) = open_sites(DataConfig(root=str(folder)), 0)
    assert site.layout == "nnunet" and site.structures == ("whole", "core", "spot")
    assert [case.name for case in site.cases("val")] == ["c_004", "c_005"]
    assert [case.name for case in site.cases("test")] == ["c_006", "c_007"]
    loaded = site.load(site.all_cases[0])
    labels = np.asarray(Image.open(folder / "labelsTr" / "c_000.png"))
    assert (loaded.truth[0, ..., 0] == np.isin(labels, (1, 2, 3))).all()
    assert loaded.valid is not None and (loaded.valid[0] == (labels != 4)).all()
    mean = loaded.image[0, ..., :2].astype(float).mean(axis=-1)
    assert np.abs(loaded.image[0, ..., 2] - mean).max() < 1


def test_nnunet_draws_a_test_part_where_it_has_none(tmp_path: Path) -> None:
    folder = _nnunet(tmp_path / "Dataset001", channels=1)
    for name in ("imagesTs", "labelsTs"):
        for path in (folder / name).iterdir():
            path.unlink()
        (folder / name).rmdir()
    (site,) = open_sites(DataConfig(root=str(folder)), 0)
    assert [len(site.cases(part)) for part in ("train", "val", "test")] == [3, 1, 2]


def test_equal_files_give_equal_fingerprints(make_site: Callable[..., Path]) -> None:
    first, second = make_site("a", root="one"), make_site("a", root="two")
    prints = [discover(DataConfig(root=str(folder)))[0].fingerprint() for folder in (first, second)]
    assert prints[0] == prints[1]
    (second / "masks" / "case0.png").write_bytes((second / "masks" / "case1.png").read_bytes())
    assert discover(DataConfig(root=str(second)))[0].fingerprint() != prints[0]


def test_nnunet_problems(tmp_path: Path) -> None:
    folder = _nnunet(tmp_path / "Dataset001")
    (folder / "imagesTr" / "c_001_0001.png").unlink()
    with pytest.raises(UserError, match=r"c_001_0000\.png: case 'c_001' has 1 channel file"):
        discover(DataConfig(root=str(folder)))
    (folder / "dataset.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset\.json: not a JSON file"):
        discover(DataConfig(root=str(folder)))
