"""Private names of torch that are in use, each with the reason why there is no public one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

HOOKS = tuple(n for n, v in vars(nn.Module()).items() if "hooks" in n and isinstance(v, dict))
"""Where a module keeps its hooks. There is a public way to add a hook, none to list them."""


def function_class(node: Any) -> type | None:
    """The ``torch.autograd.Function``, written in Python, that a node stands for; else None.

    ``node.name()`` is public, but any function may have the name of another.
    """
    written: type | None = getattr(node, "_forward_cls", None)
    return written


def version(tensor: Tensor) -> int:
    """How often a tensor was written to; 0 where torch does not count.

    Autograd itself finds overwritten inputs so, and there is no public name.
    """
    return 0 if tensor.is_inference() else tensor._version


def relu_gradient(signal: Tensor, output: Tensor) -> Tensor:
    """signal · 1[output > 0], as autograd computes it.

    With public operations it takes a mask of booleans, which is several times slower.
    """
    passed: Tensor = torch.ops.aten.threshold_backward(signal, output, 0)
    return passed


def saved_as_they_are() -> AbstractContextManager[object]:
    """Inside, what autograd saves is kept, whatever ``torch.utils.checkpoint`` would do with it.

    Activation checkpointing saves nothing and computes it anew in the backward pass, where no mode
    can see it. Inside, its hooks get nothing to work on. The innermost hooks of
    ``torch.autograd.graph.saved_tensors_hooks`` are those that count, but there is no public way
    to ask if there are any, and to push some for every operation would cost time everywhere.
    """
    if not _has_hooks_on_what_is_saved():
        return nullcontext()
    return torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)


def _has_hooks_on_what_is_saved() -> bool:
    """False if autograd keeps what it saves as it is; torch 2.6 cannot tell."""
    autograd = torch._C._autograd
    if hasattr(autograd, "_top_saved_tensors_default_hooks"):
        return autograd._top_saved_tensors_default_hooks(False) is not None
    return autograd._saved_tensors_hooks_get_disabled_error_message() is None


@cache
def body(function: Callable[..., Any]) -> Callable[..., Any]:
    """The body of a function of ``torch.nn.functional`` that is written in Python.

    Called under a ``TorchFunctionMode``, such a function hands itself over to the mode as one
    operation. Its body shows the operations that it is made of instead. It is torch's own code,
    with another answer to the question whether a mode is there.
    """
    assert isinstance(function, FunctionType)
    names = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    alone = {name: lambda *_tensors: False for name in names}
    copy = FunctionType(
        function.__code__,
        function.__globals__ | alone,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def without_look_for_gpu(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimiser of weights on the CPU, which no longer looks for a GPU at every step.

    Without a driver each look loads a library in vain, which takes a small network longer than its
    step; there is no public way to leave it out.
    """
    vars(optimizer)["_accelerator_graph_capture_health_check"] = _nothing
    return optimizer


def _nothing() -> None:
    """Take the place of a check."""
