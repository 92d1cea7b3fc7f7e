"""The moments of a run at which there is an explanation, and at which it is drawn for loggers."""

from __future__ import annotations

from dataclasses import dataclass

from firstlight.arguments import Count
from firstlight.callbacks.moment import Moment


@dataclass(eq=False, kw_only=True)
class Schedule:
    """When to explain and when to draw.

    Args:
        every_n_epochs: explain at the end of every n-th epoch.
        every_n_train_steps: explain after every n-th step as well; None for epochs alone.
        early: explain after steps 1, 2, 4, 8, … of the first epoch as well, where maps change most.
        pictures_every_n_epochs: draw pictures for loggers at every n-th epoch, and at the first and
            the last; None draws epochs 1, 2, 4, 8, … (of those that are explained). Raw sheets are
            kept whenever there is an explanation.
    """

    every_n_epochs: Count = 1
    every_n_train_steps: Count | None = None
    early: bool = False
    pictures_every_n_epochs: Count | None = None

    def explains(self, moment: Moment) -> bool:
        """True where a training run is explained: at the end of an epoch, or within it."""
        if not moment.is_within_epoch:
            return moment.epoch % self.every_n_epochs == 0
        by_steps = self.every_n_train_steps and moment.step % self.every_n_train_steps == 0
        return bool(by_steps) or (self.early and moment.epoch < 1 and _is_power_of_two(moment.step))

    def explanations_in_epoch(self, batches: float) -> float:
        """How many there are in an epoch of so many batches, on average; without the early ones."""
        steps = self.every_n_train_steps
        within = 0 if steps is None or batches == float("inf") else batches // steps
        return within + 1 / self.every_n_epochs

    def draws(self, moment: Moment) -> bool:
        """True where an explanation is drawn; the last one of a run is drawn in any case."""
        if moment.stage != "fit" or moment.is_control or moment.is_within_epoch:
            return True
        if self.pictures_every_n_epochs is None:
            return _is_power_of_two(int(moment.epoch // self.every_n_epochs))
        n = self.pictures_every_n_epochs
        # Explanations need not fall on multiples of n: the first behind each is drawn.
        earlier = moment.epoch - self.every_n_epochs
        return earlier <= 0 or moment.epoch // n > earlier // n


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0
