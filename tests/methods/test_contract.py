"""The Method contract carries what it was not written for: FedRep and Ditto in a few lines each.

SCAFFOLD, once here too, is a method now (`test_scaffold.py`).

Each site's loss is a square, a / 2 (body + head - b)^2, so that every answer is known. These are no plugins: they show
that the hooks suffice (docs/decisions/0003-method-contract.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.squares import BODY, HEAD, Federation, on_squares, two_squares
from sammit.errors import UserError
from sammit.learning.loop import fit
from sammit.methods import base
from sammit.methods.base import Outcome, Which, Work
from sammit.methods.state import copied, put, squared_norm, take, with_prefix, without_prefix
from sammit.vocabulary import Batch, Declared, State

# FedRep (Collins et al., 2102.07078): the head with the body frozen, then the body with the head frozen


class FedRep(base.Method):
    """Two phases of a round; the body alone travels."""

    judged = ("global", "personal")
    reported: Which = "personal"

    def shares(self, name: str) -> bool:
        return name != HEAD

    def train(self, work: Work) -> Outcome:
        """One step on the head, the rest on the body."""
        head = work.trainer(self.personal_names(work.live), 1)
        body = work.trainer(self.shared_names(work.live), work.steps - 1)
        for stage, trainer in (("head", head), ("body", body)):
            fit(trainer, work.batches(trainer.steps, stage), self.objective(work))
        return Outcome({}, {}, {"loss": body.mean_loss, "steps": head.done + body.done})


def test_fedrep_trains_head_then_body(tmp_path: Path) -> None:
    """By hand from 0: the head takes one step of 0.1 * a * b, then the body goes on with the head where it is."""
    run = Federation(on_squares(FedRep()), two_squares(), tmp_path)
    server = run.run(1)
    bodies = []
    for site in run.sites:
        head = 0.1 * site.a * site.b
        body = (site.b - head) * (1 - (1 - 0.1 * site.a) ** 4)  # four steps towards b - head
        assert [stage for stage, _, _ in site.seen] == ["head", *["body"] * 4]
        assert [now[1] for now in site.seen[:2]] == [0.0, 0.0]
        assert [now[2] for now in site.seen[1:]] == pytest.approx([head] * 4)
        assert float(run.private(site.name)[f"personal.{HEAD}"]) == pytest.approx(head)
        bodies.append(body)
    assert server.shared.keys() == {BODY}
    assert float(server.shared[BODY]) == pytest.approx(sum(bodies) / 2)


def test_fedreps_heads_make_up_for_the_sites(tmp_path: Path) -> None:
    """After enough rounds every site is right, each with a head of its own."""
    run = Federation(on_squares(FedRep()), two_squares(), tmp_path)
    server = run.run(60)
    for site in run.sites:
        assert float(server.shared[BODY] + run.private(site.name)[f"personal.{HEAD}"]) == pytest.approx(
            site.b, abs=1e-3
        )


# Ditto (Li et al., 2012.04221): a second model v, pulled to the global one, which is trained as if v were not there


class Ditto(base.Method):
    """min_v F_k(v) + lambda / 2 ||v - w^t||^2 beside federated averaging."""

    judged = ("global", "personal")
    reported: Which = "personal"
    site_state = (Declared("own.", None, "float32", "this site's second model"),)
    pull = 1.0

    def train(self, work: Work) -> Outcome:
        received = copied(work.order.tensors)
        put(work.model, received)  # the worker has put v there
        sent = super().train(work)
        trained = take(work.model, received)
        put(work.model, without_prefix("own", work.private) or received)
        trainer = work.trainer(received, work.steps)
        fit(trainer, work.batches(work.steps, "own"), self._near(work, received))
        own = take(work.model, received)
        put(work.model, trained)
        return Outcome(with_prefix("own", own), {}, sent.metrics)

    def personal(self, private: State, shared: State) -> State:
        return without_prefix("own", private)

    def _near(self, work: Work, received: State) -> Callable[[Batch], Tensor]:
        plain, now = self.objective(work), dict(work.model.named_parameters())

        def objective(batch: Batch) -> Tensor:
            away = squared_norm({name: now[name] - start for name, start in received.items()})
            return plain(batch) + self.pull / 2 * away

        return objective


def test_dittos_global_model_is_fedavgs(tmp_path: Path) -> None:
    """Bit for bit: the second model leaves no trace in what travels."""
    ditto = Federation(on_squares(Ditto()), two_squares(), tmp_path / "ditto").run(5)
    fedavg = Federation(on_squares(base.Method()), two_squares(), tmp_path / "fedavg").run(5)
    assert ditto.shared == fedavg.shared and ditto.shared[BODY] != 0


def test_dittos_own_model_lies_between_the_site_and_the_global_one(tmp_path: Path) -> None:
    """Body and head alike, x = 2 w: least where 2 a (x - b) + lambda (x - x_global) = 0; and the worker loads it."""
    run = Federation(on_squares(Ditto()), two_squares(), tmp_path)
    server = run.run(60)
    center = float(server.shared[BODY] + server.shared[HEAD])
    for site in run.sites:
        expected = (2 * site.a * site.b + center) / (2 * site.a + 1)
        assert run.answer(site.name, "personal", server.shared) == pytest.approx(expected, abs=1e-3)
        assert run.answer(site.name, "global", server.shared) == pytest.approx(center)


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
