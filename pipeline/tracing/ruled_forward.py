"""A forward pass that gives every operation the backward rule of a method."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from firstlight.errors import ArgumentError
from firstlight.pipeline.tracing.autograd_functions import Rectified, Ruled
from firstlight.pipeline.tracing.batch_norm import LayerOutputs, fixed_norm
from firstlight.pipeline.tracing.call import Call, tensors
from firstlight.pipeline.tracing.held_norms import held
from firstlight.pipeline.tracing.layers import layer_call, layer_names
from firstlight.pipeline.tracing.operation_watch import OperationWatch
from firstlight.pipeline.tracing.operations import (
    Kind,
    Layer,
    Operation,
    Softmax,
    kind_of,
    softmax_dim,
)
from firstlight.pipeline.tracing.rectifiers import rectifier
from firstlight.pipeline.tracing.rules import Rules
from firstlight.pipeline.tracing.taken_apart import taken_apart
from firstlight.pipeline.tracing.torch_internals import function_class, version
from firstlight.pipeline.tracing.traces import Traces

_LINEAR_OR_NORMS = (Kind.LAYER, Kind.BATCH_NORM, Kind.NORM, Kind.RESCALING)


class RuledForward(OperationWatch):
    """Gives every operation of a forward pass its backward rule.

    An operation without a rule is an error as soon as some of the score comes back through it.

    Args:
        rules: The method's.
        model: Whose layers have names.
        at_work: The names of the modules at work, as from ``modules_at_work``.
        images: What the model is given.
        copied: Whether rules are given copies of the inputs of operations.
    """

    def __init__(
        self,
        rules: Rules,
        model: nn.Module,
        at_work: list[str],
        images: Tensor,
        copied: bool = False,
    ) -> None:
        super().__init__()
        self._rules, self._model, self._at_work = rules, model, at_work
        self._copied = copied
        self._kept: list[tuple[Tensor, int]] = []
        self._traces = Traces(images)
        self._outputs: LayerOutputs[Layer] = LayerOutputs()

    def operation(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        call = Call(func, args, kwargs)
        self._check_seen(call)
        kind, ceiling = None, math.inf
        if not call.active:
            output = call()
        elif rectify := rectifier(call):
            function, ceiling = rectify
            output = Rectified.apply(call.args[0], function, ceiling, self._rules.relu)
        else:
            kind = self._kind(call)
            output = self._ruled(kind, call)
        if call.name == "iter":
            output = list(output)
        if kind not in self._rules.held:
            self._traces.add(call, kind, ceiling, self._where, output)
        return iter(output) if call.name == "iter" else output

    def has_overwritten(self) -> bool:
        """Whether the model wrote over something that a rule needs as it was; to be asked once.

        The model may do so where the ordinary gradient does not need it, as in a sum.
        """
        kept, self._kept = self._kept, []
        return any(version(x) != before for x, before in kept)

    @cached_property
    def _names(self) -> Mapping[int, str]:
        return layer_names(self._model)

    @property
    def _where(self) -> str:
        return self._at_work[-1] if self._at_work else ""

    def _kind(self, call: Call) -> Kind | None:
        layer = layer_call(call.func, call.args, call.kwargs)
        if layer is not None:
            if layer.bias is not None and layer.bias.requires_grad:
                return None
            only_input = len(call.active) == 1 and call.active[0] is layer.input
            return Kind.LAYER if only_input else Kind.MATRIX_PRODUCT
        if call.func is F.batch_norm:
            norm = fixed_norm(call.func, call.args, call.kwargs)
            if norm is None or len(call.active) > 1:
                return Kind.STATISTIC
            folded = self._outputs.before(norm) is not None
            return Kind.LAYER if folded else Kind.BATCH_NORM
        if self._switches(call) or call.kwargs.get("out") is not None:
            return None
        return kind_of(call, self._traces.is_learnt)

    def _switches(self, call: Call) -> bool:
        """Whether an operation may be a ReLU written out, which no rule would notice: a product
        with a mask, x[x < 0] = 0, or the larger one of two."""
        if call.name == "max":
            return len(call.tensors) > 1
        if call.name in ("masked_fill", "setitem", "where"):
            return any(map(self._traces.depends, call.tensors))
        return call.name in ("mul", "div") and any(map(self._traces.is_mask, call.tensors))

    def _ruled(self, kind: Kind | None, call: Call) -> Any:
        rules = self._rules
        if kind is Kind.ROUTING:
            return call()
        if kind is Kind.COMPOSED and rules.apart:
            with self:
                return taken_apart(call)
        if kind is None or (kind not in rules.kinds and kind not in rules.held):
            return self._refused(call, kind)
        if kind in rules.held:
            return call().detach()
        smooth = self._smooth(kind, call) if Kind.SMOOTH not in rules.kinds else None
        if smooth is not None:
            return self._refused(call, Kind.SMOOTH, *smooth)
        rule = rules.kinds[kind]
        if rule is None:
            return call()
        if call.writes:
            # Done beside its target, which then takes the result over: rules need the inputs as
            # they were.
            return call.args[0].copy_(self._ruled(kind, call.beside()))
        operation = self._operation(kind, call)
        if not self._copied:
            self._kept += ((x, version(x)) for x in operation.inputs)
        output = Ruled.apply(operation, rule, call, self._copied, *operation.inputs)
        if isinstance(operation, Layer) and not operation.folded:
            self._outputs.add(output, operation.call, operation)
        return output

    def _smooth(self, kind: Kind, call: Call) -> tuple[str, str] | None:
        """The smooth activation, and its module, that a call shows to be there: a product such as
        x · σ(x), or a layer behind a σ that nothing was multiplied with."""
        if kind is Kind.PRODUCT and self._traces.writes_out_an_activation(call):
            return call.full_name, self._where
        through_a_weight = kind is Kind.MATRIX_PRODUCT and len(call.active) == 1
        if kind in _LINEAR_OR_NORMS or through_a_weight:
            return self._traces.of(call.active[0]).gate
        return None

    def _operation(self, kind: Kind, call: Call) -> Operation:
        if kind is Kind.LAYER:
            return self._layer(call)
        if kind is Kind.NORM:
            return Operation(call.name, self._where, call.active, held(call))
        if kind is Kind.PRODUCT:
            factors = self._factors(call)
            return Operation(call.name, self._where, factors, call.function_of(*factors))
        function = call.function_of(*call.active)
        if kind is Kind.SOFTMAX:
            dim = softmax_dim(call)
            return Softmax(call.name, self._where, call.active, function, dim)
        return Operation(call.name, self._where, call.active, function)

    def _layer(self, call: Call) -> Layer:
        norm = fixed_norm(call.func, call.args, call.kwargs)
        layer = self._outputs.before(norm)
        if layer is not None and norm is not None:
            return replace(layer, call=norm.folded_into(layer.call), folded=True)
        at_work = layer_call(call.func, call.args, call.kwargs)
        assert at_work is not None
        name = self._names.get(id(at_work.weight), self._where)
        first = not self._traces.of(at_work.input).layered
        function = call.function_of(*call.active)
        return Layer(call.name, name, call.active, function, at_work, first)

    def _factors(self, call: Call) -> tuple[Tensor, ...]:
        """The factors of a product that are no divisors: x of x / s and of x · (1/s)."""
        if call.name == "div":
            return call.active[:1]
        factors = tuple(x for x in call.active if not self._traces.of(x).divisor)
        return factors or call.active

    def _refused(
        self, call: Call, kind: Kind | None, name: str | None = None, where: str | None = None
    ) -> Any:
        """Run an operation that is an error if some of the score comes through its output."""
        output = call()
        made = call.args[0] if call.name == "setitem" else output
        where = self._where if where is None else where
        self._refuse(name or call.full_name, where, kind, tensors(made))
        return output

    def _check_seen(self, call: Call) -> None:
        for tensor in call.active:
            # A function written in Python has a message of its own.
            if tensor not in self._traces and function_class(tensor.grad_fn) is None:
                unseen = "what comes from an operation that cannot be seen (TorchScript?)"
                self._refuse(unseen, self._where, None, [tensor])

    def _refuse(self, name: str, where: str, kind: Kind | None, outputs: list[Tensor]) -> None:
        if not self._at_work:
            return  # what a score computes from the logits
        place = f"layer {where!r}" if where else "the model's own forward pass"
        reason = self._rules.reasons.get(kind, self._rules.reason) if kind else self._rules.reason
        problem = f"{self._rules.method} has no rule for {name} in {place}{reason}"

        def refuse(_signal: Tensor) -> None:
            raise ArgumentError("model", problem)

        for tensor in outputs:
            if tensor.requires_grad:
                tensor.register_hook(refuse)
