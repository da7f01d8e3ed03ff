"""Compressed DICOM pixels that pydicom and Pillow leave out, through imagecodecs, as a plugin of pydicom's decoders.

JPEG-LS, lossless JPEG, JPEG of 12 bits and high-throughput JPEG 2000. The functions and the table have the names that
pydicom asks a plugin for.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_CODECS = {
    "1.2.840.10008.1.2.4.51": "JPEG8",
    "1.2.840.10008.1.2.4.57": "JPEGSOF3",
    "1.2.840.10008.1.2.4.70": "JPEGSOF3",
    "1.2.840.10008.1.2.4.80": "JPEGLS",
    "1.2.840.10008.1.2.4.81": "JPEGLS",
    "1.2.840.10008.1.2.4.201": "HTJ2K",
    "1.2.840.10008.1.2.4.202": "HTJ2K",
    "1.2.840.10008.1.2.4.203": "HTJ2K",
}
DECODER_DEPENDENCIES = dict.fromkeys(_CODECS, ("imagecodecs",))


@cache
def register() -> None:
    """Make the codecs known to pydicom, once in a process."""
    from pydicom.pixels import get_decoder

    for syntax in _CODECS:
        get_decoder(syntax).add_plugin("imagecodecs", (__name__, "decode"))


def is_available(syntax: str) -> bool:
    """Whether a transfer syntax can be read with the installed imagecodecs."""
    import imagecodecs

    return syntax in _CODECS and bool(getattr(imagecodecs, _CODECS[syntax]).available)


def decode(source: bytes, runner: Any) -> bytes:
    """One frame's pixels, colour by pixel, in as many bytes as the stream itself needs; the runner is told how many."""
    import imagecodecs
    import numpy as np

    pixels = getattr(imagecodecs, _CODECS[runner.transfer_syntax].lower() + "_decode")(source)
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 0)
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    return np.ascontiguousarray(pixels).tobytes()
