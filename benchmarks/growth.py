"""How time and memory of SmoothGrad grow with the samples, the images, the width and the size."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import linear_regression, median
from typing import Any, Literal

import torch

from benchmarks.compare import timed
from benchmarks.report import duration, megabytes
from firstlight.pipeline import ConvNetwork, DenseNetwork, SmoothGrad

Network = Literal["dense", "conv"]


@dataclass(frozen=True)
class Case:
    """One SmoothGrad call."""

    network: Network
    samples: int = 50
    images: int = 64
    width: int = 256
    side: int = 28

    def run(self) -> None:
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(self.images, 1, self.side, self.side, generator=generator)
        torch.manual_seed(0)
        shape = (1, self.side, self.side)
        if self.network == "dense":
            model: torch.nn.Module = DenseNetwork(shape, hidden=(self.width, 128))
        else:
            model = ConvNetwork(shape, channels=(self.width // 16, 32))
        SmoothGrad(samples=self.samples)(model, images, 0)


SWEEPS: Mapping[str, Sequence[int]] = {
    "samples": (10, 40, 160, 640),
    "images": (16, 64, 256),
    "width": (64, 128, 256, 512, 1024),
    "side": (14, 28, 56, 112),
}


@dataclass(frozen=True)
class Point:
    """What a call with this value took: seconds, and bytes on top of what was held before."""

    value: int
    seconds: float
    bytes: int | None


@dataclass(frozen=True)
class Curve:
    """How one network answers to one quantity."""

    network: Network
    quantity: str
    points: Sequence[Point]

    @property
    def slope(self) -> float:
        """p in seconds ~ value^p, by least squares of the logarithms."""
        return linear_regression(
            [math.log(p.value) for p in self.points], [math.log(p.seconds) for p in self.points]
        ).slope

    def cells(self) -> list[str]:
        points = self.points
        return [
            f"{self.network}, {self.quantity}",
            ", ".join(str(p.value) for p in points),
            ", ".join(duration(p.seconds) for p in points),
            ", ".join("-" if p.bytes is None else megabytes(p.bytes) for p in points),
            f"{self.slope:.2f}",
        ]


HEADINGS = ("network, quantity", "values", "time", "memory", "time ~ value^p, p")


def curves(quick: bool) -> list[Curve]:
    return [
        Curve(
            case.network,
            quantity,
            [_point(replace(case, **_value(quantity, v)), v) for v in values],
        )
        for case in (Case("dense"), Case("conv", images=16))
        for quantity, values in ((q, v[:2] if quick else v) for q, v in SWEEPS.items())
    ]


def _value(quantity: str, value: int) -> dict[str, Any]:
    return {quantity: value}


def _point(case: Case, value: int) -> Point:
    side = timed(case.run)
    seconds = median(side().seconds for _ in range(3))
    return Point(value, seconds, _peak(case))


def _peak(case: Case) -> int | None:
    if not Path("/proc/self/clear_refs").exists():
        return None
    program = (
        "from benchmarks.growth import Case; from benchmarks.memory import rise\n"
        f"print(rise({case!r}.run))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return int(ended.stdout)


def plot(found: Sequence[Curve], path: Path) -> None:
    """Time and memory against each quantity, in logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    axes = figure.subplots(2, len(SWEEPS), sharey="row", squeeze=False)
    for column, quantity in enumerate(SWEEPS):
        for curve in (c for c in found if c.quantity == quantity):
            values = [p.value for p in curve.points]
            label = f"{curve.network}, ~ {quantity}^{curve.slope:.2f}"
            axes[0, column].loglog(values, [p.seconds for p in curve.points], "o-", label=label)
            memory = [(p.bytes or 0) / 2**20 for p in curve.points]
            axes[1, column].loglog(values, memory, "o-", label=curve.network)
        axes[0, column].legend(loc="upper left")
        for row in axes[:, column]:
            row.set_xticks(SWEEPS[quantity], [str(value) for value in SWEEPS[quantity]])
            row.minorticks_off()
        axes[1, column].set_xlabel(quantity)
    seconds = [p.seconds for curve in found for p in curve.points]
    axes[0, 0].set_ylim(min(seconds) / 2, 20 * max(seconds))  # with room for the legends
    axes[0, 0].set_ylabel("seconds")
    axes[1, 0].set_ylabel("extra memory, MB")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
