"""FedPer on squares: two rounds by hand, both parts together; and what stays on a Segment Anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from methods.conftest import bench
from methods.squares import BODY, HEAD, PLAIN, Federation, on_squares, two_squares
from sammit.errors import UserError
from sammit.methods.fedper import Method, Options


def together(a: float, b: float, start: float) -> float:
    """How far body and head each move in a round from a sum of `start`: the sum closes on b by 1 - 0.2 a a step."""
    return (b - start) / 2 * (1 - (1 - 2 * PLAIN.lr * a) ** PLAIN.local_steps)


def test_two_rounds_by_hand(tmp_path: Path) -> None:
    """The second starts from the mean of the bodies under each site's own head."""
    run = Federation(on_squares(Method()), two_squares(), tmp_path)
    heads = [together(site.a, site.b, 0) for site in run.sites]  # bodies alike, from 0
    body = sum(heads) / 2
    moves = [together(site.a, site.b, body + head) for site, head in zip(run.sites, heads, strict=True)]
    server = run.run(2)
    assert server.shared.keys() == {BODY}
    assert float(server.shared[BODY]) == pytest.approx(body + sum(moves) / 2)
    for site, head, move in zip(run.sites, heads, moves, strict=True):
        assert float(run.private(site.name)[f"personal.{HEAD}"]) == pytest.approx(head + move)


def test_every_site_is_right_with_a_head_of_its_own(tmp_path: Path) -> None:
    run = Federation(on_squares(Method()), two_squares(), tmp_path)
    server = run.run(60)
    for site in run.sites:
        assert run.answer(site.name, "personal", server.shared) == pytest.approx(site.b, abs=1e-3)


@pytest.mark.parametrize("method", ["fedper", "fedrep"])
def test_what_stays(method: str) -> None:
    """The decoder and detail, or only what makes maps; adapters of the frozen encoder are the body."""
    b = bench(method)
    assert {name.split(".")[0] for name in b.personal} == {"mask_decoder", "detail"}
    assert b.shared and all("adapters" in name for name in b.shared)
    b = bench(method, {"head": "output"})
    own = {"mask_decoder.output_hypernetworks_mlps", "detail.join", "detail.refine", "detail.out"}
    assert {".".join(name.split(".")[:2]) for name in b.personal} == own
    assert any(name.startswith("mask_decoder.transformer") for name in b.shared)


def test_a_model_without_a_body_is_refused() -> None:
    """A frozen encoder without adapters leaves nothing to share."""
    b = bench("fedper", adapter=())
    with pytest.raises(UserError, match="shares nothing, which is local_only"):
        b.method.train(b.work())


def test_a_model_without_an_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="keeps nothing at a site, which is fedavg"):
        Federation(on_squares(Method(Options("output"))), two_squares(), tmp_path).run(1)
