"""A model that none of the callbacks was written for, small data for it, and a trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import pytorch
from lightning.pytorch import LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from firstlight.callbacks import Explanation, ExplanationCallback, Moment
from firstlight.callbacks.private_tensorboard import quick_checksums


class Stranger(LightningModule):
    """Somebody else's classifier: batch norm, one of them frozen, dropout, functional ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.frozen = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 4)
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu(self.norm(self.conv(images))).mean((2, 3))
        return self.head(F.dropout(self.frozen(hidden), 0.3, self.training))

    def on_train_start(self) -> None:
        self.frozen.eval()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        self.seen.append(images.mean((1, 2, 3)))
        loss = F.cross_entropy(self(images + 0.1 * torch.randn_like(images)), labels)
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def make_data(count: int = 48, shape: tuple[int, ...] = (1, 8, 8)) -> TensorDataset:
    """Four classes of images, each with a bright quarter of its own."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(count) % 4
    images = 0.3 * torch.rand((count, *shape), generator=generator)
    half = shape[-1] // 2
    for image, label in zip(images, labels.tolist(), strict=True):
        top, left = half * (label // 2), half * (label % 2)
        image[:, top : top + half, left : left + half] += 0.7
    return TensorDataset(images, labels)


@pytest.fixture
def data() -> TensorDataset:
    return make_data()


@pytest.fixture
def stranger() -> Stranger:
    torch.manual_seed(0)
    return Stranger()


def their_module(package: Any = pytorch, **parts: Any) -> Any:
    """A network of somebody else, of either Lightning; what programs do in their own way are its
    arguments, those of ``Theirs.__init__`` and methods."""

    class Theirs(package.LightningModule):
        def __init__(
            self,
            outputs: int = 4,
            answer: Callable[[Tensor], Any] = lambda logits: logits,
            loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
            enter: Callable[[Any], Tensor] = lambda images: images,
            net: Any = None,
        ) -> None:
            super().__init__()
            dense = nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, outputs)
            self.net = nn.Sequential(nn.Flatten(), *dense) if net is None else net()
            self.answer, self.loss, self.enter = answer, loss, enter
            self.validated: list[Any] = []
            self.trained: list[Any] = []

        def forward(self, images: Any) -> Any:
            return self.answer(self.net(self.enter(images)))

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.trained.append(batch[0])
            return self.loss(self.net(self.enter(batch[0])), batch[1])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.validated.append(batch[0])
            self.log("val_loss", self.loss(self.net(self.enter(batch[0])), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    methods = {name: parts.pop(name) for name in _METHODS & set(parts)}
    return type("Theirs", (Theirs,), methods)(**parts)


_METHODS = {
    "automatic_optimization",
    "configure_optimizers",
    "forward",
    "on_after_batch_transfer",
    "on_before_batch_transfer",
    "on_train_epoch_end",
    "training_step",
    "validation_step",
}


@pytest.fixture(scope="session")
def theirs() -> Callable[..., Any]:
    return their_module


class Keeps(ExplanationCallback):
    """Keeps what it was given to explain."""

    family = "9_keeps"

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.kept: list[Any] = []
        self.when: list[Moment] = []

    def pick(self, trainer: Trainer) -> Any:
        return self.examples(trainer, 2, 4)

    def explain(self, model: Any, picked: Any, when: Moment) -> Explanation:
        self.kept.append(picked)
        self.when.append(when)
        return Explanation()


@pytest.fixture
def keeping() -> type[Keeps]:
    return Keeps


@pytest.fixture
def told() -> Callable[[Any], list[str]]:
    """The warnings of callbacks among all that were caught."""
    return lambda caught: [str(w.message) for w in caught if "could not explain" in str(w.message)]


Fit = Callable[..., Trainer]


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    """Train a model on the data; keyword arguments go to the trainer."""

    def run(
        model: LightningModule, dataset: Any, ckpt_path: Any = None, **arguments: Any
    ) -> Trainer:
        trainer = make_trainer(tmp_path, **arguments)
        loaders = DataLoader(dataset, 8, shuffle=True), DataLoader(dataset, 8)
        trainer.fit(model, *loaders, ckpt_path=ckpt_path)
        return trainer

    return run


def make_trainer(folder: Path, **arguments: Any) -> Trainer:
    defaults = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "default_root_dir": folder,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
    }
    return Trainer(**{**defaults, **arguments})


@pytest.fixture
def trainer_in(tmp_path: Path) -> Callable[..., Trainer]:
    return lambda **arguments: make_trainer(tmp_path, **arguments)


@pytest.fixture
def board() -> Callable[[Trainer], EventAccumulator]:
    """What TensorBoard has of a run, nothing thinned out."""

    def read(trainer: Trainer) -> EventAccumulator:
        events = EventAccumulator(trainer.logger.log_dir, size_guidance={"images": 0, "scalars": 0})
        with quick_checksums():
            return events.Reload()

    return read
