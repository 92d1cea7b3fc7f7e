"""The layers that are looked into where none is named."""

from __future__ import annotations

from torch import nn

from firstlight.errors import FirstlightError


def outer_convolutions(model: nn.Module) -> list[str]:
    """The first and the last convolution, shallow and deep.

    Raises:
        FirstlightError: there is none.
    """
    found = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    if not found:
        raise FirstlightError("the model has no Conv2d; name a layer")
    return list(dict.fromkeys((found[0], found[-1])))
