"""Which module of a model is at work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from torch import nn


@contextmanager
def modules_at_work(modules: Mapping[str, nn.Module]) -> Iterator[list[str]]:
    """The names of the modules at work, the innermost last, at any time inside.

    Their own parameters take no gradients inside, so that a tensor with one depends on the image.
    """
    stack: list[str] = []
    parameters = [
        p
        for module in modules.values()
        for p in module._parameters.values()
        if p is not None and p.requires_grad
    ]
    handles = []
    try:
        for p in parameters:
            p.requires_grad_(False)
        for name, module in modules.items():
            handles.append(module.register_forward_pre_hook(partial(_enter, stack, name)))
            handles.append(module.register_forward_hook(partial(_leave, stack)))
        yield stack
    finally:
        for handle in handles:
            handle.remove()
        for p in parameters:
            p.requires_grad_(True)


def _enter(stack: list[str], name: str, *_call: object) -> None:
    stack.append(name)


def _leave(stack: list[str], *_call: object) -> None:
    stack.pop()
