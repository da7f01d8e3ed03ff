"""The checkpoints that others publish: where they come from, where they are kept, how they are known to be whole.

Imports no torch, so that `sammit weights list` is quick.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import md5, sha256
from pathlib import Path

from sammit.errors import UserError, nearest

_META = "https://dl.fbaipublicfiles.com/segment_anything"
_META_2 = "https://dl.fbaipublicfiles.com/segment_anything_2/092824"  # SAM 2.1, of September 2024

# Weights that come with Sammit, NAME.safetensors with NAME.json beside it.
SHIPPED = Path(__file__).parent / "pretrained"
OWN = "sam-tiny"  # whose they are


@dataclass(frozen=True)
class Checkpoint:
    """A published file.

    Attributes:
        name: of the model it belongs to.
        file: its name in the weights folder.
        address: where its authors publish it; "" for the one that ships with Sammit.
        megabytes: its size, rounded (10^6 bytes).
        sha256: hexadecimal; None where the publisher gives only an MD5.
        md5: hexadecimal, for such a file; it tells damage, not forgery.
    """

    name: str
    file: str
    address: str
    megabytes: int
    sha256: str | None
    md5: str | None = None


OFFICIAL = {
    checkpoint.name: checkpoint
    for checkpoint in (
        Checkpoint(
            "sam-vit-b",
            "sam_vit_b_01ec64.pth",
            f"{_META}/sam_vit_b_01ec64.pth",
            375,
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        ),
        Checkpoint(
            "sam-vit-l",
            "sam_vit_l_0b3195.pth",
            f"{_META}/sam_vit_l_0b3195.pth",
            1250,
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        ),
        Checkpoint(
            "sam-vit-h",
            "sam_vit_h_4b8939.pth",
            f"{_META}/sam_vit_h_4b8939.pth",
            2565,
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        ),
        # The authors' archive record, doi 10.5281/zenodo.10689643, which gives an MD5 for each file.
        Checkpoint(
            "medsam-vit-b",
            "medsam_vit_b.pth",
            "https://zenodo.org/records/10689643/files/medsam_vit_b.pth",
            375,
            None,
            "3bb6db55bd0c9ca30b61248bca72f8d6",
        ),
        # Meta's model pages (huggingface.co/facebook/sam2.1-hiera-*) give each file's SHA-256: tiny's and small's were
        # read there, the other two off copies of Meta's repositories, which agree with those that were.
        Checkpoint(
            "sam2-tiny",
            "sam2.1_hiera_tiny.pt",
            f"{_META_2}/sam2.1_hiera_tiny.pt",
            156,
            "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
        ),
        Checkpoint(
            "sam2-small",
            "sam2.1_hiera_small.pt",
            f"{_META_2}/sam2.1_hiera_small.pt",
            184,
            "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
        ),
        Checkpoint(
            "sam2-base-plus",
            "sam2.1_hiera_base_plus.pt",
            f"{_META_2}/sam2.1_hiera_base_plus.pt",
            324,
            "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
        ),
        Checkpoint(
            "sam2-large",
            "sam2.1_hiera_large.pt",
            f"{_META_2}/sam2.1_hiera_large.pt",
            898,
            "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
        ),
    )
}


@dataclass(frozen=True)
class WeightsRow:
    """One line of `sammit weights list`."""

    name: str
    file: str
    address: str
    megabytes: int
    checksum: str  # "sha256:HEX" or "md5:HEX"
    state: str  # "shipped", "present" (not checked here, it would take seconds) or "absent"
    path: str  # where it is or belongs


def weights_folder() -> Path:
    """`$SAMMIT_WEIGHTS`, or `~/.cache/sammit/weights`; it need not exist."""
    chosen = os.environ.get("SAMMIT_WEIGHTS")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "sammit" / "weights"


def checkpoint_named(name: str) -> Checkpoint:
    """The published checkpoint of a model, or a UserError with the nearest known one."""
    if name == OWN:
        raise UserError(f"{OWN} ships with Sammit: there is nothing to fetch")
    if name not in OFFICIAL:
        raise UserError(f"no published weights named '{name}': {nearest(name, list(OFFICIAL))}")
    return OFFICIAL[name]


def list_weights(folder: Path | None = None) -> list[WeightsRow]:
    """Every known set of weights and whether it is in the folder (None: `weights_folder()`)."""
    import json

    folder = folder or weights_folder()
    rows = []
    for facts in sorted(SHIPPED.glob("*.json")):
        path = facts.with_suffix(".safetensors")
        digest = json.loads(facts.read_text(encoding="utf-8"))["sha256"]
        size = round(path.stat().st_size / 1e6) if path.exists() else 0
        state = "shipped" if path.exists() else "absent"
        rows.append(WeightsRow(facts.stem, path.name, "", size, f"sha256:{digest}", state, str(path)))
    for known in OFFICIAL.values():
        path = folder / known.file
        state = "present" if path.is_file() else "absent"
        digest = f"sha256:{known.sha256}" if known.sha256 else f"md5:{known.md5}"
        rows.append(WeightsRow(known.name, known.file, known.address, known.megabytes, digest, state, str(path)))
    return rows


def by_hand(known: Checkpoint, folder: Path) -> str:
    """The mend where the file has to be carried: what to download and where to put it."""
    return f"download {known.address} elsewhere and put it at {folder / known.file}"


def is_whole(path: Path, known: Checkpoint) -> bool:
    """Whether a file's bytes have the published checksum."""
    digest = sha256() if known.sha256 else md5(usedforsecurity=False)
    with path.open("rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest() == (known.sha256 or known.md5)
