"""Pictures and numbers to every logger; PNG files where a logger has no place for pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import (
    CometLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

Pictures = Mapping[str, Tensor]
"""Pictures (3, height, width), uint8, by tag."""


def log(trainer: Trainer, pictures: Pictures, scalars: Mapping[str, float], step: int) -> None:
    """Send everything to every logger of the trainer; one that fails does not stop the others."""
    if any(isinstance(logger, DummyLogger) for logger in trainer.loggers):
        return  # fast_dev_run leaves nothing behind
    folder = _run_folder(trainer) / "explanations"
    if not trainer.loggers:
        _write_files(pictures, step, folder)
    for logger in trainer.loggers:
        try:
            logger.log_metrics(dict(scalars), step)
            log_pictures(logger, pictures, step, folder)
        except Exception as error:
            rank_zero_warn(f"{type(logger).__name__} did not take all explanations: {error!r}")


def log_step(trainer: Trainer) -> int:
    """The step at which Lightning logs the metrics of the epoch that ends now."""
    return max(0, trainer.fit_loop.epoch_loop._batches_that_stepped - 1)


@singledispatch
def log_pictures(logger: Logger, pictures: Pictures, step: int, folder: Path) -> None:
    """Pictures to one logger. One without a place for pictures has them written below ``folder``.

    Another logger is taught with ``@log_pictures.register``.
    """
    _write_files(pictures, step, folder)


@log_pictures.register
def _(logger: TensorBoardLogger, pictures: Pictures, step: int, folder: Path) -> None:
    for tag, picture in pictures.items():
        # As add_image does it, but for a copy in floating point and a slower compression.
        _, height, width = picture.shape
        png = io.BytesIO()
        _image(picture).save(png, format="png", compress_level=1)
        image = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=png.getvalue()
        )
        summary = Summary(value=[Summary.Value(tag=tag, image=image)])
        logger.experiment._get_file_writer().add_summary(summary, step)
    # Whoever looks while the run goes on should not wait for the next epoch.
    logger.experiment.flush()


@log_pictures.register
def _(logger: WandbLogger, pictures: Pictures, step: int, folder: Path) -> None:
    for tag, picture in pictures.items():
        logger.log_image(tag, [_image(picture)], step)


@log_pictures.register
def _(logger: MLFlowLogger, pictures: Pictures, step: int, folder: Path) -> None:
    for tag, picture in pictures.items():
        logger.experiment.log_image(
            logger.run_id, _image(picture), artifact_file=_file_name(tag, step)
        )


@log_pictures.register
def _(logger: CometLogger, pictures: Pictures, step: int, folder: Path) -> None:
    for tag, picture in pictures.items():
        logger.experiment.log_image(_image(picture), name=tag, step=step)


def _run_folder(trainer: Trainer) -> Path:
    """The folder of the first logger; ``trainer.log_dir`` would wait for all processes."""
    for logger in trainer.loggers[:1]:
        if folder := logger.log_dir or logger.save_dir:
            return Path(folder)
    return Path(trainer.default_root_dir)


def _write_files(pictures: Pictures, step: int, folder: Path) -> None:
    for tag, picture in pictures.items():
        path = folder / _file_name(tag, step)
        path.parent.mkdir(parents=True, exist_ok=True)
        _image(picture).save(path)


def _file_name(tag: str, step: int) -> str:
    return f"{tag}/step_{step:07d}.png"


def _image(picture: Tensor) -> Any:
    return Image.fromarray(picture.permute(1, 2, 0).numpy())
