"""What the Method contract refuses: anything that a method sends or keeps and does not declare.

That its hooks carry what it was not written for is shown by FedRep, Ditto and SCAFFOLD, whose tests have the numbers
(docs/decisions/0003-method-contract.md).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.squares import HEAD, Federation, on_squares, two_squares
from sammit.errors import UserError
from sammit.methods import base
from sammit.methods.base import Outcome, Work
from sammit.vocabulary import State


@pytest.mark.parametrize("undeclared", ["extras", "private"])
def test_what_is_not_declared_does_not_leave_or_stay(tmp_path: Path, undeclared: str) -> None:
    class Loose(base.Method):
        def train(self, work: Work) -> Outcome:
            done = super().train(work)
            odd: dict[str, Any] = {"private": done.private, "extras": {}, "metrics": done.metrics}
            return Outcome(**{**odd, undeclared: {"mean_pixel": torch.zeros(1)}})

    with pytest.raises(UserError, match="undeclared tensor 'mean_pixel'"):
        Federation(on_squares(Loose()), two_squares(), tmp_path).run(1)


def test_a_number_that_is_not_declared_does_not_leave(tmp_path: Path) -> None:
    class Loose(base.Method):
        def train(self, work: Work) -> Outcome:
            done = super().train(work)
            return replace(done, metrics={**done.metrics, "patients": 7})

    with pytest.raises(UserError, match="undeclared number 'patients'"):
        Federation(on_squares(Loose()), two_squares(), tmp_path).run(1)


def test_a_tensor_that_is_not_shared_does_not_leave(tmp_path: Path) -> None:
    """The site refuses it, before the server could."""

    class Loose(base.Method):
        def shares(self, name: str) -> bool:
            return name != HEAD

        def split(self, work: Work) -> tuple[State, State]:
            shared, personal = super().split(work)
            return {**shared, **personal}, personal

    run = Federation(on_squares(Loose()), two_squares(), tmp_path)
    with pytest.raises(UserError, match=f"sent the undeclared tensor '{HEAD}'"):
        run.run(1)
    assert run.updates == [] and not list(tmp_path.rglob("*.safetensors"))
