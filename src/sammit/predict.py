"""A run's model on new images, and its scores on other data: how a user meets what was trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from sammit.config import DataConfig
from sammit.data.images import site_of_images
from sammit.data.site import Site
from sammit.data.sites import discover
from sammit.data.writers import mask_suffix, write_mask, write_overlay
from sammit.errors import UserError, nearest
from sammit.federation.prepare import make_method
from sammit.federation.scoring import SiteScores
from sammit.geometry import View
from sammit.learning.evaluate import Scorer
from sammit.learning.inference import segment_slices
from sammit.methods.state import put
from sammit.models.build import build_model
from sammit.models.precision import compute_in
from sammit.models.weights import base_hash
from sammit.runs import RunFolder, read_state
from sammit.toml import build


@dataclass(frozen=True)
class Predictor:
    """A run's model, ready for images.

    Attributes:
        model: (B, 3, size, size) in [0, 1] -> (B, C, h, w) logits.
        which: "global" or "personal".
        structures: names in the order of C.
        data: how the images of training were read; new ones are read alike.
        channels: which channels of an image the model was trained on; empty: all.
        view: how the model looks at an image.
        device: where the model is.
    """

    model: nn.Module
    which: str
    structures: tuple[str, ...]
    data: DataConfig
    channels: tuple[int, ...]
    view: View
    device: str


def load_predictor(run: Path, site: str = "") -> Predictor:
    """The model of a run folder: the global one, or a site's own.

    Args:
        run: a finished run's folder; nothing else is needed but published weights, where the run started from them.
        site: whose personal model; empty for the global one.

    Raises:
        UserError: no finished run, no such site, no global model in it, or another base than the run's.
    """
    folder = RunFolder.open(run)
    if not folder.finished and not (run / "join.json").is_file():
        raise UserError(f"{run}: the run is not finished; go on with it: sammit run RECIPE --out {run} --resume")
    reading = _reading(folder, site)
    experiment, method = folder.experiment, make_method(folder.experiment)
    if not site and "global" not in method.judging.models:
        known = ", ".join(folder.read_json("sites.json"))
        raise UserError(f"{run}: {experiment.method.name} has no global model; choose a site's with --site ({known})")
    structures = tuple(reading["structures"])
    model = build_model(experiment.model, experiment.data.size, len(structures), experiment.seed)
    shared, facts = read_state(run / "models" / "global.safetensors")
    if base_hash(model, fixed=method.fixes) != facts["base"]:
        raise UserError(f"{run}: was trained from other base weights than model.weights gives now; put those back")
    put(model, shared)
    own = run / "models" / "sites" / f"{site}.safetensors"
    personal = bool(site) and own.is_file()
    if personal:
        put(model, read_state(own)[0])
    which = "personal" if personal else "global"
    method.use(model, "personal" if personal else "global")
    compute_in(model, experiment.training.precision)
    model.to(experiment.training.device)
    data = build(DataConfig, reading["data"], "data")
    view = View(data.view, data.size, data.scale, data.overlap, data.longest, data.resampling)
    channels = tuple(reading["channels"])
    return Predictor(model.eval(), which, structures, data, channels, view, experiment.training.device)


def _reading(folder: RunFolder, site: str) -> dict[str, Any]:
    sites: dict[str, dict[str, Any]] = folder.read_json("sites.json")
    if site and site not in sites:
        raise UserError(f"--site {site}: the run has no such site: {nearest(site, list(sites))}")
    return sites[site] if site else next(iter(sites.values()))


def predict(
    predictor: Predictor,
    images: list[Path],
    out: Path,
    overlay: bool = False,
    tell: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Write a mask for each structure of each image, in the image's own geometry.

    2-D images give PNG (0 and 255); NIfTI volumes give NIfTI with the same affine and shape (0 and 1). Files are named
    STEM_STRUCTURE.

    Args:
        predictor: from `load_predictor`.
        images: files or folders of images.
        out: folder for the masks, made if missing.
        overlay: also write STEM_overlay.png.
        tell: is called with each file written.

    Raises:
        UserError: an image cannot be read, or a mask cannot be written.
    """
    site = site_of_images(images, predictor.data, channels=predictor.channels)
    written = []
    for path in _written(predictor, site, out, overlay):
        written.append(path)
        if tell:
            tell(path)
    return written


def _written(predictor: Predictor, site: Site, out: Path, overlay: bool) -> Iterator[Path]:
    for case in site.cases("test"):
        loaded = site.load(case)
        slices = segment_slices(predictor.model, loaded.image, predictor.view, predictor.device, loaded.spacing)
        found = np.stack(list(slices))
        suffix = mask_suffix(case.image[0], len(found))
        for c, structure in enumerate(predictor.structures):
            path = out / f"{case.name}_{structure}{suffix}"
            write_mask(path, found[..., c], case.image[0], predictor.data.axis)
            yield path
        if overlay:
            path = out / f"{case.name}_overlay.png"
            write_overlay(path, loaded.image, found)
            yield path


def evaluate(run: Path, root: Path, site: str = "") -> list[dict[str, Any]]:
    """Score a run's model on all cases of a folder of sites.

    Args:
        run: a finished run's folder.
        root: a folder of sites, or one site, with masks.
        site: use this site's personal model; empty for the global one.

    Returns:
        A row for each case and structure: site, case, patient, unit of the distances, structure, model, dice, iou,
        hd95, assd, nsd.
    """
    predictor = load_predictor(run, site)
    evaluation = RunFolder.open(run).experiment.evaluation
    rows: list[dict[str, Any]] = []
    for found in discover(replace(predictor.data, root=str(root), sites=())):
        if found.structures != predictor.structures:
            ours, theirs = ", ".join(predictor.structures), ", ".join(found.structures)
            raise UserError(f"site '{found.name}' has the structures {theirs}, the run {ours}: name them alike")
        scores = SiteScores(found.split(0, whole=True), Scorer(evaluation, found.view, predictor.device))
        scores.add(predictor.which, predictor.model, "test")
        rows += scores.rows
    return rows


__all__ = ["Predictor", "evaluate", "load_predictor", "predict"]
