"""Every method of a study minus the best of them, for studies that name no reference."""

from __future__ import annotations

from sammit.reporting import wording
from sammit.reporting.comparison import ALPHA
from sammit.reporting.method_rows import ROW, Difference, Look, differences, method_rows
from sammit.reporting.study_results import Result
from sammit.reporting.study_versus import Versus
from sammit.reporting.svg import COLOURS, PAGE, Picture, Sheet, add_legend, new_figure, plain, to_picture

APART, NOT_APART = "told apart by the test", "not told apart"
LOOKS = {APART: Look("v", COLOURS[1], filled=True), NOT_APART: Look("o", COLOURS[0], filled=False)}


def to_best(result: Result, sheet: Sheet = PAGE) -> Picture | None:
    """Dice of each method minus the best's on the same cases, as the ranking has it; filled where the test agrees."""
    best, labels = result.ranking.best, result.block.labels
    rows = [(labels[method], versus) for method, versus in result.ranking.others.items() if versus is not None]
    if best is None or not rows:
        return None
    figure, (axes,) = new_figure(1.1 + ROW * len(rows), sheet=sheet)
    method_rows(axes, [name for name, _ in rows])
    differences(axes, [_difference(versus) for _, versus in rows], LOOKS)
    axes.set_xlabel(f"Dice minus {plain(labels[best])}'s,\nwith its 95 % interval")
    add_legend(figure, axes, sheet)
    said = [f"{name} {wording.score(one.pooled.mean)}, {wording.p_value(one.p)}" for name, one in rows]
    alt = f"Dice minus {labels[best]}'s, pooled over cases: {'; '.join(said)}."
    return to_picture(figure, f"Each method minus {labels[best]}, {result.block.title}", alt)


def _difference(versus: Versus) -> Difference:
    apart = versus.p < ALPHA and versus.direction != 0
    pooled = versus.pooled
    return Difference(pooled.low, pooled.mean, pooled.high, APART if apart else NOT_APART)
