"""A bar for an explanation that takes more than two seconds, beside the trainer's own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Trainer
from torch import nn

_SHOWN_AFTER = 2.0
"""Seconds."""


class Passes:
    """The passes through a module, and a bar that shows them once they have taken some time.

    Args:
        opened: makes the bar.
    """

    def __init__(self, opened: Callable[[], _Tqdm | _Rich]) -> None:
        self._opened = opened
        self._began = time.perf_counter()
        self._bar: _Tqdm | _Rich | None = None
        self.count = 0

    def add(self, *_: Any) -> None:
        """A pass begins."""
        if self._bar is None and time.perf_counter() - self._began > _SHOWN_AFTER:
            self._bar = self._opened()
        if self._bar is not None:
            self._bar.update(self.count)
        self.count += 1

    def close(self) -> None:
        """Take the bar away, if there is one."""
        if self._bar is not None:
            self._bar.close()


@contextmanager
def passes_shown(
    trainer: Trainer, module: nn.Module, name: str, expected: int | None
) -> Iterator[Passes | None]:
    """Show the passes through the module, in the style of the trainer's bar.

    Nothing is shown, and None is had, without such a bar and where lines of text cannot be taken
    back: in a file or a notebook.

    Args:
        trainer: Has the bar.
        module: What is explained.
        name: Stands before the bar.
        expected: How many passes there will be, if that is known.
    """
    opened = _style(trainer)
    if opened is None or not sys.stdout.isatty():
        yield None
        return
    passes = Passes(lambda: opened(trainer.progress_bar_callback, name, expected))
    hook = module.register_forward_pre_hook(passes.add)
    try:
        yield passes
    finally:
        hook.remove()
        passes.close()


class _Tqdm:
    def __init__(self, _: Any, name: str, expected: int | None) -> None:
        from tqdm import tqdm

        # tqdm puts it below the bar of the epoch, if there is one already.
        self._bar = tqdm(
            desc=name,
            total=expected,
            leave=False,
            dynamic_ncols=True,
            file=sys.stdout,
            unit=" passes",
        )

    def update(self, done: int) -> None:
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class _Rich:
    def __init__(self, trainers: Any, name: str, expected: int | None) -> None:
        from rich import get_console
        from rich.progress import Progress

        # A terminal has one living display; the trainer's takes further lines.
        running = trainers.progress is not None and trainers.progress.live.is_started
        self._own = None if running else Progress(console=get_console(), transient=True)
        self._progress = trainers.progress if self._own is None else self._own
        self._task = self._progress.add_task(name, total=expected)
        if self._own is not None:
            self._own.start()

    def update(self, done: int) -> None:
        self._progress.update(self._task, completed=done)
        self._progress.refresh()

    def close(self) -> None:
        self._progress.remove_task(self._task)
        if self._own is not None:
            self._own.stop()


def _style(trainer: Trainer) -> type[_Tqdm] | type[_Rich] | None:
    # By name, since either package of Lightning has its own classes.
    kinds = {kind.__name__ for kind in type(trainer.progress_bar_callback).__mro__}
    if "RichProgressBar" in kinds:
        return _Rich
    return _Tqdm if "TQDMProgressBar" in kinds else None
