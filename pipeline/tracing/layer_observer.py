"""Watching the layers of a forward pass: what goes in, what comes out, the norm that follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from firstlight.pipeline.tracing.batch_norm import LayerOutputs, fixed_norm, per_unit
from firstlight.pipeline.tracing.call import may_write, names, tensors
from firstlight.pipeline.tracing.layers import METADATA, LayerCall, layer_call
from firstlight.pipeline.tracing.operation_watch import OperationWatch

_UNCHANGED = METADATA | names("""
    contiguous cpu cuda double dropout dropout1d dropout2d dropout3d feature_alpha_dropout float
    requires_grad_ to type type_as
""")
"""Calls that write to nothing and may return the very tensor that they are given."""


@dataclass(frozen=True, eq=False)
class Observation:
    """One layer at work.

    Attributes:
        name: The layer's name.
        call: Its operation, input and weights.
        output: z = w'ᵀx + b', (N, units, positions…), or (…, units) for a linear layer.
        scale: γ/√(var + ε), (units,), where a BatchNorm in evaluation mode belongs to the layer
            (:mod:`~firstlight.pipeline.tracing.batch_norm`): then the unit is both together and
            w' = scale · w. None where there is no such norm, and w' = w.
    """

    name: str
    call: LayerCall
    output: Tensor
    scale: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """w', shaped like the layer's weight."""
        weight = self.call.weight.detach()
        return weight if self.scale is None else weight * per_unit(self.scale, weight)


class LayerObserver(OperationWatch):
    """Reports every call of the layers of interest, by modules and functional calls alike, before
    anything can write over its input or output.

    A call is reported as soon as some operation takes its output: with the norm if that is the
    BatchNorm that belongs to it.

    Args:
        names: The layers of interest: the name by the identity of the weight, as from
            ``layer_names``.
        report: Called with each :class:`Observation`. What it computes is not observed.
    """

    def __init__(self, names: Mapping[int, str], report: Callable[[Observation], None]) -> None:
        super().__init__()
        self._names = names
        self._report = report
        # Without the outputs: these would hold themselves.
        self._outputs: LayerOutputs[tuple[str, LayerCall]] = LayerOutputs()
        self._waiting: dict[int, Observation] = {}

    def operation(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        norm = fixed_norm(func, args, kwargs)
        layer = self._outputs.before(norm)
        if layer is not None and norm is not None:
            name, as_it_was = layer
            waiting = self._waiting.pop(id(norm.input), None)
            output = func(*args, **kwargs)
            at_work = as_it_was if waiting is None else waiting.call
            self._report(Observation(name, at_work, output, norm.scale))
            return output
        if self._waiting and getattr(func, "__name__", "") not in _UNCHANGED:
            taken = tensors(args, kwargs)
            for tensor in taken:
                self._report_waiting(id(tensor))
            if may_write(func, args, kwargs):
                self._keep_inputs(taken)
        call = layer_call(func, args, kwargs)
        output = func(*args, **kwargs)
        if call is not None and id(call.weight) in self._names:
            name = self._names[id(call.weight)]
            self._outputs.add(output, call, (name, call))
            self._waiting[id(output)] = Observation(name, call, output)
        return output

    def _keep_inputs(self, written: list[Tensor]) -> None:
        """The inputs of waiting layers are copied where these tensors share their memory."""
        memory = {tensor.untyped_storage().data_ptr() for tensor in written}
        for output, waiting in self._waiting.items():
            inputs = waiting.call.input
            if inputs.untyped_storage().data_ptr() in memory:
                call = waiting.call.with_input(inputs.clone())
                self._waiting[output] = replace(waiting, call=call)

    def _report_waiting(self, output: int) -> None:
        if output in self._waiting:
            self._report(self._waiting.pop(output))

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        super().__exit__(exc_type, exc_value, traceback)  # type: ignore[no-untyped-call]
        if exc_type is None:
            for output in list(self._waiting):
                self._report_waiting(output)
        self._waiting.clear()
