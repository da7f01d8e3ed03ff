"""FedFMS's algorithm written out again, straight from its description, against the recipe's run: losses and weights.

Nothing of Sammit's data, loop or methods is used here but the network's start and which image comes when: images are
read with Pillow, resized with plain bilinear, labels with the nearest pixel, a deep copy of the network and an Adam of
its own for each client, cross-entropy with weight 2 on foreground, the weighted average after each round.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

import tiny
from sammit.config import Experiment
from sammit.data.sampling import passes
from sammit.federation.prepare import prepare
from sammit.learning import fedfms
from sammit.learning.loop import Trainer
from sammit.methods.fedavg import rounded_percents
from sammit.models.build import build_model, set_trainable
from sammit.recipe import load_experiment
from sammit.runs import read_state

RECIPES = Path(__file__).parents[2] / "recipes"
SIZE, STRIDE = 64, 2  # sam-tiny's own step is 2 where ViT-B's is 4
SMALL = [
    "model.name=sam-tiny",
    "model.weights=random",
    f"model.output_stride={STRIDE}",
    f"data.size={SIZE}",
    "training.rounds=3",
    "training.batch_size=2",
    "training.threads=1",
    "training.lr=1e-3",
    "evaluation.every=3",
    "evaluation.selection=last",
]


def small(root: Path, recipe: str, *more: str) -> Experiment:
    return load_experiment(RECIPES / recipe, [*SMALL, f"data.root={root}", *more])


def images_and_labels(root: Path, site: str, cases: list[str]) -> tuple[Tensor, Tensor]:
    """(n, 3, SIZE, SIZE) in [0, 1] and (n, 2, SIZE / STRIDE, SIZE / STRIDE): cup is 2, disc is 1 or 2."""
    images, labels = [], []
    for case in cases:
        picture = np.asarray(Image.open(root / site / "images" / f"{case}.png").convert("RGB"))
        seen = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]
        seen = interpolate(seen, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        images.append(seen.round().clamp(0, 255)[0] * (1 / 255))
        mask = torch.from_numpy(np.asarray(Image.open(root / site / "masks" / f"{case}.png")).astype(np.int64))
        both = torch.stack([mask >= 1, mask == 2])[None].float()
        quarter = interpolate(both, size=(SIZE // 4, SIZE // 4), mode="nearest")
        labels.append(interpolate(quarter, size=(SIZE // STRIDE, SIZE // STRIDE), mode="nearest")[0])
    return torch.stack(images), torch.stack(labels)


def by_hand(experiment: Experiment, root: Path, shares: list[float] | None) -> tuple[list[float], dict[str, Tensor]]:
    """Every step's loss in order, and the averaged weights after the last round."""
    sites = {site.name: [case.name for case in site.cases("train")] for site in prepare(experiment).sites}
    model = build_model(experiment.model, SIZE, 2, experiment.seed)
    names = set_trainable(model, "adapters" if experiment.model.adapter else "all")
    clients = {site: copy.deepcopy(model) for site in sites}
    optimisers = {
        site: torch.optim.Adam([p for p in client.parameters() if p.requires_grad], lr=experiment.training.lr)
        for site, client in clients.items()
    }
    data = {site: images_and_labels(root, site, cases) for site, cases in sites.items()}
    total = sum(len(cases) for cases in sites.values())
    weights = shares or [len(cases) / total for cases in sites.values()]
    losses = []
    for number in range(experiment.training.rounds):
        for site, client in clients.items():
            for chosen in order(experiment, site, number, len(sites[site])):
                losses.append(step(client, optimisers[site], data[site][0][chosen], data[site][1][chosen]))
        average(clients, weights, names)
    return losses, {name: p.detach() for name, p in clients[min(clients)].named_parameters() if name in set(names)}


def order(experiment: Experiment, site: str, number: int, count: int) -> Iterator[list[int]]:
    """Which images come in each step of a round: one pass over all."""
    pick = passes(count, (experiment.seed, site, number, "train"))
    size = experiment.training.batch_size
    for start in range(0, count, size):
        yield [pick(item) for item in range(start, start + size)]


