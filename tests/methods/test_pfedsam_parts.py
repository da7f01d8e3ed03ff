"""pFedSAM's parts under its options: the decoder, the shared network, and the experts wherever they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from methods.conftest import Pictures, bench, equal, noisy, picture
from methods.pfedsam_bench import after, pfedsam
from sammit.federation.scoring import SiteScores
from sammit.methods.base import Server
from sammit.methods.state import fingerprint, put, take, with_prefix
from sammit.vocabulary import Update

# The decoder and the shared network


def decoder_of(state: Any) -> set[str]:
    return {name for name in state if not name.startswith("vision_encoder.")}


def test_the_decoders_modes() -> None:
    decoder = {mode: pfedsam({"decoder": mode}) for mode in ("full", "frozen", "local")}
    is_decoder = {mode: decoder_of(b.backbone.start) for mode, b in decoder.items()}
    assert is_decoder["full"] and is_decoder["full"] <= set(decoder["full"].shared)
    assert not is_decoder["frozen"]
    assert is_decoder["local"] == is_decoder["full"] and is_decoder["local"] <= set(decoder["local"].personal)
    for mode, b in decoder.items():
        before = take(b.model, is_decoder["full"])
        shared, personal, _ = after(b, shared=b.start, private={})
        moved = not equal(take(b.model, is_decoder["full"]), before)
        assert moved == (mode != "frozen")
        assert bool(is_decoder["full"] & shared.keys()) == (mode == "full")
        assert bool(is_decoder["full"] & personal.keys()) == (mode == "local")


def test_a_low_rank_decoder_trains_and_sends_its_factors_and_its_head() -> None:
    """And nothing else of it: the rest is in the hash of what training must not touch."""
    b = pfedsam({"decoder": "lora"})
    factors = {n for n in decoder_of(b.shared) if ".adapters.lora." in n}
    head = {n for n in decoder_of(b.shared) if "output_hypernetworks_mlps" in n or n.startswith("detail.")}
    assert len(factors) == 7 * 4 and head and decoder_of(b.shared) == factors | head
    assert not decoder_of(b.personal)
    rest = decoder_of(n for n, _ in b.model.named_parameters()) - set(b.shared)
    assert any("q_proj" in name for name in rest) and any("upscale" in name for name in rest)
    before = fingerprint(take(b.model, rest))
    shared, _, _ = after(b, shared=b.start, private={})
    assert fingerprint(take(b.model, rest)) == before
    ups = [n for n in factors if n.endswith("_up.weight")]  # a factor A has no gradient while its B is zero
    assert all(not torch.equal(shared[name], b.start[name]) for name in (*ups, *head))


def test_a_low_rank_decoder_starts_as_the_decoder_it_adapts() -> None:
    images = picture(2, 0).images
    full, low = pfedsam(), pfedsam({"decoder": "lora"})
    assert torch.equal(low.logits(low.start, "personal", images), full.logits(full.start, "personal", images))


def test_bytes_of_a_low_rank_decoder_are_a_formula() -> None:
    """sam-tiny's decoder is 64 wide: two attentions of 64, five of 32, two pairs each; the head is what it was."""
    b = pfedsam({"decoder": "lora"}, options={"decoder_lora": {"rank": 3}})
    sizes = {name: tensor.numel() for name, tensor in b.start.items() if name.startswith("mask_decoder.")}
    factors = sum(size for name, size in sizes.items() if ".adapters." in name)
    assert factors == 2 * 3 * (2 * (64 + 64) + 5 * (64 + 32))
    assert sum(sizes.values()) - factors == 2 * (64 * 64 + 64) + 64 * 8 + 8


def test_factors_of_the_decoder_are_pairs_to_an_aggregator() -> None:
    """What naive averaging of A and B is wrong by is measured on them, where there are no others."""
    model = {"adapter": ("mixture", "decoder_lora")}
    b = pfedsam({"decoder": "lora"}, **model)
    assert not any(".adapters.lora." in name for name in b.shared if name.startswith("vision_encoder."))
    updates = [Update(site, 0, noisy(b.start, seed), {}, 6, {}) for seed, site in enumerate("ab", 1)]
    assert b.method.aggregate(Server(b.start), updates).metrics["lora_error"] > 0.01
    assert (
        "lora_error"
        not in bench("pfedsam", None, adapter=("mixture",))
        .method.aggregate(Server({}), [replace(update, tensors={}) for update in updates])
        .metrics
    )


def test_the_whole_network_can_be_shared() -> None:
    b = pfedsam({"shared": "full"})
    name = "vision_encoder.layers.0.attn.qkv.weight"
    before = take(b.model, [name])[name]
    assert b.method.train_default == "all" and pfedsam().method.train_default == "adapters"
    assert name in b.shared and not any("mixture" in n for n in b.shared)
    shared, _, _ = after(b, shared=b.start, private={})
    assert not torch.equal(shared[name], before)


# The experts


@pytest.mark.parametrize(("path", "independent"), [("bypass", True), ("frozen_in_path", False)])
def test_the_experts_place_in_the_global_stage(path: str, independent: bool) -> None:
    """Bypassed, phi does not know what the experts are; in the path it learns around them, and they still stay."""
    b = pfedsam({"global_stage_moe": path, "global_share": 1.0})
    phi = []
    for seed in (1, 2):
        mine = noisy(take(b.model, b.personal), seed)
        shared, psi, _ = after(b, private=with_prefix("personal", mine))
        assert equal(psi, mine)
        phi.append(shared)
    assert equal(*phi) == independent


@pytest.mark.parametrize(
    "options", [{"expert": "low_rank"}, {"beside": "attention"}, {"blocks": "global"}, {"experts": 1, "top_k": 1}]
)
def test_any_mixture_is_trained_and_stays(options: dict[str, Any]) -> None:
    b = pfedsam(options={"mixture": options})
    before = noisy(take(b.model, b.personal), 1)
    shared, psi, _ = after(b, private=with_prefix("personal", before))
    assert not any("mixture" in name for name in shared)
    still = [name for name in psi if torch.equal(psi[name], before[name])]
    assert not [name for name in still if "gate" not in name]
    assert not still or options["experts"] == 1, "one expert's gate is 1, whatever its router says"


@pytest.mark.parametrize("mixture", [{}, {"top_k": 2}, {"beside": "attention", "experts": 2}, {"blocks": "last_half"}])
def test_a_sites_record_has_the_mean_gates_of_each_block_with_experts(mixture: dict[str, Any]) -> None:
    """Of the personal model alone: bypassed, experts are not used."""
    b = pfedsam(options={"mixture": mixture})
    put(b.model, noisy(take(b.model, b.personal)))
    scores = SiteScores(Pictures(), Looks())  # type: ignore[arg-type]
    for which in b.method.judged:
        b.method.use(b.model, which)
        scores.add(which, b.model, "test")
    blocks = {name.rpartition(".adapters.")[0] for name in b.personal}
    assert set(scores.router) == {f"{block}.adapters.mixture" for block in blocks}
    for gates in scores.router.values():
        assert len(gates) == mixture.get("experts", 4) and sum(gates) == pytest.approx(1.0, abs=1e-5)


class Looks:
    """In place of a scorer: lets the model see a picture."""

    def rows(self, model: nn.Module, *_: Any) -> list[Any]:
        with torch.no_grad():
            model.eval()(picture(2, 0).images)
        return []
