"""Sending a score back to the pixels by other rules than the gradient's, the model untouched.

One forward pass is watched operation by operation, whether a module, a functional call, an in-place
operator or a reused layer makes it. Each operation gets the backward rule of its kind, and then
autograd's own backward pass follows the rules. An operation without a rule is an error that names
it and its layer, as soon as some of the score would pass through it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from firstlight.errors import ArgumentError
from firstlight.pipeline.tracing.autograd_functions import Rectified, Ruled
from firstlight.pipeline.tracing.graph import no_way, nodes
from firstlight.pipeline.tracing.layers import ScoreFunction
from firstlight.pipeline.tracing.modules_at_work import modules_at_work
from firstlight.pipeline.tracing.ruled_forward import RuledForward
from firstlight.pipeline.tracing.rules import Rules, Signals
from firstlight.pipeline.tracing.torch_internals import function_class


def send_back(
    rules: Rules,
    score: ScoreFunction,
    model: nn.Module,
    images: Tensor,
    start: Callable[[Tensor], Tensor] = torch.ones_like,
) -> Tensor:
    """The signal (N, C, H, W) that arrives at the images, by the given rules.

    Inside the model every operation needs a rule. Where a score computes something from the logits
    for which there is none, the ordinary gradient takes its place.

    Args:
        rules: What the method does at each kind of operation.
        score: What is sent back.
        model: Any module, in evaluation mode.
        images: (N, C, H, W).
        start: The signal at the scores (N,) that it begins with.

    Raises:
        ArgumentError: Some of the score comes through an operation that the rules do not cover, or
            that cannot be seen.
    """
    modules = dict(model.named_modules())
    _check_visible(rules, modules)
    images = images.detach().requires_grad_()
    with modules_at_work(modules) as at_work:
        scores = _scores(rules, score, model, images, at_work)
        _check_functions(rules, scores)
        signal = None
        if scores.requires_grad:
            (signal,) = torch.autograd.grad(scores, images, start(scores), allow_unused=True)
    if signal is None:
        raise no_way()
    return signal


def _scores(
    rules: Rules, score: ScoreFunction, model: nn.Module, images: Tensor, at_work: list[str]
) -> Tensor:
    """The scores, with the rules in their graph."""
    forward = RuledForward(rules, model, at_work, images)
    with forward:
        scores = score(model, images.clone())
    if forward.has_overwritten():
        with RuledForward(rules, model, at_work, images, copied=True):
            scores = score(model, images.clone())
    return scores


def pulled_back(
    function: Callable[..., Tensor],
    inputs: tuple[Tensor, ...],
    signal: Callable[[Tensor], Tensor],
) -> Signals:
    """Jᵀ s: the signal that belongs to the output, times the function's Jacobian at the inputs."""
    with torch.enable_grad():
        leaves = tuple(x.detach().requires_grad_() for x in inputs)
        output = function(*leaves)
    return torch.autograd.grad(output, leaves, signal(output.detach()))


def _check_visible(rules: Rules, modules: Mapping[str, nn.Module]) -> None:
    for name, module in modules.items():
        if isinstance(module, (torch.jit.ScriptModule, nn.DataParallel)):
            hidden = f"{name or 'it'!r}, a {type(module).__name__}"
            raise ArgumentError("model", f"{rules.method} cannot see inside {hidden}")


def _check_functions(rules: Rules, scores: Tensor) -> None:
    """Refuse functions written in Python that are not ours: they may hide any operation."""
    for node in nodes(scores):
        if function_class(node) not in (None, Ruled, Rectified):
            function = node.name().removesuffix("Backward")
            problem = f"{rules.method} has no rule for {function}, an autograd function"
            raise ArgumentError("model", problem)
