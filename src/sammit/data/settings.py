"""How a site is read: the recipe's `[data]`, the root's `dataset.toml` and the site's own, merged.

The recipe wins wherever it departs from a default, then the site's file, then the root's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from sammit.config import DataConfig
from sammit.data.structures import Structure, structures_of
from sammit.errors import UserError
from sammit.geometry import View
from sammit.toml import build, defaults, read_toml

FILE = "dataset.toml"


@dataclass(frozen=True)
class DatasetFile:
    """What `dataset.toml` may say; the first ten mean what they mean in `DataConfig`."""

    structures: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, Any] = field(default_factory=dict)
    patient: str = ""
    window: tuple[float, ...] = ()
    spacing: tuple[float, ...] = ()
    images: str = ""
    masks: str = ""
    intensity: Literal["range", "percentile", "local", "fedfms"] = "range"
    axis: Literal["auto", "0", "1", "2"] = "auto"
    uneven: Literal["refuse", "resample"] = "refuse"
    scale: float = 1.0
    channels: tuple[int, ...] = ()  # which of the image's channels are shown to the model, counted from 0
    ignore: int = -1  # label of pixels that nobody labelled; -1: none


@dataclass(frozen=True)
class Settings:
    """Everything that decides how a site's files are read and shown.

    Attributes:
        config: the recipe's `[data]` with what the dataset's files add to it.
        channels: which channels are taken, counted from 0; empty: all.
        ignore: label of unlabelled pixels; -1: none.
    """

    config: DataConfig
    channels: tuple[int, ...] = ()
    ignore: int = -1

    @property
    def structures(self) -> tuple[Structure, ...]:
        """The structures to segment, in their order."""
        return structures_of(self.config.structures)

    @property
    def view(self) -> View:
        """What the model sees of an image."""
        config = self.config
        return View(config.view, config.size, config.scale, config.overlap, config.longest, config.resampling)

    def patient(self, name: str) -> str:
        """The patient of a case: the pattern's group in its name, or the name itself."""
        return self.matched(name) or name

    def matched(self, name: str) -> str:
        """The pattern's group in a case's name; "" where there is no pattern or no match."""
        match = re.search(self.config.patient, name) if self.config.patient else None
        return (match[1] or "") if match else ""


def settings_for(config: DataConfig, *folders: Path) -> Settings:
    """The settings of a site.

    Args:
        config: the recipe's `[data]`.
        folders: where a `dataset.toml` may lie; a later folder's wins.

    Raises:
        UserError: an unknown key or an impossible value in a `dataset.toml`, with the file's name.
    """
    plain, known = defaults(DataConfig), {f.name for f in fields(DataConfig)}
    own = {name for name in known if getattr(config, name) != plain[name]}
    changes: dict[str, Any] = {}
    for folder in folders:
        if (folder / FILE).is_file():
            changes.update(_said(folder / FILE))
    channels, ignore = changes.pop("channels", ()), changes.pop("ignore", -1)
    merged = replace(config, **{name: value for name, value in changes.items() if name not in own})
    return Settings(merged, channels, ignore)


def _said(path: Path) -> dict[str, Any]:
    """The keys that a `dataset.toml` sets, checked."""
    table = read_toml(path)
    try:
        values = build(DatasetFile, table, "")
        said = {key: getattr(values, key) for key in table}
        replace(DataConfig(), **{k: v for k, v in said.items() if k not in ("channels", "ignore")}).check()
        structures_of(said.get("structures", {}))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return said
