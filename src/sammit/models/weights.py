"""Putting weights into a model: Sammit's own, the published ones, or a user's file; and hashing what was put.

What has to match is everything except adapters, `detail` and `mixer`, which a base checkpoint does not have. Two kinds
of tensors depend on the image size and are resized as they are loaded: the absolute positions (bicubic) and the global
blocks' relative positions (linear).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from sammit.config import ModelConfig
from sammit.errors import UserError
from sammit.files import sha256_of_file
from sammit.models import layouts, official
from sammit.models.checkpoints import WeightsReport, check, read
from sammit.models.download import fetch
from sammit.models.official import WeightsRow, list_weights, weights_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sammit.models.sam import PromptFreeSam

__all__ = ["WeightsReport", "WeightsRow", "base_hash", "check", "fetch", "list_weights", "load_into", "weights_folder"]

_TOKENS = "mask_decoder.mask_tokens.weight"
_HEADS = "mask_decoder.output_hypernetworks_mlps"


def load_into(model: PromptFreeSam, config: ModelConfig) -> None:
    """Load what `config.weights` names; "random" leaves the model as it was built.

    Structures beyond those of the file start as copies of its first mask token and that token's hypernetwork.

    Raises:
        UserError: the file is missing, damaged, forged, of another size, or does not hold what the model needs.
    """
    if config.weights == "random":
        return
    path = _pretrained(config.name) if config.weights == "pretrained" else Path(config.weights).expanduser()
    tensors, _ = read(path)
    fits = layouts.fitting(tensors)
    if fits and config.name not in fits:
        raise UserError(
            f"{path}: these weights fit {' or '.join(fits)}, not {config.name}: change model.name or the file"
        )
    _load(model, tensors, path)


def base_hash(
    model: nn.Module, without: Collection[str] = (), fixed: Callable[[str], bool] = lambda name: False
) -> str:
    """SHA-256, hexadecimal, of the base tensors in fp32: names, shapes and bytes, sorted by name, adapters left out.

    Equal hashes prove that two sites start from one base. Random constants such as the positional features count.

    Args:
        model: from `build_model`.
        without: names to leave out as well; with the live names, the hash of what training must not touch.
        fixed: the adapters' tensors that nobody trains, which count as base: they do not travel, and must be equal.
    """
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if (layouts.adapter_of(name) is None or fixed(name)) and name not in without:
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            digest.update(memoryview(tensor.detach().float().cpu().contiguous().numpy()).cast("B"))
    return digest.hexdigest()


def _pretrained(name: str) -> Path:
    """The file of a model's own weights, known to be there; Sammit's own is checked against its hash here."""
    if name in official.OFFICIAL:
        known, folder = official.OFFICIAL[name], weights_folder()
        if not (folder / known.file).is_file():
            raise UserError(
                f"{folder / known.file}: {name}'s weights are missing: run 'sammit weights fetch {name}', "
                f"or {official.by_hand(known, folder)}"
            )
        return folder / known.file
    if name != official.OWN:
        raise UserError(f"model.weights: nobody publishes weights for {name}; set model.weights = 'random'")
    path = official.SHIPPED / f"{name}.safetensors"
    facts = path.with_suffix(".json")
    if not path.is_file() or not facts.is_file():
        raise UserError(f"{path}: {name}'s weights are missing: reinstall Sammit, or set model.weights = 'random'")
    if sha256_of_file(path) != json.loads(facts.read_text(encoding="utf-8"))["sha256"]:
        raise UserError(f"{path}: damaged, its SHA-256 is not the one in {facts.name}: reinstall Sammit")
    return path


def _load(model: PromptFreeSam, tensors: dict[str, Tensor], path: Path) -> None:
    """Copy the tensors into the model, resized, with copies for added structures; all are checked before the first."""
    import torch

    own = model.state_dict()
    given = _with_structures(tensors, own)
    _refuse_strangers(given, own, path)
    held = {_part(name) for name in given}
    ready = {}
    for name, target in own.items():
        if name in given:
            ready[name] = _resized(name, given[name], target, model)
            if ready[name].shape != target.shape:
                shapes = f"{tuple(given[name].shape)} in the file, {tuple(target.shape)} in the model"
                raise UserError(f"{path}: '{name}' has another shape ({shapes}): check model.name and its options")
        elif _part(name) == "base" or _part(name) in held:
            raise UserError(f"{path}: '{name}' is missing: use a whole checkpoint")
    with torch.no_grad():
        for name, tensor in ready.items():
            own[name].copy_(tensor)


def _part(name: str) -> str:
    """What a tensor belongs to: "base", "detail", "mixer" or an adapter of encoder or decoder, such as
    "vision_encoder.adapters.lora"; a part is loaded whole or not at all."""
    first = name.partition(".")[0]
    if adapter := layouts.adapter_of(name):
        return f"{first}.adapters.{adapter}"
    return first if first in ("detail", "mixer") else "base"


def _with_structures(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The file's tensors with as many mask tokens and hypernetworks as the model has."""
    heads = {index for name in own if (index := layouts.hypernetwork_of(name)) is not None}
    known = {index for name in tensors if (index := layouts.hypernetwork_of(name)) is not None}
    given = {name: tensor for name, tensor in tensors.items() if (layouts.hypernetwork_of(name) or 0) in heads}
    for index in heads - known:
        for name, tensor in tensors.items():
            if name.startswith(f"{_HEADS}.0."):
                given[name.replace(f"{_HEADS}.0.", f"{_HEADS}.{index}.")] = tensor
    if _TOKENS in tensors and _TOKENS in own:
        rows = tensors[_TOKENS].shape[0]
        # A token without a hypernetwork was never trained to mean a structure: the first stands in for it.
        source = [i if i < rows and not (i in heads and i not in known) else 0 for i in range(own[_TOKENS].shape[0])]
        given[_TOKENS] = tensors[_TOKENS][source]
    return given


def _refuse_strangers(given: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> None:
    """Raise for a tensor with no place in the model; only `detail` may be left out, as a coarser map has none."""
    for name in sorted(set(given) - set(own)):
        if adapter := layouts.adapter_of(name):
            raise UserError(
                f"{path}: holds the adapter '{adapter}', which fits no block: check model.adapter and its options"
            )
        if _part(name) == "mixer":
            raise UserError(f"{path}: holds FedFMS's mixing head: set model.head = 'mix' and the same structures")
        if _part(name) == "base":
            raise UserError(f"{path}: '{name}' has no place in this model: check model.name")


def _resized(name: str, tensor: Tensor, target: Tensor, model: PromptFreeSam) -> Tensor:
    """The tensor on the model's grid, if it is one of those that depend on the grid."""
    from torch.nn.functional import interpolate

    if name == "vision_encoder.pos_embed" and tensor.ndim == 4:
        from sammit.models.encoder import resized_grid

        return resized_grid(tensor.float(), target.shape[1], target.shape[2])
    if name.endswith((".rel_pos_h", ".rel_pos_w")) and tensor.shape[0] != target.shape[0]:
        block = model.vision_encoder.blocks[int(name.split(".")[2])]
        if not block.window:
            return interpolate(tensor.float().T.unsqueeze(0), size=target.shape[0], mode="linear")[0].T
    return tensor
