"""Where runs and their checkpoints are, and what these hold."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from jsonargparse import Namespace
from lightning.pytorch import Trainer

from firstlight.errors import ArgumentError

Content = Mapping[str, Any]
"""What a checkpoint holds, by Lightning's names."""


def run_folder(config: Namespace) -> Path | None:
    """Where the logger keeps its runs; None if it has no such folder."""
    logger = config.trainer.logger
    folder = logger.get("init_args", {}) if isinstance(logger, Namespace) else {}
    return Path(folder["save_dir"], folder["name"]) if folder.get("name") else None


def checkpoint(path: str | None, runs: Path | None) -> Path:
    """The checkpoint at ``path``, or the newest one in ``runs`` if it is "last" or "best".

    Args:
        path: None stands for the best one.
        runs: The folder of the runs.

    Raises:
        ArgumentError: There is none.
    """
    if path not in ("last", "best", None):
        return Path(path)
    name = path or "best"
    if found := _newest(runs, f"*/checkpoints/{name}.ckpt"):
        return found
    said = f"there is no {name} checkpoint in {runs}; train first, or name a file by --ckpt_path"
    # Runs of another name are of other data.
    if other := _newest(runs and runs.parent, f"*/*/checkpoints/{name}.ckpt"):
        said += f", or the newest run by --config {other.parents[1] / 'config.yaml'}"
    raise ArgumentError("ckpt_path", said, path)


def _newest(folder: Path | None, pattern: str) -> Path | None:
    found = [] if folder is None else [*folder.glob(pattern)]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


_TO_TRUST_IT = (
    "if you trust whoever made it, --weights_only false runs the code in it"
    if "weights_only" in signature(Trainer.fit).parameters
    else "Lightning 2.6 or newer can be told to run the code in it"
)


def content_of(path: Path, weights_only: bool | None, argument: str = "ckpt_path") -> Content:
    """What the checkpoint holds; its tensors are read when they are used.

    Args:
        path: The file.
        weights_only: Whether code in the file is run, see :func:`torch.load`: False runs it.
        argument: Which argument names the file, for errors.

    Raises:
        ArgumentError: There is none, or it cannot be loaded.
    """
    if not path.is_file():
        raise ArgumentError(argument, "there is no such file", str(path))
    plain, found = weights_only is not False, None
    try:
        if is_zipfile(path):
            found = torch.load(path, weights_only=plain, mmap=True, map_location="cpu")
    except UnpicklingError:
        raise ArgumentError(
            argument, f"holds more than plain data; {_TO_TRUST_IT}", str(path)
        ) from None
    except RuntimeError:
        found = None  # a zip file of another kind, or one that is cut short
    if not isinstance(found, dict) or not {"state_dict", "global_step"} <= found.keys():
        raise ArgumentError(argument, "is no checkpoint of a Lightning trainer", str(path))
    return found


def epochs_of(content: Content) -> int:
    """How many epochs were over when the checkpoint was written."""
    return int(content["epoch"]) + 1


def hyper_parameters(content: Content) -> dict[str, Any]:
    """What the model in the checkpoint was made with."""
    found: Mapping[str, Any] = content.get("hyper_parameters", {})
    return {name: value for name, value in found.items() if name != "_instantiator"}


def run_of(path: Path, runs: Path | None) -> str | None:
    """The name of the run in ``runs`` that wrote the checkpoint; None if another program did."""
    run = path.resolve().parent.parent
    return run.name if runs is not None and run.parent == runs.resolve() else None
