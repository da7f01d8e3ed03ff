"""Every method under every rule: a round in memory that leaves what it should, or one line that says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny
from methods.aggregators.pairs import Loop, paired
from methods.conftest import TRAINING
from sammit import plugins
from sammit.errors import UserError
from sammit.methods.aggregators.factors import is_factor

RULES = [name for name in plugins.names("aggregators") if name != "naive"]  # which every test of methods has
QUICK = {(name, RULES[place % len(RULES)]) for place, name in enumerate(tiny.METHODS)}
EACH = [
    pytest.param(name, rule, marks=() if (name, rule) in QUICK else pytest.mark.slow)
    for name in tiny.METHODS
    for rule in RULES
]
REASONS = (
    "a rule of its own for what is shared",
    "trains one pooled site",
    "a rule of its own, so",
    "the factors are other ones after each round",
    "no low-rank factors travel here",
    "nothing travels here",
    "weighs the sites by a rule of its own",
)


@pytest.mark.parametrize(("name", "rule"), EACH)
def test_a_method_under_a_rule(name: str, rule: str, tmp_path: Path) -> None:
    """What is sent fits what is expected, the server keeps its names and shapes, factors have moved, if any travel.

    In two rounds where B is personal: a stage of A alone moves nothing while B is zero.
    """
    try:
        b = paired(name, rule, replace(TRAINING, local_steps=2, batch_size=1))
    except UserError as refused:
        assert "\n" not in str(refused) and any(reason in str(refused) for reason in REASONS)
        return
    loop = Loop(b, tmp_path)
    first = loop.server.shared
    last = [loop.round() for _ in range(2 if b.method.aggregator.personalises else 1)][-1].shared
    assert last.keys() == first.keys()
    for key, tensor in first.items():
        assert last[key].shape == tensor.shape and bool(last[key].isfinite().all()), key
    watched = [key for key in first if is_factor(key)] or list(first)  # some rules need no factors
    assert any(not torch.equal(last[key], first[key]) for key in watched)


@pytest.mark.parametrize(
    ("name", "rule", "reason"),
    [
        ("centralised", "fedsa_lora", "centralised trains one pooled site"),
        ("local_only", "flexlora", "no low-rank factors travel here, as .* the method keeps it at the sites"),
        ("fedadam", "flexlora", "fedadam has a rule of its own for what is shared, so 'flexlora' cannot"),
        ("ditto", "flexlora", r"ditto keeps 'own\.' of every shared tensor"),
        ("ditto", "fedsa_lora", "ditto puts each site's own model together by a rule of its own"),
        ("fedadam", "median", "fedadam has a rule of its own for what is shared, so 'median' cannot"),
        ("scaffold", "clipped_mean", "scaffold has a rule of its own for what is shared"),
        ("centralised", "trimmed_mean", "centralised trains one pooled site, which is the only one to answer"),
        ("local_only", "median", "nothing travels here that could be merged; use 'naive'"),
        ("fedavg", "fedex", "unknown aggregator 'fedex': did you mean 'fedex_lora'"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, rule: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        paired(name, rule)
