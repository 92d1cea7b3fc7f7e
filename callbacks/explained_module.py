"""A module as explanations take it: images (N, C, H, W) in, logits (N, K) out."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from firstlight.callbacks.common_arguments import Logits, ReadingArguments
from firstlight.callbacks.examples import Examples, Form
from firstlight.callbacks.outputs import (
    ADVICE,
    NoLogits,
    Outputs,
    check_labels,
    found_logits,
    head_of,
)
from firstlight.errors import FirstlightError
from firstlight.pipeline.methods.logits import Sigmoids


class TakenModule(nn.Module):
    """Another module's layers under their own names, with another way in.

    Layers are known by their names and weights, so this module shares its children, parameters and
    buffers with the other one and wraps nothing.

    Args:
        module: The module that is explained.
        logits: How its outputs are had; None calls it.
        form: How it takes images.
    """

    def __init__(self, module: nn.Module, logits: Logits | None, form: Form) -> None:
        super().__init__()
        # Not as attributes, which would make the module a child.
        self.__dict__.update(_explained=module, _logits=logits, _form=form)
        for shared in ("_modules", "_parameters", "_buffers"):
            self.__dict__[shared] = module.__dict__[shared]

    def forward(self, images: Tensor) -> Any:
        taken: Any = images
        if self._form == "grey":
            taken = images.squeeze(1)
        elif self._form == "list":
            taken = list(images)
        explained = self.__dict__["_explained"]
        return explained(taken) if self._logits is None else self._logits(explained, taken)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_explained"], name)


class ExplainedModule(TakenModule):
    """The same with another way out.

    One logit z for two classes leaves as the two logits -z/2 and z/2: their softmax is the sigmoid
    of z, their cross entropy the binary one, and a map of either class is that of z up to its sign.

    Args:
        taken: The module with its way in.
        two_classes: Whether its one logit leaves as two.
        shares: Whether its outputs are shares, whose logits are before the sigmoid at its end.
    """

    def __init__(self, taken: TakenModule, two_classes: bool, shares: bool) -> None:
        super().__init__(taken._explained, taken._logits, taken._form)
        self.__dict__.update(_two=two_classes, _shares=shares)

    def forward(self, images: Tensor) -> Tensor:
        with Sigmoids() if self._shares else nullcontext() as sigmoids:
            logits = found_logits(super().forward(images), len(images))
        logits = logits if sigmoids is None else sigmoids.before(logits)
        return F.linear(logits, logits.new_tensor([[-0.5], [0.5]])) if self._two else logits


def as_explained(
    module: nn.Module,
    examples: Examples,
    said: ReadingArguments,
    two_classes: bool = True,
    needs_logits: bool = True,
) -> tuple[nn.Module, Outputs]:
    """The module as explanations take it, itself where it fits, and what its outputs are.

    Args:
        module: The module that is explained.
        examples: Some images with their labels.
        said: What the user says.
        two_classes: Whether one logit for two classes leaves as two.
        needs_logits: Whether nothing can be explained without logits.

    Raises:
        FirstlightError: it does not take the images.
        NoLogits: its logits are not found, or they are not of the labels' classes.
    """
    taken = TakenModule(module, said.logits, examples.form)
    plain = module if said.logits is None and examples.form == "images" else taken
    with torch.no_grad(), Sigmoids() as sigmoids:
        output = _tried(taken, examples.images[:1])
        try:
            found = found_logits(output, 1)
            head = said.head or head_of(found.shape[1], examples)
            check_labels(head, found.shape[1], examples.labels)
        except NoLogits as error:
            if needs_logits:
                raise
            return plain, Outputs(missing=error)
    two = two_classes and head == "binary" and found.shape[1] == 1
    shares = head != "values" and sigmoids.before(found) is not found
    if output is found and not (two or shares):
        return plain, Outputs(head)
    return ExplainedModule(taken, two, shares), Outputs(head)


def _tried(taken: TakenModule, image: Tensor) -> Any:
    """What the module makes of an image."""
    try:
        return taken(image.clone())
    except Exception as error:
        kind, shape = type(taken._explained).__name__, tuple(image.shape)
        said = f"{kind} does not take images {shape}: {type(error).__name__}: {error}"
        raise FirstlightError(f"{said}; {ADVICE}") from error
