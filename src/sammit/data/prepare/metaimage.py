"""MetaImage volumes (.mhd with .raw or .zraw, .mha), without ITK.

Each row of `TransformMatrix` is the direction of one axis, positions are millimetres to the patient's left, back and
head, and the first axis runs fastest. Voxels and affines were compared once with SimpleITK's reading of files that it
had written itself, plain and packed, of either byte order, with axes turned and tilted.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.prepare.nifti import Grid
from sammit.data.prepare.opening import named
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".mhd", ".mha")
TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip


def read_metaimage(path: Path) -> Grid:
    """Read a MetaImage volume.

    Raises:
        UserError: a broken or missing file, no volume of single numbers, or data of another size than the header says.
    """
    import nibabel
    import numpy as np

    with named(path):
        header, start = _header(path)
        if int(header.get("NDims", 0)) != 3 or int(header.get("ElementNumberOfChannels", 1)) != 1:
            raise UserError(f"{path}: is no volume of single numbers; put the right file there")
        shape = tuple(int(size) for size in header["DimSize"].split())
        affine = _affine(header)
        kind = TYPES.get(header["ElementType"])
        if kind is None:
            raise UserError(f"{path}: holds {header['ElementType']}; known: {', '.join(TYPES)}")
    values = _values(path, header, start, kind, shape)
    image: Any = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    return Grid(path, image, np.asanyarray(values))


def _header(path: Path) -> tuple[dict[str, str], int]:
    """The header's fields, and where data within the same file would begin."""
    header: dict[str, str] = {}
    with path.open("rb") as handle:
        for line in handle:
            key, sign, value = line.decode("ascii").partition("=")
            if not sign:
                raise UserError(f"{path}: is no MetaImage header; fetch the file again or take it out")
            header[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":  # always the last field
                return header, handle.tell()
    raise UserError(f"{path}: names no ElementDataFile; fetch the file again or take it out")


def _affine(header: dict[str, str]) -> np.ndarray:
    """(4, 4) voxel to world in mm, with the world running to the right, front and head as in NIfTI."""
    import numpy as np

    def numbers(default: str, *keys: str) -> np.ndarray:
        text = next((header[key] for key in keys if key in header), default)
        return np.array([float(number) for number in text.split()])

    spacing = numbers("1 1 1", "ElementSpacing", "ElementSize")
    axes = numbers("1 0 0 0 1 0 0 0 1", "TransformMatrix", "Rotation", "Orientation").reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = axes.T * spacing
    affine[:3, 3] = numbers("0 0 0", "Offset", "Position", "Origin")
    to_nifti: np.ndarray = np.diag([-1.0, -1.0, 1.0, 1.0])  # left and back become right and front
    result: np.ndarray = to_nifti @ affine
    return result


def _values(path: Path, header: dict[str, str], start: int, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """(X, Y, Z) voxels from the header's own file or the one it names."""
    import numpy as np

    local = header["ElementDataFile"].upper() == "LOCAL"
    source = path if local else path.parent / header["ElementDataFile"]
    swapped = header.get("BinaryDataByteOrderMSB", header.get("ElementByteOrderMSB", "False")).lower() == "true"
    dtype = np.dtype(kind).newbyteorder(">" if swapped else "<")
    with named(source):
        data = source.read_bytes()[start if local else max(0, int(header.get("HeaderSize", 0))) :]
        if header.get("CompressedData", "False").lower() == "true":
            data = zlib.decompress(data)
    wanted = int(np.prod(shape)) * dtype.itemsize
    if len(data) != wanted:
        raise UserError(
            f"{source}: holds {len(data)} bytes of voxels where {path.name} says {wanted}; fetch the file again"
        )
    return np.frombuffer(data, dtype).reshape(shape, order="F").astype(dtype.newbyteorder("="))
