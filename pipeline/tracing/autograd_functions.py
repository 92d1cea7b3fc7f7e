"""Operations with another backward pass than their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from firstlight.pipeline.tracing.operations import Operation
from firstlight.pipeline.tracing.rules import ReLURule, Rule
from firstlight.pipeline.tracing.torch_internals import relu_gradient


class Ruled(torch.autograd.Function):
    """An operation with a rule."""

    @staticmethod
    def forward(
        ctx: Any,
        operation: Operation,
        rule: Rule,
        compute: Callable[[], Tensor],
        copied: bool,
        *inputs: Tensor,
    ) -> Tensor:
        ctx.operation, ctx.rule = operation, rule
        ctx.save_for_backward(*(x.clone() if copied else x for x in inputs))
        return compute()

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor | None, ...]:
        # Taken from where autograd keeps them, the inputs are sure not to have been overwritten.
        operation = replace(ctx.operation, inputs=ctx.saved_tensors)
        return None, None, None, None, *ctx.rule(operation, signal)


class Rectified(torch.autograd.Function):
    """A ReLU, in place or not, with a rule."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rectify: Callable[[Tensor], Tensor], ceiling: float, rule: ReLURule
    ) -> Tensor:
        output = rectify(x)
        if output is x:
            ctx.mark_dirty(x)
        ctx.save_for_backward(output)
        ctx.ceiling, ctx.rule = ceiling, rule
        return output

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor | None, ...]:
        (output,) = ctx.saved_tensors

        def gradient(signal: Tensor) -> Tensor:
            if ctx.ceiling == math.inf:
                return relu_gradient(signal, output)
            return torch.where((output > 0) & (output < ctx.ceiling), signal, 0)

        return ctx.rule(signal, gradient), None, None, None
