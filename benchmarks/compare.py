"""Two ways to the same result, run in turns: A B A B ..."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Measured(NamedTuple):
    """What one run took, in seconds, and what came out."""

    seconds: float
    result: Any


Side = Callable[[], Measured]
"""One side of a comparison; every call does the whole work again."""

Check = Callable[[Any, Any], str]
"""Says how equal our result and the rival's are, or raises :class:`NotTheSame`."""


class NotTheSame(AssertionError):
    """The two sides did different work, so their times may not be compared."""


@dataclass(frozen=True)
class Aim:
    """The largest share of the rival's time that is as fast as wanted."""

    share: float

    @classmethod
    def faster(cls, times: float) -> Aim:
        return cls(1 / times)

    def reached(self, share: float) -> bool:
        return share <= self.share

    def said(self, share: float) -> str:
        """A share of the rival's time in the words of this aim."""
        return f"{share:.2f} × the time" if self.share >= 1 else f"{1 / share:.1f} × faster"

    def __str__(self) -> str:
        if self.share >= 1:
            return f"≤ {self.share:g} × the time"
        return f"≥ {1 / self.share:g} × faster"


@dataclass(frozen=True)
class Comparison:
    """The same work done by us and by a rival.

    Args:
        work: what is done, and on how much.
        rival: what it is compared with.
        aim: how fast we want to be.
        ours: our side.
        theirs: the rival's side, once for each setting that it could be used with, by name; the
            fastest counts.
        check: what "the same result" means.
        pairs: how often both sides run.
        in_process: whether the work is done in this process, so that its memory can be measured.
    """

    work: str
    rival: str
    aim: Aim
    ours: Side
    theirs: Mapping[str, Side]
    check: Check
    pairs: int = 5
    in_process: bool = True


@dataclass(frozen=True)
class Row:
    """What a comparison found.

    Attributes:
        setting: the rival's fastest setting.
        ours, theirs: median seconds.
        share: the median of the pairs' own shares, ours / theirs.
        equality: how equal the results are.
    """

    comparison: Comparison
    setting: str
    ours: float
    theirs: float
    share: float
    equality: str


def timed(work: Callable[[], Any]) -> Side:
    """A side whose whole call is the work."""

    def side() -> Measured:
        began = time.perf_counter()
        result = work()
        return Measured(time.perf_counter() - began, result)

    return side


def compare(comparison: Comparison) -> Row:
    """Warm both sides up, check their results, and time them in turns.

    Raises:
        NotTheSame: the results differ.
    """
    ours = comparison.ours()
    first = {name: side() for name, side in comparison.theirs.items()}
    # Once more where there is a choice, for the first run warms up what they share.
    again = first if len(first) == 1 else {n: side() for n, side in comparison.theirs.items()}
    setting = min(again, key=lambda name: again[name].seconds)
    equality = comparison.check(ours.result, first[setting].result)
    theirs = comparison.theirs[setting]
    runs = [(comparison.ours().seconds, theirs().seconds) for _ in range(max(1, comparison.pairs))]
    a, b = zip(*runs, strict=True)
    share = median(ours / theirs for ours, theirs in runs)
    return Row(comparison, setting, median(a), median(b), share, equality)


def close(tolerance: float) -> Check:
    """Tensors that differ by at most ``tolerance``, as a share of the L2 norm."""

    def check(ours: Tensor, theirs: Tensor) -> str:
        error = relative_error(ours, theirs)
        if not error <= tolerance:
            raise NotTheSame(f"the results differ by {error:.2g} of their norm, not {tolerance:g}")
        return f"equal within {error:.0e}"

    return check


def identical(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str:
    """The same tensors by name, bit for bit."""
    differ = [n for n in ours.keys() | theirs.keys() if not torch.equal(ours[n], theirs[n])]
    if differ:
        raise NotTheSame(f"{', '.join(sorted(differ))}: not bit-identical")
    return "bit-identical"


def relative_error(values: Tensor, reference: Tensor) -> float:
    """The L2 norm of the difference as a share of that of the reference."""
    reference = reference.double()
    return float((values.double() - reference).norm() / reference.norm())
