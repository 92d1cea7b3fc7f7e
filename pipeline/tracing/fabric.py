"""The wrapper that Fabric's ``setup`` puts round a network.

Its forward pass casts the images, turns autocast on, and lets nothing but ``fabric.backward`` take
gradients of the result. The class is private and there is one in ``lightning`` and another one in
``lightning_fabric``, so that it is known by its name; its attribute ``module`` is public.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def without_fabric(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Calls of those modules that are Fabric's wrappers go straight to what they wrap."""
    wrappers = [
        m for m in modules if type(m).__name__ == "_FabricModule" and "forward" not in vars(m)
    ]
    try:
        for wrapper in wrappers:
            # Of the instance, where it comes before that of the class.
            vars(wrapper)["forward"] = wrapper.module
        yield
    finally:
        for wrapper in wrappers:
            del vars(wrapper)["forward"]
