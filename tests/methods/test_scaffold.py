"""SCAFFOLD: both halves by hand, on squares; what the controls are under Adam."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from methods.squares import BODY, HEAD, PLAIN, Federation, on_squares, two_squares
from sammit.config import Experiment, TrainingConfig
from sammit.errors import UserError
from sammit.methods import base
from sammit.methods.base import Server
from sammit.methods.scaffold import Method, Options
from sammit.vocabulary import Update

Control = Literal["gradients", "steps"]
both_controls = pytest.mark.parametrize("control", ["gradients", "steps"])


@both_controls
def test_the_first_controls_are_mean_gradients(tmp_path: Path, control: Control) -> None:
    """By hand from 0: five steps, body and head alike, so x closes by 1 - 0.2 a each; c is the mean of the c_k."""
    run = Federation(on_squares(Method(Options(control))), two_squares(), tmp_path)
    server = run.run(1)
    controls = []
    for site in run.sites:
        x = site.b * (1 - (1 - 0.2 * site.a) ** 5)
        controls.append(-x / 2 / (5 * 0.1))  # (w_0 - w_5) over the sum of the rates
        assert float(run.private(site.name)[f"control.{BODY}"]) == pytest.approx(controls[-1], abs=1e-6)
    assert float(server.memory[f"control.{BODY}"]) == pytest.approx(sum(controls) / 2, abs=1e-6)
    assert int(server.memory["sites"]) == 2


@both_controls
def test_a_second_round_steps_along_the_corrected_gradient(tmp_path: Path, control: Control) -> None:
    """One step a round: c_k is the gradient -a b at 0, so that the second step is -0.1 (g + c - c_k)."""
    run = Federation(on_squares(Method(Options(control))), two_squares(), tmp_path, replace(PLAIN, local_steps=1))
    first = [0.1 * site.a * site.b for site in run.sites]
    w, c = sum(first) / 2, -sum(site.a * site.b for site in run.sites) / 2
    server = run.run(2)
    for site, update in zip(run.sites, run.updates, strict=True):
        gradient, own = site.a * (2 * w - site.b), -site.a * site.b
        assert float(update.tensors[BODY]) == pytest.approx(w - 0.1 * (gradient + c - own), abs=1e-6)
        assert float(run.private(site.name)[f"control.{BODY}"]) == pytest.approx(gradient, abs=1e-6)
        assert float(update.extras[f"control.{BODY}"]) == pytest.approx(gradient - own, abs=1e-6)
    mean = sum(site.a * (2 * w - site.b) for site in run.sites) / 2
    assert float(server.memory[f"control.{BODY}"]) == pytest.approx(mean, abs=1e-6)


def test_it_finds_what_fedavg_misses(tmp_path: Path) -> None:
    """In five steps the steep site nearly reaches its own answer, the flat one does not; their mean is elsewhere."""
    answer = {}
    for name, method in {"fedavg": base.Method(), "scaffold": Method()}.items():
        server = Federation(on_squares(method), two_squares(), tmp_path / name).run(60)
        answer[name] = float(server.shared[BODY] + server.shared[HEAD])
    assert answer["scaffold"] == pytest.approx(0.8, abs=1e-3)
    assert answer["fedavg"] == pytest.approx(0.5979, abs=1e-3)


def test_c_moves_by_one_in_k_where_sites_are_silent() -> None:
    """K is counted before the first round."""
    method = Method()
    _, memory = method.plan(Experiment(), {name: {} for name in "abcd"})
    server = Server({BODY: torch.zeros(())}, memory)
    update = Update("a", 0, server.shared, {f"control.{BODY}": torch.tensor(2.0)}, 1, {})
    assert float(method.aggregate(server, [update]).memory[f"control.{BODY}"]) == 0.5


def test_the_servers_rate_scales_the_plain_mean() -> None:
    """From 1 by half of the mean change, (1 + 3) / 2, whatever the sites' sizes."""
    method = Method(Options(lr=0.5))
    nothing = {f"control.{BODY}": torch.tensor(0.0)}
    updates = [
        Update(site, 0, {BODY: torch.tensor(value)}, nothing, samples, {})
        for site, value, samples in (("a", 2.0, 1), ("b", 4.0, 9))
    ]
    server = Server({BODY: torch.tensor(1.0)}, {"sites": torch.tensor(2)})
    assert float(method.aggregate(server, updates).shared[BODY]) == 2.0


def test_under_adam_only_gradients_stay_gradients(tmp_path: Path) -> None:
    """One step from 0: the gradient is -a b; the step over its rate is one, in whatever direction."""
    training = replace(PLAIN, optimiser="adam", local_steps=1)
    expected = {"gradients": [0.0, -4.0], "steps": [0.0, -1.0]}
    for control, wanted in expected.items():
        run = Federation(
            on_squares(Method(Options(control))),
            two_squares(),
            tmp_path / control,
            training,  # type: ignore[arg-type]
        )
        run.run(1)
        found = [float(run.private(site.name)[f"control.{BODY}"]) for site in run.sites]
        assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("control", "training", "warned"),
    [("steps", TrainingConfig(), True), ("steps", PLAIN, False), ("gradients", TrainingConfig(), False)],
)
def test_steps_under_another_optimiser_are_warned_of(
    control: Control, training: TrainingConfig, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Method(Options(control)).plan(Experiment(training=training), {"a": {}})
    assert ("plain SGD" in caplog.text) == warned


def test_what_the_controls_are_is_told() -> None:
    assert "plain SGD only" in Method(Options("steps")).notes()[0] and "gradients" in Method().notes()[0]


@pytest.mark.parametrize("lr", [0.0, float("nan")])
def test_options_that_cannot_be_right(lr: float) -> None:
    with pytest.raises(UserError, match=r"method\.lr"):
        Method(Options(lr=lr))
