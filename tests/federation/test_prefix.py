"""The prefix cache: the same training within half precision's error, found by all that decides it, within bounds."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from methods.conftest import METHODS, SIZE, TRAINING, Bench, Pictures, bench, picture
from methods.test_every_method import started
from models.conftest import randomise, relative
from sammit.config import DataConfig, Experiment, ModelConfig
from sammit.errors import UserError
from sammit.federation.estimate import estimate
from sammit.federation.prefix import PrefixCache, PrefixedSite, prefix_cache
from sammit.federation.prepare import prepare
from sammit.learning.losses import segmentation_loss
from sammit.methods.state import select, take
from sammit.models.build import build_model, set_trainable
from sammit.models.sam import PromptFreeSam
from sammit.runs import read_state

SGD = replace(TRAINING, optimiser="sgd", local_steps=2, prefix_cache="1MB")


def model(**config: Any) -> PromptFreeSam:
    """A sam-tiny without zeros."""
    made = build_model(ModelConfig(weights="random", **config), SIZE, 1, 0)
    assert isinstance(made, PromptFreeSam)
    randomise(made)
    return made


def cache_of(folder: Path, network: PromptFreeSam, train: str = "last:2", **training: Any) -> PrefixCache:
    """A cache in a folder of the test's own."""
    experiment = Experiment(data=DataConfig(size=SIZE, views=1, cache=str(folder)), training=replace(SGD, **training))
    return PrefixCache(experiment, network, set_trainable(network, train))


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.f16"))


def values_and_gradients(network: PromptFreeSam, batch: Any) -> tuple[Tensor, Tensor]:
    """Logits, and all gradients of the loss in one row."""
    names = set_trainable(network, "last:2")
    parameters = [dict(network.named_parameters())[name] for name in names]
    logits = network(*batch.inputs)
    found = torch.autograd.grad(segmentation_loss(logits, batch), parameters)
    return logits, torch.cat([gradient.flatten() for gradient in found])


def test_values_and_gradients_agree(tmp_path: Path) -> None:
    """Within what rounding to eleven bits makes of them: the bound that docs/speed.md states."""
    network, batch = model(), picture(3, 7)
    plain = values_and_gradients(network, batch)
    kept = cache_of(tmp_path, network).with_prefix(batch)
    assert kept.prefix is not None and kept.prefix.dtype == torch.float16 and kept.images is batch.images
    cached = values_and_gradients(network, kept)
    assert 0 < relative(cached[0], plain[0]) < 1e-3
    assert 0 < relative(cached[1], plain[1]) < 5e-3


def test_a_tile_is_computed_once(tmp_path: Path) -> None:
    """Also for another process with the same folder, in whatever batch the tile comes; broken files are made anew."""
    network, batch = model(), picture(3, 7)
    first = cache_of(tmp_path, network).with_prefix(batch).prefix
    assert first is not None and len(files(tmp_path)) == 3
    other = cache_of(tmp_path, network)
    calls: list[int] = []
    network.vision_encoder.layers[0].register_forward_hook(lambda *_: calls.append(1))
    alone = replace(batch, images=batch.images[1:2])
    assert torch.equal(other.with_prefix(alone).prefix, first[1:2]) and calls == []
    files(tmp_path)[0].write_bytes(b"half of it")
    assert torch.equal(other.with_prefix(batch).prefix, first) and calls == [1]
    assert torch.equal(other.with_prefix(batch).prefix, first) and calls == [1]


