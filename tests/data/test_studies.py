"""Folders of studies: each series a case wherever its files lie, one chosen by name, nobody's name told."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from sammit.config import DataConfig
from sammit.data.images import site_of_images
from sammit.errors import UserError

from .scanner import SECRET, message, write_label_map, write_picture, write_segmentation, write_series

AFFINE = np.diag([-0.7, -0.8, 4.0, 1.0])
STUDIES = {"first": generate_uid(), "second": generate_uid()}
Scan = Callable[..., list[Dataset]]


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    """Writes a series of one value with a description that no message may quote; returns its headers."""

    def write(
        folder: str, value: int, words: str, number: int = 0, study: str = "first", kind: str = "AXIAL"
    ) -> list[Dataset]:
        def edit(header: Dataset, slice_: int) -> None:
            header.StudyInstanceUID, header.Modality = STUDIES[study], "CT"
            header.SeriesDescription, header.ImageType = f"{words} {SECRET}", ["ORIGINAL", "PRIMARY", kind]
            if number:
                header.SeriesNumber = number

        home = tmp_path / "part"
        headers = write_series(home, np.full((6, 5, 3), value, np.int16), AFFINE, edit=edit)
        (tmp_path / "all" / folder).mkdir(parents=True, exist_ok=True)
        for file in sorted(home.iterdir()):
            target = tmp_path / "all" / folder / file.name
            file.rename(target if not target.exists() else target.with_name(f"{value}-{file.name}"))
        return headers

    return write


def _values(folder: Path, series: str = "") -> dict[str, tuple[int, ...]]:
    """For each case its slices and first value."""
    with site_of_images([folder], DataConfig(window=(0.0, 65535.0)), series) as site:
        images = {case.name: site.load(case).image for case in site.cases("test")}
    return {name: (len(image), int(image[0, 0, 0, 0])) for name, image in images.items()}


def test_a_series_in_each_folder(tmp_path: Path, scan: Scan) -> None:
    """Cases are named after their folders, also of one name in two studies."""
    for place, folder in enumerate(["one/ct", "two/ct", "two/mr"]):
        scan(folder, 10 * place + 10, "axial")
    found = _values(tmp_path / "all")
    assert found == {"one-ct": (3, 10), "two-ct": (3, 20), "two-mr": (3, 30)}
    assert _values(tmp_path / "all" / "two") == {"ct": (3, 20), "mr": (3, 30)}
    assert _values(tmp_path / "all" / "two" / "ct") == {"ct": (3, 20)}


def test_loose_series_among_other_things(tmp_path: Path, scan: Scan, caplog: pytest.LogCaptureFixture) -> None:
    """Numbers tell them apart; localisers, segmentations and a disc's own files are passed over and counted."""
    caplog.set_level(logging.INFO)
    scan("loose", 10, "axial", 4)
    headers = scan("loose", 20, "coronal", 7)
    scan("loose", 30, "scout", 1, kind="LOCALIZER")
    write_segmentation(tmp_path / "all" / "loose" / "seg.dcm", headers, AFFINE, {"a": np.ones((6, 5, 3), bool)})
    (tmp_path / "all" / "README").write_text("a disc")
    Image.new("L", (5, 6), 9).save(tmp_path / "all" / "photo.png")
    assert _values(tmp_path / "all") == {"loose-series4": (3, 10), "loose-series7": (3, 20), "photo": (1, 9)}
    assert "4 DICOM files without an image to segment are passed over" in caplog.text
    assert SECRET not in caplog.text and "1.2.826" not in caplog.text


def test_what_is_drawn_on_a_series_is_no_image(tmp_path: Path, scan: Scan) -> None:
    """A label map has rows and columns too."""
    headers = scan("study", 7, "axial")
    labels = np.ones((6, 5, 3), np.uint8)
    write_label_map(tmp_path / "all" / "study" / "drawn.dcm", headers, AFFINE, labels, {1: "a"})
    assert _values(tmp_path / "all") == {"study-1": (3, 7)}


