"""The figures of a run: curves by site, bytes, parameters.

Each function returns a `Picture`, or None where the run has nothing to show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sammit.reporting import wording
from sammit.reporting.folder import Round
from sammit.reporting.svg import (
    COLOURS,
    PAGE,
    Picture,
    Sheet,
    add_legend,
    ink,
    new_figure,
    plain,
    series_style,
    to_picture,
)


def loss_curves(rounds: Sequence[Round], selected: int | None, name: str, sheet: Sheet = PAGE) -> Picture | None:
    """Training loss by site and round.

    Args:
        rounds: of one run.
        selected: the round whose models were tested, marked by a line.
        name: of the run; keeps titles, and so ids, apart on a page.
        sheet: what it is drawn on.
    """
    sites = list(dict.fromkeys(site for record in rounds for site in record.loss))
    if not sites:
        return None
    figure, (axes,) = new_figure(3.2, sheet=sheet)
    for place, site in enumerate(sites):
        points = [(r.number, r.loss.get(site)) for r in rounds]
        axes.plot([x for x, _ in points], [float("nan") if y is None else y for _, y in points],
                  label=plain(site), markevery=_every(rounds), **series_style(place))  # fmt: skip
    axes.set_ylabel("training loss")
    _rounds_axis(axes, rounds, selected)
    add_legend(figure, axes, sheet)
    last = wording.listed([f"{site} {_last(rounds, site):.3g}" for site in sites])
    return to_picture(figure, f"Training loss, {name}", f"Training loss by round for each site; last values: {last}.")


def _every(rounds: Sequence[Round]) -> int:
    """Markers at about twelve rounds, so that long runs do not become beads."""
    return max(1, len(rounds) // 12)


def _last(rounds: Sequence[Round], site: str) -> float:
    return next(record.loss[site] for record in reversed(rounds) if site in record.loss)


def _rounds_axis(axes: Any, rounds: Sequence[Round], selected: int | None) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("round (counted from 0)" if rounds[0].number == 0 else "round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if selected is not None:
        axes.axvline(selected, color=ink(), linewidth=1.2, linestyle=(0, (2, 2)), label="selected round")


def validation_curves(rounds: Sequence[Round], selected: int | None, name: str, sheet: Sheet = PAGE) -> Picture | None:
    """Validation Dice by site and round; personal models filled and solid, global ones open and dashed."""
    scored = [record for record in rounds if any(record.validation.values())]
    if not scored:
        return None
    figure, (axes,) = new_figure(3.6, sheet=sheet)
    sites = list(dict.fromkeys(s for record in scored for model in record.validation.values() for s in model))
    both = any(record.validation["personal"] for record in scored) and any(r.validation["global"] for r in scored)
    for place, site in enumerate(sites):
        for model in ("global", "personal"):
            points = [(r.number, r.validation[model][site]) for r in scored if site in r.validation[model]]
            if points:
                style = _model_style(series_style(place), model) if both else series_style(place)
                label = plain(f"{site}, {model}" if both else site)
                axes.plot(*zip(*points, strict=True), label=label, markevery=_every(scored), **style)
    axes.set_ylabel("validation Dice")
    _rounds_axis(axes, scored, selected)
    add_legend(figure, axes, sheet)
    alt = "Validation Dice by round for each site" + (", global and personal models." if both else ".")
    return to_picture(figure, f"Validation Dice, {name}", alt)


def _model_style(style: dict[str, Any], model: str) -> dict[str, Any]:
    """Site by colour and marker; personal solid and filled, global dashed and open."""
    if model == "personal":
        return {**style, "linestyle": "-"}
    return {**style, "linestyle": "--", "linewidth": 1.1, "markerfacecolor": "none"}


def traffic(rounds: Sequence[Round], name: str) -> Picture | None:
    """Bytes up and down: each site's mean over rounds, and all sites' sum in each round."""
    sites = list(dict.fromkeys(site for record in rounds for site in (*record.down, *record.up)))
    if not sites:
        return None
    ways = {"up (site to server)": [r.up for r in rounds], "down (server to site)": [r.down for r in rounds]}
    unit, divisor = _byte_unit(max(value for way in ways.values() for sent in way for value in sent.values()))
    figure, (by_site, by_round) = new_figure(1.9 + 0.32 * len(sites) + 1.5, rows=2)
    for place, (label, way) in enumerate(ways.items()):
        means = [sum(sent.get(site, 0) for sent in way) / len(rounds) / divisor for site in sites]
        heights = [i + 0.38 * (place - 0.5) for i in range(len(sites))]
        by_site.barh(heights, means, height=0.36, color=COLOURS[place], hatch=("", "///")[place], edgecolor=ink(),
                     linewidth=0.5, label=label)  # fmt: skip
        totals = [sum(sent.values()) / divisor for sent in way]
        by_round.plot([r.number for r in rounds], totals, markevery=_every(rounds), **series_style(place))
    by_site.set_yticks(range(len(sites)), [plain(site) for site in sites])
    by_site.invert_yaxis()
    by_site.set_xlabel(f"{unit} per round, mean")
    by_site.grid(visible=False)
    by_round.set_ylabel(f"{unit}, all sites")
    by_round.set_ylim(0, 1.12 * max(sum(sent.values()) for way in ways.values() for sent in way) / divisor + 1e-9)
    _rounds_axis(by_round, rounds, None)
    add_legend(figure, by_site)
    up = wording.size(sum(sum(record.up.values()) for record in rounds))
    down = wording.size(sum(sum(record.down.values()) for record in rounds))
    alt = f"Bytes sent by each site and in each round. All rounds together: {up} up, {down} down."
    return to_picture(figure, f"Bytes up and down, {name}", alt)


def _byte_unit(largest: float) -> tuple[str, float]:
    """The unit in which the largest number is readable, and how many bytes it has."""
    for unit, divisor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if largest >= divisor:
            return unit, divisor
    return "bytes", 1.0


def parameters(counts: Mapping[str, int], name: str) -> Picture | None:
    """All parameters, those that are trained, those that travel and those that stay, on a logarithmic axis."""
    words = {"total": "all", "trainable": "trained", "shared": "shared (travel)", "local": "local (stay)"}
    known = [(words[key], int(counts[key])) for key in words if counts.get(key)]
    if not known:
        return None
    figure, (axes,) = new_figure(0.8 + 0.36 * len(known))
    axes.barh(range(len(known)), [number for _, number in known], color=COLOURS[0], height=0.6)
    for place, (_, number) in enumerate(known):
        axes.text(number, place, f" {wording.count(number)}", va="center", fontsize=9, color=ink())
    axes.set_yticks(range(len(known)), [word for word, _ in known])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(left=min(number for _, number in known) / 10, right=max(number for _, number in known) * 6)
    axes.set_xlabel("parameters (logarithmic axis)")
    axes.grid(visible=False)
    alt = "Parameters: " + wording.listed([f"{wording.count(number)} {word}" for word, number in known]) + "."
    return to_picture(figure, f"Parameters, {name}", alt)