def step(client: nn.Module, optimiser: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    client.train()
    loss = binary_cross_entropy_with_logits(client(images), labels, pos_weight=torch.tensor(2.0))
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return float(loss.detach())


@torch.no_grad()
def average(clients: dict[str, nn.Module], weights: list[float], names: list[str]) -> None:
    parameters = [dict(client.named_parameters()) for client in clients.values()]
    for name in names:
        mean = sum(weight * own[name].double() for weight, own in zip(weights, parameters, strict=True))
        for own in parameters:
            own[name].copy_(mean)


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every step's loss as the run takes it."""
    taken: list[float] = []
    plain = Trainer.step

    def step(self: Trainer, *arguments: Any) -> None:
        before = float(self.total)
        plain(self, *arguments)
        taken.append(float(self.total) - before)

    monkeypatch.setattr(Trainer, "step", step)
    return taken


@pytest.mark.parametrize("recipe", ["fedfms-msa.toml", "fedfms-sam.toml"])
@pytest.mark.parametrize("weights", ["samples", "fedfms"])
def test_a_run_is_the_algorithm(tmp_path: Path, sites: Path, losses: list[float], recipe: str, weights: str) -> None:
    """The same losses in the same order and the same final weights, to 1e-4."""
    experiment = small(sites, recipe, f"method.weights={weights}")
    run = tiny.run(experiment, tmp_path / "run")
    counts = [len(site.cases("train")) for site in prepare(experiment).sites]
    assert all(count % 2 == 0 for count in counts) and len(set(counts)) > 1  # whole batches, unequal weights
    shares = [percent / 100 for percent in rounded_percents(counts)] if weights == "fedfms" else None
    expected, state = by_hand(experiment, sites, shares)
    assert losses == pytest.approx(expected, abs=1e-4)
    ours, _ = read_state(run / "models" / "last.safetensors")
    start = dict(build_model(experiment.model, SIZE, 2, experiment.seed).named_parameters())
    assert ours.keys() == state.keys()
    assert max(float((ours[name] - start[name].detach()).abs().max()) for name in ours) > 4e-3  # it went somewhere
    for name, tensor in state.items():
        assert (ours[name] - tensor).abs().max() <= 1e-4, name


def test_its_scores_again() -> None:
    """Written out with loops: each threshold on raw logits, each structure, plain means."""
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(0.4, 0.6, (3, 16, 16)), rng.random((3, 16, 16)) > 0.6
    truth[1], logits[2] = False, -1.0
    expected = []
    for structure in range(3):
        dice, iou = [], []
        for threshold in (0.1, 0.3, 0.5, 0.7, 0.9):
            both = found = real = 0
            for row in range(16):
                for column in range(16):
                    yes, there = logits[structure, row, column] > threshold, truth[structure, row, column]
                    both, found, real = both + (yes and there), found + yes, real + there
            dice.append((2 * both + 1e-4) / (found + real + 1e-4))
            iou.append((both + 1e-6) / (found + real - both + 1e-6))
        expected.append({"dice": sum(dice) / 5, "iou": sum(iou) / 5})
    ours = fedfms.scores_of(torch.from_numpy(logits), torch.from_numpy(truth))
    assert [pytest.approx(scores) for scores in ours] == expected


def test_its_floor_and_its_blind_spot() -> None:
    """Nothing found on empty truth is 1; one false pixel is nothing; a perfect shape at p = 0.512 is nothing too."""
    empty, one = torch.zeros(1, 8, 8, dtype=torch.bool), torch.full((1, 8, 8), -1.0)
    assert fedfms.scores_of(one, empty)[0] == {"dice": 1.0, "iou": 1.0}
    one[0, 0, 0] = 1.0
    assert fedfms.scores_of(one, empty)[0]["dice"] == pytest.approx(1e-4, rel=1e-3)
    shape = torch.zeros(1, 8, 8, dtype=torch.bool)
    shape[0, 2:6, 2:6] = True
    for chance, dice in ((0.512, 0.0), (0.599, 0.4), (0.9, 1.0)):
        logit = float(torch.logit(torch.tensor(chance)))
        logits = torch.where(shape, logit, -5.0)
        assert fedfms.scores_of(logits, shape)[0]["dice"] == pytest.approx(dice, abs=1e-5)


def test_nearest_takes_the_pixel_that_opencv_takes() -> None:
    """Index floor(i * H / h): torch's mode "nearest" says the same."""
    truth = torch.rand(2, 37, 53) > 0.5
    expected = interpolate(truth[None].float(), size=(16, 16), mode="nearest")[0] > 0.5
    assert torch.equal(fedfms.nearest(truth, 16), expected)


def test_rounded_weights() -> None:
    """Two decimals, the last takes the rest; a small site is lost, as the code would have it."""
    assert rounded_percents([134, 63, 47, 218, 56, 33]) == [24, 11, 9, 40, 10, 6]
    assert rounded_percents([1, 999]) == [0, 100]
    assert rounded_percents([7]) == [100]


def test_their_tables_are_scored_their_way(tmp_path: Path, sites: Path) -> None:
    """A row for each image, no distances; the protocol is in the summary; the scores are those of the run's model."""
    import json

    from sammit.predict import load_predictor
    from sammit.reporting.cases import read_cases

    run = tiny.run(small(sites, "fedfms-msa.toml", "evaluation.protocol=fedfms"), tmp_path / "run")
    assert json.loads((run / "summary.json").read_text())["protocol"] == "fedfms"
    rows = read_cases(run / "cases.csv")
    assert rows and all(set(row.scores) == {"dice", "iou"} for row in rows)
    model = load_predictor(run).model
    row = rows[0]
    images, _ = images_and_labels(sites, row.site, [row.case])
    mask = torch.from_numpy(np.asarray(Image.open(sites / row.site / "masks" / f"{row.case}.png")).astype(np.int64))
    truth = interpolate(torch.stack([mask >= 1, mask == 2])[None].float(), size=(16, 16), mode="nearest")[0] > 0.5
    with torch.inference_mode():
        logits = interpolate(model(images), size=(16, 16), mode="bilinear", antialias=True)[0]
    index = ["disc", "cup"].index(row.structure)
    assert row.scores["dice"] == pytest.approx(fedfms.scores_of(logits, truth)[index]["dice"], abs=1e-4)