def test_loose_series_without_numbers(tmp_path: Path, scan: Scan) -> None:
    scan(".", 10, "axial")
    scan(".", 20, "coronal")
    assert _values(tmp_path / "all") == {"all-1": (3, 20), "all-2": (3, 10)}  # 20-IM000 is before IM000


def test_a_localiser_alone_is_an_image(tmp_path: Path, scan: Scan) -> None:
    scan("scout", 30, "scout", kind="LOCALIZER")
    assert _values(tmp_path / "all") == {"scout": (3, 30)}


def test_pictures_and_single_slices(tmp_path: Path, scan: Scan) -> None:
    """X-rays are images each, whatever folder they lie in."""
    for name in ("hand.dcm", "more/a.dcm", "more/b.dcm", "alone/x.dcm"):
        write_picture(tmp_path / "all" / name, np.full((6, 5), 50, np.uint8))
    assert set(_values(tmp_path / "all")) == {"hand", "more-a", "more-b", "alone"}


def test_a_series_is_chosen(tmp_path: Path, scan: Scan, caplog: pytest.LogCaptureFixture) -> None:
    """By a part of the description in each study, or by its UID; studies without it are counted."""
    caplog.set_level(logging.INFO)
    scan("one", 10, "Portal venous 5.0", 2)
    native = scan("one", 20, "native", 3)
    scan("two", 30, "PORTAL 3.0", 2, study="second")
    assert _values(tmp_path / "all", "portal") == {"one-series2": (3, 10), "two": (3, 30)}
    assert not caplog.text
    assert _values(tmp_path / "all", native[0].SeriesInstanceUID) == {"one-series3": (3, 20)}
    assert "1 studies have no such series" in caplog.text and "1.2.826" not in caplog.text


def test_choices_that_are_none(tmp_path: Path, scan: Scan) -> None:
    """Several in one study, none at all, nothing to choose from; only what the user wrote is quoted."""
    scan("one", 10, "axial thin", 2)
    scan("one", 20, "axial thick", 3)
    for wanted, line in {
        "Axial": "--series 'Axial': fits 2 series of one study (CT series 3 of 3 files, CT series 2 of 3 files); write",
        "sagittal": "--series 'sagittal': there is no such series, but CT series 3 of 3 files, CT series 2 of 3 files",
        generate_uid(): "--series UID: there is no such series",
    }.items():
        with pytest.raises(UserError) as error:
            _values(tmp_path / "all", wanted)
        assert line in message(error)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="holds no DICOM series for --series to choose from"):
        _values(tmp_path / "none", "axial")
    with pytest.raises(UserError, match="is no folder, and --series chooses"):
        _values(next((tmp_path / "all" / "one").iterdir()), "axial")


def test_messages_name_the_user_s_own_files(tmp_path: Path, scan: Scan) -> None:
    """Not the links that loose series are read through; those are gone afterwards."""
    scan("loose", 10, "axial", 2)
    scan("loose", 20, "coronal", 3)
    (tmp_path / "all" / "loose" / "20-IM001.dcm").unlink()
    write_picture(tmp_path / "all" / "loose" / "x.dcm", np.zeros((4, 4), np.uint8))
    broken = tmp_path / "all" / "loose" / "IM001.dcm"
    broken.write_bytes(broken.read_bytes()[:-40])
    with pytest.raises(UserError) as error:
        _values(tmp_path / "all")
    assert message(error).startswith(f"{broken}: ") and "sammit-" not in message(error)


def test_two_series_of_one_name(tmp_path: Path, scan: Scan) -> None:
    scan("a-b", 10, "axial")
    scan("a/b", 20, "axial")
    with pytest.raises(UserError) as error:
        _values(tmp_path / "all")
    assert "would have the same name as" in message(error)


def test_links_to_series(tmp_path: Path, scan: Scan) -> None:
    """A folder may hold links to folders that lie elsewhere."""
    scan("ct", 10, "axial")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "scan").symlink_to(tmp_path / "all" / "ct")
    assert _values(tmp_path / "links") == {"scan": (3, 10)}
    shutil.rmtree(tmp_path / "links")
    assert (tmp_path / "all" / "ct").is_dir()
