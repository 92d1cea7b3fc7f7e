"""An epoch of training beside a hand-written loop, the usual module, and without callbacks."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, random_split
from torchmetrics.classification import MulticlassAccuracy
from torchvision import datasets
from torchvision.transforms import ToTensor

from benchmarks.compare import (
    Aim,
    Comparison,
    Measured,
    NotTheSame,
    Side,
    identical,
    relative_error,
)
from benchmarks.scale import Scale, digits, training_images
from firstlight.callbacks import FirstLayerMaps, PatternMonitor, SensitivityMaps
from firstlight.datamodules.batches import InMemory
from firstlight.datamodules.idx import read_idx, write_idx
from firstlight.pipeline import DenseNetwork, ImageClassifier

DEFAULT = FirstLayerMaps, SensitivityMaps, PatternMonitor
"""The callbacks of configs/default.yaml."""

_BATCH_SIZE = 256


class _Clock(Callback):
    """Times the last epoch: training, validation, logging, and all other callbacks."""

    seconds = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self._began


def _network() -> DenseNetwork:
    torch.manual_seed(0)
    return DenseNetwork()


def _fit(
    module: LightningModule, data: dict[str, Any], callbacks: list[Callback], epochs: int = 1
) -> float:
    """The seconds of the last epoch of training with logging and a progress bar."""
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder, silence():
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=TensorBoardLogger(folder),
            callbacks=[*callbacks, TQDMProgressBar(refresh_rate=20), clock],
            enable_checkpointing=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, **data)
    return clock.seconds


@contextmanager
def silence() -> Iterator[None]:
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logger.setLevel(level)


def _ours(scale: Scale, *callbacks: type[Callback], epochs: int = 1) -> Side:
    def side() -> Measured:
        module, data = ImageClassifier(_network()), {"datamodule": digits(scale.mnist)}
        seconds = _fit(module, data, [c() for c in callbacks], epochs)
        return Measured(seconds, dict(module.network.state_dict()))

    return side


def hand_written(scale: Scale) -> Comparison:
    data = digits(scale.mnist)
    training, validation = training_images(scale.mnist), data.splits.validation
    assert isinstance(validation, InMemory)

    def theirs() -> Measured:
        network = _network()
        optimizer = torch.optim.Adam(network.parameters(), fused=True)
        loader = data.train_dataloader()
        order = torch.tensor(list(loader.sampler))
        began = time.perf_counter()
        for batch in order.split(_BATCH_SIZE):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(training.images[batch]), training.targets[batch])
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            right = sum(
                int((network(images).argmax(1) == targets).sum())
                for images, targets in zip(
                    validation.images.split(_BATCH_SIZE),
                    validation.targets.split(_BATCH_SIZE),
                    strict=True,
                )
            )
        seconds = time.perf_counter() - began
        assert right
        return Measured(seconds, dict(network.state_dict()))

    return Comparison(
        f"one epoch of {scale.digits}, default network, batches of {_BATCH_SIZE}, "
        "logging and progress bar on",
        "hand-written PyTorch loop, fused Adam",
        Aim(1.15),
        _ours(scale),
        {"": theirs},
        _same_weights,
        scale.pick(5, 1),
    )


def _same_weights(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> str:
    error = max(relative_error(ours[name], theirs[name]) for name in ours)
    if not error <= 1e-5:
        raise NotTheSame(f"the weights differ by {error:.2g} of their norm")
    return f"weights equal within {error:.0e}"


class UsualModule(LightningModule):
    """The classifier as one finds it in tutorials."""

    def __init__(self) -> None:
        super().__init__()
        self.network = _network()
        self.train_accuracy = MulticlassAccuracy(10)
        self.val_accuracy = MulticlassAccuracy(10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss = F.cross_entropy(logits, labels)
        self.train_accuracy(logits, labels)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        logits = self(images)
        self.val_accuracy(logits, labels)
        self.log("val_loss", F.cross_entropy(logits, labels))
        self.log("val_accuracy", self.val_accuracy, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def usual(scale: Scale) -> Comparison:
    root = _torchvision_root(scale.mnist)
    held_out = len(digits(scale.mnist).splits.validation or ())

    def theirs() -> Measured:
        full = datasets.MNIST(root, train=True, transform=ToTensor())
        parts = random_split(
            full,
            [len(full) - held_out, held_out],
            generator=torch.Generator().manual_seed(0),
        )
        loaders = [
            DataLoader(part, batch_size=_BATCH_SIZE, shuffle=i == 0) for i, part in enumerate(parts)
        ]
        module = UsualModule()
        seconds = _fit(module, {"train_dataloaders": loaders[0], "val_dataloaders": loaders[1]}, [])
        return Measured(seconds, dict(module.network.state_dict()))

    return Comparison(
        f"one epoch of {scale.digits}, default network, batches of {_BATCH_SIZE}, "
        "logging and progress bar on",
        "the usual Lightning module: torchvision MNIST, ToTensor, DataLoader",
        Aim.faster(3.5),
        _ours(scale),
        {"": theirs},
        lambda ours, theirs: _same_accuracy(scale, ours, theirs),
        scale.pick(3, 1),
    )


def _same_accuracy(scale: Scale, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> str:
    """Both see other batches, so only the accuracies can be alike."""
    test = digits(scale.mnist).splits.test
    assert isinstance(test, InMemory)
    network = DenseNetwork()
    accuracies = []
    for weights in (ours, theirs):
        network.load_state_dict(weights)
        with torch.no_grad():
            right = (network(test.images).argmax(1) == test.targets).float().mean()
        accuracies.append(float(right))
    if abs(accuracies[0] - accuracies[1]) > 0.03:
        raise NotTheSame(f"test accuracies {accuracies[0]:.3f} and {accuracies[1]:.3f}")
    return "test accuracies {:.3f}, {:.3f}".format(*accuracies)


@cache
def _torchvision_root(mnist: str | None) -> str:
    """Where torchvision finds the same images: the sample is unpacked into a folder of its own."""
    if mnist is not None:
        return mnist
    import firstlight.datamodules.sample as sample

    root = Path(tempfile.mkdtemp(prefix="firstlight-"))
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in Path(sample.__path__[0]).glob("*.gz"):
        write_idx(raw / packed.stem, read_idx(packed))
    return str(root)


def callbacks(scale: Scale, epochs: int = 1) -> Comparison:
    """The first epoch, which is drawn, or a later one: of 1, 2, 3 the last is not drawn, or not
    before it is over."""
    drawn = "not drawn (the third epoch)" if epochs == 3 else "drawn"
    return Comparison(
        f"one epoch of {scale.digits} with the three default callbacks, pictures {drawn}",
        "the same epoch without them",
        Aim(1.2),
        _ours(scale, *DEFAULT, epochs=epochs),
        {"": _ours(scale, epochs=epochs)},
        identical,
        scale.pick(5, 1),
    )
