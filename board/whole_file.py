"""Files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes, outlasts_power: bool = False) -> None:
    """Write a file under a hidden name and then rename it, so that nobody ever sees half of it.

    Args:
        path: The file; folders that lack are made.
        content: What it holds.
        outlasts_power: Wait until it is on the disk, so that a loss of power leaves no empty file.

    Raises:
        OSError: The folder cannot be written, or the disk is full; an older file stays as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            if outlasts_power:
                file.flush()
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
