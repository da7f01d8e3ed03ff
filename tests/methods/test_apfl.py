"""APFL on squares: both models, their share and the mixture, against the paper's recursion in plain numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from methods.conftest import TRAINING, Pictures, bench, equal
from methods.squares import BODY, HEAD, PLAIN, Federation, Square, on_squares, two_squares
from sammit.errors import UserError
from sammit.methods import base, local_only
from sammit.methods.apfl import Method, Options
from sammit.methods.state import without_prefix


@dataclass
class Site:
    """A site of the recursion; body and head are alike, so one number stands for both."""

    a: float
    b: float
    v: float = 0.0
    alpha: float = 0.5

    def round(self, w: float, alpha_lr: float) -> float:
        """The w that is sent after a round from `w`; v and alpha go on."""
        for step in range(PLAIN.local_steps):
            bar = self.alpha * self.v + (1 - self.alpha) * w
            slope, slope_bar = self.a * (2 * w - self.b), self.a * (2 * bar - self.b)
            by_alpha = 2 * (self.v - w) * slope_bar
            self.v -= PLAIN.lr * self.alpha * slope_bar
            w -= PLAIN.lr * slope
            if step == 0:
                self.alpha = min(1.0, max(0.0, self.alpha - alpha_lr * by_alpha))
        return w


@pytest.mark.parametrize("alpha_lr", [0.0, 0.3, 1e3])
def test_four_rounds_are_the_papers_recursion(tmp_path: Path, alpha_lr: float) -> None:
    """w, v, alpha and the mixture; with a large rate alpha is held at the ends."""
    run = Federation(on_squares(Method(Options(alpha_lr=alpha_lr))), two_squares(), tmp_path)
    sites, w = [Site(site.a, site.b) for site in run.sites], 0.0
    for _ in range(4):
        w = sum([site.round(w, alpha_lr) for site in sites]) / 2
    server = run.run(4)
    assert float(server.shared[BODY]) == pytest.approx(w, abs=1e-6)
    for name, site in zip(("flat", "steep"), sites, strict=True):
        private = run.private(name)
        assert float(private["alpha"]) == pytest.approx(site.alpha, abs=1e-5)
        assert [float(private[f"own.{n}"]) for n in (BODY, HEAD)] == pytest.approx([site.v] * 2, abs=1e-6)
        mixture = 2 * (site.alpha * site.v + (1 - site.alpha) * w)
        assert run.answer(name, "personal", server.shared) == pytest.approx(mixture, abs=1e-5)
    if alpha_lr == 0.3:
        assert all(abs(site.alpha - 0.5) > 1e-3 for site in sites)
    elif alpha_lr:
        assert {site.alpha for site in sites} <= {0.0, 1.0}


def test_the_global_model_is_fedavgs(tmp_path: Path) -> None:
    """Bit for bit: the second model leaves no trace in what travels."""
    apfl = Federation(on_squares(Method()), two_squares(), tmp_path / "apfl").run(5)
    fedavg = Federation(on_squares(base.Method()), two_squares(), tmp_path / "fedavg").run(5)
    assert apfl.shared == fedavg.shared and apfl.shared[BODY] != 0


def test_on_a_segment_anything_too() -> None:
    """Bit for bit, under AdamW, from whatever second model; steps are counted once, each with two passes."""
    found = []
    for name in ("apfl", "fedavg"):
        b, site = bench(name, None, replace(TRAINING, local_steps=2)), Pictures()
        private = b.method.train(b.work()).private
        work = b.work(site, 1, private=private)
        outcome = b.method.train(work)
        found.append(b.method.split(work)[0])
        assert site.stages == ["train"] * 2 and outcome.metrics["steps"] == 2
    assert equal(*found)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_ends_are_fedavg_and_local_only(tmp_path: Path, alpha: float) -> None:
    """With alpha fixed at 0 a site's model is the global one; at 1 it is what the site learns alone, bit for bit."""
    run = Federation(on_squares(Method(Options(alpha, alpha_lr=0.0))), two_squares(), tmp_path / "apfl")
    server = run.run(3)
    alone = Federation(on_squares(local_only.Method()), two_squares(), tmp_path / "alone")
    alone.run(3)
    for site in run.sites:
        mixture = run.method.personal(run.private(site.name), server.shared)
        wanted = server.shared if alpha == 0 else without_prefix("personal", alone.private(site.name))
        assert mixture == wanted


def test_before_the_first_round_the_mixture_is_the_global_model() -> None:
    assert Method().personal({}, {BODY: torch.ones(())}) == {}


def test_alpha_moves_once_a_round_and_never_in_the_first(tmp_path: Path) -> None:
    """v and w are one at first; later the first batch alone has a say, however long the round."""
    found = {}
    for rounds in (1, 2):
        for steps in (1, 5):
            site = Square("only", 1.0, 1.0)
            where, training = tmp_path / f"{rounds}-{steps}", replace(PLAIN, local_steps=steps)
            run = Federation(on_squares(Method(Options(alpha_lr=0.3))), [site], where, training)
            run.run(rounds)
            found[rounds, steps] = float(run.private("only")["alpha"])
    assert found[1, 1] == found[1, 5] == 0.5
    assert found[2, 1] != 0.5 and found[2, 5] != 0.5


def test_moments_of_the_two_models_are_kept_apart() -> None:
    b = bench("apfl", None, replace(TRAINING, optimiser_state="keep", local_steps=2))
    private = b.method.train(b.work()).private
    again = b.method.train(b.work(None, 1, private=private)).private
    name = b.shared[0]
    assert float(again[f"optimiser.{name}|step"]) == float(again[f"own_optimiser.{name}|step"]) == 4
    assert not torch.equal(again[f"optimiser.{name}|exp_avg"], again[f"own_optimiser.{name}|exp_avg"])


@pytest.mark.parametrize("options", [Options(alpha=1.5), Options(alpha_lr=-1)])
def test_options_that_cannot_be_right(options: Options) -> None:
    with pytest.raises(UserError, match=r"method\.alpha"):
        Method(options)
