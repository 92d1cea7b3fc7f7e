"""Runs that are over: their folders, and their checkpoints in the order of training."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from firstlight.board.sheet_file import FOLDER
from firstlight.callbacks import Moment
from firstlight.callbacks.private_lightning import share_of_epoch
from firstlight.command.checkpoints import Content, content_of
from firstlight.errors import ArgumentError

ARGUMENT = "checkpoints"


@dataclass(frozen=True)
class FinishedRun:
    """Checkpoints of one run.

    Attributes:
        folder: The folder of the run; None for checkpoints that lie elsewhere.
        checkpoints: Their files.
    """

    folder: Path | None
    checkpoints: list[Path]

    @property
    def config(self) -> Path | None:
        """The configuration that the run was started with, if it was kept."""
        path = None if self.folder is None else self.folder / "config.yaml"
        return path if path is not None and path.is_file() else None

    def in_order(self, weights_only: bool | None) -> list[Path]:
        """The checkpoints in the order of their steps.

        Raises:
            ArgumentError: One of them cannot be loaded.
        """
        contents = {path: content_of(path, weights_only, ARGUMENT) for path in self.checkpoints}
        return sorted(contents, key=lambda path: _order(contents[path]))


def finished_runs(names: Sequence[str]) -> list[FinishedRun]:
    """The runs of the checkpoints that are named: files, and folders that hold such files.

    Raises:
        ArgumentError: There is no such file, or none in the folder.
    """
    by_folder: dict[Path | None, dict[Path, None]] = {}
    for name in names:
        for path in _files(Path(name)):
            by_folder.setdefault(_folder(path), {})[path] = None
    return [FinishedRun(folder, list(paths)) for folder, paths in by_folder.items()]


def moment_of(content: Content, batches: float) -> Moment:
    """The moment of its run at which a checkpoint was written.

    Args:
        content: What it holds.
        batches: How many batches an epoch has, where the checkpoint does not tell.
    """
    loops = content.get("loops", {}).get("fit_loop", {})
    try:
        stepped = int(loops["epoch_loop.state_dict"]["_batches_that_stepped"])
        batch, epoch = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
        done, earlier = batch["current"]["ready"], epoch["current"]["ready"] - 1
        is_over, within = batch["is_last_batch"], epoch["current"]["processed"] <= earlier
    except KeyError:  # written by something else than a Trainer of these versions
        return Moment("fit", content["epoch"] + 1, content["global_step"])
    if not batch["total"]["ready"]:
        return Moment("fit")
    # Within an epoch Lightning counts the step of a batch after it has saved the checkpoint;
    # global_step is right there, but counts the steps of every optimiser.
    steps = content["global_step"]
    if steps not in (stepped, stepped + within):
        steps = stepped + within
    if earlier > 0:
        batches = (batch["total"]["ready"] - done) / earlier
    share = 1 if is_over else share_of_epoch(done, batches)
    return Moment("fit", float(earlier + share), steps)


def _order(content: Content) -> tuple[float, float]:
    moment = moment_of(content, float("inf"))
    return moment.step, moment.epoch


def _files(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise ArgumentError(ARGUMENT, "there is no such file or folder", str(path))
    if not path.is_dir():
        yield _shown(path)
        return
    found = sorted(path.glob("*.ckpt")) or sorted(path.glob("checkpoints/*.ckpt"))
    if not found:
        raise ArgumentError(ARGUMENT, "there is no *.ckpt in this folder", str(path))
    yield from map(_shown, found)


def _folder(path: Path) -> Path | None:
    """The folder of the run that wrote the checkpoint, known by its config or its sheets."""
    near = path.absolute().parent
    for folder in (near.parent, near):
        if (folder / "config.yaml").is_file() or (folder / FOLDER).is_dir():
            return _shown(folder)
    return None


def _shown(path: Path) -> Path:
    """The path as short as it can be said from the working folder."""
    absolute = Path(os.path.normpath(path.absolute()))
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
