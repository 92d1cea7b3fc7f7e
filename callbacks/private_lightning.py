"""Private names of Lightning that are used here, each with its reason.

They are the same in ``lightning.pytorch`` and in ``pytorch_lightning``, 2.5 and 2.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

ATTACHED = ("log", "log_dict")
"""What a trainer attaches to its callbacks: bound methods of the module, which would be pickled."""


def stage_of(trainer: Trainer) -> str:
    """What the trainer does, "fit", "validate", "test" or "predict", in either package."""
    return "" if trainer.state.fn is None else str(trainer.state.fn.value)


def steps_done(trainer: Trainer) -> int:
    """The training batches after which an optimiser stepped.

    Lightning logs its metrics at this step, less one. The public ``global_step`` counts every
    optimiser's steps, so the curves of a run with two optimisers would lie elsewhere.
    """
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def epochs_done(trainer: Trainer, batch_idx: int) -> float:
    """The epochs done behind this batch, a whole number behind the last one."""
    return trainer.current_epoch + share_of_epoch(batch_idx + 1, trainer.num_training_batches)


def share_of_epoch(batches: int, of: float) -> float:
    """The share of an epoch that is done after some of its batches."""
    # The length of a stream is not known; what counts is the order.
    return 1 - 1 / (batches + 1) if of == float("inf") else batches / of


def state_key(callback: Callback, **arguments: Any) -> str:
    """The key by which a checkpoint tells several callbacks of one class apart.

    Lightning documents ``_generate_state_key`` as the way to make it.
    """
    return callback._generate_state_key(**arguments)


def as_validation_batch(trainer: Trainer, batch: Any) -> Any:
    """The batch as it reaches ``validation_step``: all hooks on the way, precision and device.

    The way is in Lightning's evaluation loop; its first hook has no public caller.
    """
    with _validating(trainer):
        batch = trainer.precision_plugin.convert_input(batch)
        batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
        return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


@contextmanager
def _validating(trainer: Trainer) -> Iterator[None]:
    """The trainer says that it validates, for hooks that augment only in training."""
    state, stage = trainer.state, trainer.state.stage
    try:
        if stage is not None and not trainer.evaluating:
            state.stage = type(stage)("validate")
        yield
    finally:
        state.stage = stage


@contextmanager
def validated_weights(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """The module has the weights that validation sees: averaged, if a callback averages them.

    WeightAveraging has no public way to swap its weights in; its own hooks for validation call
    these names.
    """
    averaging: list[Any] = [
        callback
        for callback in callbacks_of(trainer)
        if any(kind.__name__ == "WeightAveraging" for kind in type(callback).__mro__)
        and callback._average_model is not None
    ]
    # Validation itself swaps before the callbacks are asked.
    averaging = [] if trainer.evaluating else averaging
    for callback in averaging:
        callback._swap_models(module)
    try:
        yield
    finally:
        for callback in reversed(averaging):
            callback._swap_models(module)


def callbacks_of(trainer: Trainer) -> list[Any]:
    """The trainer's callbacks; the attribute is public but not annotated."""
    return list(getattr(trainer, "callbacks", []))
