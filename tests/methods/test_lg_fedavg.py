"""LG-FedAvg on squares: two rounds by hand; on a Segment Anything the opposite of FedPer."""

from __future__ import annotations

from pathlib import Path

import pytest

from methods.conftest import bench
from methods.squares import BODY, HEAD, PLAIN, Federation, on_squares, two_squares
from sammit.methods.lg_fedavg import Method


def test_two_rounds_by_hand(tmp_path: Path) -> None:
    """Body and head move alike in a round; the second starts from each site's own body and the mean of the heads."""
    run = Federation(on_squares(Method()), two_squares(), tmp_path)
    run.sites[0].count = 2
    shrink = [(1 - (1 - 2 * PLAIN.lr * site.a) ** PLAIN.local_steps) / 2 for site in run.sites]
    bodies = [site.b * s for site, s in zip(run.sites, shrink, strict=True)]
    head = (2 * bodies[0] + bodies[1]) / 3
    moves = [(site.b - body - head) * s for site, body, s in zip(run.sites, bodies, shrink, strict=True)]
    server = run.run(2)
    assert server.shared.keys() == {HEAD}
    assert float(server.shared[HEAD]) == pytest.approx(head + (2 * moves[0] + moves[1]) / 3)
    for site, body, move in zip(run.sites, bodies, moves, strict=True):
        assert float(run.private(site.name)[f"personal.{BODY}"]) == pytest.approx(body + move)


@pytest.mark.parametrize("head", ["decoder", "output"])
def test_it_is_the_opposite_of_fedper(head: str) -> None:
    """What one shares, the other keeps."""
    ours, theirs = bench("lg_fedavg", {"head": head}), bench("fedper", {"head": head})
    assert (ours.shared, ours.personal) == (theirs.personal, theirs.shared)
    assert ours.shared and ours.personal
