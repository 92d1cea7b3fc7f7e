"""The benchmarks run, and compare only what is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("captum")
pytest.importorskip("saliency")

from torch import tensor

from benchmarks.__main__ import main, write
from benchmarks.compare import Aim, Comparison, Measured, NotTheSame, close, compare, timed
from benchmarks.growth import Curve, Point
from benchmarks.report import HEADINGS, Line, cells, markdown


def _sides(ours: float, slow: float, fast: float) -> Comparison:
    return Comparison(
        "work",
        "rival",
        Aim.faster(4),
        lambda: Measured(ours, tensor([1.0])),
        {
            "slow": lambda: Measured(slow, tensor([1.0])),
            "fast": lambda: Measured(fast, tensor([1.0])),
        },
        close(1e-6),
        pairs=3,
    )


def test_the_rival_is_taken_at_its_fastest_setting() -> None:
    row = compare(_sides(ours=1, slow=9, fast=5))
    assert (row.setting, row.ours, row.theirs, row.share) == ("fast", 1, 5, 0.2)
    assert row.comparison.aim.reached(row.share)
    assert not row.comparison.aim.reached(0.3)


def test_the_ratio_is_the_median_of_the_pairs_and_both_sides_run_in_turns() -> None:
    order: list[str] = []
    seconds = {"ours": iter([9.0, 1.0, 2.0, 3.0]), "theirs": iter([9.0, 1.0, 1.0, 6.0])}

    def side(name: str) -> Measured:
        order.append(name)
        return Measured(next(seconds[name]), tensor([1.0]))

    comparison = Comparison(
        "work",
        "rival",
        Aim(1.0),
        lambda: side("ours"),
        {"": lambda: side("theirs")},
        close(0),
        pairs=3,
    )
    row = compare(comparison)
    assert order == ["ours", "theirs"] * 4
    assert (row.ours, row.theirs, row.share) == (2, 1, 1)


def test_different_results_are_not_compared() -> None:
    comparison = Comparison(
        "work",
        "rival",
        Aim(1.0),
        timed(lambda: tensor([1.0])),
        {"": timed(lambda: tensor([1.1]))},
        close(1e-3),
    )
    with pytest.raises(NotTheSame, match=r"differ by 0\.091"):
        compare(comparison)


def test_an_aim_speaks_of_the_time_or_of_how_many_times_faster() -> None:
    assert (str(Aim(1.3)), Aim(1.3).said(1.21)) == ("≤ 1.3 × the time", "1.21 × the time")
    assert (str(Aim.faster(4)), Aim.faster(4).said(0.2)) == ("≥ 4 × faster", "5.0 × faster")


def test_a_row_fits_under_its_headings() -> None:
    line = Line(compare(_sides(ours=1, slow=9, fast=5)), (2**20, None))
    assert len(cells(line)) == len(HEADINGS)
    assert "| 1.00 s | rival, fast | 5.00 s | 5.0 × faster | ≥ 4 × faster | yes | 1 MB, - |" in (
        markdown(HEADINGS, [cells(line)])
    )


def test_the_slope_of_a_curve_is_its_power() -> None:
    points = [Point(n, 3 * n**1.5, None) for n in (1, 4, 16)]
    assert Curve("dense", "samples", points).slope == pytest.approx(1.5)


def test_the_report_keeps_what_was_written_by_hand(tmp_path: Path) -> None:
    report = tmp_path / "benchmarks.md"
    write(report, ["first"])
    report.write_text(f"# Title\n\n{report.read_text()}\nNotes.\n")
    write(report, ["second"])
    assert "first" not in report.read_text()
    assert report.read_text().startswith("# Title\n\n<!--")
    assert "second" in report.read_text()
    assert report.read_text().endswith("Notes.\n")


@pytest.mark.slow
def test_quick_rows_run_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "benchmarks.md"
    main(["first-layer-pairs", "guided-backprop", "--quick", "--markdown", str(report)])
    rows = [line for line in capsys.readouterr().out.splitlines() if "equal within" in line]
    assert len(rows) == 2
    assert all(row in report.read_text() for row in rows)


def test_an_unknown_row_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["smoothgrat"])
    assert "no row smoothgrat" in capsys.readouterr().err
