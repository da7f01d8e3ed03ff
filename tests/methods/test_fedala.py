"""FedALA on squares: the weights, the start they give and the mixture that is judged, by hand."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.conftest import Pictures, bench, equal, noisy
from methods.squares import BODY, HEAD, PLAIN, Federation, on_squares, two_squares
from sammit.errors import UserError
from sammit.methods import base
from sammit.methods.fedala import Method, Options
from sammit.methods.state import with_prefix
from sammit.vocabulary import Order

RATE, STEPS = PLAIN.lr, PLAIN.local_steps


def trained(a: float, b: float, body: float, head: float) -> tuple[float, float]:
    """Body and head after a site's steps: each moves by half of what their sum lacks to b, shrunk a step at a time."""
    move = (b - body - head) / 2 * (1 - (1 - 2 * RATE * a) ** STEPS)
    return body + move, head + move


def learned(a: float, b: float, body: float, own: float, sent: float, passes: int, eta: float) -> float:
    """W of the head after some passes of one batch each from 1: clipped steps on a / 2 (body + mixed head - b)^2."""
    weight = 1.0
    for _ in range(passes):
        x = body + own + weight * (sent - own)
        weight = min(1.0, max(0.0, weight - eta * a * (x - b) * (sent - own)))
    return weight


def test_two_rounds_by_hand(tmp_path: Path) -> None:
    """The first starts from the global model; in the second W, learned for three passes, gives the head's start."""
    run = Federation(on_squares(Method(Options(eta=0.7, settled=1e-12, most_passes=3))), two_squares(), tmp_path)
    first = {site.name: trained(site.a, site.b, 0.0, 0.0) for site in run.sites}
    body, sent = (sum(pair[i] for pair in first.values()) / 2 for i in (0, 1))
    server = run.run(2)
    ends = []
    for site in run.sites:
        own = first[site.name][1]
        weight = learned(site.a, site.b, body, own, sent, 3, 0.7)
        private = run.private(site.name)
        assert float(private[f"weights.{HEAD}"]) == pytest.approx(weight, abs=1e-5)
        start = own + weight * (sent - own)
        ends.append(trained(site.a, site.b, body, start))
        assert float(private[f"own.{HEAD}"]) == pytest.approx(ends[-1][1], abs=1e-6)
        assert f"own.{BODY}" not in private and f"weights.{BODY}" not in private
        stages = ["train"] * STEPS + [f"weights {i}" for i in range(3)] + ["train"] * STEPS
        assert [stage for stage, _, _ in site.seen] == stages
    assert float(server.shared[BODY]) == pytest.approx(sum(end[0] for end in ends) / 2, abs=1e-6)
    assert float(server.shared[HEAD]) == pytest.approx(sum(end[1] for end in ends) / 2, abs=1e-6)
    weights = [float(run.private(site.name)[f"weights.{HEAD}"]) for site in run.sites]
    assert any(0 < weight < 1 for weight in weights)


def test_a_site_is_judged_with_the_mixture(tmp_path: Path) -> None:
    """Own head and new head by the last weights, on the new body."""
    run = Federation(on_squares(Method()), two_squares(), tmp_path)
    server = run.run(3)
    for site in run.sites:
        private = run.private(site.name)
        own, weight, sent = private[f"own.{HEAD}"], private[f"weights.{HEAD}"], server.shared[HEAD]
        expected = float(server.shared[BODY] + own + weight * (sent - own))
        assert run.answer(site.name, "personal", server.shared) == pytest.approx(expected)


def test_after_the_first_round_the_mixture_is_the_global_model(tmp_path: Path) -> None:
    """No weights yet: they are 1."""
    run = Federation(on_squares(Method()), two_squares(), tmp_path)
    server = run.run(1)
    answers = {run.answer("steep", which, server.shared) for which in ("global", "personal")}  # type: ignore[arg-type]
    assert len(answers) == 1


def test_weights_that_stay_at_one_leave_federated_averaging(tmp_path: Path) -> None:
    """A rate that moves nothing: bit for bit, round after round."""
    ala = Federation(on_squares(Method(Options(eta=1e-30))), two_squares(), tmp_path / "ala").run(4)
    plain = Federation(on_squares(base.Method()), two_squares(), tmp_path / "fedavg").run(4)
    assert ala.shared == plain.shared and plain.shared[BODY] != 0


def test_the_last_model_gets_weights_of_its_own(tmp_path: Path) -> None:
    """After the run: one more pass, nothing trained, the shared tensors as they are."""
    run = Federation(on_squares(Method(Options(eta=0.7))), two_squares(), tmp_path)
    server = run.run(2)
    site, before = run.sites[1], run.private("steep")
    worker = run.workers["steep"]
    worker.handle(Order("finish", "steep", 1, server.shared))
    after = worker.memory.final()
    own, sent, weight = (float(t) for t in (before[f"own.{HEAD}"], server.shared[HEAD], before[f"weights.{HEAD}"]))
    x = float(server.shared[BODY]) + own + weight * (sent - own)
    moved = min(1.0, max(0.0, weight - 0.7 * site.a * (x - site.b) * (sent - own)))
    assert float(after[f"weights.{HEAD}"]) == pytest.approx(moved, abs=1e-6)
    assert after[f"own.{HEAD}"] == before[f"own.{HEAD}"]
    assert site.seen[-1][0] == "weights 0"


