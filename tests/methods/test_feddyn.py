"""FedDyn: both halves by hand, on squares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from methods.squares import BODY, HEAD, PLAIN, Federation, Square, on_squares, two_squares
from sammit.config import Experiment
from sammit.errors import UserError
from sammit.methods.base import Server
from sammit.methods.feddyn import Method, Options
from sammit.vocabulary import Update


def by_hand(sites: list[Square], alpha: float, rounds: int, steps: int) -> tuple[float, float, dict[str, float]]:
    """w, h and every g_k in plain numbers; body and head move alike, so that the model says 2 w."""
    w, h, g = 0.0, 0.0, dict.fromkeys((site.name for site in sites), 0.0)
    for _ in range(rounds):
        trained = {}
        for site in sites:
            x = w
            for _ in range(steps):
                x -= 0.1 * (site.a * (2 * x - site.b) - g[site.name] + alpha * (x - w))
            trained[site.name] = x
        moved = {name: x - w for name, x in trained.items()}
        g = {name: g[name] - alpha * moved[name] for name in g}
        h -= alpha / len(sites) * sum(moved.values())
        w = sum(trained.values()) / len(sites) - h / alpha
    return w, h, g


@pytest.mark.parametrize("alpha", [0.1, 0.5])
@pytest.mark.parametrize("rounds", [1, 3])
def test_rounds_by_hand(tmp_path: Path, alpha: float, rounds: int) -> None:
    run = Federation(on_squares(Method(Options(alpha))), two_squares(), tmp_path, replace(PLAIN, local_steps=3))
    server = run.run(rounds)
    w, h, g = by_hand(run.sites, alpha, rounds, 3)
    for name in (BODY, HEAD):
        assert float(server.shared[name]) == pytest.approx(w, abs=1e-5)
        assert float(server.memory[f"drift.{name}"]) == pytest.approx(h, abs=1e-5)
        for site in g:
            assert float(run.private(site)[f"dual.{name}"]) == pytest.approx(g[site], abs=1e-5)
    assert h == pytest.approx(sum(g.values()) / 2) and int(server.memory["sites"]) == 2


def test_sites_agree_on_the_least_sum_of_their_losses(tmp_path: Path) -> None:
    """Where FedAvg comes to 0.6 (`test_scaffold.py`)."""
    server = Federation(on_squares(Method(Options(0.5))), two_squares(), tmp_path).run(60)
    assert float(server.shared[BODY] + server.shared[HEAD]) == pytest.approx(0.8, abs=1e-3)


def test_a_silent_site_counts_in_h_and_not_in_the_mean() -> None:
    """K = 4, alpha = 0.5, one answer that moved by 2: h = -0.5 / 4 * 2, w = 2 - h / 0.5."""
    method = Method(Options(0.5))
    _, memory = method.plan(Experiment(), {name: {} for name in "abcd"})
    server = method.aggregate(
        Server({BODY: torch.zeros(())}, memory), [Update("a", 0, {BODY: torch.tensor(2.0)}, {}, 9, {})]
    )
    assert float(server.memory[f"drift.{BODY}"]) == -0.25
    assert float(server.shared[BODY]) == 2.5


def test_the_mean_is_plain() -> None:
    """Whatever the sites' sizes: (0 + 4) / 2 + (0 + 4) / 2."""
    method = Method()
    _, memory = method.plan(Experiment(), {"a": {}, "b": {}})
    updates = [
        Update(site, 0, {BODY: torch.tensor(value)}, {}, n, {}) for site, value, n in (("a", 0.0, 1), ("b", 4.0, 99))
    ]
    assert float(method.aggregate(Server({BODY: torch.zeros(())}, memory), updates).shared[BODY]) == pytest.approx(4.0)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_options_that_cannot_be_right(alpha: float) -> None:
    with pytest.raises(UserError, match=r"method\.alpha"):
        Method(Options(alpha))
