"""What is known of the tensors of a forward pass, beyond how they were computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from firstlight.pipeline.tracing.call import Call, names, tensors
from firstlight.pipeline.tracing.operations import CONSTANT, INVERSES, Kind
from firstlight.pipeline.tracing.tensor_notes import TensorNotes

_SAME_PLACES = names("clone contiguous double float half requires_grad to type type_as")


@dataclass(frozen=True, eq=False)
class Trace:
    """Where a signal, a tensor that depends on the image, comes from.

    Attributes:
        root: The signal that it is a function of, element by element; None if that is itself.
        bent: Whether this function is more than a scale and a shift.
        gate: The operation and the module of a function into a bounded range that it went through
            and was not multiplied with anything since.
        divisor: Whether it stands for a divisor.
        layered: Whether it went through a layer.
    """

    root: Tensor | None = None
    bent: bool = False
    gate: tuple[str, str] | None = None
    divisor: bool = False
    layered: bool = False


class Traces:
    """The traces of all signals seen, and which constants were learnt or depend on the image."""

    def __init__(self, images: Tensor) -> None:
        self._signals: TensorNotes[Trace] = TensorNotes()
        self._masks: TensorNotes[bool] = TensorNotes()
        self._learnt: TensorNotes[bool] = TensorNotes()
        self._signals[images] = _UNKNOWN

    def __contains__(self, signal: Tensor) -> bool:
        return signal in self._signals

    def of(self, signal: Tensor) -> Trace:
        """The trace of a signal that was seen."""
        return self._signals.get(signal, _UNKNOWN)

    def is_mask(self, tensor: Tensor) -> bool:
        """Whether it may switch signals on and off: truth values, and constants that depend on the
        image without a derivative, such as those of x > 0."""
        return tensor.dtype == torch.bool or self.depends(tensor)

    def depends(self, constant: Tensor) -> bool:
        """Whether a tensor without a derivative depends on the image."""
        return constant in self._masks

    def is_learnt(self, tensor: Tensor) -> bool:
        """Whether it is a constant that is a parameter or computed from parameters."""
        return isinstance(tensor, nn.Parameter) or tensor in self._learnt

    def writes_out_an_activation(self, call: Call) -> bool:
        """Whether a product is an activation such as x · σ(x): one factor is x, the other a bounded
        or curved function of the same x."""
        bent = [self.of(x).bent for x in call.active]
        return len(bent) > 1 and any(bent) and not all(bent) and self._root(call) is not None

    def add(self, call: Call, kind: Kind | None, ceiling: float, where: str, output: Any) -> None:
        """Note what came out of an operation.

        Args:
            call: The operation.
            kind: Its kind, None for a ReLU and for what is not known.
            ceiling: Where the ReLU stops rising.
            where: The module that is at work.
            output: What the operation returned.
        """
        trace = _UNKNOWN
        if call.active:
            trace = self._trace(call, kind, ceiling, where)
            if call.writes:
                trace = replace(trace, root=None, bent=False)
        for made in tensors(call.args[0] if call.name == "setitem" else output):
            if made.requires_grad:
                self._signals[made] = trace
            elif call.name not in CONSTANT:
                if call.active or any(map(self.depends, call.tensors)):
                    self._masks[made] = True
                elif any(map(self.is_learnt, call.tensors)):
                    self._learnt[made] = True

    def _trace(self, call: Call, kind: Kind | None, ceiling: float, where: str) -> Trace:
        befores = [self.of(x) for x in call.active]
        before = befores[0]
        layered = kind is Kind.LAYER or any(b.layered for b in befores)
        if kind in (Kind.SMOOTH, Kind.GATE, Kind.ELEMENTWISE) or ceiling < math.inf:
            gate = (call.full_name, where) if kind is Kind.GATE else None
            return Trace(self._root(call), True, gate, _inverts(call), layered)
        if kind is Kind.SCALE or (kind is Kind.ROUTING and call.name in _SAME_PLACES):
            return replace(before, root=self._root(call), layered=layered)
        if kind is Kind.ROUTING:
            return Trace(gate=before.gate, divisor=before.divisor, layered=layered)
        if kind in (Kind.SUM, Kind.PRODUCT):
            gate = next((b.gate for b in befores if b.gate and kind is Kind.SUM), None)
            root = self._root(call) if len(befores) > 1 else None
            bent = root is not None and any(b.bent for b in befores)
            return Trace(root, bent, gate, all(b.divisor for b in befores), layered)
        return Trace(layered=layered)

    def _root(self, call: Call) -> Tensor | None:
        """The one signal that all of a call's are functions of."""
        first, *others = (
            self.of(x).root if self.of(x).root is not None else x for x in call.active
        )
        return first if all(other is first for other in others) else None


_UNKNOWN = Trace()


def _inverts(call: Call) -> bool:
    negative_power = call.name == "pow" and any(
        isinstance(a, (int, float)) and a < 0 for a in call.args[1:]
    )
    return call.name in INVERSES or negative_power
