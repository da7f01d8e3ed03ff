"""How sites use their experts: mean gates by block at each site, by site over all blocks, and what that says.

A router is even where every expert's mean gate is 1 / experts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sammit.reporting import wording
from sammit.reporting.heat import heat, name_columns, name_rows
from sammit.reporting.svg import Picture, new_figure, to_picture

Router = Mapping[str, Mapping[str, Sequence[float]]]
"""Site -> block -> mean gate of each expert; the gates of a block sum to 1."""

TALLEST = 9.0
"""Inches of one picture; what does not fit goes into another."""


def shares(router: Router) -> dict[str, list[float]]:
    """Site -> mean gate of each expert over the blocks; over those that have an expert of that number.

    Sites without any block are left out. Experts of one number in two blocks are no relatives: what a site prefers
    block by block, `evenness` of each block tells.
    """
    return {
        site: [_mean(column) for column in _columns(list(blocks.values()))] for site, blocks in router.items() if blocks
    }


def _columns(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Each expert's gates in those rows that are long enough."""
    return [[row[place] for row in rows if place < len(row)] for place in range(max(map(len, rows)))]


def evenness(gates: Sequence[float]) -> float:
    """Entropy of mean gates over that of an even router: 1 where all are alike, 0 where one expert has all."""
    total = math.fsum(gates)
    if len(gates) < 2 or total <= 0:
        return 1.0
    parts = [gate / total for gate in gates if gate > 0]
    return -math.fsum(part * math.log(part) for part in parts) / math.log(len(gates))


def reading(router: Router) -> str:
    """Which expert each site leans on, and how far from even its routers are; "" without a router."""
    table = shares(router)
    if not table:
        return ""
    leaning = [
        f"{site} leans most on expert {gates.index(max(gates))} ({wording.score(max(gates), 2)})"
        for site, gates in table.items()
    ]
    even = {site: _mean([evenness(gates) for gates in router[site].values()]) for site in table}
    said = [f"{wording.score(value, 2)} at {site}" for site, value in even.items()]
    return (
        f"Over all blocks {wording.listed(leaning)}; an even router gives each expert "
        f"{wording.score(1 / max(map(len, table.values())), 2)}. Block by block the entropy of "
        f"the mean gates is in the mean {wording.listed(said)}, where 1 is even and 0 is one expert alone."
    )


def by_site(router: Router, name: str) -> Picture | None:
    """A row for each site, a column for each expert: mean gates over the blocks.

    Args:
        router: of one run.
        name: of the run; keeps titles, and so ids, apart on a page.
    """
    table = shares(router)
    if not table:
        return None
    experts = max(map(len, table.values()))
    figure, (axes,) = new_figure(1.2 + 0.34 * len(table))
    rows = [_padded(gates, experts) for gates in table.values()]
    heat(axes, rows, 0.0, max(max(gates) for gates in table.values()))
    name_rows(axes, list(table))
    name_columns(axes, [str(place) for place in range(experts)])
    axes.set_xlabel("expert")
    said = "; ".join(f"{site} {_listed(gates)}" for site, gates in table.items())
    alt = f"Mean gate of each expert over all blocks, by site; an even router has {1 / experts:.2f}. {said}."
    return to_picture(figure, f"Router use by site, {name}", alt)


def by_block(router: Router, name: str) -> list[Picture]:
    """For each site a matrix, a row for each block and a column for each expert; as many pictures as they need."""
    sites = [site for site in router if router[site]]
    if not sites:
        return []
    height = max(0.9 + 0.19 * len(router[site]) for site in sites)
    together = max(1, int(TALLEST / height))
    groups = [sites[start : start + together] for start in range(0, len(sites), together)]
    titles = [f"Router use by block{f' ({place})' if place else ''}, {name}" for place in range(len(groups))]
    return [
        _blocks({site: router[site] for site in group}, title, height)
        for group, title in zip(groups, titles, strict=True)
    ]


def _blocks(router: Router, title: str, height: float) -> Picture:
    """The matrices of some sites, one below the other."""
    experts = max(len(gates) for blocks in router.values() for gates in blocks.values())
    figure, all_axes = new_figure(height * len(router), rows=len(router))
    for axes, (site, blocks) in zip(all_axes, router.items(), strict=True):
        heat(axes, [_padded(gates, experts) for gates in blocks.values()], 0.0, 1.0)
        name_rows(axes, [str(place) for place in range(len(blocks))])
        name_columns(axes, [str(place) for place in range(experts)])
        axes.set_ylabel("block")
        axes.set_title(site.replace("$", r"\$"), fontsize=10, loc="left")
    all_axes[-1].set_xlabel("expert")
    alt = f"Mean gate of {experts} experts in each block at {wording.listed(list(router))}."
    return to_picture(figure, title, alt)


def _padded(gates: Sequence[float], experts: int) -> list[float | None]:
    return [*gates, *[None] * (experts - len(gates))]


def _listed(gates: Sequence[float]) -> str:
    return wording.listed([wording.score(gate, 2) for gate in gates])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
