"""FedRep on squares: the head with the body frozen, then the body with the head frozen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from methods.conftest import TRAINING, Pictures, bench
from methods.squares import BODY, HEAD, PLAIN, Federation, on_squares, two_squares
from sammit.errors import UserError
from sammit.methods.fedrep import Method, Options
from sammit.methods.state import without_prefix


def test_the_head_then_the_body(tmp_path: Path) -> None:
    """By hand from 0: two steps of the head towards b, then the body goes on with the head where it is."""
    run = Federation(on_squares(Method(Options(head_share=0.4))), two_squares(), tmp_path)
    server = run.run(1)
    bodies = []
    for site in run.sites:
        head = site.b * (1 - (1 - PLAIN.lr * site.a) ** 2)
        body = (site.b - head) * (1 - (1 - PLAIN.lr * site.a) ** 3)
        assert [stage for stage, _, _ in site.seen] == ["head"] * 2 + ["body"] * 3
        assert [now[1] for now in site.seen[:3]] == [0.0, 0.0, 0.0]
        assert [now[2] for now in site.seen[2:]] == pytest.approx([head] * 3)
        assert float(run.private(site.name)[f"personal.{HEAD}"]) == pytest.approx(head)
        bodies.append(body)
    assert server.shared.keys() == {BODY}
    assert float(server.shared[BODY]) == pytest.approx(sum(bodies) / 2)


def test_heads_make_up_for_the_sites(tmp_path: Path) -> None:
    """After enough rounds every site is right, each with a head of its own on one body."""
    run = Federation(on_squares(Method()), two_squares(), tmp_path)
    server = run.run(60)
    for site in run.sites:
        assert run.answer(site.name, "personal", server.shared) == pytest.approx(site.b, abs=1e-3)
    heads = [float(run.private(site.name)[f"personal.{HEAD}"]) for site in run.sites]
    assert heads[1] - heads[0] == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize(("share", "heads"), [(0.0, 0), (0.25, 1), (0.9, 3), (1.0, 4)])
def test_both_phases_take_the_rounds_steps(share: float, heads: int) -> None:
    b, site = bench("fedrep", {"head_share": share}), Pictures()
    outcome = b.method.train(b.work(site))
    assert site.stages == ["head"] * heads + ["body"] * (4 - heads)
    assert outcome.metrics["steps"] == 4


def test_moments_of_both_phases_are_kept() -> None:
    """Where the recipe keeps them: a step count goes on from round to round, each part's own."""
    b = bench("fedrep", {"head_share": 0.25}, replace(TRAINING, optimiser_state="keep"))
    private = b.method.train(b.work()).private
    again = b.method.train(b.work(None, 1, private=private)).private
    kept = without_prefix("optimiser", again)
    assert {name.partition("|")[0] for name in kept} == set(b.backbone.live)
    assert {float(kept[f"{name}|step"]) for name in b.personal} == {2.0}
    assert {float(kept[f"{name}|step"]) for name in b.shared} == {6.0}


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(UserError, match=r"method\.head_share"):
        Method(Options(head_share=1.5))
