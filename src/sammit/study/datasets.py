"""The datasets of a study under the folder that a person names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sammit.config import DataConfig
from sammit.data.layouts import layout_of
from sammit.data.settings import settings_for
from sammit.data.sites import site_folders
from sammit.errors import UserError
from sammit.study.file import Study


@dataclass(frozen=True)
class Dataset:
    """A folder of sites under its name; of generated ones, which nobody has to give, there is no folder yet."""

    name: str
    root: Path | None


GENERATED = Dataset("generated", None)


def find_datasets(study: Study, root: Path) -> tuple[list[Dataset], list[str]]:
    """The study's datasets under `root`, in the file's order, and the names of those that are not there.

    `root` holds a folder for each `[dataset.NAME]`; where it holds none of them, or the study names none, it is itself
    a folder of sites (or a site), and the one dataset is named after it.

    Raises:
        UserError: there is no such folder, or nothing in it that the study can use.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; set --data to a folder of sites, or of datasets")
    found = [Dataset(name, (root / name).absolute()) for name in study.datasets if (root / name).is_dir()]
    if found:
        here = {dataset.name for dataset in found}
        return found, [name for name in study.datasets if name not in here]
    name = root.resolve().name
    if study.datasets and not is_data_root(root, study.example(name, next(iter(study.methods))).data):
        wanted = ", ".join(study.datasets)
        raise UserError(f"{root}: holds none of the study's datasets ({wanted}), and is no folder of sites; set --data")
    return [Dataset(name, root.absolute())], []


def is_data_root(root: Path, config: DataConfig) -> bool:
    """Whether some layout fits the folder itself or one in it; opens no image."""
    config = replace(config, sites=())
    try:
        folders = site_folders(root, config)
    except UserError:
        return False
    return any(layout_of(one, settings_for(config, *([root] if one == root else [root, one]))) for one in folders)
