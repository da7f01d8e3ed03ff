"""Every method's numbers after two tiny rounds, so that a change of them is seen and meant.

Written again, after a change that is meant, for all methods or for some, by

    PYTHONPATH=tests OMP_NUM_THREADS=1 python -m federation.test_golden [METHOD ...]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import tiny

GOLDEN = Path(__file__).with_name("golden.json")


def numbers(run: Path) -> dict[str, Any]:
    """Losses of each round by site, and each site's Dice."""
    summary = json.loads((run / "summary.json").read_text())
    return {
        "loss": [row["loss"] for row in tiny.rows(run)],
        "dice": {site: entry["dice"] for site, entry in summary["sites"].items()},
    }


@pytest.mark.parametrize("method", tiny.METHODS)
def test_numbers_are_as_they_were(runs: dict[str, Path], method: str) -> None:
    """Within a thousandth: processors differ in the last digits."""
    found, known = numbers(runs[method]), json.loads(GOLDEN.read_text()).get(method)
    assert known, f"no numbers for {method}: see the command at the top of this file"
    assert found["dice"] == pytest.approx(known["dice"], abs=1e-3)
    for line, wanted in zip(found["loss"], known["loss"], strict=True):
        assert line == pytest.approx(wanted, abs=1e-3)


if __name__ == "__main__":
    with TemporaryDirectory() as place:
        root = Path(place) / "sites"
        tiny.make_sites(root)
        chosen = sys.argv[1:] or tiny.METHODS
        found = {name: numbers(tiny.run(tiny.experiment(root, name), Path(place) / name)) for name in chosen}
    known = json.loads(GOLDEN.read_text()) if sys.argv[1:] else {}
    GOLDEN.write_text(json.dumps(dict(sorted({**known, **found}.items())), indent=2) + "\n")
