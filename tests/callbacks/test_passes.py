"""Explaining an epoch of 50,000 images of 32 × 32 takes at most a twentieth of its passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from firstlight.callbacks import FirstLayerMaps, PatternMonitor, SensitivityMaps

IMAGES = 50_000


class Pictures(Dataset):
    """As many as CIFAR-10 has, made when they are asked for."""

    targets = torch.arange(IMAGES) % 10

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        seeded = torch.Generator().manual_seed(index)
        return torch.rand(3, 32, 32, generator=seeded), int(self.targets[index])


class Counting(LightningModule):
    """Counts the images that go through it, forward once and backward twice, as the work is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 8, stride=8)
        self.head = nn.Linear(2, 10)
        self.work = 0

    def forward(self, images: Tensor) -> Tensor:
        self.work += len(images)
        logits: Tensor = self.head(F.relu(self.conv(images)).mean((2, 3)))
        if logits.requires_grad:
            logits.register_hook(self._went_back)
        return logits

    def _went_back(self, gradient: Tensor) -> None:
        self.work += 2 * len(gradient)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Work(Callback):
    """The network's work up to the end of training of each epoch, and up to the next one."""

    def __init__(self) -> None:
        self.marks: list[int] = []

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.marks.append(module.work)

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        self.trained = module.work

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.marks.append(module.work)


@pytest.mark.filterwarnings("ignore")
def test_the_default_callbacks_take_at_most_a_twentieth_of_the_passes(trainer_in: Any) -> None:
    work = Work()
    callbacks = [FirstLayerMaps(), SensitivityMaps(), PatternMonitor()]
    trainer = trainer_in(
        callbacks=[work, *callbacks], max_epochs=2, limit_train_batches=1, logger=False
    )
    module = Counting()
    trainer.fit(module, DataLoader(Pictures(), 4))
    explaining = work.marks[-1] - work.trained
    assert explaining > 1000  # else nothing was counted
    assert explaining <= 0.05 * 3 * IMAGES, f"{explaining} of {3 * IMAGES}"
