"""``firstlight report``: the explanations of runs as one HTML file."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from firstlight.board.report import write_report
from firstlight.errors import ArgumentError


def report(args: Sequence[str]) -> None:
    """Write one HTML file that shows the explanations of runs, without a server or a network.

    Raises:
        ArgumentError: A run is no folder, or has no explanations.
    """
    about = "Write one HTML file that shows the explanations of runs."
    parser = ArgumentParser("firstlight report", description=about)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("-o", "--out", type=Path, default=Path("report.html"), help="the file")
    parser.add_argument("--megabytes", type=float, default=25, help="the most that it may hold")
    given = parser.parse_args(args)
    for run in given.runs:
        if not run.is_dir():
            raise ArgumentError("report", "there is no such folder", str(run))
    made = write_report(given.runs, given.out, int(given.megabytes * 1e6))
    for problem in made.problems:
        print(f"{'Left out':<14} {problem.file}: {problem.reason}")
    size = f"{made.size / 1e6:.1f} MB"
    print(f"{'Report':<14} {made.path}, {size}. {made.omitted}".rstrip())