@pytest.mark.parametrize("what", ["weights", "image", "preprocessing", "cut", "threads", "precision"])
def test_what_decides_a_prefix_decides_its_name(tmp_path: Path, what: str) -> None:
    """Something else is computed and kept beside; behind the cut anything may change."""
    network, batch = model(), picture(1, 7)
    cache_of(tmp_path, network).with_prefix(batch)
    with torch.no_grad():
        network.vision_encoder.layers[3].attn.qkv.weight.mul_(2)
    cache_of(tmp_path, network).with_prefix(batch)
    assert len(files(tmp_path)) == 1
    settings: dict[str, Any] = {}
    if what == "weights":
        with torch.no_grad():
            network.vision_encoder.layers[1].mlp.lin1.bias[0] += 1e-3
    elif what == "image":
        batch.images[0, 0, 0, 0] += 1e-3
    elif what == "preprocessing":
        network.pixel_std = network.pixel_std * 1.001  # type: ignore[operator]
    elif what == "cut":
        settings["train"] = "last:3"
    elif what == "precision":
        settings["precision"] = "bf16"
    else:
        torch.set_num_threads(2)
    try:
        found = cache_of(tmp_path, network, **settings).with_prefix(batch).prefix
    finally:
        torch.set_num_threads(1)
    assert len(files(tmp_path)) == 2 and found is not None
    if what != "precision":
        assert torch.equal(found, network.prefix(batch.images).half())


def test_activations_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    network = model()
    with torch.no_grad():
        network.vision_encoder.layers[0].mlp.lin2.bias += 1e5
    with pytest.raises(UserError, match=r"exceed half precision; set training\.prefix_cache = 0"):
        cache_of(tmp_path, network).with_prefix(picture(1, 0))
    assert files(tmp_path) == []


# With every method


def late(name: str) -> Bench:
    """A method that trains the last block, its adapters and the decoder."""
    adapters = ("lora", "mixture", *bench(name).method.adapters)
    inside = {adapter: {"blocks": "last:1"} for adapter in adapters if not adapter.startswith("decoder_")}
    b = bench(name, None, SGD, options=inside)
    randomise(b.model, 0.02)
    live = b.method.trained_names(set_trainable(b.model, "last:1"))
    b.backbone = replace(b.backbone, live=live, start=take(b.model, live))
    return b


def trained(b: Bench, site: Any) -> dict[str, Tensor]:
    """All that a round changes, from the same start."""
    server = started(b)
    tensors, extras = b.method.orders(server, "a")
    b.method.train(b.work(site, shared=tensors, extras=extras))
    return {name: tensor - b.backbone.start[name] for name, tensor in take(b.model, b.backbone.live).items()}


FEW = ("fedavg", "pfedsam", "fedrep", "drflm")


@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
def test_a_round_with_and_without(tmp_path: Path, name: str) -> None:
    """Plain, with two stages and a teacher, with two parts in turn, on mixed images (where nothing kept applies)."""
    b = late(name)
    plain = trained(b, Pictures())
    assert isinstance(b.model, PromptFreeSam)
    experiment = Experiment(data=DataConfig(size=SIZE, views=1, cache=str(tmp_path)), training=SGD)
    cache = PrefixCache(experiment, b.model, b.backbone.start)
    assert b.model.vision_encoder.cut == 3
    cached = trained(b, PrefixedSite(Pictures(), cache))
    moved, found = (torch.cat([tensor.flatten() for tensor in one.values()]) for one in (plain, cached))
    assert moved.norm() > 0 and relative(found, moved) < 2e-2
    assert files(tmp_path)


# Whole runs


def recipe(sites: Path, folder: Path, method: str = "pfedsam", **tables: dict[str, Any]) -> Experiment:
    """Two views an image, the last block's adapters and the decoder."""
    adapters = {name: {"blocks": "last:1"} for name in tiny.adapters_of(method)}
    table = {
        "data": {"size": 16, "views": 2, "cache": str(folder), "augmentation": "standard"} | tables.get("data", {}),
        "model": adapters | tables.get("model", {}),
        "training": {"batch_size": 1, "prefix_cache": "1MB"} | tables.get("training", {}),
    }
    return tiny.experiment(sites, method, **table)


