"""Private names of TensorBoard's writer that are used here, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import google_crc32c
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow


def add_png(writer: Any, tag: str, png: bytes, size: tuple[int, int], step: int) -> None:
    """Write a picture that is compressed already.

    The public ``add_image`` makes a copy in floating point and compresses more slowly; the file
    writer, which takes a summary as it is, can only be had by a private name.

    Args:
        writer: torch's SummaryWriter.
        tag: The picture's name.
        png: The content of its file.
        size: (height, width).
        step: When.
    """
    height, width = size
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    writer._get_file_writer().add_summary(summary, step)


@contextmanager
def quick_checksums() -> Iterator[None]:
    """TensorBoard's own checksum, computed by a library in C until the end of the block.

    It takes a picture byte by byte in Python, a tenth of a second for those of an epoch, and there
    is no public way to another one. What is written in the block must be flushed in it, since it is
    summed in a thread.
    """
    theirs = pywrap_tensorflow.crc32c
    pywrap_tensorflow.crc32c = google_crc32c.value
    try:
        yield
    finally:
        pywrap_tensorflow.crc32c = theirs
