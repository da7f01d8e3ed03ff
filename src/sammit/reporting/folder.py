"""Reading a run folder for a report. Only `summary.json` must be there; what else is missing is None, and said."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sammit.errors import UserError
from sammit.reporting.cases import CaseScore, read_cases
from sammit.reporting.summary import Summary, read_summary


@dataclass(frozen=True)
class Round:
    """One line of `rounds.jsonl`.

    Attributes:
        number: the round, counted from 0.
        loss: training loss by site; a site that failed has none.
        validation: model ("global" or "personal") -> site -> Dice; empty in a round without validation.
        up, down: bytes by site.
        failed: reason by site.
        server: numbers about the aggregation, as the method and the aggregator name them.
        seconds: that orders, training and aggregation took; None where that was not written.
    """

    number: int
    loss: Mapping[str, float]
    validation: Mapping[str, Mapping[str, float]]
    up: Mapping[str, float]
    down: Mapping[str, float]
    failed: Mapping[str, str]
    server: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True)
class RunFolder:
    """What a run left behind.

    Attributes:
        path: the folder.
        summary: `summary.json`.
        cases: rows of `cases.csv`; None where there is none (a deployed server holds no cases).
        rounds: lines of `rounds.jsonl`; empty where there is none.
        config: text of `config.toml`, or None.
        environment: `environment.json`, or None.
        router: site -> block -> mean gate of each expert, or None.
        pictures: site -> (kind, file), in the order best, median, worst.
    """

    path: Path
    summary: Summary
    cases: list[CaseScore] | None
    rounds: list[Round]
    config: str | None
    environment: dict[str, Any] | None
    router: dict[str, dict[str, list[float]]] | None
    pictures: dict[str, list[tuple[str, Path]]]


def read_run(path: Path) -> RunFolder:
    """Read a run folder.

    Raises:
        UserError: no folder, no `summary.json`, or a file that cannot be read, named.
    """
    if not path.is_dir():
        raise UserError(f"{path}: there is no such run folder; check the path")
    summary = read_summary(path / "summary.json")
    cases, rounds, config = path / "cases.csv", path / "rounds.jsonl", path / "config.toml"
    return RunFolder(
        path=path,
        summary=summary,
        cases=read_cases(cases) if cases.exists() else None,
        rounds=_read_rounds(rounds) if rounds.exists() else [],
        config=config.read_text(encoding="utf-8") if config.exists() else None,
        environment=_read_object(path / "environment.json"),
        router=_read_object(path / "router.json"),
        pictures=_find_pictures(path / "pictures", [*summary["sites"], *(summary.get("unseen") or {})]),
    )


def _read_object(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a JSON file ({error}); mend or remove it") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold a JSON object; mend or remove it")
    return value


def _read_rounds(path: Path) -> list[Round]:
    rounds = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rounds.append(round_of(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{path}, line {number}: no record of a round; mend or remove the line") from None
    return sorted(rounds, key=lambda record: record.number)


def rounds_so_far(path: Path) -> list[Round]:
    """The rounds in a `rounds.jsonl` that may still be on its way here: lines cut short and a missing file are none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            found.append(round_of(json.loads(line)))
    return sorted(found, key=lambda record: record.number)


def round_of(line: Mapping[str, Any]) -> Round:
    """A line of the log; raises ValueError, KeyError, TypeError or AttributeError where it is none."""
    validation = line.get("validation") or {}
    return Round(
        number=int(line["round"]),
        loss=_numbers(line.get("loss")),
        validation={
            model: _numbers({site: (scores or {}).get(model) for site, scores in validation.items()})
            for model in ("global", "personal")
        },
        up=_numbers(line.get("up_bytes")),
        down=_numbers(line.get("down_bytes")),
        failed={site: str(reason) for site, reason in (line.get("failed") or {}).items()},
        server=_numbers(line.get("server")),
        seconds=line.get("seconds"),
    )


def _numbers(values: Mapping[str, Any] | None) -> dict[str, float]:
    """The finite numbers among the values: a diverged loss leaves a gap in its curve."""
    known = {name: float(value) for name, value in (values or {}).items() if value is not None}
    return {name: value for name, value in known.items() if math.isfinite(value)}


def _find_pictures(folder: Path, order: list[str]) -> dict[str, list[tuple[str, Path]]]:
    """Pictures by site, in the summary's order of sites; folders of other names after them."""
    sites = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    sites.sort(key=lambda path: order.index(path.name) if path.name in order else len(order))
    found = {
        site.name: [
            (kind, site / f"{kind}.npz") for kind in ("best", "median", "worst") if (site / f"{kind}.npz").exists()
        ]
        for site in sites
    }
    return {site: files for site, files in found.items() if files}
