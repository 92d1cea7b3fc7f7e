"""A labelled grid of pictures that can be read without a legend elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from firstlight.arguments import Count, checked
from firstlight.errors import ArgumentError
from firstlight.pipeline.drawing.colours import ColourBar, as_rgb
from firstlight.pipeline.drawing.input_picture import as_bytes
from firstlight.pipeline.drawing.text import lettered, text_width

_MARGIN = 10
_GAP = 4
_FRAME = "#d5d8dc"
_QUIET = "#5f6368"
_USUAL_CELL, _LARGEST_CELL = 96, 160
_LABEL_GAP = 8
_WIDEST_ROW_LABEL = 130
_WIDEST_BAR = 200
_BAR_INSET = 6
_NARROWEST_COLUMN, _NARROWEST_PAGE = 72, 220

# A place is (left, width) on the page; a part is a picture at (left, top below its band's top).
_Place = tuple[int, int]
_Part = tuple[int, int, Image.Image]


@checked
def grid(
    rows: Sequence[Sequence[Tensor | None]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str | None = None,
    caption: str | None = None,
    cell: Count | None = None,
    notes: Sequence[Sequence[str | None]] | None = None,
    bars: Sequence[ColourBar | None] | None = None,
) -> Tensor:
    """Pictures in rows and columns with their names, as one uint8 picture (3, height, width).

    Small pictures are enlarged by a whole number, pixel by pixel; large ones are reduced with
    antialiasing. Labels are wrapped into their place, and shortened where they do not fit.

    Args:
        rows: Pictures (C, H, W), float in [0, 1] or uint8, of any sizes; None leaves a cell empty.
        row_labels: One name per row, to its left; "" for none.
        column_labels: One name per column, above it; "" for none.
        title: A line above the grid.
        caption: What the reader should know, below the grid, in one or more lines.
        cell: The longer side of a picture in pixels, at most; None chooses by the largest picture.
        notes: A short text below each picture, laid out like ``rows``.
        bars: A colour bar or None for each column, drawn below it; equal neighbours share one.

    Raises:
        ArgumentError: an argument is not as described: lengths that do not fit each other, no
            picture at all, or a picture of another shape or range; the message names the cell.
    """
    _check_lengths(rows, row_labels, column_labels, notes, bars)
    pictures = [
        [_as_image(f"rows[{i}][{j}]", picture) for j, picture in enumerate(row)]
        for i, row in enumerate(rows)
    ]
    if cell is None:
        cell = _cell_size(pictures)
    cells = [[None if p is None else _fitted(p, cell) for p in row] for row in pictures]
    width, height = _largest(cells)
    # Narrower columns would have no room for their names.
    width = max(_NARROWEST_COLUMN, width)
    label_width = min(max(text_width(label) for label in row_labels), _WIDEST_ROW_LABEL)
    left = _MARGIN + (label_width + _LABEL_GAP if any(row_labels) else 0)
    places = [(left + j * (width + _GAP), width) for j in range(len(column_labels))]
    right = max(sum(places[-1]), _NARROWEST_PAGE if title or caption else 0)
    whole = (_MARGIN, right - _MARGIN)

    bands = []
    if title:
        bands.append([_text(title, whole, size=15, lines=2, weight=0.25)])
    bands.append(_headings(column_labels, places))
    for i, row in enumerate(cells):
        bands.append(_row(row, places, height) + _row_label(row_labels[i], label_width, height))
        if notes:
            bands.append(_notes(notes[i], places))
    if bars:
        bands.append(_bars(bars, places))
    for line in filter(None, (caption or "").split("\n")):
        bands.append([_text(line, whole, size=12, lines=8, ink=_QUIET)])
    return _stacked([band for band in bands if band], right + _MARGIN)


def _text(text: str, place: _Place, top: int = 0, **style: Any) -> _Part:
    left, width = place
    return left, top, lettered(text, width, **style)


def _headings(labels: Sequence[str], places: Sequence[_Place]) -> list[_Part]:
    parts = [
        _text(label, place, lines=3, align="centre")
        for label, place in zip(labels, places, strict=True)
        if label
    ]
    tallest = max((picture.height for _, _, picture in parts), default=0)
    return [(left, tallest - picture.height, picture) for left, _, picture in parts]


def _row(row: Sequence[Image.Image | None], places: Sequence[_Place], height: int) -> list[_Part]:
    return [
        (left + (width - picture.width) // 2, (height - picture.height) // 2, picture)
        for picture, (left, width) in zip(row, places, strict=True)
        if picture is not None
    ]


def _row_label(label: str, width: int, height: int) -> list[_Part]:
    if not label:
        return []
    picture = lettered(label, width, lines=3, align="right")
    return [(_MARGIN, max(0, (height - picture.height) // 2), picture)]


def _notes(notes: Sequence[str | None], places: Sequence[_Place]) -> list[_Part]:
    return [
        _text(note, place, size=11, lines=2, align="centre", ink=_QUIET)
        for note, place in zip(notes, places, strict=True)
        if note
    ]


def _bars(bars: Sequence[ColourBar | None], places: Sequence[_Place]) -> list[_Part]:
    parts: list[_Part] = []
    for bar, run in groupby(zip(bars, places, strict=True), key=lambda pair: pair[0]):
        if bar is None:
            continue
        spanned = [place for _, place in run]
        left, right = spanned[0][0] + _BAR_INSET, sum(spanned[-1]) - _BAR_INSET
        width = min(right - left, _WIDEST_BAR)
        left += (right - left - width) // 2
        ramp = torch.linspace(bar.colours.low, 1, width - 2).expand(8, -1)
        parts.append((left, _GAP, _framed(Image.fromarray(as_bytes(bar.colours(ramp)).numpy()))))
        for share, tick in zip((0, 0.5, 1), bar.ticks, strict=True):
            tick_width = text_width(tick, size=11)
            tick_left = left + round(share * (width - tick_width))
            parts.append(_text(tick, (tick_left, tick_width), size=11, ink=_QUIET, top=16))
    return parts


def _stacked(bands: Sequence[Sequence[_Part]], width: int) -> Tensor:
    tops = [_MARGIN]
    for band in bands:
        tops.append(tops[-1] + _GAP + max(top + picture.height for _, top, picture in band))
    page = Image.new("RGB", (width, tops[-1] - _GAP + _MARGIN), "white")
    for band, top in zip(bands, tops, strict=False):
        for left, offset, picture in band:
            page.paste(picture, (left, top + offset))
    return torch.from_numpy(np.array(page)).permute(2, 0, 1)


def _as_image(name: str, picture: Tensor | None) -> Image.Image | None:
    if picture is None:
        return None
    if picture.ndim != 3 or picture.numel() == 0:
        raise ArgumentError(name, "must have the shape (C, H, W) and hold a pixel", picture)
    values = picture.detach().cpu()
    if values.dtype == torch.uint8 and len(values) == 3:
        return Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())
    values = values / 255 if values.dtype == torch.uint8 else values.float()
    if not ((values >= 0) & (values <= 1)).all():
        raise ArgumentError(
            name,
            f"pixels must lie in [0, 1], got {values.min():g} to {values.max():g}; "
            "render maps, and use input_picture for images",
        )
    return Image.fromarray(as_bytes(as_rgb(values)).numpy())


def _largest(pictures: Sequence[Sequence[Image.Image | None]]) -> tuple[int, int]:
    sizes = [picture.size for row in pictures for picture in row if picture is not None]
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def _cell_size(pictures: Sequence[Sequence[Image.Image | None]]) -> int:
    longest = max(_largest(pictures))
    return min(longest * max(1, round(_USUAL_CELL / longest)), _LARGEST_CELL)


def _fitted(picture: Image.Image, cell: int) -> Image.Image:
    longest = max(picture.size)
    if longest <= cell:
        picture = ImageOps.scale(picture, cell // longest, Image.Resampling.NEAREST)
    else:
        # Hamming has no negative lobes: around a lone red pixel no blue appears.
        picture = ImageOps.contain(picture, (cell, cell), Image.Resampling.HAMMING)
    return _framed(picture)


def _framed(picture: Image.Image) -> Image.Image:
    return ImageOps.expand(picture, border=1, fill=_FRAME)


def _check_lengths(
    rows: Sequence[Sequence[Tensor | None]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    notes: Sequence[Sequence[str | None]] | None,
    bars: Sequence[ColourBar | None] | None,
) -> None:
    if not any(picture is not None for row in rows for picture in row):
        raise ArgumentError("rows", f"must hold at least one picture, got {len(rows)} empty rows")
    height, width = len(rows), len(rows[0])
    lengths: list[tuple[str, int, Sequence[Any] | None]] = [
        *(("rows, each", width, row) for row in rows),
        ("column_labels", width, column_labels),
        ("row_labels", height, row_labels),
        ("notes", height, notes or None),
        *(("notes, each row", width, row) for row in notes or ()),
        ("bars", width, bars or None),
    ]
    for name, wanted, entries in lengths:
        if entries is not None and len(entries) != wanted:
            raise ArgumentError(name, f"must have {wanted} entries, got {len(entries)}")
