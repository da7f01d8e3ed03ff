"""Every method of a study minus the best of them, for studies that name no reference."""

from __future__ import annotations

from sammit.reporting import wording
from sammit.reporting.comparison import ALPHA
from sammit.reporting.study_method_figures import method_rows
from sammit.reporting.study_results import Result
from sammit.reporting.study_versus import Versus
from sammit.reporting.svg import COLOURS, PAGE, Picture, Sheet, add_legend, ink, new_figure, plain, to_picture

ROW = 0.21  # inches

LABELS = {True: "told apart by the test", False: "not told apart"}


def to_best(result: Result, sheet: Sheet = PAGE) -> Picture | None:
    """Dice of each method minus the best's on the same cases, as the ranking has it; filled where the test agrees."""
    best, labels = result.ranking.best, result.block.labels
    rows = [(labels[method], versus) for method, versus in result.ranking.others.items() if versus is not None]
    if best is None or not rows:
        return None
    figure, (axes,) = new_figure(1.1 + ROW * len(rows), sheet=sheet)
    method_rows(axes, [name for name, _ in rows])
    for row, (_, versus) in enumerate(rows):
        axes.plot([versus.pooled.low, versus.pooled.high], [row, row], color=_colour(_apart(versus)), linewidth=1.4)
    for told, label in LABELS.items():
        own = [(versus.pooled.mean, row) for row, (_, versus) in enumerate(rows) if _apart(versus) == told]
        if own:
            axes.plot([x for x, _ in own], [row for _, row in own], linestyle="none", marker="v" if told else "o",
                      color=_colour(told), markerfacecolor=_colour(told) if told else "none", markersize=6,
                      label=label)  # fmt: skip
    axes.axvline(0, color=ink(), linewidth=1)
    axes.set_xlabel(f"Dice minus {plain(labels[best])}'s,\nwith its 95 % interval")
    add_legend(figure, axes, sheet)
    said = [f"{name} {wording.score(one.pooled.mean)}, {wording.p_value(one.p)}" for name, one in rows]
    alt = f"Dice minus {labels[best]}'s, pooled over cases: {'; '.join(said)}."
    return to_picture(figure, f"Each method minus {labels[best]}, {result.block.title}", alt)


def _apart(versus: Versus) -> bool:
    return versus.p < ALPHA and versus.direction != 0


def _colour(told: bool) -> str:
    return COLOURS[1] if told else COLOURS[0]
