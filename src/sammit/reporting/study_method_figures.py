"""Figures with a row for each method, which stay readable however many methods a study has."""

from __future__ import annotations

from collections.abc import Sequence

from sammit.reporting import wording
from sammit.reporting.method_rows import ROW, Difference, Look, differences, method_rows
from sammit.reporting.study_figures import dice_by_site
from sammit.reporting.study_results import MEAN, Line, Result
from sammit.reporting.svg import COLOURS, MARKERS, PAGE, Picture, Sheet, add_legend, ink, new_figure, plain, to_picture

FEW = 8
"""Methods up to which each has a colour and a mark of its own at every site; more have a row each."""

LOOKS = {
    "better": Look("^", COLOURS[2], filled=True),
    "worse": Look("v", COLOURS[1], filled=True),
    "not significant": Look("o", COLOURS[0], filled=False),
}


def dice(result: Result, sheet: Sheet = PAGE) -> Picture | None:
    """Dice by site and method, in the form that suits the number of methods; None where there is nothing to show."""
    return dice_by_site(result, sheet) if len(result.lines) <= FEW else dice_by_method(result, sheet)


def dice_by_method(result: Result, sheet: Sheet = PAGE) -> Picture | None:
    """A row for each method: the mean over sites with its interval, and the sites as small marks."""
    lines = [line for line in result.lines if result.headline(line).mean is not None]  # and so at every site
    if not lines:
        return None
    sites = result.block.sites
    figure, (axes,) = new_figure(1.0 + ROW * len(lines) + 0.2 * (1 + len(sites) // 3), sheet=sheet)
    method_rows(axes, [line.label for line in lines])
    for place, site in enumerate(sites):
        marker, colour = MARKERS[place % len(MARKERS)], COLOURS[place % len(COLOURS)]
        axes.plot(_scores(result, lines, site), range(len(lines)), linestyle="none", marker=marker, markersize=4,
                  color=colour, alpha=0.75, label=plain(site))  # fmt: skip
    for row, line in enumerate(lines):
        one = result.headline(line)
        if one.low is not None and one.high is not None:
            axes.plot([one.low, one.high], [row, row], color=ink(), linewidth=1.6)
    axes.plot(_scores(result, lines, MEAN), range(len(lines)), linestyle="none", marker="|", markersize=10,
              markeredgewidth=2, color=ink(), label=MEAN)  # fmt: skip
    axes.set_xlabel("Dice; the mean with its 95 % interval")
    add_legend(figure, axes, sheet)
    alt = f"Dice of {len(lines)} methods at {result.sites_in_words}. Means over sites: {_means(result, lines)}."
    return to_picture(figure, f"Dice by method and site, {result.block.title}", alt)


def against(result: Result, sheet: Sheet = PAGE) -> Picture | None:
    """Each method minus the reference in the mean over sites; filled where interval and test tell them apart."""
    rows = [(result.block.labels[one.method], one.mean) for one in result.against if one.mean is not None]
    if not rows:
        return None
    label = result.block.labels[result.reference]
    figure, (axes,) = new_figure(1.1 + ROW * len(rows), sheet=sheet)
    method_rows(axes, [name for name, _ in rows])
    apart = [(gap.apart, gap.verdict) for _, gap in rows]
    differences(axes, [Difference(one.low, one.difference, one.high, verdict) for one, verdict in apart], LOOKS)
    axes.set_xlabel(f"mean Dice minus {plain(label)}'s,\nwith its 95 % interval")
    add_legend(figure, axes, sheet)
    said = [f"{name} {wording.score(gap.apart.difference)}, {gap.verdict}" for name, gap in rows]
    alt = f"Mean Dice over sites minus {label}'s: {'; '.join(said)}."
    return to_picture(figure, f"Each method minus {label}, {result.block.title}", alt)


def _scores(result: Result, lines: Sequence[Line], place: str) -> list[float]:
    """Dice of each line at a site or over sites."""
    return [mean for line in lines if (mean := result.headline(line, place).mean) is not None]


def _means(result: Result, lines: Sequence[Line]) -> str:
    return wording.listed([f"{line.label} {wording.score(result.headline(line).mean)}" for line in lines])
