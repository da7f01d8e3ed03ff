"""norm_local: which names are a norm layer's, that they stay, and that all else is averaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from methods.conftest import Pictures, bench, equal
from methods.squares import Federation, on_squares, two_squares
from sammit.config import ModelConfig
from sammit.errors import UserError
from sammit.federation.worker import Backbone
from sammit.methods.base import Server
from sammit.methods.norm_local import Method, in_norm
from sammit.methods.state import fingerprint, take
from sammit.models.build import build_model, set_trainable
from sammit.vocabulary import Order, Update


@pytest.mark.parametrize(
    ("network", "adapter"), [("sam-tiny", ("bottleneck", "lora", "mixture")), ("sam-vit-b", ("lora",)), ("unet", ())]
)
def test_the_rule_finds_the_norm_layers_and_nothing_else(network: str, adapter: tuple[str, ...]) -> None:
    """By their names, against the modules' types."""
    with torch.device("meta"):
        model = build_model(ModelConfig(name=network, weights="random", adapter=adapter), 64, 2, 0)
    expected = {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if "Norm" in type(module).__name__
        for name, _ in module.named_parameters(recurse=False)
    }
    assert {name for name, _ in model.named_parameters() if in_norm(name)} == expected
    assert bool(expected) == (network != "unet")


def test_words_that_only_look_like_norms() -> None:
    assert not any(in_norm(name) for name in ("normalise.weight", "enormous", "layers.0.abnormal_norms", "pixel_mean"))
    assert all(in_norm(name) for name in ("norm", "a.norm1.weight", "b.layer_norm_final_attn.bias", "norm_2.weight"))


def test_norms_of_encoder_neck_and_decoder_stay(tmp_path: Path) -> None:
    """Each site's are left as its own training left them; everything else is the mean of the two, by hand."""
    b = bench("norm_local")
    b.backbone = Backbone.of(b.model, set_trainable(b.model, "all"))
    assert {".".join(name.split(".")[:2]) for name in b.personal} == {
        "vision_encoder.layers", "vision_encoder.neck", "mask_decoder.transformer", "mask_decoder.upscale_layer_norm"
    }  # fmt: skip
    mark, updates, left = fingerprint(b.start), [], {}
    for name, count in (("a", 6), ("b", 2)):
        worker = b.worker(tmp_path, Pictures(name, count))
        update = worker.handle(Order("train", name, 0, b.start, fingerprint=mark))
        assert isinstance(update, Update) and not any(in_norm(n) for n in update.tensors)
        updates.append(update)
        left[name] = take(b.model, b.personal)
        worker.handle(Order("keep", name, 0, {}, accepted=0, origin=mark))
        assert equal(b.method.personal(worker.memory.committed()[0], b.start), left[name])
    shared = b.method.aggregate(Server(b.start), updates).shared
    first, second = (update.tensors for update in updates)
    assert all(torch.allclose(tensor, (6 * first[n] + 2 * second[n]) / 8, atol=1e-6) for n, tensor in shared.items())
    assert not equal(left["a"], left["b"])


def test_training_is_federated_averagings() -> None:
    """The same steps from the same start give the same model, bit for bit; only what leaves differs."""
    found = []
    for name in ("norm_local", "fedavg"):
        b = bench(name)
        work = b.work(shared=b.start)
        b.method.train(work)
        found.append(take(b.model, b.backbone.live))
    assert equal(*found)


def test_a_network_without_norm_weights_is_refused(tmp_path: Path) -> None:
    """It would be federated averaging under another name."""
    with pytest.raises(UserError, match="keeps nothing at a site, which is fedavg"):
        Federation(on_squares(Method()), two_squares(), tmp_path).run(1)
