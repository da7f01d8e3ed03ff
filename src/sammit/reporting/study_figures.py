"""The figures of a study: Dice by method and site, federated minus centralised with the margin, cases by site and part.

Each function returns a `Picture`, or None where there is nothing to show.
"""

from __future__ import annotations

from collections.abc import Mapping

from sammit.reporting import wording
from sammit.reporting.against_bytes import dice_against_bytes
from sammit.reporting.statistics import Difference
from sammit.reporting.study_costs import costs_of
from sammit.reporting.study_results import MEAN, Result
from sammit.reporting.svg import COLOURS, MARKERS, PAGE, Picture, Sheet, add_legend, ink, new_figure, plain, to_picture


def dice_by_site(result: Result, sheet: Sheet = PAGE) -> Picture | None:
    """Each method's Dice at each site and over all, with its interval; a missing one has no mark."""
    lines = [
        line for line in result.lines if any(result.headline(line, site).mean is not None for site in result.places)
    ]
    if not lines:
        return None
    places = [MEAN, *result.block.sites]
    step = len(lines) + 1.6
    figure, (axes,) = new_figure(1.0 + 0.155 * step * len(places) * 0.82 + 0.22 * (1 + len(lines) // 2), sheet=sheet)
    for row, line in enumerate(lines):
        heights = [place * step + row for place in range(len(places))]
        known = [(height, result.headline(line, place)) for height, place in zip(heights, places, strict=True)]
        points = [(one.mean, height, one.low, one.high) for height, one in known if one.mean is not None]
        colour = COLOURS[row % len(COLOURS)]
        for mean, height, low, high in points:
            axes.plot(
                [mean if low is None else low, mean if high is None else high], [height] * 2, color=colour, lw=1.3
            )
        axes.plot([p[0] for p in points], [p[1] for p in points], linestyle="none", color=colour, markersize=5,
                  marker=MARKERS[row % len(MARKERS)], label=plain(line.label))  # fmt: skip
    for place in range(1, len(places)):
        axes.axhline(place * step - 1.3, color=ink(), alpha=0.9 if place == 1 else 0.2, linewidth=0.7)
    axes.set_yticks([place * step + (len(lines) - 1) / 2 for place in range(len(places))], [plain(p) for p in places])
    axes.set_ylim(len(places) * step - 1.3, -1.3)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=ink(), alpha=0.15, linewidth=0.6)
    axes.set_xlabel("Dice with its 95 % interval")
    add_legend(figure, axes, sheet)
    means = wording.listed([f"{line.label} {wording.score(result.headline(line).mean)}" for line in lines])
    alt = f"Dice of {len(lines)} methods at {result.sites_in_words}. Means over sites: {means}."
    return to_picture(figure, f"Dice by method and site, {result.block.title}", alt)


def against_bytes(result: Result, sheet: Sheet = PAGE) -> Picture | None:
    """Mean Dice over sites of each method against the bytes that it moves."""
    summaries = result.block.summaries
    points = [(line.label, costs_of(summaries(line.method)).moved, result.headline(line).mean) for line in result.lines]
    return dice_against_bytes(points, f"Mean Dice against bytes, {result.block.title}", sheet)


def differences(result: Result, sheet: Sheet = PAGE) -> Picture | None:
    """A forest of federated minus centralised: each site thin, all sites together thick, the margin dashed."""
    rows = list(_forest(result))
    if not rows:
        return None
    figure, (axes,) = new_figure(1.1 + 0.2 * len(rows) + 0.22, sheet=sheet)
    for height, (_, gap, pooled) in enumerate(rows):
        if gap is None:
            continue
        colour = COLOURS[1] if pooled else COLOURS[0]
        ends = [gap.low, gap.high] if gap.low == gap.low else [gap.mean, gap.mean]
        axes.plot(ends, [height] * 2, color=colour, linewidth=2.6 if pooled else 1.2)
        axes.plot([gap.mean], [height], marker="D" if pooled else "o", markersize=6 if pooled else 4, color=colour)
    axes.axvline(0, color=ink(), linewidth=1)
    axes.axvline(-result.margin, color=ink(), linewidth=1.2, linestyle=(0, (4, 3)), label=f"margin, -{result.margin:g}")
    axes.set_yticks(range(len(rows)), [plain(name) for name, _, _ in rows])
    for label, (_, _, pooled) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if pooled else "normal")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=ink(), alpha=0.15, linewidth=0.6)
    axes.set_xlabel("difference in Dice with its 95 % interval")
    add_legend(figure, axes, sheet)
    said = [f"{name} {wording.score_with_interval(g.mean, g.low, g.high)}" for name, g, pooled in rows if g and pooled]
    alt = f"Federated minus centralised with the margin -{result.margin:g}: {wording.listed(said)}."
    return to_picture(figure, f"Federated minus centralised, {result.block.title}", alt)


def _forest(result: Result) -> list[tuple[str, Difference | None, bool]]:
    """(name, difference, whether it is of all sites) from top to bottom; a pair, then its sites."""
    rows: list[tuple[str, Difference | None, bool]] = []
    labels = result.block.labels
    for pair in result.pairs:
        if pair.versus is not None:
            rows.append((f"{labels[pair.federated]} - {labels[pair.centralised]}", pair.versus.pooled, True))
            rows += [(site, gap, False) for site, gap in pair.versus.sites.items()]
    return rows


def counts(title: str, parts: Mapping[str, Mapping[str, float]]) -> Picture | None:
    """Cases by site and part, as the sites' own splits have them.

    Args:
        title: of the block.
        parts: site -> part -> number of cases, mean over cells.
    """
    sites = list(parts)
    names = list(dict.fromkeys(name for site in sites for name, number in parts[site].items() if number))
    if not names:
        return None
    figure, (axes,) = new_figure(1.3 + 0.34 * len(sites))
    left = [0.0] * len(sites)
    hatches = ("", "///", "...", "xxx")
    for place, name in enumerate(names):
        widths = [parts[site].get(name, 0.0) for site in sites]
        axes.barh(range(len(sites)), widths, left=left, height=0.62, color=COLOURS[place % len(COLOURS)], label=name,
                  hatch=hatches[place % len(hatches)], edgecolor=ink(), linewidth=0.5)  # fmt: skip
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, total in enumerate(left):
        axes.text(total + 0.012 * max(left), place, f"{total:.0f}", va="center", fontsize=9, color=ink())
    axes.set_yticks(range(len(sites)), [plain(site) for site in sites])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(visible=False)
    axes.set_xlabel("cases")
    add_legend(figure, axes)
    alt = "Cases by part: " + "; ".join(f"{site}: {_listed(parts[site])}" for site in sites) + "."
    return to_picture(figure, f"Cases by site and part, {title}", alt)


def _listed(parts: Mapping[str, float]) -> str:
    return wording.listed([f"{number:.0f} {name}" for name, number in parts.items() if number])
