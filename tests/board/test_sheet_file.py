from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from firstlight.board import Column, RawSheet, SheetError, Time, read_sheet, write_sheet
from firstlight.board.sheet_file import file_name, time_of

RANDOM = np.random.default_rng(0)
MAPS = RANDOM.standard_normal((2, 5, 4)).astype(np.float32)
PICTURES = RANDOM.integers(0, 256, (3, 5, 4), dtype=np.uint8)


def sheet(*columns: Column, **changed: Any) -> RawSheet:
    parts = {"family": "1_first_layer", "name": "maps", "step": 1410, "epoch": 3}
    return RawSheet(**{**parts, "rows": ["cat", "dog", "é"], "columns": columns, **changed})


def there_and_back(folder: Path, column: Column) -> Column:
    (column,) = read_sheet(write_sheet(sheet(column), folder)).columns
    return column


def test_sheet_comes_back_as_it_was_written(tmp_path: Path) -> None:
    notes = [["a", None], [None, "b"], ["</script>", "\u2028"]]
    written = sheet(
        Column("Gradient", "signed", MAPS, rows=(2, 0), cap=97.5),
        Column("image", "picture", PICTURES),
        title="T",
        caption="C",
        about="A",
        notes=notes,
    )
    path = write_sheet(written, tmp_path)
    assert path == (
        tmp_path / "plugins/firstlight/1_first_layer/maps/step000001410-epoch3.safetensors"
    )
    read = read_sheet(path)
    for name in ("family", "name", "step", "epoch", "rows", "title", "caption", "about", "notes"):
        assert getattr(read, name) == getattr(written, name), name
    maps, pictures = read.columns
    assert (maps.name, maps.kind, maps.places, maps.cap) == ("Gradient", "signed", [2, 0], 97.5)
    assert (pictures.name, pictures.kind, pictures.places) == ("image", "picture", [0, 1, 2])
    assert (pictures.values == PICTURES).all() and pictures.values.dtype == np.uint8


@pytest.mark.parametrize("size", [5e-310, 1e-40, 1e-12, 1.0, 1e12, 1e300])
def test_values_of_any_size_keep_the_eleven_bits_of_float16(tmp_path: Path, size: float) -> None:
    values = MAPS.astype(np.float64) * size
    read = there_and_back(tmp_path, Column("", "signed", values)).values
    np.testing.assert_allclose(read, values, rtol=2**-11)


def test_values_a_million_times_smaller_than_the_largest_keep_their_digits(tmp_path: Path) -> None:
    values = np.array([[[1.0, -3e-6, 2e-8]]])
    read = there_and_back(tmp_path, Column("", "signed", values)).values
    np.testing.assert_allclose(read, values, rtol=2**-11)


def test_gaps_stay_gaps_and_have_no_part_in_the_scale(tmp_path: Path) -> None:
    values = np.array([[[np.nan, np.inf, -np.inf, 0.25]], [[np.nan] * 4]], np.float32)
    read = there_and_back(tmp_path, Column("", "signed", values)).values
    np.testing.assert_array_equal(read, values)


def test_zero_maps_are_zero_and_whole_numbers_are_maps_too(tmp_path: Path) -> None:
    zeros = there_and_back(tmp_path, Column("", "signed", np.zeros((2, 3, 3), np.float16)))
    assert (zeros.values == 0).all()
    counts = np.arange(12).reshape(1, 3, 4)
    assert (there_and_back(tmp_path, Column("", "magnitude", counts)).values == counts).all()


def test_patterns_in_colour_have_one_scale_for_their_three_channels(tmp_path: Path) -> None:
    values = RANDOM.standard_normal((2, 5, 4, 3))
    path = write_sheet(sheet(Column("", "normalized", values)), tmp_path)
    np.testing.assert_allclose(read_sheet(path).columns[0].values, values, rtol=2**-11)
    with safe_open(path, "numpy") as file:
        assert file.get_tensor("0.scale").shape == (2,)


def test_the_documented_layout_is_what_another_reader_finds(tmp_path: Path) -> None:
    """The header by hand, as the page reads it: a length, JSON, then the tensors."""
    path = write_sheet(sheet(Column("Gradient", "signed", MAPS), notes=None), tmp_path)
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    described = json.loads(header["__metadata__"]["sheet"])
    assert described["version"] == 1
    assert described["columns"] == [
        {"name": "Gradient", "kind": "signed", "cap": 99.0, "rows": [0, 1]}
    ]
    assert described["notes"] == [[None], [None], [None]]
    assert (header["0"]["dtype"], header["0"]["shape"]) == ("F16", [2, 5, 4])
    assert (header["0.scale"]["dtype"], header["0.scale"]["shape"]) == ("F64", [2])

    def tensor(name: str, dtype: str) -> np.ndarray:
        begin, end = header[name]["data_offsets"]
        # Typed arrays of a browser must begin at a multiple of their element's size.
        assert (start + begin) % np.dtype(dtype).itemsize == 0
        return np.frombuffer(content[start + begin : start + end], dtype)

    values = tensor("0", "<f2").reshape(2, 5, 4) * tensor("0.scale", "<f8")[:, None, None]
    np.testing.assert_allclose(values, MAPS, rtol=2**-11)


