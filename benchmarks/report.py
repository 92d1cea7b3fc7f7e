"""The table, for a terminal and for docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.compare import Row

HEADINGS = (
    "work",
    "ours",
    "rival",
    "rival's",
    "ratio",
    "aim",
    "reached?",
    "memory, ours and rival's",
    "the same result",
)


class Line(NamedTuple):
    """A row with the extra memory of both sides, in bytes."""

    row: Row
    memory: tuple[int | None, int | None]


def cells(line: Line) -> list[str]:
    row, comparison = line.row, line.row.comparison
    return [
        comparison.work,
        duration(row.ours),
        ", ".join(filter(None, (comparison.rival, row.setting))),
        duration(row.theirs),
        comparison.aim.said(row.share),
        str(comparison.aim),
        "yes" if comparison.aim.reached(row.share) else "no",
        ", ".join("-" if m is None else megabytes(m) for m in line.memory),
        row.equality,
    ]


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows)
    )


def duration(seconds: float) -> str:
    if seconds >= 100:
        return f"{seconds:.0f} s"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def megabytes(count: int) -> str:
    return f"{count / 2**20:.0f} MB"


def machine() -> str:
    """Where the numbers come from: processor, memory, and versions."""
    cpu = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", cpu.read_text()) if cpu.exists() else None
    model = found[1] if found else platform.processor() or platform.machine()
    packages = ("torch", "torchvision", "lightning", "captum", "saliency", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, no GPU used; "
        f"Python {platform.python_version()}, {versions}."
    )
