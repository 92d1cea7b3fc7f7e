"""What LRP makes of one operation alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from firstlight.pipeline.methods.lrp import LRP
from firstlight.pipeline.methods.lrp_rules import Epsilon

Function = Callable[..., Tensor]


class Under(nn.Module):
    """A function of the image's rows, and above it a linear layer without a bias.

    With LRP-ε and a tiny ε the relevance of the function's output y is w ⊙ y.
    """

    def __init__(self, function: Function, **parameters: Tensor) -> None:
        super().__init__()
        self.function = function
        for name, values in parameters.items():
            self.register_parameter(name, nn.Parameter(values))
        self.weight: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        y = self.function(x[:, 0], **dict(self.named_parameters(recurse=False))).flatten(1)
        if self.weight is None:
            generator = torch.Generator().manual_seed(2)
            self.weight = torch.randn(1, y.shape[1], dtype=y.dtype, generator=generator)
        return F.linear(y, self.weight)


RULE = Epsilon(1e-12)


def relevance(function: Function, x: Tensor, **parameters: Tensor) -> tuple[Tensor, Tensor]:
    """LRP's relevance of x (N, rows, columns), and that of the function's output."""
    model = Under(function, **parameters)
    maps = LRP(RULE)(model, x.unsqueeze(1), 0).squeeze(1)
    y = function(x, **parameters)
    assert model.weight is not None
    return maps, (model.weight * y.flatten(1)).reshape(y.shape)