@pytest.mark.parametrize(
    "time", [Time(0, 0.0), Time(1410, 3.0), Time(7, 0.25), Time(10**12, 1 / 3), Time(1, 1e7)]
)
def test_a_file_name_tells_its_time(time: Time) -> None:
    read = time_of(file_name(time))
    assert read is not None
    assert read.step == time.step and read.epoch == pytest.approx(time.epoch, rel=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "step1-epoch1.safetensors",
        "step000000001-epoch01.safetensors",
        "step000000001-epoch1.safetensors.tmp",
        "step000000001-epoch1e.safetensors",
        "step000000001-epoch-1.safetensors",
        "step000000001-epochinf.safetensors",
        "step٠٠٠٠٠٠٠٠١-epoch1.safetensors",
        ".step000000001-epoch1.safetensors.77",
    ],
)
def test_other_file_names_tell_none(name: str) -> None:
    assert time_of(name) is None


def test_a_resumed_run_replaces_what_it_makes_again(tmp_path: Path) -> None:
    column = Column("", "signed", MAPS)
    first = write_sheet(sheet(column, title="first"), tmp_path)
    assert write_sheet(sheet(column, title="again"), tmp_path) == first
    assert read_sheet(first).title == "again"
    assert os.listdir(first.parent) == [first.name]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sheet(sheet(Column("", "signed", MAPS), title="old"), tmp_path)

    class Full(io.FileIO):
        def write(self, content: Any) -> int:
            super().write(content[:50])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda path, mode: Full(path, mode))
    with pytest.raises(OSError, match="No space left"):
        write_sheet(sheet(Column("", "signed", MAPS), title="new"), tmp_path)
    assert os.listdir(path.parent) == [path.name]
    assert read_sheet(path).title == "old"


def test_a_killed_run_leaves_no_half_file_under_a_sheets_name(tmp_path: Path) -> None:
    source = (
        "import os, pathlib, numpy\n"
        "from firstlight.board import Column, RawSheet, write_sheet\n"
        "column = Column('', 'signed', numpy.zeros((1, 2, 2)))\n"
        "os.replace = lambda *paths: os.kill(os.getpid(), 9)\n"
        "write_sheet(RawSheet('f', 'n', 0, 0, ['r'], [column]), '.')\n"
    )
    killed = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    (left,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert left.name.startswith(".") and time_of(left.name) is None


DAMAGED = {
    "empty": b"",
    "png": b"\x89PNG\r\n\x1a\n" * 20,
    "half": b"half",
    "foreign": save({"weight": np.ones(3, np.float32)}),
    "no object": save({}, {"sheet": "[1]"}),
    "no JSON": save({}, {"sheet": "{"}),
    "deep": save({}, {"sheet": "[" * 100_000}),
    "version": save({}, {"sheet": '{"version": 2}'}),
    "keys": save({}, {"sheet": '{"version": 1}'}),
    "columns": save({}, {"sheet": '{"version": 1, "columns": 3}'}),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_or_foreign_file_is_an_error_that_names_it(tmp_path: Path, damage: str) -> None:
    path = write_sheet(sheet(Column("", "signed", MAPS)), tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage == "half" else DAMAGED[damage])
    with pytest.raises(SheetError, match=path.name):
        read_sheet(path)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("rows", ["one"]),
        ("rows", [1, 2, 3]),
        ("columns", []),
        ("columns", [{"name": 1, "kind": "signed", "cap": 99.0, "rows": [0, 1]}]),
        ("notes", [["a"]]),
        ("epoch", "3"),
        ("epoch", -1),
        ("step", 0.5),
        ("family", "../../up"),
    ],
)
def test_a_description_that_does_not_fit_its_maps_is_an_error(
    tmp_path: Path, part: str, value: Any
) -> None:
    path = write_sheet(sheet(Column("", "signed", MAPS)), tmp_path)
    with safe_open(path, "numpy") as file:
        described = json.loads(file.metadata()["sheet"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    path.write_bytes(save(tensors, {"sheet": json.dumps({**described, part: value})}))
    with pytest.raises(SheetError, match=path.name):
        read_sheet(path)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"family": "a/../b"}, "family"),
        ({"family": ""}, "family"),
        ({"name": "a/b"}, "name"),
        ({"name": ".hidden"}, "name"),
        ({"name": "nul\0"}, "name"),
        ({"step": -1}, "step=-1"),
        ({"step": True}, "step=True"),
        ({"epoch": float("nan")}, "epoch=nan"),
        ({"rows": ["one"]}, r"columns\[0\].rows"),
        ({"title": None}, "title"),
        ({"notes": [["too", "many"]] * 3}, "notes"),
        ({"notes": [[1]] * 3}, "notes"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        sheet(Column("", "signed", MAPS), **changed)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"kind": "rainbow"}, "kind='rainbow'"),
        ({"kind": "picture"}, "uint8"),
        ({"values": MAPS[0]}, r"\(n, H, W\)"),
        ({"values": MAPS[:, :0]}, "with a pixel"),
        ({"values": MAPS.astype(complex)}, "real"),
        ({"values": RANDOM.random((2, 4, 4, 3))}, r"\(n, H, W\)"),
        ({"rows": (0,)}, "rows"),
        ({"rows": (0, 0)}, "2 different rows"),
        ({"rows": (0, 3)}, "below 3"),
        ({"cap": 0}, "cap=0"),
        ({"cap": 101}, "cap=101"),
    ],
)
def test_columns_that_are_none_are_refused_by_name(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        sheet(Column(**{"name": "", "kind": "signed", "values": MAPS, **changed}))
