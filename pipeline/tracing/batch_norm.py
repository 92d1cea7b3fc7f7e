"""The BatchNorm that belongs to a layer: one that takes the very tensor that the layer returned.

Layer and norm are then one unit. They are recognised here, for fitting patterns and for explaining
alike. What else happens between the two, such as a check of shapes or another layer's call, does
not matter, nor do operations that return what they were given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, Generic, TypeVar

from torch import Tensor
from torch.nn import functional as F

from firstlight.pipeline.tracing.layers import LayerCall
from firstlight.pipeline.tracing.tensor_notes import TensorNotes
from firstlight.pipeline.tracing.torch_internals import version

_DEFAULTS = {
    name: argument.default for name, argument in signature(F.batch_norm).parameters.items()
}
_OF_A_NORM = ("input", "running_mean", "running_var", "weight", "bias", "eps")
_Layer = TypeVar("_Layer")


@dataclass(frozen=True, eq=False)
class FixedNorm:
    """A BatchNorm at work with statistics of its own, not with those of the batch.

    Attributes:
        input: (N, C, …).
        mean, variance, weight, bias, eps: of the norm (input - mean) / √(variance + eps) · weight +
            bias, (C,) each; there may be no weight and no bias.
    """

    input: Tensor
    mean: Tensor
    variance: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    @property
    def scale(self) -> Tensor:
        """γ/√(var + ε), (C,)."""
        scale = (self.variance + self.eps).rsqrt()
        return scale if self.weight is None else scale * self.weight

    def folded_into(self, call: LayerCall) -> LayerCall:
        """The layer and this norm behind it as one layer."""
        scale = self.scale
        bias = (0 if call.bias is None else call.bias * scale) - self.mean * scale
        bias = bias if self.bias is None else bias + self.bias
        return replace(call, weight=call.weight * per_unit(scale, call.weight), bias=bias)


def fixed_norm(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> FixedNorm | None:
    """The BatchNorm that ``func(*args, **kwargs)`` is; None for others, and for one that takes its
    statistics from the batch."""
    if func is not F.batch_norm:
        return None
    norm = _DEFAULTS | dict(zip(_DEFAULTS, args, strict=False)) | kwargs
    if norm["training"] or norm["running_mean"] is None or norm["running_var"] is None:
        return None
    inputs, mean, variance, weight, bias, eps = (norm[name] for name in _OF_A_NORM)
    return FixedNorm(inputs, mean, variance, weight, bias, eps)


class LayerOutputs(Generic[_Layer]):
    """Which layer returned a tensor, for as long as nothing has written to the tensor."""

    def __init__(self) -> None:
        self._layers: TensorNotes[tuple[_Layer, int]] = TensorNotes()

    def add(self, output: Tensor, call: LayerCall, layer: _Layer) -> None:
        """The layer at work ``call`` returned ``output``; ``layer`` is what is to be found."""
        # The units of a norm are the second dimension, those of a linear layer the last.
        if output.ndim == call.dims + 2:
            self._layers[output] = layer, version(output)

    def before(self, norm: FixedNorm | None) -> _Layer | None:
        """The layer that the norm belongs to, if any."""
        if norm is None:
            return None
        layer, written = self._layers.get(norm.input, (None, 0))
        return layer if written == version(norm.input) else None


def per_unit(values: Tensor, weight: Tensor) -> Tensor:
    """Values (units,) shaped to multiply a weight (units, …)."""
    return values.view(-1, *[1] * (weight.ndim - 1))
