"""The part of the image that the elements of a tensor were computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# An interval that holds no pixel: merging it with another leaves the other.
_NOTHING = (2**62, -(2**62))


class NoRule(Exception):
    """A receptive field is not known; says why, to follow the operation's name."""


@dataclass(frozen=True)
class Axis:
    """What each of n units in a line sees of the image's rows, or columns.

    Args:
        start: The first pixel that unit 0 would see in an image without borders; may be negative.
        jump: By how many pixels the next unit's view lies further on.
        size: How many pixels a unit would see in an image without borders.
        seen: (n, 2), of the image at hand: the first pixel that each unit sees and the one after
            its last.
    """

    start: int
    jump: int
    size: int
    seen: Tensor

    @classmethod
    def pixels(cls, count: int) -> Axis:
        """The image itself: every pixel sees itself."""
        return cls(0, 1, 1, torch.stack([torch.arange(count), torch.arange(count) + 1], dim=1))

    @classmethod
    def whole(cls, size: int, count: int) -> Axis:
        """``count`` units that all see the image's whole ``size``."""
        return cls(0, 0, size, torch.tensor([[0, size]]).expand(count, 2))

    def window(self, first: int, stride: int, taps: range, count: int) -> Axis:
        """``count`` units; unit i combines this axis' units ``first + i stride + taps``."""
        index = first + stride * torch.arange(count)[:, None] + torch.tensor(taps)
        inside = (index >= 0) & (index < len(self.seen))
        seen = self.seen[index.clamp(0, len(self.seen) - 1)]
        seen = torch.where(inside[..., None], seen, torch.tensor(_NOTHING))
        return Axis(
            start=self.start + (first + taps[0]) * self.jump,
            jump=self.jump * stride,
            size=self.size + (taps[-1] - taps[0]) * self.jump,
            seen=torch.stack([seen[..., 0].amin(1), seen[..., 1].amax(1)], dim=1),
        )

    def union(self, other: Axis) -> Axis:
        """What units see that combine a unit of this axis and the same one of another.

        Raises:
            NoRule: The units of the two do not lie equally far apart.
        """
        if len(self.seen) == len(other.seen) == 1:
            other = Axis(other.start, self.jump, other.size, other.seen)
        if (self.jump, len(self.seen)) != (other.jump, len(other.seen)):
            raise NoRule(
                f"joins branches whose units lie {self.jump} and {other.jump} pixels apart "
                f"({len(self.seen)} and {len(other.seen)} of them)"
            )
        start = min(self.start, other.start)
        stop = max(self.start + self.size, other.start + other.size)
        lower, upper = torch.minimum(self.seen, other.seen), torch.maximum(self.seen, other.seen)
        seen = torch.stack([lower[:, 0], upper[:, 1]], dim=1)
        return Axis(start, self.jump, stop - start, seen)


@dataclass(frozen=True, eq=False)
class Field:
    """What a tensor's elements see: all of the image if ``dims`` is None.

    ``dims`` are the tensor's dimensions, counted from the last (-1), that run along the image's
    rows and columns.
    """

    rows: Axis
    columns: Axis
    dims: tuple[int, int] | None

    @property
    def everything(self) -> Field:
        return Field(self.rows, self.columns, None)

    def at(self, rows: int, columns: int) -> Field:
        return Field(self.rows, self.columns, (rows, columns))

    def windows(
        self, output: Tensor, first: Sequence[int], stride: Sequence[int], taps: tuple[range, range]
    ) -> Field:
        if self.dims is None:
            return self
        rows, columns = (
            axis.window(f, s, t, output.shape[d])
            for axis, f, s, t, d in zip(
                (self.rows, self.columns), first, stride, taps, self.dims, strict=True
            )
        )
        return Field(rows, columns, self.dims)

    def union(self, other: Field) -> Field:
        pairs = ((self.rows, other.rows), (self.columns, other.columns))
        # One unit that is spread over a whole line of others, as in squeeze and excitation.
        spread = any(
            1 == min(len(a.seen), len(b.seen)) < max(len(a.seen), len(b.seen)) for a, b in pairs
        )
        if self.dims is None or other.dims is None or spread:
            return self.everything
        if self.dims != other.dims:
            raise NoRule("joins branches whose rows and columns lie in different dimensions")
        rows, columns = (a.union(b) for a, b in pairs)
        return Field(rows, columns, self.dims)
