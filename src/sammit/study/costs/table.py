"""The table of a study of costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sammit.files import write_atomically
from sammit.reporting.rendering import Cell as Field
from sammit.reporting.rendering import Table, to_csv, to_latex, to_markdown
from sammit.reporting.wording import NONE, count, duration, listed, size
from sammit.study.cells import Cell
from sammit.study.plan import Plan

Row = tuple[Cell, Mapping[str, Any] | None]
"""A cell, and its `cost.json`; None where it is missing."""

COLUMNS = (
    ("dataset", "Dataset"),
    ("method", "Method"),
    ("model", "Model"),
    ("image_side", "Image, px"),
    ("batch_size", "Batch"),
    ("parameters", "Parameters"),
    ("trained", "Trained"),
    ("sent", "Sent"),
    ("flops_forward", "FLOPs forward"),
    ("flops_backward", "FLOPs backward"),
    ("seconds_step", "A step"),
    ("seconds_training", "Training (computed)"),
    ("seconds_predict", "Predict an image"),
    ("up_bytes", "Up per site and round"),
    ("down_bytes", "Down"),
    ("peak_rss_bytes", "Peak memory"),
    ("peak_gpu_bytes", "Peak GPU memory"),
)


def write_costs(plan: Plan) -> None:
    """Write `costs.json`, `costs.csv`, `table.md` and `table.tex` of the rows that are measured; others are missing."""
    rows: list[Row] = []
    for cell in plan.cells:
        path = cell.folder(plan.out) / plan.work.result
        rows.append((cell, json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None))
    table = costs_table(plan.study.title, rows)
    facts = [
        {"dataset": cell.dataset, "method": cell.method, "label": cell.label, **(cost or {"missing": True})}
        for cell, cost in rows
    ]
    write_atomically(plan.out / "costs.json", json.dumps({"title": plan.study.title, "rows": facts}, indent=2) + "\n")
    write_atomically(plan.out / "costs.csv", to_csv(table))
    write_atomically(plan.out / "table.md", to_markdown(table))
    write_atomically(plan.out / "table.tex", to_latex(table))


def costs_table(title: str, rows: Sequence[Row]) -> Table:
    """A row a method; what was not measured says so."""
    return Table(f"{title}.", COLUMNS, tuple(_fields(cell, cost) for cell, cost in rows), _notes(rows))


def _fields(cell: Cell, cost: Mapping[str, Any] | None) -> tuple[Field, ...]:
    names = (Field(cell.dataset, cell.dataset), Field(cell.label, cell.label))
    if cost is None:
        return *names, Field("missing", None), *[Field(NONE, None)] * (len(COLUMNS) - 3)
    counts, seconds, gpu = cost["parameters"], cost["seconds"], cost["peak_gpu_bytes"]
    return (
        *names,
        Field(cost["model"], cost["model"]),
        *(Field(str(cost[name]), cost[name]) for name in ("image_side", "batch_size")),
        *(Field(count(counts[name]), counts[name]) for name in ("total", "trainable", "shared")),
        *(Field(count(cost["flops"][way]), cost["flops"][way]) for way in ("forward", "backward")),
        Field(f"{seconds['step']:.3g} s", seconds["step"]),
        Field(duration(seconds["training"]), seconds["training"]),
        Field(f"{seconds['predict']:.3g} s", seconds["predict"]),
        *(Field(size(cost["bytes"][way]), cost["bytes"][way]) for way in ("up", "down")),
        Field(size(cost["peak_rss_bytes"]), cost["peak_rss_bytes"]),
        Field("not measured" if gpu is None else size(gpu), gpu),
    )


def _notes(rows: Sequence[Row]) -> tuple[str, ...]:
    """What a reader must know to read the table, and the machines it was measured on."""
    costs = [cost for _, cost in rows if cost is not None]
    notes = [
        "FLOPs are counted, of one image: products, convolutions and attention as they are carried out, "
        "a multiplication and an addition as two; the optimiser is not counted.",
        "The training's time is computed: the steps of all source sites over all rounds, times the median of a step; "
        "scoring and messages are not counted.",
        "Peak memory is that of a process of its own up to the last step. Bytes are those of the serialised messages.",
    ]
    samples = dict.fromkeys(f"{cell.dataset}: {listed([*map(str, cost['samples'])])}" for cell, cost in rows if cost)
    if samples:
        notes.append(f"Training images of the source sites: {'; '.join(samples)}.")
    machines = dict.fromkeys(map(_machine, costs))
    return *notes, *(f"Machine: {machine}." for machine in machines)


def _machine(cost: Mapping[str, Any]) -> str:
    machine, software = cost["machine"], cost["environment"]
    return ", ".join(
        [
            machine["gpu"] or f"{machine['processor']}, {software['threads']} of {machine['cores']} cores",
            software["precision"],
            f"torch {software['versions']['torch']}",
        ]
    )
