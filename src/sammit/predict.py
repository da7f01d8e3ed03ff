"""A run's model on new images, and its scores on other data: how a user meets what was trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sammit.config import DataConfig, Experiment
from sammit.data.arrays import image_of, spacing_of
from sammit.data.codes import properties_of
from sammit.data.found import Masks, masks_in, read_masks
from sammit.data.images import site_of_images
from sammit.data.outputs import Output
from sammit.data.segmentation import Maker
from sammit.data.settings import Settings
from sammit.data.site import Site
from sammit.data.sites import discover
from sammit.data.stacks import is_flat
from sammit.data.writers import write_overlay
from sammit.errors import UserError, nearest
from sammit.federation.prepare import make_method
from sammit.federation.scoring import SiteScores
from sammit.files import sha256_of_file
from sammit.geometry import View
from sammit.learning.evaluate import Scored, Scorer
from sammit.learning.inference import segment
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
        maker: what DICOM segmentations say of the model.
    """

    model: nn.Module
    which: str
    structures: tuple[str, ...]
    data: DataConfig
    channels: tuple[int, ...]
    view: View
    device: str
    maker: Maker


def load_predictor(run: Path, site: str = "", uneven: str = "") -> Predictor:
    """The model of a run folder: the global one, or a site's own.

    Args:
        run: a finished run's folder; nothing else is needed but published weights, where the run started from them.
        site: whose personal model; empty for the global one.
        uneven: how DICOM slices that lie unevenly are read, see `[data]`; empty: as the run's were.

    Raises:
        UserError: no finished run, no such site, no global model in it, or another base than the run's.
    """
    folder = RunFolder.open(run)
    folder.need_finished()
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
    weights = run / "models" / "global.safetensors"
    own = run / "models" / "sites" / f"{site}.safetensors"
    personal = bool(site) and own.is_file()
    if personal:
        put(model, read_state(own)[0])
        weights = own
    which = "personal" if personal else "global"
    method.use(model, "personal" if personal else "global")
    compute_in(model, experiment.training.precision)
    model.to(experiment.training.device)
    data = build(DataConfig, reading["data"] | ({"uneven": uneven} if uneven else {}), "data")
    view = View(data.view, data.size, data.scale, data.overlap, data.longest, data.resampling)
    channels = tuple(reading["channels"])
    maker = Maker(experiment.method.name, sha256_of_file(weights)[:16])
    return Predictor(model.eval(), which, structures, data, channels, view, experiment.training.device, maker)


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
    form: str = "auto",
    series: str = "",
) -> list[Path]:
    """Write a mask for each structure of each image, in the image's own geometry.

    2-D images give PNG (0 and 255); NIfTI volumes and DICOM series give NIfTI on their own grid (0 and 1). Files are
    named STEM_STRUCTURE. `form` asks for something else; "dicom-seg" writes all structures of a series as STEM_seg.dcm.

    Args:
        predictor: from `load_predictor`.
        images: files or folders of images, of DICOM series or of studies.
        out: folder for the masks, made if missing.
        overlay: also write STEM_overlay.png.
        tell: is called with each file written.
        form: one of `data.outputs.FORMATS`.
        series: a series' UID or a part of its description: takes that one of each study; empty: all.

    Raises:
        UserError: an image cannot be read, a mask cannot be written, or not in this form.
    """
    written = []
    with site_of_images(images, predictor.data, series, channels=predictor.channels) as site:
        properties = properties_of(predictor.data.codes, predictor.structures)
        output = Output(form, properties, predictor.data.axis, predictor.maker)
        output.check(site.cases("test"))
        for path in _written(predictor, site, output, out, overlay):
            written.append(path)
            if tell:
                tell(path)
    return written


def predict_array(
    predictor: Predictor, array: NDArray[Any], spacing: Sequence[float] | None = None
) -> dict[str, NDArray[np.bool_]]:
    """The masks that `predict` would write for an image of these numbers; nothing is read or written.

    Args:
        predictor: from `load_predictor`.
        array: (H, W), (H, W, n), (D, H, W) or (D, H, W, n), see `data.arrays.image_of`.
        spacing: of a volume or picture in mm, (slice, row, column); None: what the run's data say.

    Returns:
        Structure -> mask, (H, W) or (D, H, W).

    Raises:
        UserError: an array or a spacing that cannot be an image's.
    """
    settings = Settings(predictor.data, predictor.channels)
    image, mm = image_of(array, settings), spacing_of(spacing, settings)
    found = segment(predictor.model, image, predictor.view, predictor.device, mm)
    shaped = found[0] if is_flat(array.shape) else found
    return {name: np.ascontiguousarray(shaped[..., index]) for index, name in enumerate(predictor.structures)}


def _written(predictor: Predictor, site: Site, output: Output, out: Path, overlay: bool) -> Iterator[Path]:
    for case in site.cases("test"):
        loaded = site.load(case)
        found = segment(predictor.model, loaded.image, predictor.view, predictor.device, loaded.spacing)
        yield from output.write(out, case, found)
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


def evaluate_masks(
    masks: Path, root: Path, experiment: Experiment, tell: Callable[[str], None] | None = None
) -> list[dict[str, Any]]:
    """Score masks of any tool on all cases of a folder of sites, as `evaluate` scores a model's.

    Args:
        masks: a folder of masks, see `data.found.masks_in`; or of a folder for each site.
        root: a folder of sites, or one site, with masks: the truth.
        experiment: how the sites are read (`[data]`) and scored (`[evaluation]`).
        tell: is called with a line for each case that lacks a mask; it counts as empty.

    Returns:
        Rows as `evaluate` gives them, of the model "masks".

    Raises:
        UserError: a mask cannot be read or lies elsewhere than its image, or a site has none at all.
    """
    sites = discover(replace(experiment.data, root=str(root)))
    rows: list[dict[str, Any]] = []
    for site in sites:
        own = masks / site.name
        folder = own if own.is_dir() else masks
        if folder == masks:
            _need_own_names(site, sites, masks)
        found = masks_in(folder, site.all_cases, site.structures)
        if not found:
            raise UserError(f"{folder}: holds no mask of site '{site.name}'; name them as its images, STEM_STRUCTURE")
        for case in site.all_cases:
            lost = found.get(case.name, Masks()).lacks(site.structures)
            if lost and tell:
                tell(f"{site.name} {case.name}: has no mask of {', '.join(lost)}; counts as empty")
        scores = SiteScores(site, Scorer(experiment.evaluation, site.view))
        scores.add_scored("masks", _scored(site, found, scores.scorer))
        rows += scores.rows
    return rows


def _scored(site: Site, found: Mapping[str, Masks], scorer: Scorer) -> Iterator[Scored]:
    for case in site.all_cases:
        masks = read_masks(found.get(case.name, Masks()), case, site)
        yield scorer.row(masks, site.load(case), site.structures)


def _need_own_names(site: Site, sites: list[Site], masks: Path) -> None:
    """Raise UserError where a mask of one folder could be another site's: both have a case of its name."""
    for other in sites:
        if other is not site and (same := {case.name for case in site.all_cases} & {c.name for c in other.all_cases}):
            raise UserError(
                f"{masks}: '{min(same)}' is a case of {site.name} and of {other.name}; "
                "put the masks of each site into a folder of its name"
            )


__all__ = ["Predictor", "evaluate", "evaluate_masks", "load_predictor", "predict", "predict_array"]
