"""Figures with a row for each method, which stay readable however many methods a study has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sammit.reporting import wording
from sammit.reporting.study_figures import dice_by_site
from sammit.reporting.study_results import MEAN, Line, Result
from sammit.reporting.svg import COLOURS, MARKERS, PAGE, Picture, Sheet, add_legend, ink, new_figure, plain, to_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW = 8
"""Methods up to which each has a colour and a mark of its own at every site; more have a row each."""

_ROW = 0.21  # inches


def dice(result: Result, sheet: Sheet = PAGE) -> Picture | None:
    """Dice by site and method, in the form that suits the number of methods; None where there is nothing to show."""
    return dice_by_site(result, sheet) if len(result.lines) <= FEW else dice_by_method(result, sheet)


def dice_by_method(result: Result, sheet: Sheet = PAGE) -> Picture | None:
    """A row for each method: the mean over sites with its interval, and the sites as small marks."""
    lines = [line for line in result.lines if result.headline(line).mean is not None]  # and so at every site
    if not lines:
        return None
    sites = result.block.sites
    figure, (axes,) = new_figure(1.0 + _ROW * len(lines) + 0.2 * (1 + len(sites) // 3), sheet=sheet)
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
    figure, (axes,) = new_figure(1.1 + _ROW * len(rows), sheet=sheet)
    method_rows(axes, [name for name, _ in rows])
    colours = {"better": COLOURS[2], "worse": COLOURS[1], "not significant": COLOURS[0]}
    marks = {"better": "^", "worse": "v", "not significant": "o"}
    for row, (_, gap) in enumerate(rows):
        ends = [gap.apart.low, gap.apart.high]
        axes.plot(ends, [row, row], color=colours[gap.verdict], linewidth=1.4)
    for verdict, colour in colours.items():
        own = [(gap.apart.difference, row) for row, (_, gap) in enumerate(rows) if gap.verdict == verdict]
        if own:
            axes.plot([x for x, _ in own], [row for _, row in own], linestyle="none", marker=marks[verdict],
                      color=colour, markersize=6, label=verdict,
                      markerfacecolor="none" if verdict == "not significant" else colour)  # fmt: skip
    axes.axvline(0, color=ink(), linewidth=1)
    axes.set_xlabel(f"mean Dice minus {plain(label)}'s,\nwith its 95 % interval")
    add_legend(figure, axes, sheet)
    said = [f"{name} {wording.score(gap.apart.difference)}, {gap.verdict}" for name, gap in rows]
    alt = f"Mean Dice over sites minus {label}'s: {'; '.join(said)}."
    return to_picture(figure, f"Each method minus {label}, {result.block.title}", alt)


def method_rows(axes: Axes, names: Sequence[str]) -> None:
    """A named row for each method, the first on top."""
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=ink(), alpha=0.15, linewidth=0.6)


def _scores(result: Result, lines: Sequence[Line], place: str) -> list[float]:
    """Dice of each line at a site or over sites."""
    return [mean for line in lines if (mean := result.headline(line, place).mean) is not None]


def _means(result: Result, lines: Sequence[Line]) -> str:
    return wording.listed([f"{line.label} {wording.score(result.headline(line).mean)}" for line in lines])
