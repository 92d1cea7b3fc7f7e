"""Pictures to every logger; PNG files where a logger has no place for pictures.

Loggers are told apart by the name of their class, so that those of ``lightning.pytorch`` and of
``pytorch_lightning`` are alike and neither package is imported for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from torch import Tensor

from firstlight.callbacks.private_tensorboard import add_png, quick_checksums
from firstlight.pipeline.drawing import as_image, as_png

Pictures = Mapping[str, Tensor]
"""Pictures (3, height, width), uint8, by tag."""

Send = Callable[[Any, Pictures, int], None]
"""Gives a logger pictures, at a step."""

_SEND: dict[str, Send] = {}


def sends_pictures(logger: str) -> Callable[[Send], Send]:
    """Teach another logger, by the name of its class: ``@sends_pictures("MyLogger")``."""

    def register(send: Send) -> Send:
        _SEND[logger] = send
        return send

    return register


def sender_to(logger: Logger) -> Send | None:
    """Sends pictures to a logger that has a place for them and was not switched off."""
    known = (_SEND.get(kind.__name__) for kind in type(logger).__mro__)
    if (send := next(filter(None, known), None)) is None:
        return None
    try:
        # Comet and W&B have experiments that throw everything away.
        is_off = getattr(getattr(logger, "experiment", None), "disabled", False) is True
    except Exception:
        return send  # What fails here fails again, and is told, when the pictures are sent.
    return None if is_off else send


def writes_nothing(trainer: Trainer) -> bool:
    """True for a fast_dev_run, which leaves nothing behind."""
    return any(type(logger).__name__ == "DummyLogger" for logger in trainer.loggers)


def run_folders(trainer: Trainer) -> list[Path]:
    """The folders of the run's loggers; without any, the trainer's own.

    ``trainer.log_dir`` would wait for all processes.
    """
    own = Path(trainer.default_root_dir)
    return list(dict.fromkeys(_folder(logger, own) for logger in trainer.loggers)) or [own]


def write_files(pictures: Pictures, step: int, folder: Path) -> None:
    """Pictures as PNG files, a folder for each tag."""
    for tag, picture in pictures.items():
        path = folder / _file_name(tag, step)
        path.parent.mkdir(parents=True, exist_ok=True)
        as_image(picture).save(path)


@sends_pictures("TensorBoardLogger")
def _(logger: Any, pictures: Pictures, step: int) -> None:
    with quick_checksums():
        for tag, picture in pictures.items():
            _, height, width = picture.shape
            add_png(logger.experiment, tag, as_png(picture), (height, width), step)
        # Whoever looks while the run goes on should not wait for the next epoch.
        logger.experiment.flush()


@sends_pictures("WandbLogger")
def _(logger: Any, pictures: Pictures, step: int) -> None:
    for tag, picture in pictures.items():
        logger.log_image(tag, [as_image(picture)], step)


@sends_pictures("MLFlowLogger")
def _(logger: Any, pictures: Pictures, step: int) -> None:
    for tag, picture in pictures.items():
        logger.experiment.log_image(
            logger.run_id, as_image(picture), artifact_file=_file_name(tag, step)
        )


@sends_pictures("CometLogger")
def _(logger: Any, pictures: Pictures, step: int) -> None:
    for tag, picture in pictures.items():
        logger.experiment.log_image(as_image(picture), name=tag, step=step)


def _folder(logger: Logger, own: Path) -> Path:
    if logger.log_dir:
        return Path(logger.log_dir)
    # As Lightning itself places the checkpoints of such a run.
    version = logger.version
    version = version if isinstance(version, str) else f"version_{version}"
    return Path(logger.save_dir or own, str(logger.name), version)


def _file_name(tag: str, step: int) -> str:
    return f"{tag}/step_{step:07d}.png"
