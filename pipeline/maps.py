"""Maps (…, C, H, W): the one check and the one scale of all that measures or draws them."""

from __future__ import annotations

import torch
from torch import Tensor

from firstlight.errors import ArgumentError


def checked_maps(name: str, maps: Tensor) -> Tensor:
    """Maps detached, in single precision or better.

    Args:
        name: The argument's name, for errors.
        maps: A real tensor of any dtype.

    Raises:
        ArgumentError: It is no real tensor (N, C, H, W) or (C, H, W), or holds no pixel.
    """
    check_maps(name, maps)
    # Half precision would round the scale; double keeps values that single would overflow.
    return maps.detach().to(torch.promote_types(maps.dtype, torch.float32))


def check_maps(name: str, maps: Tensor) -> None:
    """Raise an ArgumentError unless it is a real tensor (N, C, H, W) or (C, H, W) with a pixel."""
    if not isinstance(maps, Tensor) or maps.is_complex():
        raise ArgumentError(name, "must be a real tensor", maps)
    if maps.ndim not in (3, 4) or maps.numel() == 0:
        problem = "must have the shape (N, C, H, W) or (C, H, W) and hold a pixel"
        raise ArgumentError(name, problem, maps)


def maps_of(images: Tensor, maps: Tensor) -> Tensor:
    """Maps checked as by :func:`checked_maps`, on the device of the images they explain.

    Args:
        images: (N, C, H, W).
        maps: (N, any channels, H, W).

    Raises:
        ArgumentError: It is no real tensor of this shape.
    """
    found = checked_maps("maps", maps)
    n, _, height, width = images.shape
    if maps.ndim != 4 or (len(maps), *maps.shape[2:]) != (n, height, width):
        problem = f"must have the shape ({n}, C, {height}, {width}) of these images"
        raise ArgumentError("maps", problem, maps)
    return found.to(images.device)


def check_same_shape(name: str, tensor: Tensor, other: Tensor) -> None:
    """Raise an ArgumentError that names ``tensor`` unless it has the shape of ``other``."""
    if tensor.shape != other.shape:
        raise ArgumentError(name, f"must have the shape {tuple(other.shape)}", tensor)


def scaled(maps: Tensor, name: str = "maps") -> Tensor:
    """Maps divided by their own largest finite |x|, each by itself: no sum of them overflows.

    A map that is zero everywhere stays zero. NaN and infinities stay what they are. They are
    checked as by :func:`checked_maps`, under their name.
    """
    maps = checked_maps(name, maps)
    # In place where it is our own copy, here and elsewhere: most of the time is that of memory.
    largest = maps.abs().nan_to_num_(0.0, 0.0, 0.0).amax(dim=(-3, -2, -1), keepdim=True)
    return maps / largest.masked_fill_(largest == 0, 1)


def without_gaps(maps: Tensor) -> Tensor:
    """Maps with zeros in the place of NaN and infinities."""
    return maps.nan_to_num(0.0, 0.0, 0.0)
