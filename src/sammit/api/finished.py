"""A finished run in Python: its scores, its models, masks for new images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.api.own import Own
from sammit.config import Experiment
from sammit.runs import RunFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from sammit.predict import Predictor
    from sammit.reporting.folder import Round


@dataclass(frozen=True)
class Score:
    """What one model scored on one structure of one test case: a row of `cases.csv`.

    Attributes:
        site, case, patient, structure: whose, which, and of what.
        model: "global" or "personal"; at a site that took no part also "sources" or "experts".
        unit: of the distances: "mm", "px", or "" where there are none.
        dice, iou: in [0, 1].
        hd95, assd: distances in `unit`; None where truth or prediction is empty, or the protocol has none.
        nsd: normalised surface Dice in [0, 1]; None likewise.
    """

    site: str
    case: str
    patient: str
    structure: str
    model: str
    unit: str
    dice: float
    iou: float
    hd95: float | None = None
    assd: float | None = None
    nsd: float | None = None


class Run:
    """A finished run, read from its folder as it is asked for."""

    def __init__(self, folder: RunFolder, own: Own) -> None:
        self._folder, self._own = folder, own
        self._last: tuple[str, Predictor] | None = None  # of all sites' models one is held: a large one takes gigabytes

    def __repr__(self) -> str:
        return f"Run('{self.path}')"

    def __str__(self) -> str:
        """The table of scores, in Markdown."""
        from sammit.reporting.tables import results, to_markdown

        return to_markdown(results(self.summary))

    @property
    def path(self) -> Path:
        """The run folder."""
        return self._folder.path

    @property
    def experiment(self) -> Experiment:
        """What was run, every default in it."""
        return self._folder.experiment

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of the sites, any of which `model` and `predict` may be asked for."""
        return tuple(self._folder.read_json("sites.json"))

    @property
    def summary(self) -> dict[str, Any]:
        """`summary.json`: means, intervals, parameters, traffic, seconds."""
        from sammit.reporting.summary import read_summary

        return read_summary(self.path / "summary.json")

    @property
    def scores(self) -> list[Score]:
        """A row for each test case, structure and model; `pandas.DataFrame(run.scores)` takes them as they are."""
        from sammit.reporting.cases import METRICS, read_cases

        return [
            Score(
                row.site, row.case, row.patient, row.structure, row.model, row.unit,
                **{name: row.scores.get(name) for name in METRICS},  # type: ignore[arg-type]
            )
            for row in read_cases(self.path / "cases.csv")
        ]  # fmt: skip

    @property
    def rounds(self) -> list[Round]:
        """The lines of `rounds.jsonl`: loss and validation Dice, bytes, failures."""
        from sammit.reporting.folder import read_run

        return read_run(self.path).rounds

    @property
    def report(self) -> Path:
        """The report for people, one HTML file."""
        return self.path / "report.html"

    def model(self, site: str = "") -> nn.Module:
        """The network: (B, 3, size, size) in [0, 1] -> (B, C, h, w) logits, on the run's device, ready for images.

        Args:
            site: whose own model; the global one if left out, or where the site has none of its own.

        Raises:
            UserError: no such site, or no global model in this run.
        """
        return self._predictor(site).model

    def predict(
        self, array: NDArray[Any], spacing: Sequence[float] | None = None, *, site: str = ""
    ) -> dict[str, NDArray[np.bool_]]:
        """Masks of an image in memory: those that `sammit predict` writes for a file of the same numbers.

        Args:
            array: a picture (H, W) or (H, W, channels), or a volume (D, H, W) or (D, H, W, channels), in the type that
                the file has. A volume is cut along its first axis.
            spacing: mm, (slice, row, column): in the order of the axes. A picture's slice is 1.
            site: whose own model; the global one if left out, or where the site has none of its own.

        Returns:
            Structure -> mask of the image's own height, width and depth. Structures may overlap.

        Raises:
            UserError: no such site, or an array or spacing that cannot be an image's.
        """
        from sammit.predict import predict_array

        return predict_array(self._predictor(site), array, spacing)

    def _predictor(self, site: str) -> Predictor:
        """The model of a site and how it reads images."""
        from sammit.predict import load_predictor

        if self._last is None or self._last[0] != site:
            with self._own.lent():
                self._last = site, load_predictor(self.path, site)
        return self._last[1]
