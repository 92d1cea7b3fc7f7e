"""The samples that a layer's units see: inputs of a linear layer, patches of a convolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn import grad

from firstlight.pipeline.tracing.layer_observer import Observation
from firstlight.pipeline.tracing.layers import LayerCall

_WEIGHT_GRADIENTS: Mapping[int, Callable[..., Tensor]] = {
    1: grad.conv1d_weight,
    2: grad.conv2d_weight,
    3: grad.conv3d_weight,
}

_PART = 2**20
"""Numbers in a part of a layer's inputs or outputs: 4 MB."""

_SAMPLES = 2**11
"""Samples in a part, at most, or the positions of an image: rounding adds up in each."""


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples x of one layer call. Every position of every image is one; a linear layer is a
    convolution without positions.

    Attributes:
        values: (N, channels, pixels…); (N, inputs) for a linear layer.
        kernel: The size of a patch in each dimension.
        stride: Pixels from a position to the next.
        padding: Zeros before and after the pixels.
        dilation: Pixels between the pixels of a patch.
        groups: Into how many the channels are divided; the units of a group see that group's
            channels only.
    """

    values: Tensor
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    @classmethod
    def of(cls, call: LayerCall) -> Samples:
        """The inputs of a layer call, in float32 at least."""
        values = _at_least_float32(call.input.detach())
        dims = call.dims
        if dims == 0:
            return cls(values.reshape(-1, values.shape[-1]))
        kernel = tuple(call.weight.shape[2:])
        stride, dilation = (
            _by_dimension(call.options.get(name, 1), dims) for name in ("stride", "dilation")
        )
        if values.ndim == dims + 1:
            values = values.unsqueeze(0)
        padding = _padding(call.options.get("padding", 0), kernel, dilation)
        return cls(values, kernel, stride, padding, dilation, call.options.get("groups", 1))

    @property
    def padded(self) -> Tensor:
        """The values with their padding."""
        # F.pad begins with the last dimension.
        sides = [pad for side in reversed(self.padding) for pad in side]
        return F.pad(self.values, sides) if any(sides) else self.values

    def parts(self, outputs: Tensor) -> Iterator[tuple[Samples, Tensor]]:
        """The samples and their outputs (N, units, positions…), a few images at a time: as much as
        caches hold, however many images there are."""
        numbers = max(self.values[0].numel(), outputs[0].numel())
        positions = outputs[0, 0].numel()
        step = max(1, min(_PART // numbers, _SAMPLES // positions))
        parts = zip(self.values.split(step), outputs.split(step), strict=True)
        yield from ((replace(self, values=values), part) for values, part in parts)

    @property
    def by_pixel(self) -> Tensor:
        """Σ x and Σ x² over the images, (2, channels, pixels…)."""
        return torch.stack([self.values.sum(0), (self.values * self.values).sum(0)])

    def by_tap(self, total: Tensor) -> Tensor:
        """Sums over the images (…, channels, pixels…) as sums over all samples, of what each tap
        of the kernel sees: (…, groups, channels of a group, kernel…)."""
        first = total.ndim - len(self.kernel)
        axes = zip(self.kernel, self.stride, self.padding, self.dilation, strict=True)
        for axis, (size, step, (before, after), spacing) in enumerate(axes, first):
            seen = _seen(total.shape[axis], size, step, before, after, spacing).to(total)
            total = (total.movedim(axis, -1) @ seen.T).movedim(-1, axis)
        return total.unflatten(first - 1, (self.groups, -1))

    def product(self, g: Tensor) -> Tensor:
        """Σ g x over all samples, shaped like the layer's weight, for g (N, units, positions…).

        For a convolution this sum is the gradient of the weight where g is that of the output
        (``torch.nn.grad``), so that no patch is cut out. As a product of matrices it takes less
        time where a unit sees one number, or where positions are few.
        """
        channels = self.values.shape[1] // self.groups
        shape = (g.shape[1], channels, *self.kernel)
        inputs, positions = math.prod(shape[1:]), math.prod(g.shape[2:])
        if not self.kernel or inputs == 1 or 8 * positions <= inputs:
            by_group = g.unflatten(1, (self.groups, -1)).movedim(0, 2).flatten(2)
            return (by_group @ self._cut_out).reshape(shape)
        gradient = _WEIGHT_GRADIENTS[len(self.kernel)]
        before, after = zip(*self.padding, strict=True)
        x, padding = (self.values, before) if before == after else (self.padded, 0)
        return gradient(x, shape, g, self.stride, padding, self.dilation, self.groups)

    @cached_property
    def _cut_out(self) -> Tensor:
        return self.cut_out()

    def cut_out(self, images: slice = slice(None)) -> Tensor:
        """The samples of some images: (groups, samples, inputs of a unit)."""
        windows = self.padded[images]
        dims = len(self.kernel)
        first = windows.ndim - dims
        for axis, (size, step, spacing) in enumerate(
            zip(self.kernel, self.stride, self.dilation, strict=True), first
        ):
            windows = windows.unfold(axis, (size - 1) * spacing + 1, step)[..., ::spacing]
        # (N, groups, channels, positions…, kernel…) -> (groups, channels, kernel…, N, positions…):
        # the long axes last, which are quick to copy.
        order = (1, 2, *range(3 + dims, 3 + 2 * dims), 0, *range(3, 3 + dims))
        samples = windows.unflatten(1, (self.groups, -1)).permute(order)
        return samples.flatten(1, 1 + dims).flatten(2).mT


@lru_cache(1024)
def _seen(pixels: int, size: int, step: int, before: int, after: int, spacing: int) -> Tensor:
    """How often each tap of a kernel sees each pixel of an axis, (size, pixels)."""
    last = pixels + before + after - spacing * (size - 1)
    taps = torch.arange(size).unsqueeze(1) * spacing - before
    seen = F.one_hot((taps + torch.arange(0, last, step)).clamp(-1, pixels) + 1, pixels + 2)
    return seen.sum(1)[:, 1:-1].double()


def sums_device(device: torch.device) -> torch.device:
    """The device of float64 sums: a layer's own, or the CPU where that has no float64 (MPS)."""
    try:
        torch.zeros((), dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return torch.device("cpu")
    return device


def unit_outputs(observation: Observation) -> Tensor:
    """The outputs z beside the :class:`Samples`, (N, units, positions…), in float32 at least."""
    outputs = _at_least_float32(observation.output.detach())
    dims = observation.call.dims
    if dims == 0:
        return outputs.reshape(-1, outputs.shape[-1])
    return outputs.unsqueeze(0) if outputs.ndim == dims + 1 else outputs


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _by_dimension(option: Any, dims: int) -> tuple[int, ...]:
    values = (option,) if isinstance(option, int) else tuple(option)
    return values * dims if len(values) == 1 else values


def _padding(
    option: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """A convolution's padding before and after each dimension."""
    if option == "valid":
        return tuple((0, 0) for _ in kernel)
    if option == "same":
        # An odd total is padded more at the end, as PyTorch does.
        totals = [spacing * (size - 1) for size, spacing in zip(kernel, dilation, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((pad, pad) for pad in _by_dimension(option, len(kernel)))


class InputSums:
    """Sums over a layer's input, kept for other layers that take the same input next, as the
    branches of a network do."""

    def __init__(self) -> None:
        self._input: Tensor | None = None
        self._version = 0
        self._by_pixel = torch.empty(0)
        self._by_tap: dict[Hashable, Tensor] = {}

    def of(self, call: LayerCall, x: Samples, device: torch.device) -> Tensor:
        """:meth:`Samples.by_tap` of :attr:`Samples.by_pixel` of a call, in float64 on a device."""
        # A tensor of inference mode does not count how often it was written to.
        version = -1 if call.input.is_inference() else call.input._version
        if version < 0 or call.input is not self._input or version != self._version:
            self._input, self._version = call.input, version
            self._by_pixel, self._by_tap = x.by_pixel.to(device).double(), {}
        patch = x.kernel, x.stride, x.padding, x.dilation, x.groups
        if patch not in self._by_tap:
            self._by_tap[patch] = x.by_tap(self._by_pixel)
        return self._by_tap[patch]
