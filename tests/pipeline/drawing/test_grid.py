"""Pictures in rows and columns with their names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from firstlight.pipeline.drawing import DIVERGING, SEQUENTIAL, ColourBar, Signed, grid


def find(page: torch.Tensor, part: torch.Tensor) -> tuple[int, int]:
    """The one (top, left) at which ``part`` (3, h, w) occurs in ``page``."""
    height, width = part.shape[1:]
    corners = (page == part[:, :1, :1]).all(dim=0).nonzero().tolist()
    places = [
        (top, left)
        for top, left in corners
        if torch.equal(page[:, top : top + height, left : left + width], part)
    ]
    assert len(places) == 1
    return places[0]


def enlarged(picture: torch.Tensor, factor: int) -> torch.Tensor:
    whole = (255 * picture).round().to(torch.uint8)
    return whole.repeat_interleave(factor, 1).repeat_interleave(factor, 2)


def test_a_grid_shows_every_picture_in_its_place_pixel_by_pixel() -> None:
    pictures = torch.rand(2, 3, 3, 28, 28, generator=torch.Generator().manual_seed(5))
    page = grid([list(row) for row in pictures], ["a", "b"], ["one", "two", "three"])
    assert page.dtype == torch.uint8
    places = [[find(page, enlarged(p, 3)) for p in row] for row in pictures]
    tops = [{top for top, _ in row} for row in places]
    lefts = [{row[j][1] for row in places} for j in range(3)]
    assert all(len(line) == 1 for line in tops + lefts), "rows and columns are straight"
    assert tops[0].pop() + 84 < tops[1].pop()
    assert max(lefts[0]) + 84 < min(lefts[1]) < min(lefts[2]) - 84


def test_a_picture_that_does_not_fill_its_cell_lies_in_the_middle() -> None:
    generator = torch.Generator().manual_seed(5)
    square, narrow, flat = (
        torch.rand(3, *sides, generator=generator) for sides in ((28, 28), (28, 14), (14, 28))
    )
    page = grid([[square, flat], [narrow, square.flip(1)]], ["", ""], ["", ""])
    top, left = find(page, enlarged(square, 3))
    assert find(page, enlarged(flat, 3))[0] == top + 21
    assert find(page, enlarged(narrow, 3))[1] == left + 21


def test_an_empty_cell_stays_white_and_a_label_is_drawn() -> None:
    picture = torch.rand(3, 28, 28)
    page = grid([[picture, None]], [""], ["", ""])
    _, left = find(page, enlarged(picture, 3))
    assert page[:, :, left + 84 + 4 :].eq(255).all()
    assert grid([[picture, None]], [""], ["", "name"])[:, :, left + 84 + 4 :].lt(128).any()


@pytest.mark.parametrize(
    ("shape", "height"),
    [
        ((1, 28, 28), 84),
        ((3, 32, 32), 96),
        ((2, 64, 64), 128),
        ((1, 5, 5), 95),
        ((4, 100, 50), 100),
        ((3, 224, 224), 160),
        ((3, 448, 224), 160),
    ],
)
def test_small_pictures_grow_by_whole_numbers_and_large_ones_shrink(
    shape: tuple[int, ...], height: int
) -> None:
    page = grid([[torch.zeros(shape)]], [""], [""])
    dark = page.amax(dim=0) == 0
    assert dark.any(dim=1).sum() == height
    assert dark.any(dim=0).sum() == height * shape[2] // shape[1]


def test_reducing_averages_and_invents_no_colour() -> None:
    stripes = torch.zeros(1, 480, 480)
    stripes[..., ::2] = 1
    page = grid([[stripes]], [""], [""], cell=160)
    middle = page[:, 60:120, 60:120].float()
    assert 90 < middle.mean() < 165
    assert middle.std() < 45


def test_long_labels_stay_in_their_column() -> None:
    long = "an_exceedingly_longName that NeverEnds " * 5
    pictures = list(torch.rand(3, 3, 28, 28))
    page = grid([pictures], [long], ["", long, ""], notes=[["", long, ""]])
    (top, left), (_, right) = (find(page, enlarged(pictures[j], 3)) for j in (0, 2))
    for column in (left, right):
        assert page[:, : top - 1, column - 1 : column + 85].eq(255).all()
        assert page[:, top + 85 :, column - 1 : column + 85].eq(255).all()
    assert page[:, :, left - 8 : left - 1].eq(255).all()
    assert page[:, :, : left - 8].lt(128).any()


@pytest.mark.parametrize(
    ("bars", "drawn"),
    [
        ((Signed(),) * 3, 1),
        ((Signed(), None, Signed()), 2),
        ((Signed(), Signed(), Signed(cap=100)), 2),
        ((None,) * 3, 0),
    ],
)
def test_equal_neighbours_share_one_colour_bar(bars: tuple[Signed | None, ...], drawn: int) -> None:
    page = grid(
        [[torch.zeros(1, 28, 28)] * 3],
        [""],
        [""] * 3,
        bars=[None if bar is None else bar.bar for bar in bars],
    )
    blue_end = (255 * DIVERGING(torch.tensor([[-1.0]]))).round().byte()
    starts = (page == blue_end).all(dim=0).any(dim=0).int()
    assert starts.diff().clamp(min=0).sum() == drawn


def test_a_page_is_rows_of_bytes_that_an_image_file_takes(tmp_path: Path) -> None:
    page = grid([[torch.rand(3, 28, 28)]], ["row"], ["column"], "title", "caption")
    Image.fromarray(page.permute(1, 2, 0).numpy()).save(tmp_path / "page.png")
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "page.png")), page.permute(1, 2, 0).numpy()
    )


def test_a_grid_that_does_not_fit_together_is_refused_by_name() -> None:
    picture = torch.zeros(1, 8, 8)
    bar = ColourBar(SEQUENTIAL, ("0", "", "1"))
    wrong: dict[str, tuple[Any, Any, Any]] = {
        "rows: must hold at least one picture": ([[None]], [""], [""]),
        "rows, each: must have 1 entries": ([[picture], [picture] * 2], ["", ""], [""]),
        "column_labels: must have 1 entries": ([[picture]], [""], ["", ""]),
        "row_labels: must have 1 entries": ([[picture]], ["", ""], [""]),
        r"rows\[0\]\[1\].*: pixels must lie": (
            [[picture, picture - 1]],
            [""],
            ["", ""],
        ),
        r"rows\[0\]\[0\]=.*: must have the shape": ([[picture[0]]], [""], [""]),
    }
    for message, arguments in wrong.items():
        with pytest.raises(ValueError, match=message):
            grid(*arguments)
    with pytest.raises(ValueError, match="pixels must lie"):
        grid([[picture * math.nan]], [""], [""])
    with pytest.raises(TypeError, match=r"rows\[0\]\[0\]='picture': must be an instance of Tensor"):
        grid([["picture"]], [""], [""])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="bars: must have 1 entries"):
        grid([[picture]], [""], [""], bars=[bar, bar])
    with pytest.raises(ValueError, match="notes: must have 1 entries"):
        grid([[picture]], [""], [""], notes=[[""], [""]])
    with pytest.raises(ValueError, match="cell=0: must be greater than or equal to 1"):
        grid([[picture]], [""], [""], cell=0)
