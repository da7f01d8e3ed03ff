"""What a run costs: counts against closed forms, measurements that make sense, a table that tells what is missing."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import tiny
from sammit.config import ModelConfig
from sammit.errors import UserError
from sammit.federation.prepare import prepare
from sammit.models import attention, products
from sammit.models.build import build_model
from sammit.models.encoder import Block
from sammit.runs import RunFolder
from sammit.study.costs import measure, row
from sammit.study.costs.flops import flop_counter
from sammit.study.costs.table import write_costs
from sammit.study.plan import make_plan
from sammit.study.schema import Measure
from study.small import loaded


def operations(module: nn.Module, given: torch.Tensor) -> tuple[int, int]:
    """Forward and backward, as they are counted; the input has no gradient."""
    with flop_counter() as counter:
        result = module(given)
        forward = counter.get_total_flops()
        result.sum().backward()
    return forward, counter.get_total_flops() - forward


def test_a_linear_layer() -> None:
    """2 b i o forward, as much for the weights' gradient; the input asks for none."""
    assert operations(nn.Linear(7, 5, bias=False), torch.rand(3, 7)) == (2 * 3 * 7 * 5, 2 * 3 * 7 * 5)


def test_a_convolution() -> None:
    """2 i o k k for each of the places."""
    assert operations(nn.Conv2d(3, 5, 3, bias=False), torch.rand(1, 3, 8, 8))[0] == 2 * 3 * 5 * 9 * 36