def test_a_run_uses_it_and_says_so(tmp_path: Path, sites: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cached and uncached runs agree; the size announced is an upper bound of what lies there."""
    with_it = recipe(sites, tmp_path / "cache", "fedavg")
    prepared = prepare(with_it)
    assert prepared.prefix is not None
    said = estimate(prepared)["prefix cache"]
    images = sum(site.samples("train") for site in prepared.trainers)
    assert said.startswith(f"3 of 4 blocks computed once for {2 * images} tiles (2 of each image): ")
    assert files(tmp_path) == []
    with caplog.at_level(logging.INFO, "sammit"):
        one, two = tiny.run(with_it, tmp_path / "one"), tmp_path / "two"
    assert f"prefix cache: {said}" in caplog.text
    kept = files(tmp_path / "cache" / "prefix")
    assert 0 < len(kept) <= prepared.prefix.tiles
    assert sum(path.stat().st_size for path in kept) <= prepared.prefix.needed < 10**6
    tiny.run(recipe(sites, tmp_path / "cache", "fedavg", training={"prefix_cache": 0}), two)
    assert files(tmp_path / "cache" / "prefix") == kept
    (first, _), (second, _) = (read_state(run / "models" / "global.safetensors") for run in (one, two))
    start = select(prepared.backbone.start, set(first).__contains__)
    moved, found = (torch.cat([(s[n] - start[n]).flatten() for n in start]) for s in (second, first))
    assert 0 < relative(found, moved) < 0.05
    notes = [json.loads((run / "environment.json").read_text())["notes"] for run in (one, two)]
    assert any("first 3 of 4 blocks" in note for note in notes[0]) and not any("blocks" in note for note in notes[1])


def test_a_resumed_run_is_the_same_whatever_is_left_of_the_cache(tmp_path: Path, sites: Path) -> None:
    """Stopped after a round, its cache half gone and partly broken: bit for bit the run that was never stopped."""
    from sammit.federation import local

    folder, out = tmp_path / "cache", tmp_path / "stopped"
    what = recipe(sites, folder)
    whole = tiny.contents(tiny.run(what, tmp_path / "whole"))
    shutil.rmtree(folder / "prefix")

    def stop(row: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.run(what, out, stop)
    kept = files(folder)
    assert len(kept) > 2
    kept[0].unlink()
    kept[1].write_bytes(kept[1].read_bytes()[:-5])
    kept[2].write_bytes(b"")
    tiny.run(what, out, resume=True)
    assert tiny.contents(out) == whole


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"training": {"prefix_cache": "3kB"}},
            r"^training\.prefix_cache: [0-9]+ tiles need .* more than 0\.0 MB; raise",
        ),
        ({"data": {"views": 0}}, r"^data\.views: must be 1 or more for training\.prefix_cache"),
        ({"training": {"prefix_cache": True}}, r"^training\.prefix_cache: must be a whole number or text in quotes"),
        ({"training": {"prefix_cache": "much"}}, r"^training\.prefix_cache: must be 0 or a size such as '500MB'"),
        ({"model": {"lora": {}}}, r"layers\.0\.adapters\.lora\..* is in the way"),
        ({"model": {"train": "all"}}, r"pos_embed' is in the way"),
        ({"model": {"train": "late"}}, r"^model\.train: must be 'auto'"),
    ],
)
def test_what_cannot_be_is_refused_beforehand(
    tmp_path: Path, sites: Path, tables: dict[str, dict[str, Any]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        prepare(recipe(sites, tmp_path, **tables))
    assert files(tmp_path) == []


def test_a_model_without_blocks_keeps_nothing(sites: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^training\.prefix_cache: unet has no frozen blocks"):
        prefix_cache(recipe(sites, tmp_path, model={"name": "unet"}), torch.nn.Linear(1, 1), (), ())


@pytest.mark.parametrize(("text", "count"), [(0, 0), ("0", 0), ("2GB", 2 * 10**9), ("1.5 MB", 1_500_000), (7, 7)])
def test_sizes(text: Any, count: int) -> None:
    assert replace(TRAINING, prefix_cache=text).prefix_bytes == count
