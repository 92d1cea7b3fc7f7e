"""A module as explanations take it: images (N, C, H, W) in, logits (N, K) out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from firstlight.callbacks.examples import Examples, Form
from firstlight.callbacks.outputs import Head, found_logits, head_of

Logits = Callable[[nn.Module, Any], Tensor]
"""From the module and its images to logits (N, K)."""


def called(module: nn.Module, images: Any) -> Tensor:
    """The logits that the module returns when it is called."""
    return found_logits(module(images), len(images))


class ExplainedModule(nn.Module):
    """Another module's layers under their own names, with another way in and out.

    Layers are known by their names and weights, so this module shares its children, parameters and
    buffers with the other one and wraps nothing.

    One logit z for two classes leaves as the two logits -z/2 and z/2: their softmax is the sigmoid
    of z, their cross entropy the binary one, and a map of either class is that of z up to its sign.

    Args:
        module: The module that is explained.
        logits: How its logits are had.
        form: How it takes images.
        two_classes: Whether its one logit leaves as two.
    """

    def __init__(self, module: nn.Module, logits: Logits, form: Form, two_classes: bool) -> None:
        super().__init__()
        # Not as attributes, which would make the module a child.
        self.__dict__.update(_explained=module, _logits=logits, _form=form, _two=two_classes)
        for shared in ("_modules", "_parameters", "_buffers"):
            self.__dict__[shared] = module.__dict__[shared]

    def forward(self, images: Tensor) -> Tensor:
        taken: Any = images
        if self._form == "grey":
            taken = images.squeeze(1)
        elif self._form == "list":
            taken = list(images)
        logits = found_logits(self._logits(self._explained, taken), len(images))
        return F.linear(logits, logits.new_tensor([[-0.5], [0.5]])) if self._two else logits

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_explained"], name)


def explained_module(
    module: nn.Module,
    examples: Examples,
    logits: Logits | None,
    head: Head | None,
    two_classes: bool,
) -> tuple[nn.Module, Head]:
    """The module as explanations take it, itself where it fits, and what its outputs are.

    Raises:
        FirstlightError: its logits are not found.
    """
    plain = ExplainedModule(module, logits or called, examples.form, False)
    with torch.no_grad():
        outputs = plain(examples.images[:1].clone())
        fits = logits is None and examples.form == "images"
        fits = fits and isinstance(module(examples.images[:1].clone()), Tensor)
    head = head or head_of(outputs.shape[-1], examples)
    if two_classes and head == "binary" and outputs.shape[-1] == 1:
        return ExplainedModule(module, logits or called, examples.form, True), head
    return (module if fits and outputs.ndim == 2 else plain), head
