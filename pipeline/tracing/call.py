"""One operation of torch as it is called, and the tensors in its arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import resolve_name


def names(text: str) -> frozenset[str]:
    """The names of operations in a text."""
    return frozenset(text.split())


_ALIASES = {
    "absolute": "abs",
    "clip": "clamp",
    "divide": "div",
    "linalg_norm": "norm",
    "linalg_vector_norm": "norm",
    "multiply": "mul",
    "negative": "neg",
    "special_erf": "erf",
    "special_expit": "sigmoid",
    "special_softmax": "softmax",
    "subtract": "sub",
    "true_divide": "div",
    "truediv": "div",
    "vector_norm": "norm",
}
"""Other names of the same operation."""

_WITH_A_FLAG = names("""
    celu elu hardsigmoid hardswish hardtanh leaky_relu mish relu relu6 rrelu selu silu threshold
""")
"""Functions whose only truth value among the arguments is ``inplace``."""


class Call:
    """``func(*args, **kwargs)``, where func is a function of torch."""

    def __init__(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if "input" in kwargs:
            kwargs = dict(kwargs)
            args = (kwargs.pop("input"), *args)
        self.func, self.args, self.kwargs = func, args, kwargs
        self.name = _plain(func.__name__)
        self.tensors = tensors(args, kwargs)
        self.active = tuple(tensor for tensor in self.tensors if tensor.requires_grad)
        """Those that depend on the image, and so require a gradient."""

    def __call__(self) -> Any:
        return self.func(*self.args, **self.kwargs)

    @property
    def full_name(self) -> str:
        """The name with that of its module or class, for messages."""
        return resolve_name(self.func) or str(self.func)

    @property
    def writes(self) -> bool:
        """Whether it may write to its arguments."""
        return may_write(self.func, self.args, self.kwargs)

    def function_of(self, *chosen: Tensor) -> Callable[..., Any]:
        """The call as a function of some of the active tensors, all else held constant."""

        def function(*inputs: Tensor) -> Any:
            values = list(zip(chosen, inputs, strict=True))
            args, kwargs = _swapped((self.args, self.kwargs), values)
            return self.func(*args, **kwargs)

        return function

    def beside(self) -> Call:
        """An in-place operation as one that leaves its target alone."""
        target = self.args[0].clone()
        kwargs = {k: v for k, v in self.kwargs.items() if k != "inplace"}
        args = (target, *(False if a is True else a for a in self.args[1:]))
        name = self.func.__name__.rstrip("_")
        func = getattr(Tensor, name, None) or getattr(torch.nn.functional, name)
        return Call(self.func if name == self.func.__name__ else func, args, kwargs)


@cache
def _plain(name: str) -> str:
    """The name of an operation without what tells its variants apart."""
    name = name.split(".")[0].strip("_")
    return _ALIASES.get(name, name)


def tensors(*values: Any) -> list[Tensor]:
    """All tensors in lists, tuples and dictionaries, in their order; one that is there twice,
    twice."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found += tensors(*value)
        elif isinstance(value, dict):
            found += tensors(*value.values())
    return found


def may_write(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call may write to its arguments, by its name or by an ``inplace`` among them."""
    name = getattr(func, "__name__", "").split(".")[0]
    named = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
    flagged = name in _WITH_A_FLAG and any(a is True for a in args)
    return bool(named or flagged or kwargs.get("inplace") or kwargs.get("out") is not None)


def _swapped(value: Any, values: list[tuple[Tensor, Tensor]]) -> Any:
    """The arguments with the first of ``values`` that belongs to a tensor in place of it."""
    if isinstance(value, Tensor):
        for place, (chosen, _) in enumerate(values):
            if chosen is value:
                return values.pop(place)[1]
        return value.detach()
    if isinstance(value, (tuple, list)):
        return tuple(_swapped(item, values) for item in value)
    if isinstance(value, dict):
        return {name: _swapped(item, values) for name, item in value.items()}
    return value
