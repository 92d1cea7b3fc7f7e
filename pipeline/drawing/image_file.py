"""Pictures as image files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

_DIFFERENCE_FROM_ABOVE, _RGB = 2, 2
"""Numbers of the PNG format: its second filter, and colours without transparency."""


def as_image(picture: Tensor) -> Image.Image:
    """A picture (3, height, width), uint8, as Pillow has it."""
    return Image.fromarray(picture.permute(1, 2, 0).numpy())


def as_png(picture: Tensor) -> bytes:
    """The content of a PNG file of a picture (3, height, width), uint8.

    Every line is kept as its difference from the one above, which is zero where pixels were
    enlarged. Pillow tries all five ways of the format (ISO/IEC 15948, section 9) on every line,
    which takes twice the time for files of the same size.
    """
    _, height, width = picture.shape
    pixels = np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy()).reshape(height, 3 * width)
    lines = np.full((height, 1 + 3 * width), _DIFFERENCE_FROM_ABOVE, np.uint8)
    lines[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=lines[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, _RGB, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(lines.data, 1)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def save_animation(pictures: Sequence[Tensor], path: str | Path, seconds: float = 0.5) -> None:
    """Pictures (3, height, width) of one size, one after the other, as a GIF that begins again."""
    first, *others = [as_image(picture) for picture in pictures]
    first.save(path, save_all=True, append_images=others, duration=round(1000 * seconds), loop=0)
