"""What a tracker keeps of a finished run: its texts, models, figures and report.

Images and names of cases are in none of it unless pictures were asked for: the report is written anew without its
pictures and its tables of single cases, as a server across hospitals writes it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sammit.data.writers import write_overlay
from sammit.reporting.folder import RunFolder, read_run
from sammit.reporting.html import report_page
from sammit.reporting.panels import read_case
from sammit.reporting.paper import printed, run_pictures
from sammit.tracking.base import Tracker
from sammit.tracking.names import of_site

TEXTS = ("config.toml", "environment.json", "rounds.jsonl", "summary.json")


def keep(tracker: Tracker, out: Path, pictures: bool, scratch: Path) -> None:
    """Hand everything over.

    Args:
        tracker: takes it.
        out: the run folder.
        pictures: whether images of patients may be among it.
        scratch: an empty folder.
    """
    for name in TEXTS:
        if (out / name).is_file():
            tracker.file(out / name, "")
    for model in sorted((out / "models").rglob("*.safetensors")):
        tracker.file(model, str(model.parent.relative_to(out)))
    run = read_run(out)
    for name, picture in run_pictures(run).items():
        path = scratch / f"{name}.png"
        path.write_bytes(printed(picture, name, "png"))
        tracker.picture(f"figures/{name}.png", path)
    if pictures:
        _overlays(tracker, run, scratch)
    report = scratch / "report.html"
    report.write_text(report_page([run if pictures else replace(run, pictures={}, cases=None)]), encoding="utf-8")
    tracker.file(report, "")


def _overlays(tracker: Tracker, run: RunFolder, scratch: Path) -> None:
    """The cases of the report with each model's mask drawn in, the truth in white; named by site and kind."""
    for site, files in run.pictures.items():
        for kind, path in files:
            stored = read_case(path)
            for model, mask in stored.masks.items():
                drawn = scratch / f"{kind}-{model}.png"
                planes = (array.transpose(1, 2, 0)[None] for array in (mask, stored.truth))
                write_overlay(drawn, stored.image[None], *planes)
                tracker.picture(f"pictures/{of_site(site)}/{drawn.name}", drawn)
