"""The time that explaining takes beside training, and the one line that says so."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

from lightning.pytorch import Trainer

from firstlight.callbacks.moment import Moment
from firstlight.callbacks.schedule import Schedule

_TOLD_ABOVE = 0.1
"""The share of the training time above which the cost is told."""

_FEWEST_BATCHES = 20

_QUICK = 5.0
"""Seconds."""

_Some = TypeVar("_Some", bound=Schedule)


@dataclass
class Cost:
    """The seconds that a callback's explanations take in a run."""

    latest: float = math.inf
    times: int = 0
    fails: bool = False

    @property
    def most(self) -> float:
        """The latest explanation took these; a later one takes no more."""
        return 0.0 if self.fails else self.latest

    @property
    def is_measured(self) -> bool:
        """True from the second explanation on: the first one loads what later ones find."""
        return self.times > 1 or self.fails

    @property
    def is_quickly_measured(self) -> bool:
        """True where a second explanation, to measure it, takes a few seconds at most."""
        return not self.is_measured and self.most < _QUICK


class Costs:
    """The seconds that explaining and training take in a run.

    Attributes:
        epoch_began: When the epoch began, by a clock that stands still during explanations.
        epoch_ended: When its last batch of training or validation ended, so far.
    """

    def __init__(self) -> None:
        # By identity: a dataclass of somebody else's has no hash.
        self._of: dict[int, Cost] = {}
        self._spent = 0.0
        self._batches = 0
        self._began: float | None = None
        self._is_known = False
        self.epoch_began = self.epoch_ended = 0.0

    @property
    def now(self) -> float:
        """A clock that stands still while there is an explanation."""
        return time.perf_counter() - self._spent

    def of(self, callback: Schedule) -> Cost:
        """The cost of one callback."""
        return self._of.setdefault(id(callback), Cost())

    @contextmanager
    def explaining(self, callback: Schedule) -> Iterator[None]:
        """Count what is inside as the callback's latest explanation; none where it fails."""
        cost, before = self.of(callback), self._spent
        try:
            with self.stopped():
                yield
            cost.times += 1
        except Exception:
            cost.fails = True
            raise
        finally:
            cost.latest = self._spent - before

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock for what is inside."""
        began = self.now
        try:
            yield
        finally:
            self._spent += self.now - began

    def numbers(self, seconds: float, moment: Moment) -> dict[str, float]:
        """The cost of an explanation, beside the epoch's own time where that is over."""
        is_over = moment.stage == "fit" and not (moment.is_control or moment.is_within_epoch)
        epoch = self.epoch_ended - self.epoch_began
        if is_over and epoch > 0:
            return {"seconds": seconds, "share_of_epoch": seconds / epoch}
        return {"seconds": seconds}

    def epoch_begins(self) -> None:
        """Begin to measure an epoch."""
        self.epoch_began = self.now
        if self._began is None:
            self._began = self.now

    def epoch_of(self, batches: float, ends: bool = False) -> float | None:
        """The seconds of training in an epoch, told once and as soon as they are known.

        They are known after a tenth of the batches, and the first batch does not count, since much
        is loaded there.

        Args:
            batches: of an epoch; called after each of them.
            ends: True at the end of the epoch.
        """
        if self._is_known or self._began is None:
            return None
        self._batches += not ends
        done, is_over = self._batches - 1, ends or self._batches >= batches
        if self._batches == 1 and not is_over:
            self._began = self.now
        self._is_known = is_over or done >= max(_FEWEST_BATCHES, batches / 10)
        if not self._is_known:
            return None
        total = self._batches if batches == math.inf else batches
        return (self.now - self._began) / max(done, 1) * total

    def unsure(self, callbacks: Sequence[_Some], batches: float, epoch: float) -> list[_Some]:
        """The callbacks to measure first, where explaining seems to take more than a tenth.

        Args:
            callbacks: Those that explain.
            batches: Of an epoch.
            epoch: The seconds of training in it.
        """
        if self._in_epoch(callbacks, batches) <= _TOLD_ABOVE * epoch:
            return []
        return [callback for callback in callbacks if not self.of(callback).is_measured]

    def line(self, callbacks: Sequence[Schedule], batches: float, epoch: float) -> str | None:
        """What explaining costs, where it is more than a tenth of the seconds of an epoch."""
        total = self._in_epoch(callbacks, batches)
        if total <= _TOLD_ABOVE * epoch:
            return None
        by_name = ", ".join(f"{type(c).__name__} {self.of(c).most:.1f} s" for c in callbacks)
        fewer = math.floor(sum(self.of(c).most for c in callbacks) / (_TOLD_ABOVE * epoch)) + 1
        alone = (
            " without every_n_train_steps" if any(c.every_n_train_steps for c in callbacks) else ""
        )
        return (
            f"Explaining takes about {total:.1f} s an epoch ({by_name}), training about "
            f"{epoch:.1f} s. every_n_epochs={fewer}{alone} brings it below a tenth of the training "
            "time."
        )

    def _in_epoch(self, callbacks: Sequence[Schedule], batches: float) -> float:
        return sum(c.explanations_in_epoch(batches) * self.of(c).most for c in callbacks)


_OF_TRAINERS: WeakKeyDictionary[Trainer, Costs] = WeakKeyDictionary()


def costs_of(trainer: Trainer) -> Costs:
    """Those of the trainer's run, which its callbacks share."""
    return _OF_TRAINERS.setdefault(trainer, Costs())


def forget_costs(trainer: Trainer) -> None:
    """Begin another run."""
    _OF_TRAINERS.pop(trainer, None)
