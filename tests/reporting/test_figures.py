"""Figures: what they show, that they are well-formed, and that equal runs give equal text."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from sammit.errors import UserError
from sammit.reporting import figures
from sammit.reporting.folder import Round, read_run
from sammit.reporting.panels import case_picture
from sammit.reporting.svg import Picture, series_style


def well_formed(picture: Picture | None) -> ElementTree.Element:
    assert picture is not None and picture.alt
    tree = ElementTree.fromstring(picture.svg)
    ids = [one.get("id") for one in tree.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    assert "#010203" not in picture.svg and "currentColor" in picture.svg
    return tree


def words(tree: ElementTree.Element) -> str:
    return " ".join("".join(one.itertext()) for one in tree.iter("{http://www.w3.org/2000/svg}text"))


def test_every_figure_of_a_whole_run(full_run: Path) -> None:
    run = read_run(full_run)
    made = [
        figures.loss_curves(run.rounds, 4, "x"),
        figures.validation_curves(run.rounds, 4, "x"),
        figures.traffic(run.rounds, "x"),
        figures.parameters(run.summary["parameters"], "x"),
    ]
    texts = [words(well_formed(picture)) for picture in made]
    assert all("RIM-ONE r3" in texts[i] for i in (0, 1, 2))
    assert "selected round" in texts[0] and "REFUGE, personal" in texts[1]
    assert "kB per round, mean" in texts[2] and "1.2\u00a0M" in texts[3]


def test_equal_runs_give_equal_figures(full_run: Path) -> None:
    rounds = read_run(full_run).rounds
    assert figures.traffic(rounds, "x") == figures.traffic(rounds, "x")


def test_nothing_to_show_is_none() -> None:
    assert figures.loss_curves([], None, "x") is None
    assert figures.validation_curves([Round(0, {"A": 1.0}, {}, {}, {}, {})], None, "x") is None
    assert figures.traffic([], "x") is None
    assert figures.parameters({}, "x") is None


def test_names_are_no_markup_and_no_formula() -> None:
    for site in ("<b>&", "$x^$", "_hidden", "病院"):
        record = Round(0, {site: 1.0}, {"global": {site: 0.5}, "personal": {}}, {site: 1}, {site: 1}, {})
        assert site in words(well_formed(figures.loss_curves([record], 0, site)))
        assert site in words(well_formed(figures.validation_curves([record], None, site)))
        assert site in words(well_formed(figures.traffic([record], site)))


def test_many_series_look_different() -> None:
    looks = [series_style(i) for i in range(24)]
    assert len({(s["color"], str(s["linestyle"]), s["marker"]) for s in looks}) == 24


def save(path: Path, image: np.ndarray, **masks: np.ndarray) -> Path:
    np.savez(path, image=image, case=np.array("c<1>"), structures=np.array(["disc"]), dice=np.array([0.5]), **masks)
    return path


def test_contours_lie_where_the_mask_ends(tmp_path: Path) -> None:
    mask = np.zeros((1, 40, 60), dtype=bool)
    mask[0, 10:20, 30:] = True  # touches the right border, so the contour must close there
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    picture = case_picture(save(tmp_path / "a.npz", image, truth=mask, **{"global": ~mask}), "best", 320, "p")
    assert [panel.title for panel in picture.panels] == ["Image", "Truth", "Global model"]
    assert picture.panels[2].score == "Dice 0.500"
    path = ElementTree.fromstring(picture.panels[1].svg).findall("path")[1].get("d")
    points = np.array([pair.split() for pair in path[1:].split("L")], dtype=float)
    assert (points.min(axis=0) == [30, 10]).all() and (points.max(axis=0) == [60, 20]).all()


def test_large_and_speckled_pictures_stay_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, size=(900, 1200, 3), dtype=np.uint8)
    speckle = rng.random((1, 900, 1200)) < 0.5
    picture = case_picture(save(tmp_path / "a.npz", image, truth=speckle), "worst", 320, "p")
    assert 'viewBox="0 0 320 240"' in picture.panels[0].svg
    assert len(picture.panels[1].svg) < 100_000


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"no")
    with pytest.raises(UserError, match=r"a\.npz: not a case's pictures"):
        case_picture(tmp_path / "a.npz", "best", 320, "p")
    np.savez(tmp_path / "b.npz", image=np.zeros((4, 4, 3), dtype=np.uint8))
    with pytest.raises(UserError, match="not a case's pictures"):
        case_picture(tmp_path / "b.npz", "best", 320, "p")
