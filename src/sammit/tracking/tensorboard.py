"""TensorBoard: event files in a folder, --track-to or ./tensorboard; files that are kept lie beside them."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from sammit.errors import UserError
from sammit.tracking.names import allowed

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


class Tracker:
    """As `base.Tracker` has it."""

    def __init__(self, address: str) -> None:
        """See `base.Tracker`; nothing leaves the machine."""
        if not find_spec("tensorboard"):
            raise UserError('--track tensorboard: is not installed; install it: pip install "sammit[track]"')
        if "://" in address:
            raise UserError(f"--track-to {address}: TensorBoard reads a folder; name one")
        self._root = Path(address or FOLDER)
        self.address = str(self._root.absolute())

    def begin(self, name: str, recipe: Mapping[str, str], known: str) -> str:
        """A folder of its own under the root; a run that goes on gets another event file in its folder."""
        self._folder = self._root / known if known else _own(self._root, name)
        self._writer = _writer(self._folder)
        if not known:
            self._writer.add_text("recipe", "\n".join(f"    {key} = {value}" for key, value in recipe.items()))
            self._hyperparameters(recipe)
        return self._folder.name

    def _hyperparameters(self, recipe: Mapping[str, str]) -> None:
        """For the tab that sets runs side by side; `add_hparams` would make a second run of it."""
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams(dict(recipe), {"final_dice_mean": 0.0}):
            self._writer.file_writer.add_summary(summary)

    def steps(self, name: str) -> set[int]:
        """Read back from the event files: what a kill left half-written is not there."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own libraries, at import
            from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(self._folder), size_guidance={"scalars": 0}).Reload()
        return {one.step for one in events.Scalars(name)} if name in events.Tags()["scalars"] else set()

    def log(self, step: int, numbers: Mapping[str, float], seconds: float) -> None:
        """On the disk when this returns."""
        for name, value in numbers.items():
            self._writer.add_scalar(allowed(name), value, step)
        self._writer.flush()

    def picture(self, name: str, path: Path) -> None:
        """In the tab of images."""
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            self._writer.add_image(name, np.asarray(image.convert("RGB")), dataformats="HWC")

    def file(self, path: Path, folder: str) -> None:
        """Beside the event files: TensorBoard has no place for files."""
        target = self._folder / folder
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / path.name)

    def end(self, finished: bool) -> None:
        """Close the event file."""
        self._writer.close()


def _own(root: Path, name: str) -> Path:
    """A new folder: NAME, or NAME-2 and so on where others have it."""
    root.mkdir(parents=True, exist_ok=True)
    for folder in chain([root / name], (root / f"{name}-{number}" for number in count(2))):
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError  # count has no end


def _writer(folder: Path) -> SummaryWriter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own libraries, at import
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder))
