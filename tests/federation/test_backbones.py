"""SAM 2 under the methods: rounds of each kind, a whole run and its use, kept activations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from methods.conftest import SIZE, TRAINING, Pictures, bench, equal, picture
from methods.test_every_method import started
from models.conftest import randomise, relative
from sammit.config import DataConfig, Experiment
from sammit.federation.prefix import PrefixCache
from sammit.federation.prepare import prepare
from sammit.learning.losses import segmentation_loss
from sammit.methods.state import fingerprint
from sammit.models.build import set_trainable
from sammit.models.sam2 import PromptFreeSam2
from sammit.predict import load_predictor, predict
from sammit.runs import read_state
from sammit.vocabulary import Order, Update, is_adapter

SITES = ("a", "b")
SAM2 = {"name": "sam2-nano", "weights": "random"}
METHODS = [
    ("pfedsam", {}, ("lora", "mixture")),
    ("fedavg", {}, ("lora",)),
    ("fedavg", {}, ("bottleneck",)),
    ("local_only", {}, ("lora",)),
    ("fedrep", {}, ("lora",)),
    ("ditto", {}, ("lora", "decoder_lora")),
    ("fedda", {"mode": "joint"}, ("bottleneck",)),  # compares what two encoders say
    ("fgasl", {}, ("lora",)),  # decodes what the encoder says twice
]


@pytest.mark.parametrize(("name", "options", "adapter"), METHODS, ids=str)
def test_two_rounds(tmp_path: Path, name: str, options: dict[str, Any], adapter: tuple[str, ...]) -> None:
    """Every site answers with exactly what is shared; what is shared moves, the frozen encoder does not."""
    b = bench(name, options, replace(TRAINING, local_steps=2), **SAM2, adapter=adapter)
    frozen = {n: t.clone() for n, t in b.model.state_dict().items() if n not in b.backbone.live}
    server, workers = started(b, SITES), [b.worker(tmp_path, Pictures(site)) for site in SITES]
    for index in range(2):
        updates = []
        for site, worker in zip(SITES, workers, strict=True):
            tensors, extras = b.method.orders(server, site)
            update = worker.handle(Order("train", site, index, tensors, extras, fingerprint(tensors)))
            assert isinstance(update, Update) and tuple(update.tensors) == b.shared and update.metrics["loss"] > 0
            updates.append(update)
        server = b.method.aggregate(server, updates)
    still = [n for n in b.shared if torch.equal(server.shared[n], b.start[n])]
    # A factor A begins to move once its B has; which of the decoder's random tokens is attended to hardly matters yet.
    assert all(n.endswith(("_down.weight", "self_attn.k_proj.weight")) for n in still)
    state = b.model.state_dict()
    assert equal(frozen, {n: state[n] for n in frozen})
    assert {n for n in frozen if n.startswith("vision_encoder.")} and not any(map(is_adapter, frozen))


def test_a_whole_run_and_its_use(sites: Path, tmp_path: Path) -> None:
    """Its summary counts what is shared; its folder alone writes masks in the image's own size."""
    what = tiny.experiment(
        sites, model={**SAM2, "adapter": ["bottleneck"]}, training={"rounds": 1, "local_steps": 1, "batch_size": 1}
    )
    shared = sum(tensor.numel() for tensor in prepare(what).server.shared.values())
    out = tiny.run(what, tmp_path / "run")
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["model"], summary["parameters"]["shared"]) == ("sam2-nano", shared)
    assert [row["failed"] for row in tiny.rows(out)] == [{}]
    assert (
        "vision_encoder.layers.4.adapters.bottleneck.mlp.0.weight" in read_state(out / "models/global.safetensors")[0]
    )
    written = predict(load_predictor(out), [sites / "birch" / "images" / "p00-0.png"], tmp_path / "masks")
    assert written and all(path.is_file() for path in written)


def test_kept_activations(tmp_path: Path) -> None:
    """Of the last block alone is a gradient wanted: the stages before it are computed once, finer maps and all."""
    network = bench("fedavg", **SAM2, adapter=()).model
    assert isinstance(network, PromptFreeSam2)
    randomise(network)
    names = set_trainable(network, "last:1")
    training = replace(TRAINING, prefix_cache="1MB")
    settings = Experiment(data=DataConfig(size=SIZE, views=1, cache=str(tmp_path)), training=training)
    cache, batch = PrefixCache(settings, network, names), picture(3, 7)
    parameters = [dict(network.named_parameters())[name] for name in names]

    def gradients(given: Any) -> torch.Tensor:
        found = torch.autograd.grad(segmentation_loss(network(*given.inputs), given), parameters)
        return torch.cat([gradient.flatten() for gradient in found])

    assert 0 < relative(gradients(cache.with_prefix(batch)), gradients(batch)) < 5e-3
    numbers = sum((8 >> stage) ** 2 * (16 << stage) for stage in range(3))  # 32 pixels are 8 x 8 tokens of 16 channels
    files = list(tmp_path.rglob("*.f16"))
    assert len(files) == 3 and {file.stat().st_size for file in files} == {cache.tile_bytes} == {2 * numbers + 16}
    blank = cache.blank(batch).prefix
    assert blank is not None and blank.shape == (3, numbers)
