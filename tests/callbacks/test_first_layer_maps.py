"""First-layer gradient maps, epoch by epoch."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from firstlight.callbacks import FirstLayerMaps, Moment
from firstlight.callbacks.examples import Examples
from firstlight.pipeline import FirstLayerGradient


def columns(callback: FirstLayerMaps, model: Any, data: Any, when: Moment) -> dict[str, Any]:
    found = callback.explain(model, Examples(*data.tensors), when)
    return {column.name: column.maps for column in found.sheets["maps"].columns}


def test_the_columns_are_the_mean_image_and_the_four_approaches(stranger: Any, data: Any) -> None:
    images, labels = data.tensors
    stranger.eval()
    shown = columns(FirstLayerMaps(), stranger, data, Moment("fit", 1, 6))
    names = list(shown)
    assert [name[0] for name in names[1:5]] == ["1", "2", "3", "4"]
    for number in (0, 3):
        own = images[labels == number]
        torch.testing.assert_close(shown["mean image"][number], own.mean(0))
        expected = FirstLayerGradient(3, relu=False)(stranger, own, labels[labels == number])
        torch.testing.assert_close(shown["3: own logit"][number], expected)


def test_the_control_is_kept_from_before_training_on(stranger: Any, data: Any) -> None:
    callback = FirstLayerMaps()
    stranger.eval()
    assert "3 before training" not in columns(callback, stranger, data, Moment("fit", 1, 6))
    control = columns(callback, stranger, data, Moment("fit"))["3: own logit"]
    with torch.no_grad():
        stranger.head.weight.mul_(-1)
    later = columns(callback, stranger, data, Moment("fit", 1, 6))
    torch.testing.assert_close(later["3 before training"], control)
    assert not torch.allclose(later["3: own logit"], control)
    resumed = FirstLayerMaps()
    resumed.load_state_dict(callback.state_dict())
    again = columns(resumed, stranger, data, Moment("fit", 2, 12))
    torch.testing.assert_close(again["3 before training"], control)


class Tokens(LightningModule):
    """Patches with a LayerNorm over their channels, as a transformer begins."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.rest = nn.Sequential(nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 5))

    def forward(self, images: Tensor) -> Tensor:
        return self.rest(self.patches(images).flatten(2).mT).mean(1)


def test_where_only_rounding_errors_add_up_sizes_are_shown_and_the_caption_says_why() -> None:
    model, images = Tokens().eval(), torch.rand(12, 3, 8, 8)
    labels = torch.arange(12) % 3
    found = FirstLayerMaps().explain(model, Examples(images, labels), Moment("fit"))
    sheet = found.sheets["maps"]
    assert "nothing but rounding errors" in sheet.caption and "LayerNorm" in sheet.caption
    mean, *sizes, control = sheet.columns
    torch.testing.assert_close(mean.maps[1], images[labels == 1].mean(0))
    assert [c.name for c in sizes] == [
        "1: cross entropy, other label (size)",
        "2: cross entropy, own label (size)",
        "3: own logit (size)",
        "4: other logit (size)",
    ]
    torch.testing.assert_close(control.maps, sizes[2].maps)
    # Each pixel is one patch's, so |x| times the sum of |δ| of its patch.
    x = images[labels == 1]
    z = model.patches(x).detach().requires_grad_()
    score = model.rest(z.flatten(2).mT).mean(1)[:, 1].sum()
    (delta,) = torch.autograd.grad(score, z)
    spread = delta.abs().sum(1, keepdim=True).repeat_interleave(4, 2).repeat_interleave(4, 3)
    expected = (x.abs() * spread).sum(0) / z[0].numel()
    torch.testing.assert_close(sizes[2].maps[1], expected)
    assert sheet.picture().float().std() > 0 and set(found.scalars) == {
        "tv",
        "gini",
        "correlation_with_class_mean",
    }


def test_several_of_them_are_told_apart_in_a_checkpoint() -> None:
    assert FirstLayerMaps(other=0).state_key != FirstLayerMaps(other=1).state_key
    assert FirstLayerMaps(other=1).state_key == FirstLayerMaps(other=1).state_key
