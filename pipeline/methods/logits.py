"""The logits of any model: where they are in what it returns, and before a softmax at its end."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from firstlight.errors import ArgumentError

_SOFTMAXES = frozenset(
    getattr(home, name)
    for home in (torch, Tensor, F, torch.special)
    for name in ("softmax", "log_softmax")
)

_SIGMOIDS = frozenset((torch.sigmoid, Tensor.sigmoid, F.sigmoid, torch.special.expit))

_SHAPES = frozenset(
    getattr(home, name)
    for home in (torch, Tensor)
    for name in ("squeeze", "unsqueeze", "flatten", "reshape", "view", "__getitem__")
    if hasattr(home, name)
)
"""Operations behind which the values are the same, or fewer of them."""

_SEEN_BEFORE: WeakSet[nn.Module] = WeakSet()
"""Models whose outputs were looked at, for on a GPU every look waits for all work in its queue."""


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """The model's logits (N, K), pre-softmax.

    They are what the model returns, its ``.logits``, or the ``"logits"`` of a dictionary. If the
    last operation is a softmax or a log_softmax, they are what goes into it. Outputs that only look
    like probabilities draw a warning, once for each model.

    Raises:
        ArgumentError: the model did not return one row of logits per image.
    """
    with _Softmaxes() as softmaxes:
        output = model(images)
    logits = softmaxes.before(logits_in(output, len(images)))
    if model not in _SEEN_BEFORE:
        _SEEN_BEFORE.add(model)
        if _like_probabilities(logits.detach()):
            warnings.warn(
                "the model's outputs look like probabilities. Maps of a probability also explain "
                "the other classes; let the model return what comes before its softmax",
                stacklevel=2,
            )
    return logits


def logits_in(output: Any, images: int) -> Tensor:
    """The logits (images, K) in what a model returned for that many images.

    One number for each image, (images,), is one logit, (images, 1).

    Raises:
        ArgumentError: there are none.
    """
    if isinstance(output, Mapping):
        logits = output.get("logits", output)
    else:
        logits = getattr(output, "logits", output)
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else ()
    if shape == (images,) and logits.is_floating_point():
        return logits[:, None]
    if len(shape) != 2 or shape[0] != images:
        of_shape = f" of shape {shape}" if isinstance(logits, Tensor) else ""
        problem = f"must return logits ({images}, classes) for {images} images"
        raise ArgumentError("model", f"{problem}, got {type(logits).__name__}{of_shape}")
    return logits


class LastInput(TorchFunctionMode, ABC):
    """Remembers what went into that operation of a kind that ran last."""

    def __init__(self) -> None:
        super().__init__()
        self._input: Tensor | None = None
        self._output: Tensor | None = None

    @abstractmethod
    def is_meant(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """True for an operation of the kind."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        given = kwargs.get("input", args[0] if args else None)
        if self.is_meant(func, args, kwargs):
            self._input, self._output = given, output
        elif func in _SHAPES and given is self._output and self._input is not None:
            self._input, self._output = func(self._input, *args[1:], **kwargs), output
        return output

    def before(self, output: Tensor) -> Tensor:
        """What went into the operation that returned ``output``, in another shape if that had one
        made of it; the output of something else as it is."""
        return output if output is not self._output or self._input is None else self._input


class _Softmaxes(LastInput):
    """Of those over classes."""

    def is_meant(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        if func not in _SOFTMAXES or kwargs.get("input", args[0] if args else None).ndim != 2:
            return False
        return kwargs.get("dim", args[1] if len(args) > 1 else None) in (1, -1, None)


class Sigmoids(LastInput):
    """Of sigmoids, which make a share of each output by itself."""

    def is_meant(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        return func in _SIGMOIDS


def _like_probabilities(outputs: Tensor) -> bool:
    """Every row adds up to 1, or the exponentials of every row do."""
    if outputs.shape[1] < 2 or not outputs.is_floating_point():
        return False
    allowed = min(1e-2, 100 * torch.finfo(outputs.dtype).eps)
    for shares in (outputs.double(), outputs.double().exp()):
        off = (shares.sum(1) - 1).abs().max()
        if off < allowed and (shares >= 0).all():
            return True
    return False
