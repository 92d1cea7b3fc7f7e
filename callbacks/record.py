"""Findings to every place where they are kept: sheets to files, numbers and pictures to loggers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from firstlight.board.sheet_file import write_sheet
from firstlight.callbacks.explanation import Explanation
from firstlight.callbacks.failures import failures_of
from firstlight.callbacks.loggers import run_folders, sender_to, write_files, writes_nothing
from firstlight.callbacks.moment import Moment
from firstlight.pipeline.drawing import Sheet

Note = Callable[[str], None]
"""Remembers the reason of a failure."""


def record(trainer: Trainer, found: Explanation, moment: Moment, note: Note) -> None:
    """Keep the sheets and numbers; one place that fails is noted and does not stop the others."""
    if writes_nothing(trainer):
        return
    for folder in run_folders(trainer):
        _attempt(note, str(folder), _write_sheets, found.sheets, moment, folder)
    for logger in trainer.loggers:
        name = type(logger).__name__
        _attempt(note, name, logger.log_metrics, dict(found.scalars), moment.logged_at)


def record_pictures(trainer: Trainer, found: Explanation, moment: Moment, note: Note) -> None:
    """Draw the sheets where a logger, or a folder instead of one, takes pictures."""
    if writes_nothing(trainer):
        return
    drawn = {tag: sheet.picture() for tag, sheet in found.sheets.items()}
    pictures, step = found.pictures | drawn, moment.logged_at
    senders = [sender_to(logger) for logger in trainer.loggers]
    for send, logger in zip(senders, trainer.loggers, strict=True):
        if send is not None:
            _attempt(note, type(logger).__name__, send, logger, pictures, step)
    if None in senders or not senders:
        folder = run_folders(trainer)[0] / "explanations"
        _attempt(note, str(folder), write_files, pictures, step, folder)
        failures_of(trainer).say(f"Pictures of explanations are files in {folder}")


def _write_sheets(sheets: Mapping[str, Sheet], moment: Moment, folder: Path) -> None:
    for tag, sheet in sheets.items():
        family, _, name = tag.rpartition("/")
        write_sheet(sheet.raw(family, name, moment.step, moment.epoch), folder)


def _attempt(note: Note, place: str, keep: Callable[..., Any], *arguments: Any) -> None:
    try:
        keep(*arguments)
    except Exception as error:
        # Lightning's TensorBoardLogger calls whatever happens a value that it does not support.
        reason: BaseException = error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        note(f"{place} did not take all explanations: {reason!r}")
