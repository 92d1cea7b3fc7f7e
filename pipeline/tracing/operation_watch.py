"""Seeing every operation of a forward pass, whoever makes it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from firstlight.pipeline.tracing.layers import METADATA
from firstlight.pipeline.tracing.torch_internals import saved_as_they_are


class OperationWatch(TorchFunctionMode):
    """Inside, :meth:`operation` is called in place of every operation of torch on this thread, but
    for those that only look at what a tensor is.

    Modules, functional calls, in-place operators and reused layers are seen alike, in activation
    checkpoints (``torch.utils.checkpoint`` with ``use_reentrant=False``), too.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if getattr(func, "__name__", "") in METADATA:
            found = func(*args, **kwargs)
            if not isinstance(found, Tensor):
                return found
        with saved_as_they_are():
            return self.operation(func, args, kwargs)

    @abstractmethod
    def operation(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What is returned in place of ``func(*args, **kwargs)``. Operations that are called in
        here are not seen."""
