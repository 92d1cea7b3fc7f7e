"""Training is bit for bit the same with and without the callbacks."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from firstlight.callbacks import (
    ActivationMaps,
    ClassImages,
    Explanation,
    ExplanationCallback,
    FirstLayerMaps,
    MaximallyActivatingPatches,
    PatternMonitor,
    SensitivityMaps,
)
from firstlight.callbacks.private_tensorboard import quick_checksums
from firstlight.pipeline import (
    ConvNetwork,
    DenseNetwork,
    Fooling,
    GradientAscent,
    ImageClassifier,
    SmoothGrad,
)


class ManualOptimisation(LightningModule):
    """Two optimisers that take turns, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(True), nn.Linear(12, 4)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            loss = F.cross_entropy(self(batch[0]), batch[1])
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.Adam(self.net[1].parameters()),
            torch.optim.SGD(self.net[4].parameters(), lr=0.1),
        ]


def frozen_first_layer() -> LightningModule:
    network = DenseNetwork((1, 8, 8), (16, 12), 4)
    network.linear1.requires_grad_(False)
    return ImageClassifier(network)


def compiled() -> LightningModule:
    network = DenseNetwork((1, 8, 8), (16, 12), 4)
    return ImageClassifier(torch.compile(network, backend="eager"))


MODELS: dict[str, Callable[[Any], LightningModule]] = {
    "default": lambda _: ImageClassifier(DenseNetwork((1, 8, 8), (16, 12), 4), training_noise=0.2),
    "CNN": lambda _: ImageClassifier(ConvNetwork((1, 8, 8), (4, 6), 10, 4)),
    "batch norm and dropout": lambda stranger: stranger,
    "frozen first layer": lambda _: frozen_first_layer(),
    "manual optimisation": lambda _: ManualOptimisation(),
    "compiled": lambda _: compiled(),
}

PRECISIONS = ["32-true", "bf16-mixed", "64-true"]

CONVOLUTIONAL = {"CNN", "batch norm and dropout"}

SITUATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation": {"accumulate_grad_batches": 4},
    "val_check_interval": {"val_check_interval": 0.5},
    "resumed": {},
    "an explanation that raises": {},
}


class Raises(ExplanationCallback):
    """Fails after having done what it should not."""

    family = "9_raises"
    raised = 0

    def pick(self, trainer: Trainer) -> None:
        torch.rand(3)

    def explain(self, model: LightningModule, picked: Any, when: Any) -> Explanation:
        model.train()
        np.random.rand(), random.random(), torch.rand(2)
        Raises.raised += 1
        raise MemoryError("no light")


def explanations(convolutions: bool = False) -> list[Callback]:
    """All callbacks that fit the model."""
    inside = [
        ActivationMaps(channels=2, most_classes=2),
        MaximallyActivatingPatches(channels=2, k=2, count=20),
        ClassImages(GradientAscent(steps=2), Fooling(steps=2), most_classes=2),
    ]
    return [
        FirstLayerMaps(images_per_class=4),
        SensitivityMaps(methods=[SmoothGrad(samples=4)]),
        PatternMonitor(count=20, units=2, most_classes=2),
        *(inside if convolutions else []),
    ]


