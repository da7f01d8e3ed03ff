"""What a study's folder says of the study itself: its cells and what is compared, as the last start had them.

Whoever looks at the folder later, while it runs or when it is done, needs neither the study's file nor the data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from sammit.errors import UserError
from sammit.files import write_atomically

FILE = "plan.json"


@dataclass(frozen=True)
class Listed:
    """A cell.

    Attributes:
        name: a person's, and the run folder's place under OUT/cells.
        dataset, method, label, unseen, seed: as in `cells.Cell`.
        rounds: of its recipe.
    """

    name: str
    dataset: str
    method: str
    label: str
    unseen: str
    seed: int
    rounds: int

    @property
    def row(self) -> tuple[str, str]:
        """As `cells.Cell` has it."""
        return self.dataset, self.method

    def folder(self, out: Path) -> Path:
        """The run folder in the study's own folder."""
        return out / "cells" / self.name

    def log(self, out: Path) -> Path:
        """What its process said."""
        return out / "cells" / f"{self.name}.log"


@dataclass(frozen=True)
class Listing:
    """A study as its folder has it.

    Attributes:
        title: stands over its tables.
        kind: "scores", "costs" or "search".
        result: the file with which a cell is finished.
        margin, pairs, reference: what the tables compare.
        cells: all, in the order in which they are run.
    """

    title: str
    kind: Literal["scores", "costs", "search"]
    result: str
    margin: float
    pairs: Sequence[Sequence[str]]
    reference: str
    cells: Sequence[Listed]

    def write(self, out: Path) -> None:
        """Leave it in the study's folder."""
        write_atomically(out / FILE, json.dumps(asdict(self), indent=1) + "\n")


def is_study(out: Path) -> bool:
    """Whether a folder is a study's."""
    return (out / "study.json").is_file()


def read_listing(out: Path) -> Listing:
    """The study of a folder; raises UserError where the folder does not say, or what it says is damaged."""
    try:
        table = json.loads((out / FILE).read_text(encoding="utf-8"))
        return Listing(**{**table, "cells": [Listed(**cell) for cell in table["cells"]]})
    except FileNotFoundError:
        raise UserError(
            f"{out}: has no {FILE}, which lists its cells; the same `sammit study` again writes it"
        ) from None
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{out / FILE}: is damaged; the same `sammit study` again writes it") from None
