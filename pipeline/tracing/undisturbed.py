"""Explaining leaves no trace: the one place that keeps a model as it was."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from firstlight.errors import ArgumentError
from firstlight.pipeline.tracing.fabric import without_fabric
from firstlight.pipeline.tracing.torch_internals import HOOKS


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[nn.Module]:
    """Look at ``module`` without leaving a trace, whatever happens inside.

    Inside, the module is in evaluation mode, gradients can be taken (also under
    ``inference_mode``), autocast is off, compiled modules run eagerly, and what Fabric wrapped runs
    as if it were not. Afterwards, also after an exception, everything is bit for bit as before: the
    train/eval mode of every submodule (a frozen BatchNorm stays frozen), buffers, ``.grad``,
    ``requires_grad``, hooks, and the random states of torch (CPU, and the devices that the module
    is on), numpy and Python.

    A submodule whose class has a ``train()`` or ``eval()`` of its own, which may clear caches or
    merge weights, goes through them, so that what it keeps is of its present weights. Its
    attributes and weights, and those of all within it, are then put back, too.

    Other weights are not copied, since no explanation has a reason to write to them; one that does
    is told so.

    Args:
        module: any module. It is not replaced, wrapped or compiled.

    Yields:
        The module, ready to be explained.

    Raises:
        ArgumentError: not a module.
        RuntimeError: a parameter was changed in place inside.
    """
    if not isinstance(module, nn.Module):
        kind = type(module).__name__
        raise ArgumentError("module", f"the model must be a torch.nn.Module, got {kind}")
    inside = _Inside.of(module)
    with ExitStack() as stack:
        for keep in (_random_states, _buffers, _own_modes):
            stack.enter_context(keep(inside))
        if any(map(_has_own_mode, inside.modules)):
            inside = _Inside.of(module)  # its own eval() may have replaced what is in it
        for keep in (_modes, _hooks, _parameters):
            stack.enter_context(keep(inside))
        stack.enter_context(without_fabric(inside.modules))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device_type in {"cpu", *(device.type for device in _devices(inside))}:
            stack.enter_context(torch.autocast(device_type, enabled=False))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield module


class _Inside(NamedTuple):
    """What is in a module. Walking through it takes longer than keeping a small network."""

    modules: list[nn.Module]
    parameters: list[tuple[str, nn.Parameter]]

    @classmethod
    def of(cls, module: nn.Module) -> _Inside:
        modules = dict(module.named_modules())
        parameters: dict[int, tuple[str, nn.Parameter]] = {}
        for prefix, m in modules.items():
            for name, p in m._parameters.items():
                if p is not None:
                    parameters.setdefault(id(p), (f"{prefix}.{name}".lstrip("."), p))
        return cls(list(modules.values()), list(parameters.values()))


@contextmanager
def _random_states(inside: _Inside) -> Iterator[None]:
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    states = [(device, _random_state_of(device)) for device in _devices(inside)]
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        for device, (state, put_back) in states:
            put_back(state, *_index(device))


def _devices(inside: _Inside) -> set[torch.device]:
    """The devices with a random state of their own that a module is on."""
    devices = {p.device for _, p in inside.parameters}
    return {device for device in devices if device.type not in ("cpu", "meta")}


def _random_state_of(device: torch.device) -> tuple[Tensor, Callable[..., None]]:
    """The state of a device's generator, and how to put it back."""
    backend = getattr(torch, device.type)
    return backend.get_rng_state(*_index(device)), backend.set_rng_state


def _index(device: torch.device) -> tuple[torch.device, ...]:
    """What tells a device from its like; there is but one of some, as of Apple's ``mps``."""
    return () if device.index is None or device.type == "mps" else (device,)


@contextmanager
def _own_modes(inside: _Inside) -> Iterator[None]:
    own = [m for m in inside.modules if _has_own_mode(m)]
    within = list({id(m): m for top in own for m in top.modules()}.values())
    attributes = [(m, dict(vars(m)), _contents(m)) for m in within]
    weights = {id(p): (p, p.detach().clone()) for m in own for p in m.parameters()}
    try:
        for m in own:
            # Others have set the flag without calling train(), so nothing is known of its caches.
            m.train()
            m.eval()
        yield
    finally:
        for m, before, contents in attributes:
            vars(m).clear()
            vars(m).update(before)
            for container, kept in contents:
                _refill(container, kept)
        for p, kept in weights.values():
            if not torch.equal(p, kept):
                p.data.copy_(kept)


def _has_own_mode(module: nn.Module) -> bool:
    kind = type(module)
    return kind.train is not nn.Module.train or kind.eval is not nn.Module.eval


def _contents(module: nn.Module) -> list[tuple[Any, Any]]:
    """The containers among a module's attributes, and what they hold."""
    containers = (v for v in vars(module).values() if isinstance(v, (dict, list, set)))
    return [(container, copy.copy(container)) for container in containers]


def _refill(container: Any, kept: Any) -> None:
    container.clear()
    if isinstance(container, list):
        container.extend(kept)
    else:
        container.update(kept)


@contextmanager
def _modes(inside: _Inside) -> Iterator[None]:
    # The flags are set directly, for train() would thaw a frozen submodule.
    before = [(m, m.training) for m in inside.modules]
    try:
        for m, training in before:
            if training:
                m.training = False
        yield
    finally:
        for m, training in before:
            if m.training != training:
                m.training = training


@contextmanager
def _hooks(inside: _Inside) -> Iterator[None]:
    before = [
        (hooks, dict(hooks) if hooks else {})  # nearly all are empty, and there are ten a module
        for m in inside.modules
        for hooks in map(vars(m).get, HOOKS)
        if hooks is not None
    ]
    try:
        yield
    finally:
        for hooks, kept in before:
            if (hooks or kept) and hooks != kept:
                hooks.clear()
                hooks.update(kept)


@contextmanager
def _buffers(inside: _Inside) -> Iterator[None]:
    before: list[tuple[dict[str, Any], str, Tensor | None, Tensor | None]] = [
        (m._buffers, name, buffer, None if buffer is None else buffer.detach().clone())
        for m in inside.modules
        for name, buffer in m._buffers.items()
    ]
    try:
        yield
    finally:
        for buffers, name, buffer, kept in before:
            buffers[name] = buffer
            if buffer is not None and kept is not None:
                # Through .data, since a graph of the caller may have saved the buffer at its
                # present version. There is no telling whether it was written to: batch norm updates
                # its statistics without counting it.
                with torch.inference_mode(buffer.is_inference()):
                    buffer.data.copy_(kept)


@contextmanager
def _parameters(inside: _Inside) -> Iterator[None]:
    before = [(name, p, p.grad, p.requires_grad, p._version) for name, p in inside.parameters]
    try:
        # Were something to call .backward() inside, it would add to gradients that are still being
        # accumulated.
        for _, p, _, _, _ in before:
            p.grad = None
        yield
    finally:
        for _, p, grad, requires_grad, _ in before:
            p.requires_grad_(requires_grad)
            p.grad = grad
    for name, p, _, _, version in before:
        if p._version != version:
            raise RuntimeError(
                f"the explanation changed the parameter {name!r} in place; it may only read"
            )
