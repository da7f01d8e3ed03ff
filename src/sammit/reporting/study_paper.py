"""The numbers that a paper printed, to stand beside a study's own.

The file is CSV with the columns dataset, unseen_site, structure, model, dice, iou; the site "Average" is the mean over
sites. Names are compared without regard to case, spaces and punctuation: ISBI1.5 is ISBI_1.5, 18 is site 18.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from sammit.errors import UserError
from sammit.reporting.columns import open_table

COLUMNS = ("dataset", "unseen_site", "structure", "model", "dice", "iou")
AVERAGE = "Average"
METRICS = ("dice", "iou")

_SHORT = {"od": "disc", "opticdisc": "disc", "oc": "cup", "opticcup": "cup"}


@dataclass(frozen=True)
class Paper:
    """Printed numbers.

    Attributes:
        numbers: (dataset, site, structure, model, metric), each name but the last as `plain_name` gives it -> value.
    """

    numbers: Mapping[tuple[str, ...], float]

    def number(
        self, dataset: str, site: str, structure: str, label: str, metric: str, alone: bool = False
    ) -> float | None:
        """A printed number; None where there is none.

        Args:
            dataset, label: of the study and the method.
            site: its name, or `AVERAGE`.
            structure: its name.
            metric: "dice" or "iou".
            alone: whether the study has no other structure; one that stands alone in the paper too then matches it
                whatever it is called.
        """
        dataset, site, label = plain_name(dataset), plain_name(site), plain_name(label)
        printed = sorted({key[2] for key in self.numbers if key[0] == dataset})
        wanted = printed[0] if alone and len(printed) == 1 else plain_name(structure)
        return self.numbers.get((dataset, site, wanted, label, metric))

    def knows(self, dataset: str, site: str = "") -> bool:
        """Whether the paper has the dataset, and the site where one is named."""
        return any(key[0] == plain_name(dataset) and (not site or key[1] == plain_name(site)) for key in self.numbers)

    def averages(self, dataset: str, sites: Collection[str]) -> bool:
        """Whether the paper's average is over just these sites: over others it says nothing of them."""
        printed = {key[1] for key in self.numbers if key[0] == plain_name(dataset)} - {plain_name(AVERAGE)}
        return printed == {plain_name(site) for site in sites}


NO_PAPER = Paper({})


def plain_name(name: str) -> str:
    """A name for comparison: small letters and digits alone, without a "site" before a number."""
    name = re.sub(r"^site(?=\d)", "", re.sub(r"[\W_]+", "", name.lower()))
    return _SHORT.get(name, name)


def read_paper(path: Path) -> Paper:
    """Read a paper's table.

    Raises:
        UserError: no such file, a missing column, or a value that is no number, with its line.
    """
    table = open_table(path, COLUMNS, COLUMNS)
    numbers = {}
    for row in table:
        key = tuple(plain_name(row[name] or "") for name in COLUMNS[:4])
        for metric in METRICS:
            if row[metric]:
                numbers[*key, metric] = _number(row[metric], f"{path}, line {table.line_num}: {metric}")
    return Paper(numbers)


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{where} is '{text}', not a number; mend the line or leave the field empty") from None
