"""The model card that goes with every export; its numbers come from the run folder."""

from __future__ import annotations

from typing import Any

from sammit.exporting.trained import Trained
from sammit.reporting import wording

LIMITS = (
    "Research, not a medical device: nothing here was tested in the clinic, and masks must not guide care. Scores are "
    "of the sites named here; at another hospital, scanner or stain they may be far lower, and a mask may be wrong "
    "without any sign of it."
)


def card(trained: Trained, how: str) -> str:
    """The card in Markdown.

    Args:
        trained: the model.
        how: how this export is run, in Markdown.
    """
    parts = [
        f"# {_title(trained)}",
        f"Segments {wording.listed(trained.predictor.structures)} in an image. Made with Sammit {_version(trained)}.",
        "## Intended use\n\nResearch on segmentation across sites that cannot share data.",
        f"## Limits\n\n{LIMITS}",
        f"## How to run\n\n{how}",
        "## Model\n\n" + "\n".join(f"- {line}" for line in _model(trained)),
        f"## Data and scores\n\n{_scores(trained)}",
        "## Licence\n\nScripts: Apache-2.0. Segment Anything's published weights, where training started from them: "
        "Apache-2.0. The trained weights belong to the sites that trained them, who say what may be done with them.",
    ]
    return "\n\n".join(parts) + "\n"


def _title(trained: Trained) -> str:
    whose = f"personal model of {trained.site}" if trained.site else "global model"
    return f"{trained.run.experiment.method.name}, {trained.run.experiment.model.name}: {whose}"


def _version(trained: Trained) -> str:
    return str(trained.run.read_json("environment.json")["versions"]["sammit"])


def _model(trained: Trained) -> list[str]:
    experiment, view = trained.run.experiment, trained.predictor.view
    base = experiment.model.weights if experiment.model.weights in ("pretrained", "random") else "a file of the user's"
    rounds = wording.plural(experiment.training.rounds, "round")
    where = "tiles of" if view.kind == "tile" else "the whole image resized to"
    count = wording.count(sum(parameter.numel() for parameter in trained.model.parameters()))
    lines = [
        f"Network: {experiment.model.name}, {count} parameters as exported; weights before training: {base}.",
        f"Training: {experiment.method.name}, {rounds}, seed {experiment.seed}.",
        f"It sees {where} {view.size} x {view.size} pixels.",
    ]
    notes = trained.run.read_json("environment.json").get("notes", [])
    return [*lines, *trained.notes, *notes]


def _scores(trained: Trained) -> str:
    """A row for each site and structure: cases and patients that were scored, Dice and IoU with intervals."""
    if not trained.summary:
        return "Not here: a site joined a finished run, and the scores are in the folder of that joining."
    rows = ["| Site | Structure | Cases | Patients | Dice [95 % interval] | IoU [95 % interval] |", "| --- " * 6 + "|"]
    for site, entry in trained.summary["sites"].items():
        scores = entry["models"].get(trained.predictor.which)
        if scores and (not trained.site or site == trained.site):
            rows += [_row(site, entry, structure, values) for structure, values in scores.items()]
    part = wording.scored_part(trained.summary)
    method = f"protocol `{trained.summary['protocol']}`, on {part} patients, intervals by resampling patients"
    unseen = trained.summary.get("unseen")
    left = f" Sites that took no part ({', '.join(unseen)}) are in the run's own report." if unseen else ""
    return f"Scores of this model, {method}.{left}\n\n" + "\n".join(rows)


def _row(site: str, entry: dict[str, Any], structure: str, values: dict[str, Any]) -> str:
    dice, iou = (
        wording.score_with_interval(values[metric]["mean"], values[metric].get("low"), values[metric].get("high"))
        for metric in ("dice", "iou")
    )
    return f"| {site} | {structure} | {entry['cases']} | {entry['patients']} | {dice} | {iou} |"
