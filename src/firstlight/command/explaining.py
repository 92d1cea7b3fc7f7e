"""The explanation of a run's checkpoints, one after the other, by a trainer that does not train."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from textwrap import shorten

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from firstlight.callbacks import ExplanationCallback, Moment
from firstlight.callbacks.examples import leaves
from firstlight.callbacks.failures import failures_of
from firstlight.callbacks.loggers import run_folders
from firstlight.callbacks.picking import indexable_loader
from firstlight.callbacks.private_lightning import as_validation_batch
from firstlight.command.checkpoints import Content, content_of
from firstlight.command.finished_runs import ARGUMENT, moment_of
from firstlight.command.late_records import LateRecords
from firstlight.command.told import end_of_explain, say, start_of_explain
from firstlight.errors import ArgumentError

# As many batches of a stream as Lightning's own first look at the validation data takes.
_FIRST_BATCHES = 2


@dataclass(eq=False)
class Explaining(Callback):
    """Explains each checkpoint where training would begin, and then ends the training.

    So the data, the module and the trainer are as they were in the run, and the images are those
    that the callbacks picked there.

    Attributes:
        checkpoints: The files, in the order of training.
        callbacks: They explain; the trainer has them as well.
        controls: Those that explain the untrained network too, if it can be made again.
        loggers: They take numbers and pictures.
        folder: The folder of the run; None takes that of the loggers.
        metrics: See :class:`LateRecords`.
        weights_only: See :func:`content_of`.
    """

    checkpoints: Sequence[Path]
    callbacks: Sequence[ExplanationCallback]
    controls: Sequence[ExplanationCallback]
    loggers: list[Logger]
    folder: Path | None
    metrics: Path | None
    weights_only: bool | None

    _seen: dict[Moment, Path] = field(default_factory=dict, init=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = True
        # Only now, so that they do not log the hyperparameters of the run again.
        trainer.loggers = self.loggers
        folder = self.folder or run_folders(trainer)[0]
        self._records = LateRecords(folder, self.metrics)
        start_of_explain(trainer, pl_module, len(self.checkpoints), self.callbacks)
        _show_stream(trainer, pl_module, self.callbacks)
        control = Moment("fit")
        lacking = [c for c in self.controls if not self._records.has(c.family, control)]
        if lacking:
            # The network is still untrained.
            self._explain(trainer, pl_module, lacking, control, "made again from the seed")
        self._load_states([c for c in self.callbacks if c not in lacking])
        for path in self.checkpoints:
            self._explain_checkpoint(trainer, pl_module, path)
        if not self._records.is_logged:
            # At their end they would make a file, though there is nothing to write.
            trainer.loggers = []
        end_of_explain(self._records)

    def _content(self, path: Path) -> Content:
        return content_of(path, self.weights_only, ARGUMENT)

    def _load_states(self, callbacks: Sequence[ExplanationCallback]) -> None:
        """The control of each callback, as the first checkpoint that has it keeps it."""
        states = [self._content(path).get("callbacks", {}) for path in self.checkpoints]
        for callback in callbacks:
            state = next((s[callback.state_key] for s in states if callback.state_key in s), None)
            if state is not None:
                callback.load_state_dict(state)

    def _explain_checkpoint(self, trainer: Trainer, module: LightningModule, path: Path) -> None:
        content = self._content(path)
        moment = moment_of(content, trainer.num_training_batches)
        if (same := self._seen.setdefault(moment, path)) != path:
            say(_name(moment), f"{path.name}: of the same step as {same.name}")
            return
        module.on_load_checkpoint(dict(content))
        try:
            module.load_state_dict(content["state_dict"], strict=module.strict_loading)
        except RuntimeError as error:
            said = f"is of another network than the config's: {error}"
            # Of a large network it names thousands of weights.
            raise ArgumentError(ARGUMENT, shorten(said, 500, placeholder=" …"), str(path)) from None
        self._explain(trainer, module, self.callbacks, moment, path.name)

    def _explain(
        self,
        trainer: Trainer,
        module: LightningModule,
        callbacks: Sequence[ExplanationCallback],
        moment: Moment,
        source: str,
    ) -> None:
        began, failures, records = time.perf_counter(), failures_of(trainer), self._records
        before = len(records.sheets)
        for callback in callbacks:
            name = type(callback).__name__
            with failures.noting(name):
                found = callback.found(trainer, module, moment)
                records.keep(trainer, found, moment, partial(failures.note, name))
        failures.tell(moment)
        done = records.described(before)
        seconds = f"{time.perf_counter() - began:.1f} s"
        say(_name(moment), f"{source}, step {moment.step}: sheets {done}; {seconds}")


def _name(moment: Moment) -> str:
    return "Untrained" if moment.is_control else f"Epoch {moment.epoch:.4g}"


def _show_stream(
    trainer: Trainer, module: LightningModule, callbacks: Sequence[ExplanationCallback]
) -> None:
    """Show the callbacks the first batches of data of which no image can be asked for."""
    if indexable_loader(trainer) is not None:
        return
    validating = trainer.val_dataloaders is not None
    for loader in leaves(trainer.val_dataloaders if validating else trainer.train_dataloader):
        for number, batch in enumerate(islice(loader, _FIRST_BATCHES)):
            taken = as_validation_batch(trainer, batch)
            for callback in callbacks:
                callback.on_validation_batch_start(trainer, module, taken, number)
