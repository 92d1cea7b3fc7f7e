"""Explanations of a run that is over, beside what it wrote itself: nothing of that is lost."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from firstlight.board.scalars import read_series
from firstlight.board.sheet import Time
from firstlight.board.sheet_file import FOLDER, encoded, file_name
from firstlight.board.whole_file import write_whole
from firstlight.callbacks import Explanation, Moment
from firstlight.callbacks.record import Note, record, record_pictures
from firstlight.pipeline.drawing import Sheet

REPLACED = ".replaced"
"""Where sheets go that an explanation with other settings replaces: hidden from the tab."""


@dataclass
class LateRecords:
    """Keeps explanations in the folder of a run and in its loggers.

    A sheet that is there with the same content stays untouched; one with another content is moved
    to a hidden folder first. A number that is there for a step stays.

    Attributes:
        folder: The folder of the run.
        metrics: The run's own ``metrics.csv``, if it takes the numbers.
        sheets: Each sheet's name, and what became of it: "new", "as before" or "replaced".
        is_logged: Whether loggers were given anything.
    """

    folder: Path
    metrics: Path | None = None
    sheets: list[tuple[str, str]] = field(default_factory=list, init=False)
    is_logged: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._numbers = read_series(self.folder)

    def described(self, first: int = 0) -> str:
        """The sheets from the first on that is asked for: "2 new, 1 replaced"."""
        counts = Counter(kind for _, kind in self.sheets[first:])
        kinds = ("new", "as before", "replaced")
        return ", ".join(f"{counts[kind]} {kind}" for kind in kinds if counts[kind]) or "none"

    def has(self, family: str, moment: Moment) -> bool:
        """True if the folder has a sheet of the family at that moment."""
        below = self.folder / FOLDER / family
        return any(below.rglob(file_name(Time(moment.step, moment.epoch))))

    def keep(self, trainer: Trainer, found: Explanation, moment: Moment, note: Note) -> None:
        """Write the sheets that are not there as they are, and log the numbers that are missing."""
        fresh = {tag: s for tag, s in found.sheets.items() if self._write(tag, s, moment)}
        step = moment.logged_at
        numbers = {
            tag: value
            for tag, value in found.scalars.items()
            if step not in self._numbers.get(tag, {})
        }
        draws = bool(fresh) or not found.sheets
        self.is_logged |= bool(numbers) or draws
        if numbers:
            record(trainer, replace(found, scalars=numbers, sheets={}), moment, note)
            if self.metrics is not None:
                _append(self.metrics, {"step": step} | numbers)
        if draws:
            record_pictures(trainer, replace(found, sheets=fresh), moment, note)

    def _write(self, tag: str, sheet: Sheet, moment: Moment) -> bool:
        """True if the sheet was not there as it is now."""
        family, _, name = tag.rpartition("/")
        content = encoded(sheet.raw(family, name, moment.step, moment.epoch))
        place = Path(family, name, file_name(Time(moment.step, moment.epoch)))
        path = self.folder / FOLDER / place
        earlier = path.read_bytes() if path.is_file() else None
        if earlier == content:
            self.sheets.append((tag, "as before"))
            return False
        if earlier is not None:
            os.renames(path, _free(self.folder / FOLDER / REPLACED / place))
        write_whole(path, content)
        self.sheets.append((tag, "new" if earlier is None else "replaced"))
        return True


def _free(path: Path) -> Path:
    """The path, or the first numbered one that there is not."""
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{path.name.partition('~')[0]}~{number}")
    return path


def _append(path: Path, row: Mapping[str, Any]) -> None:
    """One more row at the end of a CSV file with names, which it may widen."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    rows: list[Mapping[str, Any]] = [*csv.DictReader(io.StringIO(text)), row]
    names = dict.fromkeys(name for each in rows for name in each)
    whole = io.StringIO()
    table = csv.DictWriter(whole, names)
    table.writeheader()
    table.writerows(rows)
    write_whole(path, whole.getvalue().encode())
