"""The numbers that a DICOM file stores for its pixels, unpacked where they are compressed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.codecs import register
from sammit.data.dicom import guarded, read_header
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def need_decoder(header: Any, path: Path) -> None:
    """Raise UserError where the pixels are compressed in a way that is not read."""
    from pydicom.pixels import get_decoder

    register()
    with guarded(path):
        syntax = header.file_meta.TransferSyntaxUID
        try:
            known = get_decoder(syntax).is_available
        except NotImplementedError:
            known = False
    if not known:
        name = "in a private way" if syntax.name == syntax else f"as {syntax.name}"
        raise UserError(f"{path}: is compressed {name}, which is not read; decompress it, as with `gdcmconv --raw`")


def stored_frames(path: Path) -> list[np.ndarray]:
    """The stored numbers of each frame of a file, (H, W) or (H, W, 3), white never zero."""
    import numpy as np
    from pydicom.pixels import iter_pixels

    header = read_header(path, pixels=True)
    if not any(name in header for name in _PIXELS):
        raise UserError(f"{path}: has a header and no pixels; export it again with them, or take it out of the folder")
    with guarded(path):
        frames = list(iter_pixels(header))
        if header.PhotometricInterpretation == "MONOCHROME1":
            top = -1 if header.PixelRepresentation else 2 ** int(header.BitsStored) - 1
            frames = [(top - frame.astype(np.int64)).astype(frame.dtype) for frame in frames]
    return frames
