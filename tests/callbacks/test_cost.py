"""The cost of explaining is told while the first epoch goes on, where it is worth telling."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.demos.boring_classes import BoringModel, RandomDataset
from torch.utils.data import DataLoader, IterableDataset

from firstlight.arguments import checked
from firstlight.callbacks import Explanation, ExplanationCallback, Moment
from firstlight.pipeline.drawing import Column, Sheet

LINE = "brings it below a tenth"
BATCHES = 40


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("firstlight.callbacks.cost.time", clock)
    monkeypatch.setattr("firstlight.callbacks.explanation_callback.time", clock)
    return clock


@checked
@dataclass(eq=False)
class Slow(ExplanationCallback):
    """Takes ``seconds`` for an explanation, and ten times as long for the first one."""

    clock: Any
    seconds: float
    family = "9_slow"

    def __post_init__(self) -> None:
        self.moments: list[Moment] = []

    def __deepcopy__(self, memo: Any) -> Slow:
        return Slow(self.clock, self.seconds)

    def pick(self, trainer: Any) -> int:
        self.clock.seconds += 9 * self.seconds
        return 0

    def explain(self, model: LightningModule, picked: Any, when: Moment) -> Explanation:
        self.moments.append(when)
        self.clock.seconds += self.seconds
        column = Column("map", torch.ones(1, 1, 4, 4))
        return Explanation(sheets={"sheet": Sheet(rows=["a"], columns=[column])})


class Slower(Slow):
    """Another callback."""


class Trains(BoringModel):
    """A second for each batch."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.told_at: list[int] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.clock.seconds += 1
        return super().training_step(batch, batch_idx)

    def val_dataloader(self) -> Any:
        return DataLoader(RandomDataset(32, 4))


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    caplog.set_level(logging.INFO)
    yield lambda: [r.getMessage() for r in caplog.records if LINE in r.getMessage()]


def run(trainer_in: Any, clock: Clock, callbacks: Any, data: Any = None, **arguments: Any) -> Any:
    module = Trains(clock)
    trainer = trainer_in(callbacks=callbacks, logger=False, enable_checkpointing=False, **arguments)
    trainer.fit(module, DataLoader(RandomDataset(32, BATCHES)) if data is None else data)
    return trainer


@pytest.mark.parametrize("before_training", [True, False])
def test_one_line_says_how_many_seconds_and_what_brings_them_below_a_tenth(
    trainer_in: Any, clock: Clock, said: Any, before_training: bool
) -> None:
    callbacks = [Slow(clock, 3.0), Slower(clock, 5.0)]
    for callback in callbacks:
        callback.before_training = before_training
    run(trainer_in, clock, callbacks)
    # 8 s beside 40 s of training; every third time they are 2.7 s an epoch, every second time 4 s.
    assert said() == [
        "Explaining takes about 8.0 s an epoch (Slow 3.0 s, Slower 5.0 s), training about 40.0 s. "
        "every_n_epochs=3 brings it below a tenth of the training time."
    ]


def test_it_is_said_before_the_first_epoch_ends(trainer_in: Any, clock: Clock, said: Any) -> None:
    seen: list[tuple[int, int]] = []

    class Looks(Slow):
        def on_train_batch_end(self, *args: Any) -> None:
            super().on_train_batch_end(*args)
            seen.append((args[-1], len(said())))

    run(trainer_in, clock, [Looks(clock, 30.0)], max_epochs=1)
    assert next(batch for batch, lines in seen if lines) == 20 < BATCHES - 1


@pytest.mark.parametrize("batches", [1, 3, 40])
def test_nothing_is_said_of_less_than_a_tenth(
    trainer_in: Any, clock: Clock, said: Any, batches: int
) -> None:
    run(trainer_in, clock, [Slow(clock, 0.099 * batches)], DataLoader(RandomDataset(32, batches)))
    assert not said()


def test_every_n_epochs_counts(trainer_in: Any, clock: Clock, said: Any) -> None:
    often, seldom = Slow(clock, 6.0), Slow(clock, 6.0)
    seldom.every_n_epochs = 2
    run(trainer_in, clock, [seldom])
    assert not said()
    run(trainer_in, clock, [often])
    assert len(said()) == 1


def test_an_explanation_that_is_only_measured_is_seen_by_nobody(
    trainer_in: Any, clock: Clock, said: Any
) -> None:
    callback = Slow(clock, 30.0)
    run(trainer_in, clock, [callback])
    assert [str(moment) for moment in callback.moments] == ["before training", "epoch 1", "epoch 2"]


def test_a_stream_is_measured_at_the_end_of_its_first_epoch(
    trainer_in: Any, clock: Clock, said: Any
) -> None:
    class Stream(IterableDataset):
        def __iter__(self) -> Iterator[Any]:
            return iter(torch.rand(BATCHES, 32))

    run(trainer_in, clock, [Slow(clock, 10.0)], DataLoader(Stream()))
    assert "training about 40.0 s" in said()[0]


@dataclass
class Compared(ExplanationCallback):
    """Is compared by its fields, so that it has no hash."""

    family = "9_compared"

    def pick(self, trainer: Any) -> None:
        return None

    def explain(self, model: Any, picked: Any, when: Moment) -> Explanation:
        return Explanation(scalars={"is": 1.0})


def test_a_callback_without_a_hash_explains(fit: Any, data: Any, theirs: Any, board: Any) -> None:
    events = board(fit(theirs(), data, callbacks=[Compared()], max_epochs=2))
    assert [event.step > 0 for event in events.Scalars("9_compared/is")] == [False, True, True]
