"""Hundreds of epochs with all callbacks leave nothing behind in the process."""

from __future__ import annotations

import gc
import os
from collections import Counter
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from firstlight.callbacks import (
    ActivationMaps,
    ClassImages,
    FirstLayerMaps,
    MaximallyActivatingPatches,
    PatternMonitor,
    SensitivityMaps,
)
from firstlight.callbacks import loggers as where_pictures_go
from firstlight.pipeline import GuidedBackprop, SmoothGrad
from firstlight.pipeline.class_images import Fooling, GradientAscent

WARM_UP, EPOCHS = 40, 200


class Tiny(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(3 * 36, 2),
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images)
        return logits

    def training_step(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def explanations() -> list[Callback]:
    """All of them, as small as they can be."""
    often: dict[str, Any] = {"every_n_epochs": 2, "most_classes": 1}
    return [
        FirstLayerMaps(images_per_class=2, **often),
        SensitivityMaps([GuidedBackprop(), SmoothGrad(samples=2)], numbers=["tv"], **often),
        PatternMonitor(count=6, units=1, **often),
        ActivationMaps(channels=1, **often),
        MaximallyActivatingPatches(channels=1, k=1, count=6, every_n_epochs=2),
        ClassImages(GradientAscent(steps=1), Fooling(steps=1), **often),
    ]


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def live_tensors() -> list[Tensor]:
    gc.collect()
    return [found for found in gc.get_objects() if issubclass(type(found), Tensor)]


class Watch(Callback):
    """Counts, at the start of epochs, what there is in the process."""

    def __init__(self) -> None:
        # Other tests may have left graphs behind, which are not counted.
        self._there_before = {
            id(tensor): ref(tensor) for tensor in live_tensors() if tensor.grad_fn is not None
        }
        self.resident: list[int] = []
        self.tensors: list[Counter[tuple[int, ...]]] = []
        self.graphs: list[int] = []
        self.files: list[int] = []
        self.hooks: list[int] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch < WARM_UP or trainer.current_epoch % 20:
            return
        tensors = live_tensors()
        self.resident.append(resident_bytes())
        self.tensors.append(Counter(tuple(tensor.shape) for tensor in tensors))
        self.graphs.append(
            sum(
                tensor.grad_fn is not None
                and self._there_before.get(id(tensor), lambda: None)() is not tensor
                for tensor in tensors
            )
        )
        self.files.append(len(os.listdir("/proc/self/fd")))
        self.hooks.append(
            sum(
                len(value)
                for module in pl_module.modules()
                for name, value in vars(module).items()
                if "hooks" in name and isinstance(value, dict)
            )
        )


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    torch.manual_seed(0)
    data = TensorDataset(torch.rand(12, 1, 6, 6), torch.arange(12) % 2)
    watch = Watch()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        callbacks=[watch, *explanations()],
        logger=CSVLogger(tmp_path_factory.mktemp("run")),
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    with pytest.MonkeyPatch.context() as patched:
        # Thousands of picture files would be most of the time.
        patched.setattr(where_pictures_go, "_write_files", lambda *_: None)
        trainer.fit(Tiny(), DataLoader(data, 6))
    assert trainer.current_epoch == EPOCHS
    return watch


pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc"),
]


def test_the_process_does_not_grow(watch: Watch) -> None:
    grown = watch.resident[-1] - watch.resident[0]
    assert grown < 16 * 2**20, [f"{size / 2**20:.0f} MiB" for size in watch.resident]


def test_no_tensor_is_left_behind(watch: Watch) -> None:
    assert watch.tensors[-1] - watch.tensors[0] == Counter()


def test_no_autograd_graph_is_left_behind(watch: Watch) -> None:
    assert set(watch.graphs) == {0}


def test_no_file_is_left_open(watch: Watch) -> None:
    assert len(set(watch.files)) == 1


def test_no_hook_is_left_behind(watch: Watch) -> None:
    assert set(watch.hooks) == {0}
