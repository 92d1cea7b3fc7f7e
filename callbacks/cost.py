"""The time that explaining takes beside training, and the one line that says so."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakKeyDictionary

from lightning.pytorch import LightningModule, Trainer

from firstlight.callbacks.failures import failures_of
from firstlight.callbacks.schedule import Schedule

_TOLD_ABOVE = 0.1
"""The share of the training time above which the cost is told."""

_FEWEST_BATCHES = 20

_QUICK = 5.0
"""Seconds."""


class Costs:
    """The seconds that explaining takes in a run, of all its callbacks together."""

    def __init__(self) -> None:
        self._explaining: dict[int, float] = {}
        self._times: Counter[int] = Counter()
        self._fails: set[int] = set()
        self._spent = 0.0
        self._batches = 0
        self._began: float | None = None
        self._is_known = False

    @property
    def now(self) -> float:
        """A clock that stands still while there is an explanation."""
        return time.perf_counter() - self._spent

    @contextmanager
    def explaining(self, callback: object) -> Iterator[None]:
        """Count what is inside as the callback's latest explanation; none where it fails."""
        key, before = id(callback), self._spent
        try:
            with self.stopped():
                yield
            self._times[key] += 1
        except Exception:
            self._fails.add(key)
            raise
        finally:
            self._explaining[key] = self._spent - before

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock for what is inside."""
        began = self.now
        try:
            yield
        finally:
            self._spent += self.now - began

    def most_seconds(self, callback: object) -> float:
        """The callback's latest explanation took these; a later one takes no more."""
        if id(callback) in self._fails:
            return 0.0
        return self._explaining.get(id(callback), math.inf)

    def is_measured(self, callback: object) -> bool:
        """True from the second explanation on: the first one loads what later ones find."""
        return self._times[id(callback)] > 1 or id(callback) in self._fails

    def is_quickly_tried(self, callback: object) -> bool:
        """True where a second explanation, to measure it, takes a few seconds at most."""
        return not self.is_measured(callback) and self.most_seconds(callback) < _QUICK

    def epoch_begins(self) -> None:
        """Begin to measure the first epoch."""
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
        done = self._batches - 1
        self._is_known = ends or self._batches >= batches
        if not self._is_known:
            if self._batches == 1:
                self._began = self.now
            self._is_known = done >= max(_FEWEST_BATCHES, batches / 10)
        if not self._is_known:
            return None
        counted = max(done, 1)
        total = self._batches if batches == math.inf else batches
        return (self.now - self._began) / counted * total


_OF_TRAINERS: WeakKeyDictionary[Trainer, Costs] = WeakKeyDictionary()


def costs_of(trainer: Trainer) -> Costs:
    """Those of the trainer's run, which its callbacks share."""
    return _OF_TRAINERS.setdefault(trainer, Costs())


def forget_costs(trainer: Trainer) -> None:
    """Begin another run."""
    _OF_TRAINERS.pop(trainer, None)


class Explains(Protocol):
    """A callback that explains."""

    @property
    def schedule(self) -> Schedule:
        """When it does."""

    def try_out(self, trainer: Trainer, module: LightningModule) -> None:
        """Explain the model to see what that costs, and keep nothing else of it."""


def tell_cost(
    trainer: Trainer,
    module: LightningModule,
    callbacks: Sequence[Explains],
    epoch: float,
) -> None:
    """Say what explaining costs where it is more than a tenth of the seconds of an epoch.

    Where that is not sure, the model is explained once or twice more, to measure it.
    """
    costs, batches = costs_of(trainer), trainer.num_training_batches
    often = [callback.schedule.explanations_in_epoch(batches) for callback in callbacks]
    while True:
        most = [costs.most_seconds(callback) for callback in callbacks]
        total = sum(n * s for n, s in zip(often, most, strict=True))
        if total <= _TOLD_ABOVE * epoch:
            return
        unsure = [callback for callback in callbacks if not costs.is_measured(callback)]
        if not unsure:
            break
        for callback in unsure:
            callback.try_out(trainer, module)
    by_name = ", ".join(
        f"{type(c).__name__} {s:.1f} s" for c, s in zip(callbacks, most, strict=True)
    )
    fewer = math.floor(sum(most) / (_TOLD_ABOVE * epoch)) + 1
    by_steps = any(c.schedule.every_n_train_steps for c in callbacks)
    alone = " without every_n_train_steps" if by_steps else ""
    failures_of(trainer).say(
        f"Explaining takes about {total:.1f} s an epoch ({by_name}), training about {epoch:.1f} s. "
        f"every_n_epochs={fewer}{alone} brings it below a tenth of the training time."
    )
