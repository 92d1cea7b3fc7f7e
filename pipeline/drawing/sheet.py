"""A sheet: a table of raw maps with names, apart from how it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from firstlight.arguments import AboveZero, Count, Natural, checked
from firstlight.board import sheet as board
from firstlight.board.sheet_file import write_sheet
from firstlight.errors import ArgumentError
from firstlight.pipeline.drawing.colours import as_rgb
from firstlight.pipeline.drawing.grid import grid
from firstlight.pipeline.drawing.image_file import as_image, as_png, save_animation
from firstlight.pipeline.drawing.input_picture import as_bytes
from firstlight.pipeline.drawing.rendering import Rendering, Signed
from firstlight.pipeline.maps import checked_maps


@checked
@dataclass(frozen=True, eq=False)
class Column:
    """Maps below one another, which are drawn alike.

    Args:
        name: It stands above them.
        maps: (n, C, H, W), one for each row, or images for a
            :class:`~firstlight.pipeline.drawing.rendering.Picture`.
        drawn: How they are drawn unless the reader chooses otherwise.
        rows: The row of each of the n maps; None for the first n.
        notes: A short text below each of the n maps, or None.
        images: What the maps explain, for a rendering that needs it.

    Raises:
        ArgumentError: an argument is not as described; the message names it.
    """

    name: str
    maps: Tensor
    drawn: Rendering = field(default_factory=Signed)
    rows: Sequence[int] | None = None
    notes: Sequence[str | None] | None = None
    images: Tensor | None = None

    def __post_init__(self) -> None:
        checked_maps("maps", self.maps)
        if self.maps.ndim != 4:
            raise ArgumentError("maps", "must have the shape (n, C, H, W)", self.maps)
        for name, entries in {"rows": self.rows, "notes": self.notes}.items():
            if entries is not None and len(entries) != len(self.maps):
                raise ArgumentError(name, f"must have {len(self.maps)} entries, one per map")

    @property
    def places(self) -> Sequence[int]:
        """The row of each map."""
        return range(len(self.maps)) if self.rows is None else self.rows

    def note(self, row: int) -> str | None:
        """The text below the map of this row."""
        if self.notes is None or row not in self.places:
            return None
        return self.notes[self.places.index(row)]

    def pictures(self) -> Tensor:
        """The maps as they are drawn, (n, 3, H, W), uint8."""
        pictures = self.drawn(self.maps, self.images).cpu()
        # All at once, which takes less time than one by one. What is out of range is not cut off,
        # so that it becomes an error that names its place.
        in_range = ((pictures >= 0) & (pictures <= 1)).all()
        return as_bytes(as_rgb(pictures)).movedim(-1, -3) if in_range else pictures

    def raw(self) -> board.Column:
        """The column as its file keeps it: one channel, after the reduction that it names."""
        kind, values, cap = self.drawn.raw(self.maps, self.images)
        return board.Column(self.name, kind, values.contiguous().numpy(), list(self.places), cap)


@checked
@dataclass(frozen=True, eq=False)
class Sheet:
    """A table of raw maps with names, which draws itself in a notebook.

    Args:
        rows: The name of each row.
        columns: The columns.
        title: A line above the table.
        caption: What a reader must know, below it.
        about: A sentence on what can be learnt from it and one on what not.

    Raises:
        ArgumentError: a column has a map for a row that there is not, or there is no map at all.
    """

    rows: Sequence[str]
    columns: Sequence[Column]
    title: str = ""
    caption: str = ""
    about: str = ""

    def __post_init__(self) -> None:
        if not self.columns:
            raise ArgumentError("columns", "must hold at least one")
        for column in self.columns:
            if not set(column.places) <= set(range(len(self.rows))):
                problem = f"column {column.name!r} has maps for rows {list(column.places)}"
                raise ArgumentError("rows", problem, self.rows)

    def picture(self, cell: Count | None = None) -> Tensor:
        """The sheet as one picture (3, height, width), uint8.

        Args:
            cell: The longer side of a map in pixels, at most; None chooses by the largest map.
        """
        drawn = [dict(zip(c.places, c.pictures(), strict=True)) for c in self.columns]
        rows = range(len(self.rows))
        return grid(
            rows=[[maps.get(row) for maps in drawn] for row in rows],
            row_labels=self.rows,
            column_labels=[column.name for column in self.columns],
            title=self.title,
            caption="\n".join(filter(None, (self.caption, self.about))),
            cell=cell,
            notes=self._notes(),
            bars=[column.drawn.bar for column in self.columns],
        )

    def save(self, path: str | Path) -> None:
        """The picture as a file of the kind that its name ends in, such as .png or .webp."""
        as_image(self.picture()).save(path)

    def write(
        self, run: str | Path, name: str, family: str = "maps", step: Natural = 0, epoch: float = 0
    ) -> Path:
        """Write the raw maps below the folder of a run, for the Explanations tab and the report.

        Args:
            run: The folder; one file for each step lies below it.
            name: The sheet's name, the same at every step.
            family: The section of the page.
            step: Optimiser steps done.
            epoch: Epochs done, 0 before training.

        Returns:
            The file's path.
        """
        return write_sheet(self.raw(family, name, step, epoch), run)

    def raw(self, family: str, name: str, step: int, epoch: float) -> board.RawSheet:
        """The sheet as its file keeps it, see :mod:`firstlight.board.sheet_file`."""
        return board.RawSheet(
            family=family,
            name=name,
            step=step,
            epoch=epoch,
            rows=list(self.rows),
            columns=[column.raw() for column in self.columns],
            title=self.title,
            caption=self.caption,
            about=self.about,
            notes=self._notes(),
        )

    def _repr_png_(self) -> bytes:
        return as_png(self.picture())

    def _notes(self) -> list[list[str | None]]:
        return [[column.note(row) for column in self.columns] for row in range(len(self.rows))]


@checked
def animate(sheets: Sequence[Sheet], path: str | Path, seconds: AboveZero = 0.5) -> None:
    """Save sheets of several epochs as a GIF.

    Args:
        sheets: In the order of time, with the same rows and columns.
        path: The file.
        seconds: How long each is shown.
    """
    if not sheets:
        raise ArgumentError("sheets", "must hold at least one")
    save_animation([sheet.picture() for sheet in sheets], path, seconds)
