"""The memory that the default callbacks keep beside training, counted to the byte."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from firstlight.callbacks import FirstLayerMaps, PatternMonitor, SensitivityMaps
from firstlight.pipeline import Gradient

MOST = 64 * 2**20


class Photographs(Dataset):
    """Twenty photographs of each of ten classes, made when they are asked for."""

    targets = torch.arange(200) % 10

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        seeded = torch.Generator().manual_seed(index)
        return torch.rand(3, 224, 224, generator=seeded), int(self.targets[index])


class Tiny(LightningModule):
    """A network that takes little time and memory."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, stride=8)
        self.head = nn.Linear(4, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.relu(self.conv(images)).mean((2, 3)))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def tensors_in(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """All tensors that can be reached, without going into modules."""
    if id(value) in seen or isinstance(value, nn.Module):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
        return
    if isinstance(value, Mapping):
        value = list(value.values())
    elif is_dataclass(value) and not isinstance(value, type):
        held = [getattr(value, f.name, None) for f in fields(value)]
        value = [*held, *getattr(value, "__dict__", {}).values()]
    elif hasattr(value, "__dict__") and type(value).__module__.startswith("firstlight"):
        value = list(vars(value).values())
    if isinstance(value, (list, tuple, set)):
        for one in value:
            yield from tensors_in(one, seen)


def kept_bytes(callbacks: list[Callback]) -> int:
    """Each storage once, as a part of a tensor keeps the whole of it."""
    storages = [t.untyped_storage() for t in tensors_in(callbacks, set())]
    return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


class Scale(Callback):
    """Weighs the other callbacks at the start and after every epoch."""

    def __init__(self, others: list[Callback]) -> None:
        self.others, self.bytes = others, []

    def on_train_batch_start(self, *args: Any) -> None:
        self.bytes.append(kept_bytes(self.others))

    def on_train_end(self, *args: Any) -> None:
        self.bytes.append(kept_bytes(self.others))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_photographs_and_their_maps_take_at_most_64_mib_and_nothing_in_a_pickle(
    trainer_in: Any,
) -> None:
    # The numbers that keep maps; the others by default keep none, and take a minute here.
    numbers = ["similarity_to_last", "similarity_to_control"]
    methods = [Gradient(), Gradient()]  # SmoothGrad's maps are as large
    callbacks = [FirstLayerMaps(), SensitivityMaps(methods, numbers=numbers), PatternMonitor()]
    scale = Scale(callbacks)
    trainer: Trainer = trainer_in(
        callbacks=[*callbacks, scale], max_epochs=2, limit_train_batches=1, limit_val_batches=1
    )
    data = DataLoader(Photographs(), 4)
    trainer.fit(Tiny(), data, data)
    assert len(scale.bytes) == 3
    assert min(scale.bytes) > 16 * 2**20  # else nothing was seen
    assert max(scale.bytes) <= MOST, [f"{b / 2**20:.1f} MiB" for b in scale.bytes]
    pickled = sum(len(pickle.dumps(callback)) for callback in callbacks)
    assert pickled < 2**16 + kept_bytes([callbacks[0].earlier["control"]])
