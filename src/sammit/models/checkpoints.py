"""Reading a file of weights, whoever wrote it, into tensors under Sammit's names; and saying what a file is.

A `.pth` is read with `weights_only=True`: nothing in it is ever run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.errors import UserError
from sammit.files import sha256_of_file
from sammit.models import layouts
from sammit.models.official import OFFICIAL, is_whole

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class WeightsReport:
    """What a file of weights is.

    Attributes:
        layout: "official", "transformers" or "sammit".
        fits: architectures it fits, for `model.name`.
        parameters: elements of the tensors that Sammit uses.
        structures: mask tokens with a hypernetwork, in the file.
        adapters: names of the adapters it holds.
        sha256: hexadecimal; of a folder, that of its first file.
        official: the published checkpoint with these bytes, or "unknown".
    """

    path: str
    layout: str
    fits: tuple[str, ...]
    parameters: int
    structures: int
    adapters: tuple[str, ...]
    sha256: str
    official: str


def check(path: Path) -> WeightsReport:
    """Look at a file of weights.

    Raises:
        UserError: there is no such file, it cannot be read, or its layout is unknown.
    """
    tensors, layout = read(path)
    files = _files_of(path)
    heads = {index for name in tensors if (index := layouts.hypernetwork_of(name)) is not None}
    official = [known.name for known in OFFICIAL.values() if len(files) == 1 and is_whole(files[0], known)]
    return WeightsReport(
        path=str(path),
        layout=layout,
        fits=tuple(layouts.fitting(tensors)),
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        structures=len(heads),
        adapters=tuple(sorted({adapter for name in tensors if (adapter := layouts.adapter_of(name))})),
        sha256=sha256_of_file(files[0]),
        official=official[0] if official else "unknown",
    )


def read(path: Path) -> tuple[dict[str, Tensor], layouts.Layout]:
    """The tensors that Sammit uses of a file or folder, under its names, and the layout they were found in.

    Args:
        path: a .safetensors, a .pth (or .pt, .bin), or a folder with a transformers model.

    Raises:
        UserError: no such file, damaged, unsafe, or of unknown layout.
    """
    tensors: dict[str, Tensor] = {}
    for file in _files_of(path):
        known = {checkpoint.file: checkpoint for checkpoint in OFFICIAL.values()}.get(file.name)
        if known and not is_whole(file, known):
            raise UserError(
                f"{file}: its checksum is not that of {known.name}'s published weights: "
                f"delete it and run 'sammit weights fetch {known.name}', or give a file of your own another name"
            )
        tensors |= _read_safetensors(file) if file.suffix == ".safetensors" else _read_torch(file)
    layout = layouts.layout_of(tensors)
    if layout is None:
        some = ", ".join(sorted(tensors)[:2]) or "no tensors"
        raise UserError(
            f"{path}: no layout of SAM weights that Sammit knows ({some}): use segment-anything's or transformers'"
        )
    return layouts.renamed(tensors, layout), layout


def _files_of(path: Path) -> list[Path]:
    """The file itself, or the .safetensors of a folder."""
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        if not found:
            raise UserError(f"{path}: a folder without .safetensors: give a file of weights")
        return found
    if not path.is_file():
        raise UserError(f"{path}: there is no such file of weights; check model.weights")
    return [path]


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged or cut short ({_line(error)}): get the file again") from None


def _read_torch(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # torch raises whatever its parser met: zip, pickle, end of file, or a key that is not there.
    except Exception as error:
        if _unsafe(error):
            raise UserError(
                f"{path}: refused, for it holds more than tensors, and reading that could run code: "
                "save its state_dict alone, or as .safetensors"
            ) from None
        raise UserError(f"{path}: damaged or cut short ({_line(error)}): get the file again") from None
    # A training script's file holds the tensors under one of these keys.
    for key in ("model", "state_dict", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no tensors by name: save a state_dict")
    return {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}


def _unsafe(error: Exception) -> bool:
    """Whether torch refused to load something other than tensors."""
    return "Unsupported global" in str(error) or "Unsupported class" in str(error)


def _line(error: Any) -> str:
    """The first line of an error's text, short enough for a message of one line."""
    text = str(error).strip().partition("\n")[0].partition(". ")[0]
    return text[:120] or type(error).__name__
