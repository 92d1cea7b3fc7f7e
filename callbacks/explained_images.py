"""The images that a callback explains: picked once in a run, or kept from a stream of batches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from lightning.pytorch import Trainer

from firstlight.callbacks.common_arguments import CommonArguments
from firstlight.callbacks.examples import Examples, joined, read
from firstlight.callbacks.failures import failures_of
from firstlight.callbacks.picking import (
    MOST_BYTES,
    IndexedImages,
    first_of_each_class,
    given,
    indexable_loader,
    indexed_images,
    some_at_random,
)
from firstlight.callbacks.private_lightning import stage_of
from firstlight.callbacks.run_state import RunState


@dataclass(eq=False, kw_only=True)
class ExplainedImages(CommonArguments):
    """Picks images, and keeps them while a run lasts."""

    _run_state: RunState = field(default_factory=RunState, init=False, repr=False)

    @abstractmethod
    def pick(self, trainer: Trainer) -> Any:
        """The data to explain; called once, what it returns is kept."""

    def examples(self, trainer: Trainer, per_class: int, most_classes: int) -> Examples:
        """What the user's ``images`` returns, or images picked class by class."""
        return self._chosen(trainer, lambda s: first_of_each_class(s, per_class, most_classes))

    def random_examples(
        self, trainer: Trainer, count: int, seed: int, most_bytes: int = MOST_BYTES
    ) -> Examples:
        """What the user's ``images`` returns, or a seeded choice of training images."""
        return self._chosen(
            trainer, lambda source: some_at_random(source, count, most_bytes, seed), train=True
        )

    def _chosen(
        self,
        trainer: Trainer,
        some_of: Callable[[Examples | IndexedImages], Examples],
        train: bool = False,
    ) -> Examples:
        """The user's images, else some of the stream's or of the trainer's data set."""
        if self.images is not None:
            examples = given(trainer, self.images, self.unpack)
        elif self._run_state.stream:
            examples = some_of(joined(self._run_state.stream))
        else:
            examples = some_of(indexed_images(trainer, self.unpack, train))
        # One image tells the form of all; a part of the tensor would keep the whole of it.
        self._run_state.seen = replace(examples, images=examples.images[:1].clone())
        return examples

    def _picked(self, trainer: Trainer) -> Any:
        picked, stage = self._run_state.picked, stage_of(trainer)
        if stage not in picked:
            picked[stage] = self.pick(trainer)
            self._run_state.stream.clear()
        return picked[stage]

    def _lacks_data(self, trainer: Trainer) -> bool:
        known = self.images is not None or self._run_state.stream
        return not known and indexable_loader(trainer) is None

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