class BatchOrder(Callback):
    """Writes down which images each training batch held."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        self.seen.append(batch[0].mean((1, 2, 3)).tolist())


def trained(
    model: LightningModule,
    data: Any,
    folder: Path,
    callbacks: list[Callback],
    precision: Any,
    situation: str,
) -> dict[str, Any]:
    """Everything that training leaves behind."""
    seed_everything(5, verbose=False)
    model = copy.deepcopy(model)
    order = BatchOrder()

    def fit(steps: int = -1, checkpoint: Path | None = None) -> Trainer:
        trainer = Trainer(
            max_epochs=2,
            max_steps=steps,
            accelerator="cpu",
            precision=precision,
            default_root_dir=folder,
            callbacks=[*copy.deepcopy(callbacks), order],
            enable_progress_bar=False,
            enable_model_summary=False,
            **SITUATIONS[situation],
        )
        # A loader without a generator of its own draws its order from the global random numbers.
        loaders = DataLoader(data, 8, shuffle=True), DataLoader(data, 8)
        trainer.fit(model, *loaders, ckpt_path=checkpoint)
        return trainer

    # In the middle of the second epoch, which has six batches; every optimiser's step counts.
    steps = 18 if isinstance(model, ManualOptimisation) else 9
    trainer = fit(steps if situation == "resumed" else -1)
    if situation == "resumed":
        assert 6 < len(order.seen) < 12
        trainer.save_checkpoint(folder / "middle.ckpt")
        seed_everything(6, verbose=False)
        trainer = fit(checkpoint=folder / "middle.ckpt")
    return {
        "weights and buffers": model.state_dict(),
        "optimisers": [o.state_dict() for o in trainer.optimizers],
        "gradients": [p.grad for p in model.parameters()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "batches": order.seen,
        "random numbers": (
            torch.get_rng_state(),
            random.getstate(),
            np.random.get_state()[1].tolist(),
        ),
    }


def assert_identical(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_identical(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_identical(x, y, f"{where}/{i}")
    else:
        assert a == b, where


def combinations() -> Iterator[Any]:
    """All of them; those that are not slow hold each pair of model, precision and situation."""
    for i, model in enumerate(MODELS):
        for j, situation in enumerate(SITUATIONS):
            if situation == "accumulation" and model == "manual optimisation":
                continue  # Lightning leaves accumulation to manual optimisation itself.
            for k, precision in enumerate(PRECISIONS):
                marks = () if (i + j) % len(PRECISIONS) == k else pytest.mark.slow
                yield pytest.param(model, precision, situation, marks=marks)


@pytest.mark.parametrize(("model", "precision", "situation"), list(combinations()))
@pytest.mark.filterwarnings("ignore")
def test_training_is_bit_identical_with_all_callbacks(
    model, precision, situation, stranger, data, tmp_path, recwarn
):
    torch.manual_seed(1)
    module = MODELS[model](stranger)
    callbacks = explanations(model in CONVOLUTIONAL)
    raises = situation == "an explanation that raises"
    if raises:
        callbacks = [*callbacks, Raises()]
    Raises.raised = 0
    without = trained(module, data, tmp_path / "without", [], precision, situation)
    beside = trained(module, data, tmp_path / "with", callbacks, precision, situation)
    assert_identical(without, beside)
    assert Raises.raised == 3 * raises
    # Every other callback really explained, else this would prove nothing.
    failed = [str(w.message) for w in recwarn if "could not explain" in str(w.message)]
    assert all("no light" in message for message in failed)
    families = {"1_first_layer", "2_sensitivity", "3_patterns"}
    if model in CONVOLUTIONAL:
        families.add("4_inside")
    # A resumed run goes on in the folder of the run before.
    runs = [EventAccumulator(str(run)) for run in (tmp_path / "with" / "lightning_logs").iterdir()]
    with quick_checksums():
        pictures = [picture for run in runs for picture in run.Reload().Tags()["images"]]
    assert {picture.split("/")[0] for picture in pictures} == families


@pytest.mark.parametrize(
    "callback", [*explanations(convolutions=True), Raises()], ids=lambda c: type(c).__name__
)
@pytest.mark.filterwarnings("ignore")
def test_training_is_bit_identical_with_each_callback_alone(callback, stranger, data, tmp_path):
    without = trained(stranger, data, tmp_path / "without", [], "32-true", "plain")
    beside = trained(stranger, data, tmp_path / "with", [callback], "32-true", "plain")
    assert_identical(without, beside)


@pytest.mark.filterwarnings("ignore")
def test_the_comparison_would_notice_a_single_random_number(stranger, data, tmp_path):
    class Careless(Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            torch.rand(1)

    without = trained(stranger, data, tmp_path / "without", [], "32-true", "plain")
    beside = trained(stranger, data, tmp_path / "with", [Careless()], "32-true", "plain")
    with pytest.raises(AssertionError):
        assert_identical(without, beside)
