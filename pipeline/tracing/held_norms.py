"""Norms as functions of their input with the statistics that they divide by held constant.

Source: Achtibat et al. 2024, "AttnLRP" (arXiv:2402.05602), prop. 3.4: the divisor is a constant of
the backward pass, and what is left of the norm is linear. Norms that subtract no mean are not here:
each number is then divided, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.nn import functional as F

from firstlight.pipeline.tracing.call import Call


def held(call: Call) -> Callable[[Tensor], Tensor]:
    """The norm that ``call`` is, as a function of its input."""
    norm = _NORMS[call.name]
    return lambda x: norm(x, *call.args[1:], **call.kwargs)


def _layer_norm(
    x: Tensor,
    shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    dims = tuple(range(-len(shape), 0))
    return _scaled(_standardised(x, dims, eps), weight, bias)


def _group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    grouped = x.unflatten(1, (groups, -1))
    y = _standardised(grouped, tuple(range(2, grouped.ndim)), eps).flatten(1, 2)
    weight, bias = (_by_channel(v, x) for v in (weight, bias))
    return _scaled(y, weight, bias)


def _instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if use_input_stats:
        return _group_norm(x, x.shape[1], weight, bias, eps)
    return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)


def _standardised(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    variance = x.detach().var(dims, correction=0, keepdim=True)
    return (x - x.mean(dims, keepdim=True)) * (variance + eps).rsqrt()


def _scaled(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _by_channel(values: Tensor | None, x: Tensor) -> Tensor | None:
    return None if values is None else values.reshape(-1, *[1] * (x.ndim - 2))


_NORMS: Mapping[str, Callable[..., Tensor]] = {
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
}
