"""A case's row: structures in their order, the truth in its own geometry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sammit.config import EvaluationConfig
from sammit.geometry import View
from sammit.learning.evaluate import Scored, Scorer
from sammit.vocabulary import Batch, Case, Loaded, Part


class Reds(nn.Module):
    """Structure 0 where red is above one half, structure 1 nowhere."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([images[:, 0] - 0.5, images[:, 0] * 0 - 1], dim=1)


class TwoCases:
    """A 2-D image and a volume of two slices; the red square is the truth of "disc", the left half is unlabelled."""

    name, structures = "a", ("disc", "cup")

    def cases(self, part: Part) -> list[Case]:
        return [Case("a", name, name, (Path(name),), volume=name == "volume") for name in ("image", "volume")]

    def samples(self, part: Part) -> int:
        return 3

    def batches(self, steps: int, batch_size: int, key: tuple[object, ...]) -> Iterator[Batch]:
        return iter(())

    def load(self, case: Case) -> Loaded:
        image = np.zeros((2 if case.volume else 1, 12, 10, 3), np.uint8)
        image[0, 2:6, 2:8, 0] = 255
        truth = np.zeros((*image.shape[:3], 2), bool)
        truth[0, 2:6, 2:8, 0] = True
        truth[-1, 0, 9, 1] = case.volume
        return Loaded(case, image, truth)


OVERLAP = Scorer(EvaluationConfig(), View("tile", 8), distances=False)


def test_a_row_by_hand() -> None:
    """disc: 1 of 2 found -> 2/3 and 1/2; cup: nothing there, one pixel found -> 0, as unlabelled it does not count."""
    truth, found = np.zeros((1, 1, 3, 2), bool), np.zeros((1, 1, 3, 2), bool)
    truth[0, 0, :2, 0] = found[0, 0, 0, 0] = found[0, 0, 2, 1] = True
    case = Case("a", "x", "x", (Path("x"),))
    loaded = Loaded(case, np.zeros((1, 1, 3, 3), np.uint8), truth)
    assert OVERLAP.row(found, loaded, ("disc", "cup")).scores == {
        "disc": {"dice": 2 / 3, "iou": 1 / 2},
        "cup": {"dice": 0.0, "iou": 0.0},
    }
    valid = np.array([[[True, True, False]]])
    partly = Loaded(case, loaded.image, truth, valid)
    assert OVERLAP.row(found, partly, ("disc", "cup")).scores["cup"] == {"dice": 1.0, "iou": 1.0}


def test_distances_come_with_their_unit() -> None:
    """Three columns of 0.5 mm between truth and mask; without a spacing three pixels; without a mask nothing."""
    truth, found = np.zeros((1, 5, 9, 1), bool), np.zeros((1, 5, 9, 1), bool)
    truth[0, 2, 2, 0] = found[0, 2, 5, 0] = True
    case, image = Case("a", "x", "x", (Path("x"),)), np.zeros((1, 5, 9, 3), np.uint8)
    scorer = Scorer(EvaluationConfig(tolerance=1.0), View("tile", 8))
    in_mm = scorer.row(found, Loaded(case, image, truth, spacing=(1.0, 1.0, 0.5)), ("disc",))
    assert (in_mm.unit, in_mm.scores["disc"]["hd95"]) == ("mm", 1.5)
    in_pixels = scorer.row(found, Loaded(case, image, truth), ("disc",))
    assert (in_pixels.unit, in_pixels.scores["disc"]["hd95"], in_pixels.scores["disc"]["nsd"]) == ("px", 3.0, 0.0)
    missed = scorer.row(np.zeros_like(truth), Loaded(case, image, truth), ("disc",)).scores["disc"]
    assert missed == {"dice": 0.0, "iou": 0.0, "hd95": None, "assd": None, "nsd": 0.0}


def test_cases_are_scored_one_by_one() -> None:
    """The image is right in both structures; in the volume the cup is missed, and counts as 0."""
    site = TwoCases()
    rows = list(OVERLAP.rows(Reds(), site, site.cases("test")))
    assert [row.name for row in rows] == ["image", "volume"]
    assert rows[0].scores == {"disc": {"dice": 1.0, "iou": 1.0}, "cup": {"dice": 1.0, "iou": 1.0}}
    assert rows[1].scores == {"disc": {"dice": 1.0, "iou": 1.0}, "cup": {"dice": 0.0, "iou": 0.0}}
    assert [row.dice for row in rows] == [1.0, 0.5]


def test_fedfms_scores_slices() -> None:
    """Its rows are slices, of the model's logits on its own grid."""
    site = TwoCases()
    scorer = Scorer(EvaluationConfig(protocol="fedfms"), View("whole", 16, resampling="fedfms"))
    rows = list(scorer.rows(Reds(), site, site.cases("test")))
    assert [row.name for row in rows] == ["image", "volume/000", "volume/001"]
    assert all(set(metrics) == {"dice", "iou"} for row in rows for metrics in row.scores.values())
    assert all(row.found.shape == row.loaded.truth.shape for row in rows)


def test_a_cases_dice_is_the_mean_over_structures() -> None:
    loaded = TwoCases().load(TwoCases().cases("test")[0])
    scores = {name: {"dice": dice, "iou": 0.0} for name, dice in (("a", 0.25), ("b", 1.0), ("c", 0.25))}
    assert Scored(loaded, loaded.truth, "image", scores).dice == 0.5
