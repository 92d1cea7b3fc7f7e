"""MNIST's own file format, IDX, plain or gzipped.

An IDX file is a magic number (two zero bytes, the element type, the number of dimensions), the
size of each dimension as a big-endian 32-bit integer, and the elements in C order. Source: the
MNIST page of LeCun, Cortes and Burges, "File formats for the MNIST database".
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path) -> Tensor:
    """Read one IDX file of unsigned bytes.

    Args:
        path: The file; a name that ends in `.gz` is unpacked on the way.

    Returns:
        A uint8 tensor of the shape that the file declares.

    Raises:
        ValueError: If the file is not IDX, not of unsigned bytes, or shorter or longer than it
            declares.
    """
    remedy = "replace it with an intact copy"
    try:
        stored = path.read_bytes()
        content = bytearray(gzip.decompress(stored) if path.suffix == ".gz" else stored)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}); {remedy}") from error
    if len(content) < 4 or content[:3] != bytes((0, 0, _UNSIGNED_BYTE)):
        raise ValueError(
            f"{path} is not an IDX file of unsigned bytes (it begins with "
            f"{bytes(content[:4]).hex(' ') or 'nothing'}, not with 00 00 08); {remedy}"
        )
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise ValueError(f"{path} is cut short inside its header; {remedy}")
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    if len(content) - start != math.prod(shape):
        raise ValueError(
            f"{path} declares {math.prod(shape)} bytes of data (shape {shape}) but holds "
            f"{len(content) - start}; {remedy}"
        )
    if not math.prod(shape):
        return torch.empty(shape, dtype=torch.uint8)
    return torch.frombuffer(content, dtype=torch.uint8, offset=start).reshape(shape)


def write_idx(path: Path, data: Tensor) -> None:
    """Write a uint8 tensor as an IDX file, gzipped if the name ends in `.gz`.

    The same data give the same bytes: the gzip header carries neither time nor name.
    """
    header = bytes((0, 0, _UNSIGNED_BYTE, data.ndim)) + struct.pack(f">{data.ndim}I", *data.shape)
    content = header + data.contiguous().numpy().tobytes()
    path.write_bytes(gzip.compress(content, 9, mtime=0) if path.suffix == ".gz" else content)