@pytest.mark.parametrize(("settled", "most", "passes"), [(0.1, 20, 10), (1e-12, 13, 13), (0.1, 4, 4)])
def test_the_first_learning_ends_when_losses_agree(settled: float, most: float, passes: int) -> None:
    """Ten that deviate little, or the most there may be; a single pass in every later round."""
    options: dict[str, Any] = {"settled": settled, "most_passes": most, "data_share": 0.5}
    b, site = bench("fedala", options), Pictures()
    own = {name: tensor for name, tensor in noisy(b.start).items() if not name.startswith("vision_encoder.")}
    private = with_prefix("own", own)
    outcome = b.method.train(b.work(site, 1, private=private))
    batches = ceil(0.5 * site.count / b.training.batch_size)
    assert site.stages == [f"weights {i}" for i in range(passes) for _ in range(batches)] + ["train"] * 4
    assert outcome.metrics["steps"] == 4
    again = Pictures()
    b.method.train(b.work(again, 2, private=outcome.private))
    assert again.stages == ["weights 0"] * batches + ["train"] * 4


def test_weights_are_shares_of_each_element() -> None:
    """One for each element of the decoder, all in [0, 1], some moved; nothing of the encoder is mixed."""
    b = bench("fedala", {"eta": 50.0, "most_passes": 2})
    own = {name: tensor for name, tensor in noisy(b.start, 1).items() if not name.startswith("vision_encoder.")}
    outcome = b.method.train(b.work(None, 1, private=with_prefix("own", own)))
    weights = {n.removeprefix("weights."): t for n, t in outcome.private.items() if n.startswith("weights.")}
    assert weights.keys() == own.keys()
    assert all(weights[name].shape == tensor.shape for name, tensor in own.items())
    assert all(bool(((weight >= 0) & (weight <= 1)).all()) for weight in weights.values())
    moved = sum(int((weight < 1).sum()) for weight in weights.values())
    assert moved > 100


def test_no_gradient_reaches_the_model_while_weights_are_learned() -> None:
    """Own and sent layers are as they were, and no tensor of the model has a gradient from it."""
    b = bench("fedala")
    own = {name: tensor for name, tensor in noisy(b.start, 1).items() if not name.startswith("vision_encoder.")}
    work = b.work(None, 1, private=with_prefix("own", own))
    before = b.method.split(work)[0]
    for parameter in b.model.parameters():
        parameter.grad = None
    assert b.method.finish(work) is not None
    assert equal(b.method.split(work)[0], before)
    assert all(parameter.grad is None for parameter in b.model.parameters())


@pytest.mark.parametrize(("layers", "prefixes"), [("output", ("mask_decoder.output", "detail")), ("all", ("", ""))])
def test_which_layers_are_mixed(layers: str, prefixes: tuple[str, str]) -> None:
    b = bench("fedala", {"layers": layers})
    own = {n.removeprefix("own.") for n in b.method.train(b.work()).private if n.startswith("own.")}
    assert own == {name for name in b.shared if name.startswith(prefixes)}


@pytest.mark.parametrize(
    ("option", "value"), [("eta", 0.0), ("settled", 0.0), ("data_share", 0.0), ("data_share", 1.1), ("most_passes", 0)]
)
def test_options_that_cannot_be_right(option: str, value: float) -> None:
    with pytest.raises(UserError, match=option):
        Method(Options(**{option: value}))  # type: ignore[arg-type]


def test_no_higher_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"method\.layers"):
        Federation(on_squares(Method(Options(layers="output"))), two_squares(), tmp_path).run(1)


def test_one_batch_of_weights_is_plain_descent() -> None:
    """W after one batch is 1 - eta g (sent - own), the gradient taken by the model itself at the mixture."""
    b = bench("fedala", {"data_share": 0.01, "most_passes": 1, "eta": 3.0})
    own = {name: tensor for name, tensor in noisy(b.start, 1).items() if not name.startswith("vision_encoder.")}
    work = b.work(Pictures(), 1, private=with_prefix("own", own))
    batch = next(work.batches(1, "weights 0"))
    for parameter in b.model.parameters():
        parameter.requires_grad_(True)
    loss = b.method.objective(work)(batch)  # the model holds the shared tensors, and W is 1
    names = list(own)
    parameters = dict(b.model.named_parameters())
    slopes = torch.autograd.grad(loss, [parameters[name] for name in names])
    outcome = b.method.train(work)
    for name, slope in zip(names, slopes, strict=True):
        expected = (1 - 3.0 * slope * (b.start[name] - own[name])).clamp(0, 1)
        assert torch.allclose(outcome.private[f"weights.{name}"], expected, atol=1e-5)
