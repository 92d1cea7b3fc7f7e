"""What all explanation callbacks share: when to explain, what of failures, where results go."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from firstlight.callbacks.examples import (
    Examples,
    Unpack,
    for_model,
    pick_per_class,
    unpack,
)
from firstlight.callbacks.loggers import log, log_step
from firstlight.pipeline import undisturbed


@dataclass
class Explanation:
    """What was found: pictures (3, height, width), uint8, and numbers, by name."""

    pictures: dict[str, Tensor] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    """Why some of it is missing."""


class ExplanationCallback(Callback):
    """Explains the model before training, at the end of epochs, and in ``trainer.validate`` and
    ``trainer.test``.

    A subclass says what: it picks its images in :meth:`pick` and explains the model in
    :meth:`explain`. The model, its gradients and all random numbers stay bit for bit as they were.
    The explanation runs on rank 0 alone and without collectives; if it fails, the reason is given
    once as a warning and the run goes on.

    Args:
        every_n_epochs: explain at the end of every n-th epoch.
        before_training: explain the untrained model too, as the control, in a run that starts from
            the beginning.
        unpack: from a batch to ``(images, labels)``; the default understands tensors, tuples, lists
            and dicts.
        images: from the trainer to the ``(images, labels)`` to explain; None picks them from the
            trainer's data.

    Raises:
        TypeError: an argument is of another type.
        ValueError: ``every_n_epochs`` is not a whole number of at least 1.
    """

    family: ClassVar[str]
    """The first part of all tags, which sorts the page."""

    def __init__(
        self,
        every_n_epochs: int = 1,
        before_training: bool = True,
        unpack: Unpack = unpack,
        images: Callable[[Trainer], Any] | None = None,
    ) -> None:
        whole_number("every_n_epochs", every_n_epochs)
        must_be("before_training", before_training, bool, "True or False")
        must_be("unpack", unpack, Callable, "a function from a batch to (images, labels)")
        must_be("images", images, Callable | None, "a function from the trainer, or None")
        self.every_n_epochs = every_n_epochs
        self.before_training = before_training
        self.unpack = unpack
        self.images = images
        self._picked: dict[TrainerFn | None, Any] = {}
        self._failed = False
        self._epoch_began = self._epoch_ended = 0.0

    @abstractmethod
    def pick(self, trainer: Trainer) -> Any:
        """The data to explain; called once, what it returns is kept."""

    @abstractmethod
    def explain(self, model: LightningModule, picked: Any, when: str) -> Explanation:
        """The explanation itself, with the model :func:`undisturbed`.

        Args:
            model: ``model(images)`` is logits.
            picked: what :meth:`pick` returned.
            when: for titles: "before training", "epoch 3", "test".
        """

    def check(self, model: LightningModule) -> None:
        """Raise a ValueError, when the run starts, if an argument does not fit the model."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        needs_whole_model(self, trainer)
        # Another run of the same callback may have other data.
        self._picked.clear()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not in setup, which comes before the model's own, where it may make its layers.
        self.check(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.check(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.check(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.before_training and trainer.global_step == 0:
            self._run(trainer, pl_module, "before training")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_began = time.perf_counter()

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._epoch_ended = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_ended = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs == 0:
            self._run(trainer, pl_module, f"epoch {epoch}")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._run(trainer, pl_module, "validation")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run(trainer, pl_module, "test")

    def examples(self, trainer: Trainer, per_class: int, most_classes: int) -> Examples:
        """What the user's ``images`` returns, or images picked class by class."""
        if self.images is not None:
            return Examples(*for_model(trainer, self.images(trainer)))
        return pick_per_class(trainer, self.unpack, per_class, most_classes)

    def _run(self, trainer: Trainer, pl_module: LightningModule, when: str) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        began = time.perf_counter()
        fitting = trainer.state.fn == TrainerFn.FITTING
        family = self.family if fitting else f"{when}/{self.family}"
        try:
            with undisturbed(pl_module):
                if trainer.state.fn not in self._picked:
                    self._picked[trainer.state.fn] = self.pick(trainer)
                found = self.explain(pl_module, self._picked[trainer.state.fn], when)
            seconds = time.perf_counter() - began
            found.scalars["seconds"] = seconds
            if fitting and when != "before training":
                found.scalars["share_of_epoch"] = seconds / (self._epoch_ended - self._epoch_began)
            pictures = {f"{family}/{name}": picture for name, picture in found.pictures.items()}
            scalars = {f"{family}/{name}": value for name, value in found.scalars.items()}
            log(trainer, pictures, scalars, log_step(trainer))
            for reason in found.failures:
                self._warn(when, f"in part: {reason}")
        except Exception as error:
            self._warn(when, f"{type(error).__name__}: {error}")

    def _warn(self, when: str, reason: str) -> None:
        if not self._failed:
            rank_zero_warn(
                f"{type(self).__name__} could not explain the model ({when}): {reason}. "
                "The run goes on; later failures of this callback are not reported."
            )
        self._failed = True


def needs_whole_model(callback: Callback, trainer: Trainer) -> None:
    """Raise a MisconfigurationException if the trainer spreads the model over several devices."""
    if isinstance(trainer.strategy, (FSDPStrategy, ModelParallelStrategy, DeepSpeedStrategy)):
        raise MisconfigurationException(
            f"{type(callback).__name__} needs the whole model on one device, but "
            f"{type(trainer.strategy).__name__} spreads its weights over several"
        )


def must_be(name: str, value: object, kind: Any, described: str) -> None:
    """Raise a TypeError that names the argument unless it is of this kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{name}={value!r}: must be {described}")


def whole_number(name: str, value: object, least: int = 1) -> None:
    """Raise a ValueError that names the argument unless it is a whole number from ``least`` on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r}: must be a whole number of at least {least}")
