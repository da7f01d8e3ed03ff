"""APPLE: cores, weights and the pull by hand, on squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import cos, pi
from pathlib import Path

import pytest
import torch

from methods.squares import BODY, HEAD, PLAIN, Federation, Square, on_squares, two_squares
from sammit.errors import UserError
from sammit.federation.messages import encode
from sammit.methods import base
from sammit.methods.apple import Method, Options, pull_weight
from sammit.methods.base import Server
from sammit.vocabulary import Order, Update

STEADY = Options(p_lr=0.05, p_momentum=0.5, mu=0.3, pull_rounds=1.0)


def by_hand(
    sites: Sequence[Square], options: Options, rounds: int, steps: int
) -> tuple[list[float], list[list[float]], list[float]]:
    """Cores, every p_i, and what the mixed models were at the end; body and head move alike, the model says 2 W."""
    total = sum(site.count for site in sites)
    start = [site.count / total for site in sites]
    cores, p, mixed = [0.0] * len(sites), [list(start) for _ in sites], [0.0] * len(sites)
    for index in range(rounds):
        sent = list(cores)
        pull = options.mu * 0.001 ** (index / PLAIN.rounds)
        for i, site in enumerate(sites):
            w, velocity = list(sent), [0.0] * len(sites)
            for _ in range(steps):
                whole = sum(weight * core for weight, core in zip(p[i], w, strict=True))
                slope = site.a * (2 * whole - site.b)  # of the loss by body, and by head
                away = [now - first for now, first in zip(p[i], start, strict=True)]
                to_p = [2 * slope * core + 2 * pull * gap for core, gap in zip(w, away, strict=True)]
                w[i] -= 0.1 * p[i][i] * slope
                velocity = [options.p_momentum * v + g for v, g in zip(velocity, to_p, strict=True)]
                p[i] = [now - options.p_lr * v for now, v in zip(p[i], velocity, strict=True)]
            cores[i] = w[i]
            mixed[i] = sum(weight * core for weight, core in zip(p[i], w, strict=True))
    return cores, p, mixed


def unequal() -> list[Square]:
    flat, steep = two_squares()
    return [replace(flat, count=1), replace(steep, count=3)]


@pytest.mark.parametrize("rounds", [1, 3])
def test_rounds_by_hand(tmp_path: Path, rounds: int) -> None:
    run = Federation(on_squares(Method(STEADY)), unequal(), tmp_path, replace(PLAIN, local_steps=3))
    server = run.run(rounds)
    cores, p, mixed = by_hand(run.sites, STEADY, rounds, 3)
    for place, site in enumerate(run.sites):
        private = run.private(site.name)
        assert float(server.memory[f"core.{place}.{BODY}"]) == pytest.approx(cores[place], abs=1e-5)
        assert [float(private[f"p.{j}"]) for j in (0, 1)] == pytest.approx(p[place], abs=1e-5)
        assert float(private[f"mixed.{HEAD}"]) == pytest.approx(mixed[place], abs=1e-5)
        assert run.answer(site.name, "personal", server.shared) == pytest.approx(2 * mixed[place], abs=1e-5)
    mean = (cores[0] + 3 * cores[1]) / 4
    assert float(server.shared[BODY]) == pytest.approx(mean, abs=1e-5)
    assert run.answer("flat", "global", server.shared) == pytest.approx(2 * mean, abs=1e-5)


def test_every_site_comes_to_its_own_answer(tmp_path: Path) -> None:
    run = Federation(on_squares(Method()), two_squares(), tmp_path)
    server = run.run(60)
    for site in run.sites:
        assert run.answer(site.name, "personal", server.shared) == pytest.approx(site.b, abs=1e-2)


def test_a_site_alone_with_a_fixed_weight_is_fedavg(tmp_path: Path) -> None:
    """p = (1), no steps of p: its core is its model."""
    found = [
        Federation(on_squares(method), [Square("a", 4.0, 1.0)], tmp_path / name).run(3).shared
        for name, method in {"apple": Method(Options(p_lr=0.0)), "fedavg": base.Method()}.items()
    ]
    assert found[0] == found[1] and float(found[0][BODY]) > 0


# Orders


def server_of_three() -> Server:
    samples = {f"samples.{site}": torch.tensor(count) for site, count in (("c", 1), ("a", 2), ("b", 5))}
    cores = {f"core.{place}.w": torch.tensor(value) for place, value in enumerate((1.0, 2.0, 3.0))}
    return Server({"w": torch.tensor(9.0)}, samples | cores)


def test_a_site_is_sent_its_own_core_and_beside_it_the_others() -> None:
    """Places go by name; no site's name is sent."""
    tensors, extras = Method().orders(server_of_three(), "b")
    assert {name: float(t) for name, t in tensors.items()} == {"w": 2.0}
    assert {name: float(t) for name, t in extras.items()} == {
        "place": 1, "start.0": 0.25, "start.1": 0.625, "start.2": 0.125, "core.0.w": 1.0, "core.2.w": 3.0,
    }  # fmt: skip


def test_before_the_first_round_all_cores_are_the_first_tensors() -> None:
    tensors, extras = Method().orders(Server({"w": torch.tensor(9.0)}, {"samples.a": torch.tensor(1)}), "a")
    assert float(tensors["w"]) == 9.0 and not [name for name in extras if name.startswith("core.")]


def test_traffic_down_grows_with_the_sites() -> None:
    """K cores down, one up, bytes as they are serialised less the headers."""
    core = {"w": torch.zeros(10_000)}
    for count in (2, 5):
        samples = {f"samples.{place}": torch.tensor(1) for place in range(count)}
        tensors, extras = Method().orders(Server(core, samples), "0")
        size = len(encode(Order("train", "0", 0, tensors, extras)))
        assert 0 <= size - count * 40_000 < 2_000


def test_a_silent_sites_core_stays_and_counts() -> None:
    """(2 * 1 + 5 * 2 + 1 * 7) / 8 after c alone has answered."""
    server = Method().aggregate(server_of_three(), [Update("c", 0, {"w": torch.tensor(7.0)}, {}, 1, {})])
    assert [float(server.memory[f"core.{place}.w"]) for place in range(3)] == [1.0, 2.0, 7.0]
    assert float(server.shared["w"]) == pytest.approx(19 / 8)


# The pull


def test_the_pull_fades_and_ends() -> None:
    """L = 10 of 20 rounds: from mu to a thousandth, or along a cosine; nothing afterwards."""
    exponential = Options(mu=0.5, pull_rounds=0.5)
    cosine = replace(exponential, pull_schedule="cosine")
    assert pull_weight(exponential, 0, 20) == pull_weight(cosine, 0, 20) == 0.5
    assert pull_weight(exponential, 5, 20) == pytest.approx(0.5 * 0.001**0.5)
    assert pull_weight(cosine, 3, 20) == pytest.approx(0.25 * (1 + cos(0.3 * pi)))
    assert pull_weight(exponential, 10, 20) == pull_weight(cosine, 10, 20) == pull_weight(Options(), 0, 5) == 0.0


@pytest.mark.parametrize(
    "options",
    [{"p_lr": -1.0}, {"p_lr": float("nan")}, {"mu": -0.1}, {"p_momentum": 1.0}, {"pull_rounds": 1.1}],
)
def test_options_that_cannot_be_right(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=rf"method.*{next(iter(options))}"):
        Method(Options(**options))  # type: ignore[arg-type]
