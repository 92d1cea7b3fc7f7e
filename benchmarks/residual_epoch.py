"""The default callbacks beside an epoch that is too long to be waited for."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

from benchmarks.compare import Aim, Comparison, Measured
from benchmarks.scale import Scale
from benchmarks.training import DEFAULT, silence
from firstlight.pipeline import ImageClassifier

_IMAGES, _BATCH_SIZE = 50_000, 128


class _Counting(ImageClassifier):
    """Counts the images that go through it, forward once and backward twice, as the work is."""

    passes = 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += len(images)
        logits = super().forward(images)
        if logits.requires_grad:
            logits.register_hook(self._went_back)
        return logits

    def _went_back(self, gradient: Tensor) -> None:
        self.passes += 2 * len(gradient)


class _Clock(Callback):
    """Times the steps, and, first of all callbacks, when explanations begin."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.explaining: list[float] = []
        self.passes = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        self.steps.append(time.perf_counter() - self._began)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.passes = -pl_module.passes
        self._began = time.perf_counter()


class _Last(Callback):
    """Times, last of all callbacks, when explanations end."""

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._clock.explaining.append(time.perf_counter() - self._clock._began)
        self._clock.passes += pl_module.passes


def callbacks(scale: Scale) -> Comparison:
    """Two epochs of a few steps are trained and explained; all but the first step count."""
    steps = scale.pick(12, 2)
    labels = torch.arange(scale.pick(4096, 256)) % 10
    images = torch.rand(len(labels), 3, 32, 32, generator=torch.Generator().manual_seed(0))
    training = 0.0

    def ours() -> Measured:
        nonlocal training
        torch.manual_seed(0)
        clock = _Clock()
        with tempfile.TemporaryDirectory() as folder, silence():
            Trainer(
                max_epochs=2,
                limit_train_batches=steps,
                accelerator="cpu",
                logger=TensorBoardLogger(folder),
                callbacks=[clock, *(c() for c in DEFAULT), _Last(clock)],
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=False,
            ).fit(
                _Counting(resnet18(num_classes=10)),
                DataLoader(TensorDataset(images, labels), batch_size=_BATCH_SIZE, shuffle=True),
            )
        counted = clock.steps[1:]
        training = sum(counted) / len(counted) / _BATCH_SIZE * _IMAGES
        return Measured(training + sum(clock.explaining) / len(clock.explaining), clock.passes)

    return Comparison(
        f"one epoch of resnet18 (torchvision's, its stem as it is) on {_IMAGES} random images of "
        "32 × 32 with the three default callbacks, pictures drawn",
        f"the same epoch without them ({steps} steps of {_BATCH_SIZE} before each explanation "
        "timed, scaled up)",
        Aim(1.05),
        ours,
        {"": lambda: Measured(training, 3 * _IMAGES)},
        lambda explaining, trained: f"{explaining} passes beside {trained}",
        scale.pick(2, 1),
        in_process=False,
    )
