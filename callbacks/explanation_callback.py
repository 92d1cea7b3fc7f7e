"""The base of all callbacks that explain: when to explain, what of failures, where results go."""

from __future__ import annotations

import copy
import time
from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from firstlight.arguments import checked
from firstlight.callbacks.cost import costs_of, forget_costs
from firstlight.callbacks.explained_images import ExplainedImages
from firstlight.callbacks.explained_module import as_explained
from firstlight.callbacks.explanation import Explanation
from firstlight.callbacks.failures import failures_of
from firstlight.callbacks.moment import Moment, Stage
from firstlight.callbacks.outputs import Outputs
from firstlight.callbacks.picking import class_names_of
from firstlight.callbacks.private_lightning import (
    ATTACHED,
    callbacks_of,
    epochs_done,
    stage_of,
    steps_done,
    validated_weights,
)
from firstlight.callbacks.progress import passes_shown
from firstlight.callbacks.record import record, record_pictures
from firstlight.callbacks.run_state import RunState
from firstlight.callbacks.whole_model import needs_whole_model
from firstlight.errors import ArgumentError
from firstlight.pipeline import undisturbed


@checked
@dataclass(eq=False, kw_only=True)
class ExplanationCallback(ExplainedImages, Callback):
    """Explains the model before training, at the end of epochs, and in ``trainer.validate`` and
    ``trainer.test``.

    A subclass says what: it picks its images in :meth:`pick` and explains the model in
    :meth:`explain`. The model, its gradients and all random numbers stay bit for bit as they were.
    The explanation runs on rank 0 alone and without collectives; if it fails, the reason is given
    once in a run as a warning, and the run goes on.

    Arguments: :class:`~firstlight.callbacks.common_arguments.CommonArguments`.

    Raises:
        ArgumentError: an argument is not as described.
    """

    family: ClassVar[str]
    """The first part of all tags, which sorts the page."""

    two_logits: ClassVar[bool] = True
    """Whether one logit for two classes is explained as two."""

    needs_logits: ClassVar[bool] = True
    """Whether nothing can be explained where there are no logits."""

    @abstractmethod
    def explain(self, model: LightningModule, picked: Any, when: Moment) -> Explanation:
        """The explanation itself, with the model :func:`undisturbed`.

        Args:
            model: ``model(images)`` is logits.
            picked: what :meth:`pick` returned.
            when: its title belongs into titles: "before training", "epoch 3", "test".
        """

    def check(self, model: LightningModule) -> None:
        """Raise an ArgumentError, when the run starts, if an argument does not fit the model."""

    @property
    def outputs(self) -> Outputs:
        """How the network's outputs are read in this run."""
        return self._run_state.outputs

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        needs_whole_model(self, trainer)
        # Another run of the same callback may have other data; a test goes on from a fit.
        self._run_state = RunState(earlier={} if stage == "fit" else self.earlier)
        forget_costs(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not in setup, which comes before the model's own, where it may make its layers.
        self._check(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if stage_of(trainer) == "validate":
            self._check(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        run = self._run_state
        due = self.before_training and trainer.global_step == 0
        run.steps = trainer.global_step
        run.control_awaits_data = due and self._lacks_data(trainer)
        explained = due and not run.control_awaits_data
        self._at(trainer, pl_module, Moment("fit"), explained)
        if explained and trainer.is_global_zero and costs_of(trainer).of(self).is_quickly_measured:
            # Here rather than within an epoch.
            self.try_out(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        costs_of(trainer).epoch_begins()

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._keep(trainer, batch)

    on_test_batch_start = on_validation_batch_start

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._keep(trainer, batch)
        if self._run_state.control_awaits_data:
            self._run_state.control_awaits_data = False
            self._at(trainer, pl_module, Moment("fit"))

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        run, costs = self._run_state, costs_of(trainer)
        costs.epoch_ended = costs.now
        self._tell_cost(trainer, pl_module)
        if trainer.global_step == run.steps:
            return  # gradients are accumulated
        run.steps = trainer.global_step
        # Lightning counts the step after this hook.
        moment = Moment("fit", epochs_done(trainer, batch_idx), steps_done(trainer) + 1)
        if moment.is_within_epoch and self.explains(moment):
            self._at(trainer, pl_module, moment)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        costs = costs_of(trainer)
        costs.epoch_ended = costs.now

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell_cost(trainer, pl_module, ends=True)
        moment = Moment("fit", trainer.current_epoch + 1, steps_done(trainer))
        self._at(trainer, pl_module, moment, self.explains(moment))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._run_state.undrawn is not None:
            found, moment = self._run_state.undrawn
            self._run_state.undrawn = None
            self._draw(trainer, found, moment)
            failures_of(trainer).tell(moment)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        # A run that breaks off has a last explanation too.
        with failures_of(trainer).noting(type(self).__name__):
            self.on_train_end(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if stage_of(trainer) == "validate":
            self._at(trainer, pl_module, self._evaluated(trainer))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._at(trainer, pl_module, self._evaluated(trainer))

    @property
    def earlier(self) -> dict[str, Any]:
        """Maps by name that later ones are compared with: what is put here is kept in checkpoints,
        since a run that goes on could not make it again."""
        return self._run_state.earlier

    def state_dict(self) -> dict[str, Any]:
        return dict(self.earlier)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._run_state.earlier = dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        """All but what belongs to a run: images are not pickled."""
        kept = {name: value for name, value in vars(self).items() if name not in ATTACHED}
        return kept | {"_run_state": RunState()}

    def _at(
        self, trainer: Trainer, pl_module: LightningModule, moment: Moment, due: bool = True
    ) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        if due:
            self._run(trainer, pl_module, moment)
        # The last one tells the failures of all, so that a common cause is told once.
        if self._all(trainer)[-1] is self:
            failures_of(trainer).tell(moment)

    def _all(self, trainer: Trainer) -> list[ExplanationCallback]:
        """Those of the trainer, or this one where it has none."""
        found = [c for c in callbacks_of(trainer) if isinstance(c, ExplanationCallback)]
        return found or [self]

    def _tell_cost(self, trainer: Trainer, module: LightningModule, ends: bool = False) -> None:
        callbacks, costs = self._all(trainer), costs_of(trainer)
        if not trainer.is_global_zero or callbacks[-1] is not self:
            return
        batches = trainer.num_training_batches
        epoch = costs.epoch_of(batches, ends)
        if epoch is None:
            return
        while unsure := costs.unsure(callbacks, batches, epoch):
            for callback in unsure:
                callback.try_out(trainer, module)
        if line := costs.line(callbacks, batches, epoch):
            failures_of(trainer).say(line)

    def try_out(self, trainer: Trainer, module: LightningModule) -> None:
        """Explain the model to see what that costs, and keep nothing else of it."""
        # By a copy, for explanations may compare with the one before.
        twin = copy.deepcopy(self)
        twin._run_state = run = self._run_state
        earlier, run.earlier = run.earlier, {}
        moment = Moment("fit", trainer.current_epoch + 0.5, steps_done(trainer) + 1)
        with failures_of(trainer).noting(type(self).__name__), costs_of(trainer).explaining(self):
            twin.found(trainer, module, moment)
        run.earlier = earlier

    def found(self, trainer: Trainer, pl_module: LightningModule, moment: Moment) -> Explanation:
        """The explanation of the model as it is now, its names behind those of the family.

        It is not kept anywhere.
        """
        began = time.perf_counter()
        name, run = type(self).__name__, self._run_state
        with validated_weights(trainer, pl_module), undisturbed(pl_module):
            with passes_shown(trainer, pl_module, name, run.passes) as passes:
                picked = self._picked(trainer)
                found = self.explain(self._explained(trainer, pl_module), picked, moment)
            run.passes = None if passes is None else passes.count
        found.scalars.update(costs_of(trainer).numbers(time.perf_counter() - began, moment))
        for reason in found.failures:
            failures_of(trainer).note(f"{name} (in part)", reason)
        return found.tagged(moment.prefix + self.family)

    def _run(self, trainer: Trainer, pl_module: LightningModule, moment: Moment) -> None:
        note, costs = partial(failures_of(trainer).note, type(self).__name__), costs_of(trainer)
        with failures_of(trainer).noting(type(self).__name__):
            with costs.explaining(self):
                found = self.found(trainer, pl_module, moment)
                record(trainer, found, moment, note)
            drawn = self.draws(moment)
            self._run_state.undrawn = None if drawn else (found, moment)
            if drawn:
                self._draw(trainer, found, moment)

    def _draw(self, trainer: Trainer, found: Explanation, moment: Moment) -> None:
        note = partial(failures_of(trainer).note, type(self).__name__)
        with costs_of(trainer).stopped():
            record_pictures(trainer, found, moment, note)

    def _explained(self, trainer: Trainer, module: LightningModule) -> LightningModule:
        """The module as explanations take it; found once in a run."""
        run = self._run_state
        if run.explained is None and run.seen is not None:
            run.explained, run.outputs = as_explained(
                module, run.seen, self, self.two_logits, self.needs_logits
            )
            names = self.class_names or class_names_of(trainer)
            run.outputs = replace(run.outputs, names=names)
        # Its layers are those of the module, and so are all other attributes.
        return cast(LightningModule, run.explained or module)

    def _check(self, model: LightningModule) -> None:
        try:
            self.check(model)
        except ArgumentError as error:
            error.argument = f"{type(self).__name__}: {error.argument}"
            raise

    @staticmethod
    def _evaluated(trainer: Trainer) -> Moment:
        stage = cast(Stage, stage_of(trainer))
        return Moment(stage, trainer.current_epoch, steps_done(trainer))
