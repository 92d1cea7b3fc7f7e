"""The base of all callbacks that explain: when to explain, what of failures, where results go."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from firstlight.arguments import checked
from firstlight.callbacks.common_arguments import CommonArguments
from firstlight.callbacks.examples import Examples, joined, read
from firstlight.callbacks.explained_module import explained_module
from firstlight.callbacks.explanation import Explanation
from firstlight.callbacks.failures import failures_of
from firstlight.callbacks.moment import Moment, Stage
from firstlight.callbacks.outputs import Outputs
from firstlight.callbacks.picking import (
    MOST_BYTES,
    class_names_of,
    first_of_each_class,
    given,
    is_any_indexable,
    pick_at_random,
    pick_per_class,
)
from firstlight.callbacks.private_lightning import (
    ATTACHED,
    callbacks_of,
    epochs_done,
    stage_of,
    steps_done,
    validated_weights,
)
from firstlight.callbacks.record import record, record_pictures
from firstlight.callbacks.run_state import RunState
from firstlight.callbacks.schedule import is_last
from firstlight.callbacks.whole_model import needs_whole_model
from firstlight.errors import ArgumentError
from firstlight.pipeline import undisturbed


@checked
@dataclass(eq=False, kw_only=True)
class ExplanationCallback(CommonArguments, Callback):
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

    _run_state: RunState = field(default_factory=RunState, init=False, repr=False)

    @abstractmethod
    def pick(self, trainer: Trainer) -> Any:
        """The data to explain; called once, what it returns is kept."""

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

    def examples(
        self, trainer: Trainer, per_class: int, most_classes: int, most_bytes: int = MOST_BYTES
    ) -> Examples:
        """What the user's ``images`` returns, or images picked class by class."""
        if self.images is not None:
            return self._seen(given(trainer, self.images, self.unpack))
        if self._run_state.stream:
            stream = joined(self._run_state.stream)
            return self._seen(first_of_each_class(stream, per_class, most_classes))
        return self._seen(pick_per_class(trainer, self.unpack, per_class, most_classes, most_bytes))

    def random_examples(
        self, trainer: Trainer, count: int, seed: int, most_bytes: int = MOST_BYTES
    ) -> Examples:
        """What the user's ``images`` returns, or a seeded choice of training images."""
        if self.images is not None:
            return self._seen(given(trainer, self.images, self.unpack))
        if self._run_state.stream:
            return self._seen(joined(self._run_state.stream)[:count])
        return self._seen(pick_at_random(trainer, self.unpack, count, most_bytes, seed))

    @property
    def outputs(self) -> Outputs:
        """How the network's outputs are read in this run."""
        return self._run_state.outputs

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        needs_whole_model(self, trainer)
        # Another run of the same callback may have other data.
        self._run_state = RunState()

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
        self._at(trainer, pl_module, Moment("fit"), due and not run.control_awaits_data)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run_state.epoch_begins()

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
        run = self._run_state
        run.epoch_goes_on()
        if trainer.global_step == run.steps:
            return  # gradients are accumulated
        run.steps = trainer.global_step
        # Lightning counts the step after this hook.
        moment = Moment("fit", epochs_done(trainer, batch_idx), steps_done(trainer) + 1)
        if moment.is_within_epoch and self.schedule.explains(moment):
            self._at(trainer, pl_module, moment)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run_state.epoch_goes_on()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        moment = Moment("fit", trainer.current_epoch + 1, steps_done(trainer))
        self._at(trainer, pl_module, moment, self.schedule.explains(moment))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._run_state.undrawn is not None:
            failures = failures_of(trainer)
            note = partial(failures.note, type(self).__name__)
            found, moment = self._run_state.undrawn
            record_pictures(trainer, found, moment, note)
            failures.tell(moment)
            self._run_state.undrawn = None

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if stage_of(trainer) == "validate":
            self._at(trainer, pl_module, self._evaluated(trainer))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._at(trainer, pl_module, self._evaluated(trainer))

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
        others = [c for c in callbacks_of(trainer) if isinstance(c, ExplanationCallback)]
        # The last one tells the failures of all, so that a common cause is told once.
        if not others or others[-1] is self:
            failures_of(trainer).tell(moment)

    def found(self, trainer: Trainer, pl_module: LightningModule, moment: Moment) -> Explanation:
        """The explanation of the model as it is now, its names behind those of the family.

        It is not kept anywhere.
        """
        began = time.perf_counter()
        with validated_weights(trainer, pl_module), undisturbed(pl_module):
            picked = self._picked(trainer)
            found = self.explain(self._explained(trainer, pl_module), picked, moment)
        cost = self._run_state.explained_for(time.perf_counter() - began, moment)
        found.scalars.update(cost)
        for reason in found.failures:
            failures_of(trainer).note(type(self).__name__, f"in part: {reason}")
        return found.tagged(moment.prefix + self.family)

    def _run(self, trainer: Trainer, pl_module: LightningModule, moment: Moment) -> None:
        with failures_of(trainer).noting(type(self).__name__):
            self._record(trainer, self.found(trainer, pl_module, moment), moment)

    def _picked(self, trainer: Trainer) -> Any:
        picked, stage = self._run_state.picked, stage_of(trainer)
        if stage not in picked:
            picked[stage] = self.pick(trainer)
        return picked[stage]

    def _seen(self, examples: Examples) -> Examples:
        self._run_state.seen = examples
        return examples

    def _explained(self, trainer: Trainer, module: LightningModule) -> LightningModule:
        """The module as explanations take it; found once in a run."""
        run = self._run_state
        if run.explained is None and run.seen is not None:
            run.explained, head = explained_module(
                module, run.seen, self.logits, self.head, self.two_logits
            )
            run.outputs = Outputs(head, self.class_names or class_names_of(trainer))
        # Its layers are those of the module, and so are all other attributes.
        return cast(LightningModule, run.explained or module)

    def _record(self, trainer: Trainer, found: Explanation, moment: Moment) -> None:
        note = partial(failures_of(trainer).note, type(self).__name__)
        record(trainer, found, moment, note)
        drawn = self.schedule.draws(moment) or is_last(trainer, moment)
        self._run_state.undrawn = None if drawn else (found, moment)
        if drawn:
            record_pictures(trainer, found, moment, note)

    def _lacks_data(self, trainer: Trainer) -> bool:
        known = self.images is not None or self._run_state.stream
        return not (known or is_any_indexable(trainer))

    def _keep(self, trainer: Trainer, batch: Any) -> None:
        """Keep the first batches of a stream, as they reach the module."""
        run = self._run_state
        awaits = trainer.is_global_zero and stage_of(trainer) not in run.picked
        if not awaits or not (run.stream or self._lacks_data(trainer)):
            return
        try:
            run.keep(read(self.unpack, batch), MOST_BYTES)
        except Exception as error:
            failures_of(trainer).note(type(self).__name__, str(error))

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