@pytest.mark.parametrize("backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
def test_attention_by_a_closed_form(backend: SDPBackend) -> None:
    """Two products forward; backward two for each of them, and the fused one multiplies q and k again."""
    batch, heads, queries, keys, depth, width = 2, 3, 16, 24, 8, 8
    q = torch.rand(batch, heads, queries, depth, requires_grad=True)
    k = torch.rand(batch, heads, keys, depth, requires_grad=True)
    v = torch.rand(batch, heads, keys, width, requires_grad=True)
    with flop_counter() as counter, sdpa_kernel(backend):
        result = nn.functional.scaled_dot_product_attention(q, k, v)
        forward = counter.get_total_flops()
        result.sum().backward()
    product = 2 * batch * heads * queries * keys
    assert forward == product * (depth + width)
    again = product * depth if backend == SDPBackend.FLASH_ATTENTION else 0
    assert counter.get_total_flops() - forward == 2 * product * (depth + width) + again


@pytest.mark.parametrize("way", ["in chunks", "in chunks, by oneDNN", "folded"])
def test_an_encoder_block_by_a_closed_form(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sammit's own attention: q and k are longer by the grid's rows and columns; folded, v is padded to them."""
    onednn, folded = way.endswith("oneDNN") and torch.backends.mkldnn.is_available(), way == "folded"
    monkeypatch.setattr(attention, "ways_of_ours", lambda _: not folded)
    monkeypatch.setattr(products, "mkl_holds_back", lambda: onednn)
    monkeypatch.setattr(products, "PAYS", 0)
    model = build_model(ModelConfig("sam-tiny", "random"), 64, 1, 0)
    block = next(block for block in model.vision_encoder.blocks if not block.window)
    side, width, heads = 8, 96, 4
    tokens, depth = side * side, width // heads
    layers = 2 * tokens * width * (3 * width + width + 4 * width + 4 * width)
    offsets = 2 * side if folded else 2 * (2 * side - 1)  # of each query, or all
    bias = 2 * heads * tokens * depth * offsets
    pairs = 2 * heads * tokens * tokens * (2 * depth + 2 * side * (2 if folded else 1))
    assert isinstance(block, Block)
    assert operations(block, torch.rand(1, side, side, width))[0] == layers + bias + pairs


@pytest.mark.parametrize("train", ["all", "adapters"])
def test_fused_attention_is_counted_like_the_plain_one(train: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole network forward, folded; both ways of attention multiply as much."""
    monkeypatch.setattr(attention, "ways_of_ours", lambda _: False)
    model = build_model(ModelConfig("sam-tiny", "random", ("bottleneck",)), 64, 1, 0)
    counted = []
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH):
        with sdpa_kernel(backend):
            counted.append(operations(model, torch.rand(1, 3, 64, 64))[0])
    assert counted[0] == counted[1] > 0


@pytest.fixture(scope="module")
def cost(sites: Path) -> dict[str, Any]:
    """FedMSA on sam-tiny at 64 px, measured."""
    what = tiny.experiment(sites, data={"size": 64}, training={"rounds": 5, "local_steps": 0, "local_epochs": 2.0})
    return measure.measured(prepare(what), 2)


def test_what_is_measured(cost: dict[str, Any], sites: Path, tmp_path: Path) -> None:
    """Counts and bytes are a real run's; times are positive, the training's is computed from the step's."""
    run = tiny.run(tiny.experiment(sites, data={"size": 16}, training={"rounds": 1}), tmp_path / "run")
    summary = json.loads((run / "summary.json").read_text())
    for name in ("trainable", "shared", "local"):  # the frozen rest depends on the image's size
        assert cost["parameters"][name] == summary["parameters"][name]
    for way in ("up", "down"):
        sent = summary["traffic"][f"{way}_bytes_per_site_round"]
        assert cost["bytes"][way] == pytest.approx(sent, rel=1e-4)
    # aster has two patients to train on and birch one, each with two images: 2 + 1 steps of batch 2, twice a round
    assert cost["samples"] == [4, 2] and cost["steps"] == 5 * 2 * (2 + 1)
    assert len(cost["seconds"]["steps"]) == 2 and cost["seconds"]["predict"] > 0
    assert cost["seconds"]["training"] == pytest.approx(30 * cost["seconds"]["step"])
    assert cost["flops"]["backward"] > cost["flops"]["forward"] > 100_000_000
    assert cost["peak_rss_bytes"] > 100_000_000 and cost["peak_gpu_bytes"] is None
    assert cost["machine"]["gpu"] is None and cost["environment"]["threads"] == 1


def test_operations_are_of_one_image(sites: Path, cost: dict[str, Any]) -> None:
    """Whatever the batch, but for the positions of the grid, which a batch needs once."""
    one = tiny.experiment(sites, data={"size": 64}, training={"batch_size": 1})
    assert measure.measured(prepare(one), 1, [100])["flops"] == pytest.approx(cost["flops"], rel=1e-4)


def test_a_row_on_generated_images(tmp_path: Path) -> None:
    """Sites are made where none are given; their images stand for as many as the study says."""
    experiment = tiny.experiment("", training={"local_steps": 0})
    row.measure_row(experiment, tmp_path / "row", Measure(1, (10, 5)))
    found = json.loads((tmp_path / "row" / "cost.json").read_text())
    assert found["samples"] == [10, 5] and found["steps"] == 2 * (5 + 3) and found["image_side"] == 32
    assert RunFolder.open(tmp_path / "row").experiment.data.root == str(tmp_path / "row" / "sites")
    with Image.open(tmp_path / "row" / "sites" / "site-2" / "images" / "p02-0.png") as image:
        assert image.size == (32, 32)


def test_a_model_that_trains_elsewhere_is_refused(sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its steps cannot be taken here."""
    prepared = prepare(tiny.experiment(sites))
    monkeypatch.setattr(type(prepared.backbone.model), "segment_case", lambda *_: None, raising=False)
    with pytest.raises(UserError, match="trains in a process of its own, which is not measured"):
        measure.measured(prepared, 1)


def test_the_table_shows_what_is_there_and_what_is_missing(tmp_path: Path, cost: dict[str, Any]) -> None:
    """Numbers for machines, words for readers, the machine under it; a GPU that is not there is not measured."""
    study = loaded(tmp_path, kind="costs", unseen="none", title="Costs, small")
    plan = make_plan(study, None, tmp_path / "out")
    RunFolder(plan.cells[0].folder(plan.out), plan.cells[0].experiment).write_json("cost.json", cost)
    assert [cell.method for cell in plan.todo] == ["cen"]
    write_costs(plan)
    first, second = csv.DictReader((plan.out / "costs.csv").read_text().splitlines())
    assert first["method"] == "FedMSA" and int(first["trained"]) == cost["parameters"]["trainable"]
    assert float(first["flops_forward"]) == cost["flops"]["forward"] and first["peak_gpu_bytes"] == ""
    assert second["method"] == "MSA" and second["parameters"] == ""
    text = (plan.out / "table.md").read_text()
    assert "Costs, small." in text and "not measured" in text and "| MSA | missing | –" in text
    assert "computed" in text and "Machine: " in text and "generated: 4 and 2" in text
    assert "missing" in (plan.out / "table.tex").read_text()
    rows = json.loads((plan.out / "costs.json").read_text())["rows"]
    assert rows[0]["seconds"] == cost["seconds"] and rows[1]["missing"] is True
