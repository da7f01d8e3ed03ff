"""NRRD as 3D Slicer and ITK write it: a volume with its place in the patient, there and back."""

from __future__ import annotations

from gzip import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SUFFIX = ".nrrd"

# what turns a file's world into (right, anterior, superior)
_SPACES = {
    "left-posterior-superior": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0),
    "right-anterior-superior": (1.0, 1.0, 1.0),
}
_SHORT = {"lps": "left-posterior-superior", "las": "left-anterior-superior", "ras": "right-anterior-superior"}


class _Later:
    """The numbers of a file, read when they are asked for; what nibabel takes for an array."""

    is_proxy = True

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.shape, self.ndim = path, shape, len(shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        import nrrd
        import numpy as np

        return np.asarray(nrrd.read(str(self.path))[0], dtype)

    def __getitem__(self, index: Any) -> Any:
        return self.__array__()[index]


def open_nrrd(path: Path) -> Any:
    """A NRRD file as a NIfTI image (nibabel's), its numbers not yet read.

    Raises:
        UserError: no place in the patient, other axes than three of space, or numbers that lie in another file.
    """
    import nibabel
    import nrrd
    import numpy as np

    header = nrrd.read_header(str(path))
    if "data file" in header or "datafile" in header:
        raise UserError(f"{path}: its numbers lie in another file; save it as one .nrrd")
    if header["dimension"] != 3 or any(kind not in ("domain", "space") for kind in header.get("kinds", ())):
        raise UserError(f"{path}: has layers, colours or times beside its three axes; save a label map, or DICOM SEG")
    space = str(header.get("space", "")).lower()
    signs, sides = _SPACES.get(_SHORT.get(space, space)), np.array(header.get("space directions", ()), float)
    if signs is None or sides.shape != (3, 3):
        raise UserError(f"{path}: does not say where in the patient it lies; save it with its space, or as NIfTI")
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = sides.T, header.get("space origin", np.zeros(3))
    affine = np.diag([*signs, 1.0]) @ affine
    shape = tuple(int(side) for side in header["sizes"])
    return nibabel.Nifti1Image(_Later(path, shape), affine, dtype="float32")  # a type, lest all is read to find it


def nrrd_bytes(values: np.ndarray, affine: np.ndarray) -> bytes:
    """A whole NRRD file, its header in the words that ITK writes.

    Args:
        values: (X, Y, Z) uint8 or uint16.
        affine: (4, 4) voxel to world (right, anterior, superior), mm.
    """
    import numpy as np

    world = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    header = [
        "NRRD0004",
        f"type: unsigned {'char' if values.dtype.itemsize == 1 else 'short'}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, values.shape))}",
        f"space directions: {' '.join(_vector(world[:3, axis]) for axis in range(3))}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(world[:3, 3])}",
    ]
    data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes(order="F")
    return "\n".join(header).encode() + b"\n\n" + compress(data, mtime=0)


def _vector(numbers: np.ndarray) -> str:
    return "(" + ",".join(f"{number + 0.0:.17g}" for number in numbers) + ")"  # + 0.0: no "-0"
